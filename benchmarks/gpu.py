"""Everything that only a GPU can show, in one command and eight minutes on one NVIDIA H200.

The tests of cuDNN's attention; the step of GPT-2 124M, tokens a second and bytes, in JAX as users
write it, by hand and in PyTorch; text written; rules against autodiff at training sizes; the other
tests marked gpu. Each part is a process of its own with a time limit, and writes into the folder as
it goes: what crashes or takes too long loses nothing of the others. What is worth most comes first;
a part for which no time is left is not begun.

    python benchmarks/gpu.py [--out FOLDER] [--minutes 8] [--part NAME ...]
    python benchmarks/gpu.py --rehearse     # the same at small sizes on a CPU

The folder has a line for each part in parts.jsonl (how it ended, and after how long), what it
measured in NAME.jsonl, and what it said in NAME.log. Exit code 0 where all parts ended well, 1
where one did not, 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
PATIENCE = 5  # times the limits of the parts in a rehearsal, on whatever machine
SOON = 5.0  # seconds in which a part would do nothing of use
TAIL = 400  # characters of what a part said last
NEAR = 0.01  # of the losses of two arms: bfloat16, and other orders of summation
FIRST_ARM = "by hand, residuals, cuDNN"
GPT_ARMS = {
    FIRST_ARM: 75,
    "unrolled, cuDNN": 90,
    "by hand, residuals": 60,
    "by hand, inputs, cuDNN": 60,
    "scanned, cuDNN": 60,
    "PyTorch compiled": 90,
    "by hand, inputs": 60,
}
GPT_FILE, TESTS = "gpt_step.jsonl", "tests/test_gpu.py"
_MACHINE = "import json; from funcnn.bench.measure import machine; print(json.dumps(machine()))"


class Part(NamedTuple):
    """A program, and the most seconds that it may take."""

    name: str
    seconds: float
    command: list[str]


def parts(folder: Path, rehearse: bool) -> list[Part]:
    """All of them, what is worth most first."""

    def python(*words: object) -> list[str]:
        return [sys.executable, *map(str, words)]

    def script(name: str, out: str, *words: object) -> list[str]:
        return python(HERE / f"{name}.py", *words, "--out", folder / out)

    def pytest(*words: str) -> list[str]:
        return python("-m", "pytest", TESTS, "-m", "gpu", "-n", 0, "-rA", "--durations=5", *words)

    size = "tiny" if rehearse else "124M"
    seconds = 0.2 if rehearse else 8
    written = ["--prompt", 128, "--steps", 128, "--rows", 1, 32, "--rounds", 3]
    written += ["--vocabulary", 50304, "--width", 768, "--depth", 12, "--heads", 12]
    if rehearse:
        written = ["--prompt", 8, "--steps", 4, "--rows", 1, 2, "--rounds", 2]
        written += ["--vocabulary", 16, "--width", 16, "--depth", 2, "--heads", 2]
    # Both ways write the same tokens, or nothing is timed: products are not to be rounded.
    exactly = ["env", "JAX_DEFAULT_MATMUL_PRECISION=highest"]
    works = ["max_pool_3"] if rehearse else []
    alone = ["--places", 32, "--rounds", 2] if rehearse else ["--places", 1024, 4096]
    alone += [] if rehearse else ["--samples", 8, "--heads", 12, "--memory", 90, "--rounds", 9]
    bench = python("-m", "funcnn", "bench", *works, "--rounds", 2 if rehearse else 9)
    return [
        Part("tests of cudnn", 75, pytest("-k", "cudnn")),
        *(
            Part(
                f"gpt, {arm}",
                limit,
                script("gpt_speed", GPT_FILE, "--size", size, "--arm", arm, "--seconds", seconds),
            )
            for arm, limit in GPT_ARMS.items()
        ),
        Part("generation", 75, [*exactly, *script("generation", "generation.jsonl", *written)]),
        Part(
            "attention",
            60,
            script("attention_alone", "attention.jsonl", *alone, "--dtype", "bfloat16"),
        ),
        Part("rules", 75, [*bench, "--out", str(folder / "rules.jsonl")]),
        Part("tests", 240, pytest("-k", "not cudnn")),
    ]


def run_part(
    part: Part, folder: Path, seconds: float, environment: dict[str, str]
) -> dict[str, Any]:
    """Run a part for at most so long, and say how it ended."""
    log = folder / f"{part.name.replace(', ', '_').replace(' ', '_')}.log"
    begun = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that what it has started ends with it
        )
        try:
            code = process.wait(seconds)
            ended = "ok" if code == 0 else f"ended with {code}"
        except subprocess.TimeoutExpired:
            ended = "took too long"
        finally:
            _end(process)
    row = {"part": part.name, "ended": ended, "seconds": round(time.monotonic() - begun, 1)}
    row |= {"limit": round(seconds, 1), "log": log.name}
    return row if ended == "ok" else {**row, "said": _tail(log)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    return log.read_text("utf-8", errors="replace").strip()[-TAIL:]


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file; none where it is not there, and no half one at its end."""
    text = file.read_text("utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def disagreement(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with the losses of the arms of the step, which all begin alike."""
    losses = {row["arm"]: row["losses"] for row in rows if "losses" in row}
    first = losses.get(FIRST_ARM) or next(iter(losses.values()), [])
    return [
        f"{arm}: losses {found} where {first} was to be"
        for arm, found in losses.items()
        if not all(abs(a - b) <= NEAR * abs(b) for a, b in zip(found, first, strict=True))
    ]


def report(folder: Path) -> str:
    """The steps and the texts in lines, as far as they have come."""
    lines = []
    for row in lines_of(folder / GPT_FILE):
        speed, peak = row.get("tokens_per_second"), row.get("peak_bytes")
        if speed is None:
            lines.append(f"{row['arm']}: {row['note']}")
            continue
        bytes_of = f", {peak / 1e9:.2f} GB at the peak" if peak else ""
        needed = row.get("compiler_bytes")
        bytes_of += f", {needed / 1e9:.2f} GB by the compiler" if needed else ""
        lines.append(f"{row['arm']}: {speed:,.0f} tokens a second{bytes_of}")
    for row in lines_of(folder / "generation.jsonl")[1:]:
        lines.append(f"{row['work']}, {row['arm']}: {row['tokens_a_second']:,.0f} tokens a second")
    return "\n".join(lines)


def _machine(environment: dict[str, str]) -> dict[str, Any]:
    """What is here; in a process of its own, since JAX keeps the memory of a GPU."""
    command = [sys.executable, "-c", _MACHINE]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"gpu.py: JAX does not start here:\n{found.stderr.strip()[-TAIL:]}")
    return json.loads(found.stdout.splitlines()[-1])


def main(words: Sequence[str] | None = None) -> int:
    """Run all parts, one after the other."""
    options = argparse.ArgumentParser(description="All that only a GPU can show.")
    options.add_argument("--out", type=Path)
    options.add_argument("--minutes", type=float, default=8.0)
    options.add_argument("--part", action="append", help="those whose name begins so, alone")
    options.add_argument("--rehearse", action="store_true", help="small sizes, on the CPU")
    asked = options.parse_args(words)
    end = time.monotonic() + 60 * asked.minutes
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = dict(os.environ) | {"PYTHONPATH": path}
    if asked.rehearse:
        environment["JAX_PLATFORMS"] = "cpu"
    folder = asked.out or HERE / "results" / ("rehearsal" if asked.rehearse else "gpu")
    here = _machine(environment)
    if "cpu" in here["device"].lower() and not asked.rehearse:
        print(
            "gpu.py: no GPU here; --rehearse does the same at small sizes on a CPU", file=sys.stderr
        )
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jsonl"):
        old.unlink()
    chosen = [p for p in parts(folder.resolve(), asked.rehearse) if _is_asked(p, asked.part)]
    well = True
    with (folder / "parts.jsonl").open("w", encoding="utf-8") as results:

        def say(row: dict[str, Any]) -> None:
            results.write(json.dumps(row) + "\n")
            results.flush()
            print(json.dumps(row), flush=True)

        say({"machine": here})
        for part in chosen:
            left = end - time.monotonic()
            if left < SOON:
                row = {"part": part.name, "ended": "not begun: no time left"}
            else:
                most = part.seconds * (PATIENCE if asked.rehearse else 1)
                row = run_part(part, folder, min(most, left), environment)
            say(row)
            well &= row["ended"] == "ok"
        for wrong in disagreement(lines_of(folder / GPT_FILE)):
            say({"disagreement": wrong})
            well = False
    print(report(folder))
    return 0 if well else 1


def _is_asked(part: Part, names: Sequence[str] | None) -> bool:
    return names is None or any(part.name.startswith(name) for name in names)


if __name__ == "__main__":
    sys.exit(main())
