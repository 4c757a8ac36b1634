"""What the tests of faults share: one small run, the same run disturbed, and what must be equal.

The run has dropout, a validation split and saves in the background. Twelve steps are two epochs.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from funcnn.cli import main
from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.train import Checkpoints

ROOT = Path(__file__).parents[2]
CONFIG = """
[data]
name = "digits"
batch_size = 256
validation_fraction = 0.1
[model]
name = "mlp"
options = {hidden = [16], dropout = 0.2}
[train]
steps = 12
steps_per_call = 2
log_every = 2
evaluate_every = 4
checkpoint_every = 4
"""


def write_config(folder, text=CONFIG):
    path = folder / "faulty.toml"
    path.write_text(text)
    return path


def command(config, folder, *more):
    """The arguments of funcnn that train a config in a folder; `more` are changes, or options."""
    options = [part for m in more for part in ((m,) if m[:2] == "--" else ("--set", m))]
    return ["train", str(config), "--out", str(folder), *options]


def train(capsys, config, folder, *more):
    """Exit code, stdout and the lines of stderr of a training in this process."""
    capsys.readouterr()
    code = main(command(config, folder, *more))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err.splitlines()


def process(arguments, *, code=None, environment=None, **options):
    """Run `python -m funcnn`, or Python code, with arguments in a process of its own."""
    start = ["-m", "funcnn"] if code is None else ["-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    captured = {"capture_output": True, "text": True, "check": False, "timeout": 300}
    full = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(full, env=environment, **{**captured, **options})


def like(config, *changes):
    """A state to restore into."""
    return build_experiment(load_config(config, changes)).first_state()


def states(folder, state):
    """The bytes of every leaf of the newest state in a folder of a run, which must be whole."""
    restored = Checkpoints(folder / "checkpoints").restore(state, strict=True)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(restored)]


def names(folder):
    """What lies in the folder of a run, and beside its checkpoints."""
    inside = sorted(path.name for path in folder.iterdir())
    return inside, sorted(path.name for path in (folder / "checkpoints").iterdir())


def assert_ends_as(folder, other, state, *, steps=None):
    """Two runs have the same leaves, the same log, byte for byte, and the same files."""
    assert (folder / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert states(folder, state) == states(other, state)
    inside, checkpoints = names(other)
    kept = checkpoints if steps is None else [f"step_{step:08d}" for step in steps]
    assert names(folder) == (inside, kept)
