"""Damage a checkpoint in many ways, one at a time, and see that each is found before training.

A state of `digits_mlp` after a step, or of a config of the reader's, is saved. Then one bit is
flipped, at drawn places of every file in turn, the manifest among them; and every file is cut off
at its start, cut in half, and removed. Each time the checkpoint is restored as `funcnn train
--resume --strict` restores it, which must be refused with one line that names the file. A second
column counts those in which leaves were named, since damage to an index may hit all of them or
none. The exit code is 1 where one went unnoticed, or was told otherwise.

    python benchmarks/damage.py [--flips N] [--seed N] [--config CONFIG]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.train import Checkpoints, DamagedCheckpoint, TrainState

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/digits_mlp.toml"


def state_of(config: Path) -> TrainState:
    """A state after one step, so that hardly a leaf is all zeros."""
    experiment = build_experiment(load_config(config, ["train.steps_per_call=1"]))
    state, _ = experiment.step()(experiment.first_state(), experiment.batches()(0))
    return state


def damages(files: list[Path], flips: int, drawn: random.Random) -> Iterator[tuple[str, Path]]:
    """What is done to which file; every file has its share of the bits, whatever its size."""
    for number in range(flips):
        path = files[number % len(files)]
        yield f"bit {drawn.randrange(8 * path.stat().st_size)}", path
    for path in files:
        yield from ((what, path) for what in ("cut to 0", "cut in half", "removed"))


def damaged(content: bytes, what: str) -> bytes | None:
    if what == "removed":
        return None
    if what.startswith("cut"):
        return content[: 0 if what.endswith("0") else len(content) // 2]
    bit = int(what.removeprefix("bit "))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def told(checkpoints: Checkpoints, like: TrainState) -> str:
    """The line with which a damaged checkpoint is refused; "" where it is restored."""
    try:
        checkpoints.restore(like, strict=True)
    except DamagedCheckpoint as error:
        return str(error)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flips", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, default=CONFIG)
    options = parser.parse_args()
    state = state_of(options.config)
    found = leaves = tried = 0
    with tempfile.TemporaryDirectory() as place:
        checkpoints = Checkpoints(place)
        checkpoints.save(state)
        like = jax.eval_shape(lambda: state)
        files = sorted(path for path in Path(place).rglob("*") if path.is_file())
        assert not told(checkpoints, like), "what nobody has damaged is refused"
        for what, path in damages(files, options.flips, random.Random(options.seed)):
            content = path.read_bytes()
            change = damaged(content, what)
            path.unlink()
            if change is not None:
                path.write_bytes(change)
            line = told(checkpoints, like)
            path.write_bytes(content)
            tried += 1
            right = path.name in line and "\n" not in line
            found += right
            leaves += "leaves hit: " in line
            if not right:
                name = path.relative_to(place)
                print(f"{name}, {what}: {line or 'NOT FOUND'}", flush=True)
        assert not told(checkpoints, like), "what was put right is refused"
    print(
        f"{found} of {tried} found, with the file's name ({options.flips} bits in {len(files)} "
        f"files, each cut to 0, cut in half and removed); leaves named in {leaves}"
    )
    return 0 if found == tried else 1


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
