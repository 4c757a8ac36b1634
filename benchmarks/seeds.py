"""Trainings in half the width and in parts of a batch against float32: figures of several seeds.

Each variant of a config is trained from the same seeds by `funcnn train`; its test figures belong
to one run each. The exit code is 1 where the mean of a variant lies outside the float32 runs.

    python benchmarks/seeds.py [--seeds N] [--config CONFIG ...] [--set TABLE.KEY=VALUE ...]
        [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from funcnn.bench.measure import machine

ROOT = Path(__file__).parent.parent
CONFIGS = [ROOT / "configs/digits_mlp.toml", ROOT / "configs/digits_cnn.toml"]
PLAIN = "float32"
VARIANTS = {
    PLAIN: [],
    "bfloat16": ['train.precision="bfloat16"'],
    "float16": ['train.precision="float16"'],
    "in 4 parts": ["train.accumulate=4"],
    "bfloat16 in 4 parts": ['train.precision="bfloat16"', "train.accumulate=4"],
}


def trained(config: Path, seed: int, settings: list[str]) -> dict[str, float]:
    """The test figures with which a training ends."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--set={s}" for s in (f"run.seed={seed}", *settings)]
        call = [sys.executable, "-m", "funcnn", "train", str(config), "--out", f"{folder}/run"]
        subprocess.run([*call, *options], check=True, capture_output=True, cwd=ROOT)
        lines = Path(folder, "run/metrics.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    return {n: last[f"evaluation_{n}"] for n in ("accuracy", "loss")}


def main() -> int:
    """Train all, print a table, and say whether each variant is within the spread."""
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--config", type=Path, action="append")
    options.add_argument("--set", action="append", default=[], dest="settings")
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    rows, wrong = [], 0
    for config in asked.config or CONFIGS:
        plain: list[float] = []
        for variant, own in VARIANTS.items():
            runs = [trained(config, seed, [*asked.settings, *own]) for seed in range(asked.seeds)]
            accuracy = [run["accuracy"] for run in runs]
            plain = accuracy if variant == PLAIN else plain
            mean = statistics.mean(accuracy)
            within = min(plain) <= mean <= max(plain)
            wrong += not within
            rows.append(
                {"config": config.stem, "variant": variant, "accuracy": accuracy}
                | {"loss": [run["loss"] for run in runs], "within": within}
            )
            print(
                f"{config.stem:12} {variant:20} accuracy {mean:.4f} "
                f"({min(accuracy):.4f} to {max(accuracy):.4f})"
                f"{'' if within else ' outside float32'}",
                flush=True,
            )
    if asked.out:
        head = {**machine(), "seeds": asked.seeds, "set": asked.settings}
        asked.out.write_text("\n".join(map(json.dumps, [head, *rows])) + "\n", "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
