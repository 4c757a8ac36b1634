"""Kill `funcnn train` at drawn moments, resume, and compare with a run that nobody disturbed.

Each run is killed once with SIGKILL: at a drawn time after a drawn event of its folder (it is made,
the config is in it, a save begins, the n-th line is logged, the n-th checkpoint is whole); then
`--resume` takes it to its end. A third of the kills and more fall before the first checkpoint is
whole. What must be equal, byte for byte: every leaf of the last state, the steps of the
checkpoints, and metrics.jsonl, which holds no times. The exit code is 1 where anything is not.

    python benchmarks/kills.py [--kills N] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.train import Checkpoints

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/digits_mlp.toml"
SHORT = {"steps": 400, "log_every": 8, "evaluate_every": 40, "checkpoint_every": 40}
SET = [part for key, value in SHORT.items() for part in ("--set", f"train.{key}={value}")]


def lines(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def newest(folder: Path) -> int:
    return Checkpoints(folder / "checkpoints").latest() or 0


# Name, what must have happened, and the longest time in seconds from there to the kill.
Event = tuple[str, Callable[[Path], bool], float]


def early(seconds: float) -> list[Event]:
    """Most of these fall before the first checkpoint, which is there after so many seconds."""
    return [
        ("folder made", lambda folder: folder.exists(), 0.6 * seconds),
        ("config written", lambda folder: (folder / "config.toml").exists(), 0.2 * seconds),
        ("save begun", lambda folder: any((folder / "checkpoints").glob("unfinished-*")), 0.1),
        ("logging", lambda folder: lines(folder) >= 1, 0.05),
    ]


def late(drawn: random.Random) -> Event:
    if drawn.random() < 0.5:
        step = drawn.randrange(40, 400, 40)
        return f"checkpoint {step}", lambda folder: newest(folder) >= step, 0.3
    line = drawn.randrange(6, 50)
    return f"line {line}", lambda folder: lines(folder) >= line, 0.1


def command(folder: Path, *more: str) -> list[str]:
    train = [sys.executable, "-m", "funcnn", "train", str(CONFIG), "--out", str(folder)]
    return [*train, *SET, *more]


def kill(folder: Path, event: Event, delay: float) -> bool:
    """Start a run and kill it; whether it still ran."""
    _, happened, _ = event
    process = subprocess.Popen(command(folder), stderr=subprocess.DEVNULL, cwd=ROOT)
    while process.poll() is None and not happened(folder):
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    return process.wait() < 0


def seconds_to_the_first_checkpoint(folder: Path) -> float:
    """Of a run that nobody disturbs, from its folder on."""
    process = subprocess.Popen(command(folder), stderr=subprocess.DEVNULL, cwd=ROOT)
    while process.poll() is None and not folder.exists():
        time.sleep(0.001)
    begun = time.monotonic()
    while process.poll() is None and not newest(folder):
        time.sleep(0.001)
    seconds = time.monotonic() - begun
    if process.wait():
        raise SystemExit("a run that nobody disturbed did not end well")
    return seconds


def finish(folder: Path, *more: str) -> None:
    done = subprocess.run(command(folder, *more), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {done.stderr.splitlines()[-1:]}")


def end(folder: Path, like) -> tuple[list[bytes], list[int], bytes]:
    checkpoints = Checkpoints(folder / "checkpoints")
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(checkpoints.restore(like))]
    return leaves, checkpoints.steps(), (folder / "metrics.jsonl").read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    drawn = random.Random(options.seed)
    like = build_experiment(load_config(CONFIG)).first_state()
    equal = before_first = 0
    with tempfile.TemporaryDirectory() as place:
        straight = Path(place) / "straight"
        finish(straight)
        wanted = end(straight, like)
        # The second run, since the first one may have compiled for those that follow.
        again = Path(place) / "again"
        first = early(seconds_to_the_first_checkpoint(again))
        if end(again, like) != wanted:
            raise SystemExit("two runs that nobody disturbed differ")
        for number in range(options.kills):
            event = first[number // 2 % len(first)] if number % 2 == 0 else late(drawn)
            delay = drawn.uniform(0, event[2])
            folder = Path(place) / str(number)
            killed = kill(folder, event, delay)
            step = newest(folder)
            before_first += killed and step == 0
            finish(folder, "--resume")
            same = end(folder, like) == wanted
            equal += same and killed
            print(
                f"{number + 1:2d} {event[0]} + {delay:.3f} s: newest checkpoint {step}, "
                f"{'killed' if killed else 'had ended'}, {'equal' if same else 'NOT EQUAL'}",
                flush=True,
            )
    print(f"{equal} of {options.kills} killed and equal, {before_first} before a checkpoint")
    return 0 if equal == options.kills and 3 * before_first >= options.kills else 1


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
