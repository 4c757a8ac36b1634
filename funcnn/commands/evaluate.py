"""funcnn eval, and the last line of funcnn train: what a state makes of the test split."""

from __future__ import annotations

import json

from funcnn.commands.opened import opened
from funcnn.experiment import Experiment
from funcnn.runs.folder import RunFolder
from funcnn.train import Placement, TrainState


def evaluate_run(path: str, *, foreign: bool = True, as_json: bool = False) -> int:
    """Print what the result of a run, newest or best checkpoint, makes of the test split."""
    folder = RunFolder(path)
    experiment, state = opened(folder, foreign=foreign)
    report_test(experiment, state, None, folder, as_json)
    return 0


def report_test(
    experiment: Experiment,
    state: TrainState,
    seconds: float | None,
    folder: RunFolder,
    as_json: bool,
    placement: Placement | None = None,
) -> None:
    """The figures of the test split: one line, or one JSON object."""
    test = experiment.dataset.test
    result = experiment.evaluation(test, placement)(state.evaluation_params())
    if as_json:
        row = {"step": int(state.step), **{f"test_{k}": v for k, v in result.items()}}
        row |= {"run": str(folder.path)}
        print(json.dumps({**row, **({} if seconds is None else {"seconds": round(seconds, 3)})}))
        return
    words = {name: f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.items()}
    targets = test.get(experiment.task.targets)
    if "accuracy" in result and targets is not None and targets.ndim == 1:
        right = round(result["accuracy"] * test.rows)
        words["accuracy"] += f" ({right} of {test.rows})"
    # The loss comes last: it says least to whoever reads one line.
    print(
        f"test {', '.join(words[name] for name in sorted(words, key=lambda name: name == 'loss'))}"
    )
