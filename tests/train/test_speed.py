"""The speed of a run: what counts as its time, by a clock of our own, and where it is told."""

import sys
import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.train import Checkpoints, MetricsLog, Speed, TrainState, fit, make_step, read_metrics
from funcnn.train import speed as speeds
from funcnn.train.progress import PlainProgress

OPTIMIZER = optax.sgd(0.1)
COMPILING, EVALUATING, SAVING, HOOK, BATCH = 1000.0, 500.0, 250.0, 0.25, 0.5


class Clock:
    """Seconds that pass where somebody says so, and a device that is busy until some time."""

    def __init__(self):
        self.now, self.busy_until, self.waits = 0.0, 0.0, 0

    def passes(self, seconds):
        self.now += seconds

    def wait(self):
        self.waits += 1
        self.now = max(self.now, self.busy_until)


class OnDevice:
    """A number that the device of a clock has still to compute."""

    def __init__(self, clock):
        self.clock = clock

    def block_until_ready(self):
        self.clock.wait()
        return self

    def __array__(self, dtype=None, copy=None):
        self.clock.wait()
        return np.float32(1.0)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(speeds, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def state_at(step=0):
    state = TrainState.create({"w": jnp.zeros(2)}, OPTIMIZER, seed=0)
    return state._replace(step=jnp.int32(step))


def run(clock, folder, size=1, **options):
    """A run of which all parts take their time; its device needs 2 s a step, its host nothing."""
    seen = set()

    def step(state, batch):
        count = 1 if size == 1 else len(batch)
        if count not in seen:
            seen.add(count)
            clock.passes(COMPILING)
        clock.busy_until = max(clock.busy_until, clock.now) + 2.0 * count
        return state._replace(step=state.step + count), {"loss": OnDevice(clock)}

    def batches(position, count=None):
        clock.passes(BATCH)
        return np.ones((2,) if count is None else (count, 2), np.float32)

    class Slow(Checkpoints):
        def save(self, state, record=None):
            clock.wait()
            clock.passes(SAVING)

    def evaluate(params):
        clock.wait()
        clock.passes(EVALUATING)
        return {"loss": 0.5}

    speed = Speed(MetricsLog(folder / "speed.jsonl"), examples=3, tokens=6)
    return fit(
        step,
        state_at(),
        batches,
        steps_per_call=size,
        evaluate=evaluate,
        checkpoints=Slow(folder / "checkpoints"),
        speed=speed,
        on_step=lambda state, metrics: clock.passes(HOOK),
        **options,
    )


def test_what_a_step_takes_counts_and_evaluating_saving_and_compiling_do_not(clock, tmp_path):
    run(clock, tmp_path, steps=9, log_every=3, evaluate_every=3, checkpoint_every=2)
    records = read_metrics(tmp_path / "speed.jsonl")
    assert [record["step"] for record in records] == [3, 6, 9]
    # 2 s of the device for each step. A hook and a batch go on meanwhile, but where it was waited
    # for: at a record (the hook of its step is called then), and before a save.
    assert [record["seconds"] for record in records] == [
        HOOK + BATCH + 2 + BATCH + 2,  # steps 2 and 3, saved at 2
        HOOK + BATCH + 2 + BATCH + 2 + 2,  # steps 4 to 6, saved at 4
        HOOK + BATCH + 2 + 2 + BATCH + 2,  # steps 7 to 9, saved at 8
    ]
    for record, steps in zip(records, (2, 3, 3), strict=True):
        rate = steps / record["seconds"]
        assert record["steps_per_second"] == rate
        assert record["examples_per_second"] == 3 * rate
        assert record["tokens_per_second"] == 6 * rate
        assert "share_of_peak" not in record


def test_nothing_waits_for_the_device_but_what_must(clock, tmp_path):
    run(clock, tmp_path, steps=41, log_every=20)
    # The first call, and records at 20, 40 and 41; at the end its evaluation and its save, which
    # wait by themselves, too, as does the hook of that evaluation.
    assert clock.waits == 1 + 3 + (2 + 3 + 1)


def test_a_last_call_of_fewer_steps_compiles_and_does_not_count(clock, tmp_path):
    run(clock, tmp_path, size=4, steps=22, log_every=8)
    records = read_metrics(tmp_path / "speed.jsonl")
    assert [record["step"] for record in records] == [8, 16, 22]
    assert [record["steps_per_second"] for record in records] == [
        4 / (HOOK + BATCH + 8),
        8 / (HOOK + BATCH + 16),
        4 / (HOOK + BATCH + 8),  # steps 17 to 20
    ]


def test_metrics_hold_no_speed_and_progress_shows_it(clock, tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    options = {"log": log, "progress": PlainProgress(sys.stdout)}
    # At steps_per_call = 1 the record of step 1 has only the call that compiles.
    _, history = run(clock, tmp_path, steps=3, log_every=1, **options)
    assert read_metrics(log.path) == history
    assert [set(record) for record in history[:2]] == [{"step", "loss"}] * 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 1/3  loss 1"
    assert lines[1] == "step 2/3  loss 1  0.3636 steps/s  1.091 examples/s  2.182 tokens/s"
    assert [record["step"] for record in read_metrics(tmp_path / "speed.jsonl")] == [2, 3]


def loss(params, batch, key):
    return jnp.mean(jnp.square(params["w"] - batch))


@pytest.fixture(scope="module")
def step():
    return make_step(loss, OPTIMIZER)


def test_a_run_that_goes_on_has_each_step_once_and_the_metrics_of_an_unbroken_one(step, tmp_path):
    def train(folder, until, batches=lambda step: np.ones(2, np.float32)):
        checkpoints, log = Checkpoints(folder), MetricsLog(folder / "metrics.jsonl")
        begun = checkpoints.latest() is not None
        fit(
            step,
            checkpoints.restore(state_at()) if begun else state_at(),
            batches,
            steps=until,
            log_every=2,
            log=log,
            checkpoints=checkpoints,
            checkpoint_every=4,
            speed=Speed(MetricsLog(folder / "speed.jsonl")),
        )

    def ending(step):
        if step == 7:
            raise KeyboardInterrupt
        return np.ones(2, np.float32)

    train(tmp_path / "straight", 10)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", 10, ending)
    assert [r["step"] for r in read_metrics(tmp_path / "killed" / "speed.jsonl")] == [2, 4, 6]
    train(tmp_path / "killed", 10)
    straight, killed = (tmp_path / name for name in ("straight", "killed"))
    assert (straight / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()
    for folder in (straight, killed):
        assert [r["step"] for r in read_metrics(folder / "speed.jsonl")] == [2, 4, 6, 8, 10]
    assert (straight / "speed.jsonl").read_bytes() != (killed / "speed.jsonl").read_bytes()


def test_numbers_of_a_step_that_are_none_are_refused():
    with pytest.raises(ValueError, match="speed: examples must be above 0, or None, found 0"):
        Speed(examples=0)


def test_the_share_of_the_peak_needs_both_numbers():
    assert Speed(flops=3e9, peak_flops=1e12).record(8, 4, 0.5)["share_of_peak"] == 0.024
    assert "share_of_peak" not in Speed(flops=3e9).record(8, 4, 0.5)
    assert "share_of_peak" not in Speed(peak_flops=3e9).record(8, 4, 0.5)
