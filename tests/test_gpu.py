"""The same step on a GPU: compiled for one that is not there, and run on one that is."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.bench.absent import described_device, figures, missing_wheels
from funcnn.bench.absent_works import WORKS
from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.train import Guard, make_step

CONFIGS = Path(__file__).parent.parent / "configs"
DIGITS = ["digits_mlp", "digits_cnn"]


def experiment_of(name):
    return build_experiment(load_config(CONFIGS / f"{name}.toml"))


@pytest.mark.parametrize("steps_per_call", [1, 8])
@pytest.mark.parametrize("name", DIGITS)
def test_training_step_compiles_for_an_absent_gpu(name, steps_per_call):
    if reason := missing_wheels():
        pytest.skip(reason)
    experiment = experiment_of(name)
    batches = experiment.batches()
    batch = batches(0) if steps_per_call == 1 else batches(0, steps_per_call)
    state = jax.eval_shape(experiment.first_state)
    found = {}
    for arm, loss in {
        "manual": experiment.loss,
        "automatic": fnn.without_rules(experiment.loss),
    }.items():
        guard = Guard()
        step = make_step(loss, experiment.optimizer, steps_per_call=steps_per_call, guard=guard)
        device = described_device("h200")
        found[arm] = figures(step.jitted, state, batch, device=device, donate=(0,))
    manual, automatic = found["manual"], found["automatic"]
    parameters = sum(p.nbytes for p in jax.tree.leaves(experiment.params))
    assert manual.argument_bytes > 3 * parameters  # the parameters and Adam's two moments
    assert manual.kernels > 0
    assert manual.argument_bytes == automatic.argument_bytes
    assert manual.temporary_bytes <= 1.1 * automatic.temporary_bytes


# Temporary bytes of the gradient by hand over those of each automatic arm, at most.
BYTES = {
    "cnn_step": {"autodiff": 0.6},
    "mlp_step": {"autodiff": 0.85},
    "scanned_stack": {"autodiff": 0.2, "autodiff + checkpoint": 1.1},
    "linear_cross_entropy": {"autodiff": 1 / 9},
    "lstm": {"autodiff": 0.9},
}


def test_every_work_has_its_limits():
    assert BYTES.keys() == WORKS.keys()


@pytest.mark.parametrize("work", WORKS)
def test_gradients_take_fewer_bytes_on_an_absent_gpu(work):
    if reason := missing_wheels():
        pytest.skip(reason)
    arms, args = WORKS[work]()
    found = {name: figures(f, *args, device=described_device("h200")) for name, f in arms.items()}
    ours = found.pop("by hand")
    assert found.keys() == BYTES[work].keys()
    for name, theirs in found.items():
        assert ours.temporary_bytes <= BYTES[work][name] * theirs.temporary_bytes, name
    assert ours.kernels > 0


def test_without_the_wheels_the_reason_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install --no-deps jax-cuda13-plugin==" in missing_wheels()
    with pytest.raises(RuntimeError, match="wheels for absent GPUs are missing"):
        described_device()


def gpu():
    try:
        return jax.devices("gpu")[0]
    except RuntimeError as error:
        pytest.skip(f"no GPU here: {str(error).splitlines()[0]}")


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(fnn.registered_rules()))
def test_rules_on_a_gpu(name):
    gpu()
    report = fnn.check(fnn.registered_rules()[name], level="full")
    assert report.ok, str(report)


@pytest.mark.gpu
@pytest.mark.parametrize("name", DIGITS)
def test_gradients_on_a_gpu(name):
    gpu()
    experiment = experiment_of(name)
    batch = jax.tree.map(jnp.asarray, experiment.batches()(0))
    report = fnn.compare(experiment.loss, experiment.params, batch, jax.random.key(0), has_aux=True)
    print(report)
    assert report.ok, str(report)


@pytest.mark.gpu
@pytest.mark.parametrize("name", DIGITS)
def test_training_on_a_gpu_learns_as_on_the_cpu(name):
    device = gpu()
    experiment = experiment_of(name)
    losses = {}
    for where in (device, jax.devices("cpu")[0]):
        with jax.default_device(where):
            step = experiment.step(20)
            state, batches, metrics = experiment.first_state(), experiment.batches(), {}
            for first in range(0, 200, 20):
                state, metrics = step(state, batches(first, 20))
            losses[where.platform] = float(np.mean(metrics["loss"]))
            assert next(iter(jax.tree.leaves(state.params)[0].devices())) == where
    assert losses["cpu"] < 0.5
    assert losses[device.platform] < 0.5
