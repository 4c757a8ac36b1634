"""Memory and kernels of gradients on an H200 that is not there, by hand and by autodiff; no times.

pip install --no-deps jax-cuda13-plugin==V jax-cuda13-pjrt==V   # V: the version of jax
JAX_PLATFORMS=cpu python benchmarks/absent_gpu.py
"""

import json
from pathlib import Path

import jax

from funcnn.bench.absent import described_device, figures
from funcnn.bench.absent_works import WORKS

RESULTS = Path(__file__).parent / "results" / "absent_h200.jsonl"


def main():
    device = described_device("h200")
    lines = [json.dumps({"device": "NVIDIA H200, described and absent", "jax": jax.__version__})]
    for work, make in WORKS.items():
        arms, args = make()
        for arm, f in arms.items():
            found = figures(f, *args, device=device)
            row = {"work": work, "arm": arm, "temporary_bytes": found.temporary_bytes}
            lines.append(json.dumps({**row, "kernels": found.kernels}))
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
