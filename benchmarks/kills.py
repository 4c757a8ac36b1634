"""Kill `funcnn train` at drawn moments, resume, and compare with a run that nobody disturbed.

Each run is killed once with SIGKILL: at a drawn time after a drawn event of its folder (it is made,
the config is in it, a save begins, the n-th line is logged, the n-th checkpoint is whole); then
`--resume` takes it to its end. A third of the kills and more fall before the first checkpoint is
whole. What must be equal, byte for byte: every leaf of the last state, the steps of the
checkpoints, and metrics.jsonl, which holds no times. The exit code is 1 where anything is not.

    python benchmarks/kills.py [--kills N] [--seed N] [--variant NAME | --config CONFIG]
        [--set TABLE.KEY=VALUE ...]

The variants are `mlp`, which is configs/digits_mlp.toml; `mlp-1` and `mlp-32`, with so many steps a
call; and `norm`, a model with batch norm and dropout whose averages are evaluated, with the best
checkpoint kept. `--variant all` runs them in turn.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.train import Checkpoints

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/digits_mlp.toml"
STEPS, EVERY = 400, 40
SHORT = {"steps": STEPS, "log_every": 8, "evaluate_every": EVERY, "checkpoint_every": EVERY}
VARIANTS = {
    "mlp": [],
    "mlp-1": ["train.steps_per_call=1"],
    "mlp-32": ["train.steps_per_call=32"],
    "norm": [],
}
# A model of the reader's own, in a file beside its config.
MODEL = """
import funcnn as fnn


def build():
    hidden = [fnn.dense(24), fnn.batch_norm(), fnn.relu, fnn.dropout(0.3)]
    return fnn.chain(fnn.flatten, *hidden, fnn.dense(10))
"""
NORM = """
[data]
name = "digits"
batch_size = 32
validation_fraction = 0.1

[model]
function = "killed_models:build"

[train]
average = 0.98
best = "loss"
"""


class Run(NamedTuple):
    """What is trained: a config and changes to it."""

    config: Path
    changes: list[str]

    def command(self, folder: Path, *more: str) -> list[str]:
        """What trains it in a folder."""
        train = [sys.executable, "-m", "funcnn", "train", str(self.config), "--out", str(folder)]
        return [*train, *(part for change in self.changes for part in ("--set", change)), *more]

    def calls(self) -> int:
        """How many lines are logged, and at most how many states are saved."""
        size = load_config(self.config, self.changes).train.steps_per_call
        return STEPS // max(size, SHORT["log_every"])


def chosen(name: str, config: Path | None, changes: list[str], place: Path) -> Run:
    """A variant, or a config of the reader's, made short."""
    if name == "norm" and config is None:
        config = place / "norm.toml"
        config.write_text(NORM)
        (place / "killed_models.py").write_text(MODEL)
    short = [f"train.{key}={value}" for key, value in SHORT.items()]
    own = [] if config is not None else VARIANTS[name]
    return Run(config or CONFIG, [*short, *own, *changes])


def lines(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def saving(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("unfinished-*"))


def newest(folder: Path) -> int:
    return Checkpoints(folder / "checkpoints").latest() or 0


# Name, what must have happened, and the longest time in seconds from there to the kill.
Event = tuple[str, Callable[[Path], bool], float]


def early(seconds: float) -> list[Event]:
    """Most of these fall before the first checkpoint, which is there after so many seconds."""
    return [
        ("folder made", lambda folder: folder.exists(), 0.6 * seconds),
        ("config written", lambda folder: (folder / "config.toml").exists(), 0.2 * seconds),
        ("save begun", saving, 0.1),
        ("logging", lambda folder: lines(folder) >= 1, 0.05),
    ]


def late(drawn: random.Random, calls: int) -> Event:
    kind = drawn.random()
    step = drawn.randrange(EVERY, STEPS - EVERY, EVERY)
    if kind < 0.4:
        return f"checkpoint {step}", lambda folder: newest(folder) >= step, 0.3
    if kind < 0.7:
        return f"save after {step}", lambda folder: newest(folder) >= step and saving(folder), 0.03
    line = drawn.randrange(calls // 8 + 1, calls - calls // 4)
    return f"line {line}", lambda folder: lines(folder) >= line, 0.1


def begin(run: Run, folder: Path) -> subprocess.Popen[bytes]:
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(run.command(folder), cwd=ROOT, **nowhere)


def kill(run: Run, folder: Path, event: Event, delay: float) -> bool:
    """Start a run and kill it; whether it still ran."""
    _, happened, _ = event
    process = begin(run, folder)
    while process.poll() is None and not happened(folder):
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    return process.wait() < 0


def seconds_to_the_first_checkpoint(run: Run, folder: Path) -> float:
    """Of a run that nobody disturbs, from its folder on."""
    process = begin(run, folder)
    while process.poll() is None and not folder.exists():
        time.sleep(0.001)
    begun = time.monotonic()
    while process.poll() is None and not newest(folder):
        time.sleep(0.001)
    seconds = time.monotonic() - begun
    if process.wait():
        raise SystemExit("a run that nobody disturbed did not end well")
    return seconds


def finish(run: Run, folder: Path, *more: str) -> None:
    done = subprocess.run(run.command(folder, *more), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {done.stderr.splitlines()[-1:]}")


def end(folder: Path, like) -> tuple[list[bytes], list[int], bytes]:
    checkpoints = Checkpoints(folder / "checkpoints")
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(checkpoints.restore(like))]
    return leaves, checkpoints.steps(), (folder / "metrics.jsonl").read_bytes()


def kills(name: str, run: Run, count: int, seed: int, place: Path) -> bool:
    """Kill and resume so many runs; whether each was killed and ended as if it had not been."""
    drawn, events = random.Random(seed), Counter()
    like = build_experiment(load_config(run.config, run.changes)).first_state()
    equal = before_first = in_a_save = 0
    straight, again = place / f"{name}-straight", place / f"{name}-again"
    finish(run, straight)
    wanted = end(straight, like)
    # The second run, since the first one may have compiled for those that follow.
    first = early(seconds_to_the_first_checkpoint(run, again))
    if end(again, like) != wanted:
        raise SystemExit("two runs that nobody disturbed differ")
    for number in range(count):
        event = first[number // 2 % len(first)] if number % 2 == 0 else late(drawn, run.calls())
        delay = drawn.uniform(0, event[2])
        folder = place / f"{name}-{number}"
        killed = kill(run, folder, event, delay)
        step, unfinished = newest(folder), saving(folder)
        before_first += killed and step == 0
        in_a_save += killed and unfinished
        events[event[0].rstrip(" 0123456789")] += killed
        finish(run, folder, "--resume")
        same = end(folder, like) == wanted
        equal += same and killed
        print(
            f"{number + 1:2d} {event[0]} + {delay:.3f} s: newest checkpoint {step}"
            f"{', in a save' if unfinished else ''}, "
            f"{'killed' if killed else 'had ended'}, {'equal' if same else 'NOT EQUAL'}",
            flush=True,
        )
    told = ", ".join(f"{event} {n}" for event, n in events.items())
    print(
        f"{name}: {equal} of {count} killed and equal, {before_first} before a checkpoint, "
        f"{in_a_save} in a save; after {told}",
        flush=True,
    )
    return equal == count and 3 * before_first >= count


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=[*VARIANTS, "all"], default="mlp")
    parser.add_argument("--config", type=Path, help="instead of a variant")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE")
    options = parser.parse_args()
    names = list(VARIANTS) if options.variant == "all" else [options.variant]
    if options.config is not None:
        names = [options.config.stem]
    right = True
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            run = chosen(name, options.config, options.set, place)
            right &= kills(name, run, options.kills, options.seed, place)
    return 0 if right else 1


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
