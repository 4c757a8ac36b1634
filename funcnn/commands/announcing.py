"""The first lines of a run: its rows, its devices, what lies on which, and its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import NamedSharding

from funcnn.chosen import other_rates
from funcnn.commands.streams import say, warn
from funcnn.config import Config
from funcnn.core.summary import summary
from funcnn.data.dataset import Dataset
from funcnn.experiment import Experiment
from funcnn.report import counted
from funcnn.runs.folder import changed_keys
from funcnn.train.mesh import Placement
from funcnn.types import PyTree

_USES = {"train": "train", "validation": "watch", "test": "test"}


def announce(
    experiment: Experiment,
    placement: Placement | None,
    device: str,
    step: int,
    resume: bool,
    begun: Config,
) -> None:
    """Say what a run at some step goes on with; `begun` is the config that it was begun with."""
    dataset = experiment.dataset
    say(f"{dataset.name}: {_rows(dataset)}")
    say(f"device: {device}")
    for line in () if placement is None else mesh_lines(placement, experiment.params):
        say(line)
    row = experiment.task.taken(dataset.train.take(np.array([0])))
    say(summary(experiment.model, experiment.params, row))
    for key, was, now in changed_keys(begun, experiment.config) if resume else ():
        if not key.startswith("run."):  # where it lies, and on what
            say(f"{key} was {was} when this run began and is {now} now")
    if resume:
        say(f"resumed at step {step}" if step else "no state to resume from: starts at step 0")
    if 0 < step < experiment.config.train.steps and (line := other_rates(begun, experiment.config)):
        warn(line)


def _rows(dataset: Dataset) -> str:
    """How many rows each split has; of batches that are a function of the step those of one."""
    counts = {name: f"{split.rows:,} rows" for name, split in dataset.splits().items()}
    if dataset.stream is not None:
        counts["train"] = f"batches of {counts['train']}"
    return ", ".join(f"{count} to {_USES[name]}" for name, count in counts.items())


def mesh_lines(placement: Placement, params: PyTree) -> list[str]:
    """The devices of a mesh by its axes, the processes, and how many arrays of params are cut.

    >>> from funcnn.train import make_mesh
    >>> mesh_lines(Placement(make_mesh(data=1)), {"w": np.ones((4, 2))})
    ['mesh: 1 device', 'params: whole on each device']
    """
    sizes = placement.mesh.shape
    axes = " x ".join(f"{name} {size}" for name, size in sizes.items() if size > 1)
    line = f"mesh: {counted(placement.mesh.size, 'device')}{axes and ', '}{axes}"
    if (processes := jax.process_count()) > 1:
        line += f", of {processes:,} processes"
    leaves = jax.tree.leaves(placement.of_params(params))
    along = Counter(" and ".join(a for a in _axes(leaf) if sizes[a] > 1) for leaf in leaves)
    whole = along.pop("", 0)
    if not along:
        return [line, "params: whole on each device"]
    parts = ", ".join(f"{n:,} along {axes}" for axes, n in along.items())
    return [
        line,
        f"params: {len(leaves) - whole:,} of {counted(len(leaves), 'array')} cut, {parts}",
    ]


def _axes(sharding: NamedSharding) -> Iterator[str]:
    """The axes of a mesh along which an array lies, in the order of its own axes."""
    for entry in sharding.spec:
        yield from (entry,) if isinstance(entry, str) else entry or ()
