"""Where records go: several writers at once, and what a run that goes on says to them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.train import Checkpoints, MetricsLog, Speed, TrainState, fit, make_step, read_metrics

OPTIMIZER = optax.sgd(0.1)


class Written:
    """A writer that keeps what it is told; what a rewind drops is gone."""

    def __init__(self, fail_at=None):
        self.records, self.said, self.fail_at = [], [], fail_at

    def rewind(self, step):
        self.said.append(("rewind", step))
        self.records = [record for record in self.records if record["step"] <= step]

    def write(self, record):
        if record["step"] == self.fail_at:
            raise OSError("gone")
        self.records.append(dict(record))

    def close(self):
        self.said.append("close")

    @property
    def steps(self):
        return [record["step"] for record in self.records]


@pytest.fixture(scope="module")
def step():
    def loss(params, batch, key):
        return jnp.mean(jnp.square(params["w"] - batch))

    return make_step(loss, OPTIMIZER)


def first_state():
    return TrainState.create({"w": jnp.zeros(2)}, OPTIMIZER, seed=0)


def run(step, log, steps, state=None, **options):
    def batches(step):
        return np.ones(2, np.float32)

    state = first_state() if state is None else state
    return fit(step, state, batches, steps=steps, log=log, log_every=2, **options)


def test_each_writer_has_each_record_and_is_closed(step, tmp_path):
    log, one, other = MetricsLog(tmp_path / "metrics.jsonl"), Written(), Written()
    _, history = run(step, [one, log, other], 5)
    assert one.records == other.records == read_metrics(log.path) == history
    assert one.said == [("rewind", 0), "close"]


def test_one_writer_stands_alone_and_is_told_the_speed_too(step):
    both = Written()
    run(step, both, 4, speed=Speed(both))
    assert both.steps == [2, 2, 4, 4]
    metrics, speed = both.records[2:]
    assert list(metrics) == ["step", "loss", "gradient_norm"]
    assert list(speed) == ["step", "seconds", "steps_per_second"]


def test_writers_are_closed_where_one_of_them_fails(step, tmp_path):
    one, other = Written(), Written(fail_at=4)
    with pytest.raises(OSError, match="gone"):
        run(step, [one, other], 8)
    assert one.said[-1] == other.said[-1] == "close"


def test_a_record_that_the_log_lacks_is_written_to_all_and_to_none_twice(
    step, tmp_path, monkeypatch
):
    """Killed when the others had the record of the saved step, and the log did not."""
    log, other = MetricsLog(tmp_path / "metrics.jsonl"), Written()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    options = {"checkpoints": checkpoints, "checkpoint_every": 4, "speed": Speed(other)}
    write = MetricsLog.write

    def killed(self, record):
        if record["step"] == 4:
            raise KeyboardInterrupt
        write(self, record)

    monkeypatch.setattr(MetricsLog, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(step, [log, other], 8, **options)
    monkeypatch.undo()
    assert [r["step"] for r in read_metrics(log.path)] == [2]
    assert [r["step"] for r in other.records if "loss" in r] == [2, 4]
    run(step, [log, other], 8, checkpoints.restore(first_state()), **options)
    assert [r["step"] for r in read_metrics(log.path)] == [2, 4, 6, 8]
    assert [r for r in other.records if "loss" in r] == read_metrics(log.path)


def test_what_is_no_writer_is_refused_before_the_first_step(step):
    def never(state, batch):
        raise AssertionError("a step was made")

    with pytest.raises(TypeError, match=r"log must be a MetricsWriter, .*, found a str"):
        run(never, ["metrics.jsonl"], 2)
    nested: Any = [[Written()]]
    with pytest.raises(TypeError, match=r"speed.log must be a MetricsWriter, .*, found a list"):
        run(never, None, 2, speed=Speed(nested))
