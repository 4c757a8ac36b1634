"""The advice on steps a call."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.bench import steps
from funcnn.bench.measure import Row
from funcnn.cli import main
from funcnn.train import TrainState, make_step


def rows_of(batches, rounds=2):
    def loss(params, batch, key):
        return jnp.mean((params - batch) ** 2)

    def make(n):
        return make_step(loss, optimizer, steps_per_call=n)

    optimizer = optax.sgd(0.1)
    state = lambda: TrainState.create(jnp.zeros(3), optimizer, seed=0)  # noqa: E731
    return steps.compare_steps_per_call(make, state, batches, rounds)


def stream(step, *count):
    """Batch n is full of n: a run that takes the wrong batches has other losses."""
    numbers = np.arange(step, step + (count[0] if count else 1), dtype=np.float32)
    stacked = np.repeat(numbers[:, None], 3, axis=1)
    return stacked if count else stacked[0]


def test_each_number_of_steps_gives_the_same_losses_and_a_time():
    rows = rows_of(stream)
    assert [row.note for row in rows] == [""] * len(steps.CANDIDATES)
    assert all(row.median > 0 and row.rounds == 2 for row in rows)


def test_batches_that_depend_on_the_steps_a_call_are_refused():
    def shifted(step, *count):
        return stream(step, *count) + (100 if count else 0)

    assert all(row.note.startswith("refused") for row in rows_of(shifted)[1:])


def test_a_long_step_is_not_tried_many_times_a_call(monkeypatch):
    monkeypatch.setattr(steps, "_LONGEST", 0.0)
    assert [row.arm for row in rows_of(stream)] == ["1 step a call"]


def test_the_smallest_number_near_the_fastest_is_recommended():
    def of(*medians):
        names = [f"{n} steps a call" for n in steps.CANDIDATES]
        return steps.recommended([Row("", n, m) for n, m in zip(names, medians, strict=False)])

    assert of(1.0, 1.0, 1.0, 1.0) == 1
    assert of(9.0, 2.0, 1.04, 1.0) == 16
    assert of(9.0, 2.0, 1.2, 1.0) == 64


@pytest.mark.slow
def test_the_command_recommends(capsys):
    assert main(["bench", "--config", "configs/digits_mlp.toml", "--rounds", "2"]) == 0
    assert "recommended: train.steps_per_call = " in capsys.readouterr().out


def test_names_and_a_config_exclude_each_other(capsys):
    assert main(["bench", "cnn_step", "--config", "configs/digits_mlp.toml"]) == 2
    assert "not both" in capsys.readouterr().err
