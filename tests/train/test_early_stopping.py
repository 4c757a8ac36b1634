"""Early stopping: the step at which it stops is a function of the records, resumed or not."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal

from funcnn.train import (
    Checkpoints,
    MetricsLog,
    TrainState,
    early_stopping,
    fit,
    make_step,
    read_metrics,
)

OPTIMIZER = optax.sgd(1.0)
STEP = make_step(lambda params, batch, key: -params["w"], OPTIMIZER)  # w counts the steps
NAN, INFINITE = float("nan"), float("inf")


def stopped_at(values, **options):
    """The number of evaluations after which a run of these values ends, None where it does not."""
    stop = early_stopping("evaluation_x", **options)
    records = [{"step": n, "evaluation_x": x} for n, x in enumerate(values, start=1)]
    answers = [stop(None, records[: n + 1]) for n in range(len(records))]  # pyright: ignore
    return answers.index(True) + 1 if True in answers else None


@pytest.mark.parametrize(
    ("values", "options", "step"),
    [
        ([3.0, 2.0, 1.0, 0.0], {"patience": 1}, None),
        ([3.0, 2.0, 2.0, 0.0], {"patience": 1}, 3),  # equal is not better
        ([3.0, 2.0, 2.5, 2.1, 1.9, 2.0, 2.0], {"patience": 2}, 4),
        ([3.0, 2.0, 2.5, 2.1, 1.9, 2.0, 2.0], {"patience": 3}, None),
        ([1.0, 2.0, 3.0, 2.0, 2.5], {"patience": 2, "higher_is_better": True}, 5),
        # Small gains do not count, and the best stays the last one that did: together they would.
        ([1.0, 0.96, 0.92, 0.88], {"patience": 3, "smallest_change": 0.1}, None),
        ([1.0, 0.96, 0.92, 0.91], {"patience": 3, "smallest_change": 0.1}, 4),
        ([NAN, NAN, 1.0], {"patience": 2}, 2),
        ([1.0, INFINITE, NAN, 0.5], {"patience": 3}, None),
        ([1.0, -INFINITE, 1.0], {"patience": 2}, 3),
    ],
)
def test_it_stops_after_so_many_evaluations_in_vain(values, options, step):
    assert stopped_at(values, **options) == step


def test_records_without_an_evaluation_are_passed_over():
    stop = early_stopping("evaluation_x", patience=2)
    records = [
        {"step": 1, "evaluation_x": 1.0},
        *({"step": n} for n in (2, 3, 4)),
        {"step": 5, "evaluation_x": 1.0},
    ]
    assert stop(None, records) is False  # pyright: ignore


# What an evaluation gives after so many steps: the best at step 8, one value that JSON cannot hold.
CURVE = [9.0, 5.0, 6.0, 4.0, INFINITE, 4.5, 3.75, 3.0, 3.5, 3.25, 3.0, 8.0, 2.0, 1.0]


def run(folder, patience=3, kill_at=None):
    checkpoints = Checkpoints(folder, keep=99)
    state = TrainState.create({"w": jnp.zeros(())}, OPTIMIZER, seed=0)
    if checkpoints.latest() is not None:
        state = checkpoints.restore(state)

    def evaluate(params):
        return {"x": float(CURVE[round(float(params["w"])) - 1])}

    def kill(state, metrics):
        if int(state.step) == kill_at:
            raise KeyboardInterrupt

    return fit(
        STEP,
        state,
        lambda step: np.zeros(1, np.float32),
        steps=len(CURVE),
        log_every=1,
        evaluate=evaluate,
        evaluate_every=1,
        log=MetricsLog(folder / "metrics.jsonl"),
        checkpoints=checkpoints,
        checkpoint_every=2,
        on_step=kill,
        on_evaluation=early_stopping("evaluation_x", patience),
    )


# Killed before the best, between the best and the stop, and just before the step that stops.
@pytest.mark.parametrize("kill_at", [1, 3, 5, 7, 9, 10, 11])
def test_a_run_that_was_killed_stops_at_the_step_of_the_unbroken_one(tmp_path, kill_at):
    unbroken, _ = run(tmp_path / "unbroken")
    assert int(unbroken.step) == 11
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", kill_at=kill_at)
    resumed, _ = run(tmp_path / "run")
    assert_bit_equal(resumed, unbroken)
    lines = (tmp_path / "unbroken" / "metrics.jsonl").read_bytes()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == lines
    assert math.isnan(read_metrics(tmp_path / "run" / "metrics.jsonl")[4]["evaluation_x"])


def test_a_run_that_it_has_stopped_makes_no_further_step_unless_with_more_patience(tmp_path):
    run(tmp_path)
    again, history = run(tmp_path)
    assert (int(again.step), history) == (11, [])
    assert Checkpoints(tmp_path).latest() == 11
    further, _ = run(tmp_path, patience=5)
    assert int(further.step) == 14


def test_a_metric_that_no_record_has_is_one_line_and_the_state_is_saved(tmp_path):
    line = (
        r"early_stopping: the record of step 1 has no metric 'evaluation_loss': it has loss, .*_x"
    )
    hook = early_stopping("evaluation_loss", patience=1)
    with pytest.raises(ValueError, match=line):
        fit_with(tmp_path, hook)
    assert Checkpoints(tmp_path).latest() == 1


def fit_with(folder, hook):
    state = TrainState.create({"w": jnp.zeros(())}, OPTIMIZER, seed=0)
    options = {"evaluate": lambda params: {"x": 1.0}, "evaluate_every": 1, "on_evaluation": hook}
    return fit(STEP, state, lambda step: 0.0, steps=3, checkpoints=Checkpoints(folder), **options)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"patience": 0}, "patience is a positive integer, found 0"),
        ({"patience": True}, "patience is a positive integer, found True"),
        ({"patience": 1, "smallest_change": -0.1}, "smallest_change is not negative, found -0.1"),
        ({"patience": 1, "smallest_change": NAN}, "smallest_change is not negative, found nan"),
    ],
)
def test_options_are_checked(options, line):
    with pytest.raises(ValueError, match=line):
        early_stopping("evaluation_x", **options)
