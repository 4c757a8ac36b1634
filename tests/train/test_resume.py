"""A run stopped, saved, restored from disk and continued is the straight run, bit for bit."""

import optax
import pytest
from train_problems import assert_bit_equal, batches, mlp_loss, mlp_params

from funcnn.train import Checkpoints, MetricsLog, TrainState, fit, make_step

SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.05, 4, 20)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(SCHEDULE))


@pytest.fixture(scope="module")
def steps():
    return {k: make_step(mlp_loss, OPTIMIZER, steps_per_call=k) for k in (1, 8)}


def start():
    return TrainState.create(mlp_params(), OPTIMIZER, seed=1)


def options(folder):
    log = MetricsLog(folder / "metrics.jsonl")
    return {"log": log, "log_every": 3, "checkpoints": Checkpoints(folder), "checkpoint_every": 6}


def stop_after(calls):
    left = iter([False] * calls + [True])
    return lambda: next(left)


# 21 steps: 8 does not divide them, so the last call is of 5.
@pytest.mark.parametrize("k", [1, 8])
def test_stopped_and_resumed_equals_straight(steps, k, tmp_path):
    straight, _ = fit(steps[k], start(), batches, steps=21, **options(tmp_path / "straight"))
    run = options(tmp_path / "stopped")
    stopped, _ = fit(
        steps[k], start(), batches, steps=21, stop=stop_after(10 if k == 1 else 1), **run
    )
    assert 0 < int(stopped.step) < 21
    # Lines of a run that was killed after its last checkpoint, and one cut off in the middle.
    run["log"].write({"step": 20, "loss": 99.0})
    with run["log"].path.open("a") as file:
        file.write('{"step": 21')
    state = run["checkpoints"].restore(start())
    assert_bit_equal(state, stopped)
    resumed, _ = fit(steps[k], state, batches, steps=21, **run)
    assert_bit_equal(resumed, straight)
    lines = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert run["log"].path.read_bytes() == lines
    assert run["checkpoints"].steps() == Checkpoints(tmp_path / "straight").steps()


def test_resumed_with_another_number_of_steps_a_call_ends_the_same(steps, tmp_path):
    straight, _ = fit(steps[1], start(), batches, steps=21)
    checkpoints = Checkpoints(tmp_path)
    fit(steps[8], start(), batches, steps=21, stop=stop_after(2), checkpoints=checkpoints)
    resumed, _ = fit(steps[1], checkpoints.restore(start()), batches, steps=21)
    assert_bit_equal(resumed, straight)
