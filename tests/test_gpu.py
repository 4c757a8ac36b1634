"""The same step on a GPU: compiled for one that is not there, and run on one that is."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.bench.absent import described_device, described_devices, figures, missing_wheels
from funcnn.bench.absent_works import WORKS
from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.gradient.cost.flops import compiled_expense
from funcnn.rules.attention.cudnn import NAMES
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


# Shapes (B, T, S, heads, key heads, width), dtype, lengths and options that cuDNN takes.
CUDNN = {
    "plain": ((2, 256, 256, 4, 4, 64), "bfloat16", None, {}),
    "causal": ((2, 1024, 1024, 4, 4, 64), "bfloat16", None, {"causal": True}),
    "float16": ((2, 256, 256, 4, 4, 64), "float16", None, {"causal": True}),
    "grouped": ((2, 256, 256, 8, 2, 128), "bfloat16", None, {"causal": True}),
    "places that no tile divides": ((2, 201, 201, 4, 4, 64), "bfloat16", None, {"causal": True}),
    "other keys than queries": ((2, 130, 77, 4, 4, 64), "bfloat16", None, {"scale": 0.2}),
    "narrow heads": ((2, 64, 64, 2, 1, 8), "bfloat16", None, {}),
    "window": ((2, 512, 512, 4, 4, 64), "bfloat16", None, {"causal": True, "window": 100}),
    "window of its own place": (
        (2, 256, 256, 4, 4, 64),
        "bfloat16",
        None,
        {"causal": True, "window": 0},
    ),
    "lengths": ((4, 256, 256, 4, 4, 64), "bfloat16", [256, 100, 1, 0], {}),
    "causal lengths": ((4, 256, 256, 4, 2, 64), "bfloat16", [256, 100, 1, 0], {"causal": True}),
}


def attention_arguments(name):
    (b, t, s, heads, key_heads, width), dtype, lengths, options = CUDNN[name]
    random = np.random.default_rng(0)
    shapes = (b, t, heads, width), (b, s, key_heads, width), (b, s, key_heads, width)
    args = [jnp.asarray(random.standard_normal(x), dtype) for x in (*shapes, shapes[0])]
    return args, None if lengths is None else jnp.array(lengths, jnp.int32), options


def attention_and_gradients(f, q, k, v, dy, lengths, **options):
    def of_floats(q, k, v):
        return f(q, k, v, None, None, lengths, **options)

    def both(q, k, v, dy):
        y, pullback = jax.vjp(of_floats, q, k, v)
        return [y, *pullback(dy)]

    return jax.jit(both)(q, k, v, dy)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CUDNN)
def test_cudnn_is_as_near_to_the_truth_as_the_blocks(name):
    gpu()
    args, lengths, options = attention_arguments(name)
    by_cudnn = {**options, "implementation": "cudnn"}
    chosen = fnn.rules.attention_implementation(*args[:3], None, None, lengths, **by_cudnn)
    assert chosen.name == "cudnn", chosen.reason
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = [np.asarray(a).astype(np.float64) for a in args]
        of_keys = None if lengths is None else np.asarray(lengths)
        exact = fnn.rules.attention.reference
        truth = attention_and_gradients(exact, *map(jnp.asarray, wide), lengths=of_keys, **options)
        truth = [np.asarray(a) for a in truth]
    found = attention_and_gradients(fnn.rules.attention, *args, lengths=lengths, **by_cudnn)
    blocks = attention_and_gradients(fnn.rules.attention, *args, lengths=lengths, **options)
    for what, ours, theirs, true in zip(("y", "dq", "dk", "dv"), found, blocks, truth, strict=True):
        errors = [
            float(np.sqrt(np.mean((np.asarray(a).astype(np.float64) - true) ** 2)))
            for a in (ours, theirs)
        ]
        print(what, *errors)
        assert errors[0] <= 1.5 * errors[1] + 1e-12, (what, errors)
        if lengths is not None:
            assert not np.any(np.asarray(ours).astype(np.float64)[np.asarray(lengths) == 0])


@pytest.mark.gpu
def test_cudnn_runs_under_vmap_in_a_loop_and_with_a_checkpoint():
    gpu()
    (q, k, v, dy), _, options = attention_arguments("causal")
    options = {**options, "implementation": "cudnn"}

    def loss(q, k, v):
        y = fnn.rules.attention(q, k, v, **options)
        return jnp.sum((y * dy).astype(jnp.float32))

    gradient = jax.grad(loss, (0, 1, 2))
    wanted = jax.jit(gradient)(q, k, v)
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), (q, k, v))
    found = {
        "vmap": jax.jit(jax.vmap(gradient))(*twice),
        "scan": jax.jit(lambda a: jax.lax.scan(lambda c, x: (c, gradient(*x)), None, a)[1])(twice),
    }
    found = {name: jax.tree.map(lambda a: a[1], a) for name, a in found.items()}
    found["checkpoint"] = jax.jit(jax.grad(jax.checkpoint(loss), (0, 1, 2)))(q, k, v)
    for name, gradients in found.items():
        for a, b in zip(gradients, wanted, strict=True):
            wide = (np.asarray(x).astype(np.float64) for x in (a, b))
            np.testing.assert_allclose(*wide, rtol=0.02, atol=0.02, err_msg=name)


def gpt_gradient(keep, implementation):
    model = fnn.models.gpt(
        64, 256, width=128, depth=3, heads=2, keep=keep, implementation=implementation
    )
    model = fnn.compute_in(model, "bfloat16")
    x = jax.ShapeDtypeStruct((4, 256), jnp.int32)

    def loss(params, x):
        return jnp.mean(model(params, x).astype(jnp.float32) ** 2)

    return jax.grad(loss), (jax.eval_shape(model.init, jax.random.key(0), x), x)


@pytest.mark.parametrize("keep", ["residuals", "inputs"])
def test_a_step_compiled_for_an_absent_gpu_calls_cudnn(keep):
    if reason := missing_wheels():
        pytest.skip(reason)
    there = jax.sharding.SingleDeviceSharding(described_device("h200"))
    bytes_of = {}
    for implementation in ("cudnn", "blocks"):
        f, args = gpt_gradient(keep, implementation)
        args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there), args)
        compiled = jax.jit(f).lower(*args).compile()
        text = compiled.as_text() or ""
        calls = [text.count(f'custom_call_target="{name}"') for name in NAMES.values()]
        backwards = 1 if implementation == "cudnn" else 0
        forwards = backwards * (2 if keep == "inputs" else 1)  # once more in the backward pass
        assert calls == [forwards, backwards]
        bytes_of[implementation] = compiled_expense(compiled).temporary_bytes
    assert bytes_of["cudnn"] <= bytes_of["blocks"]


def test_on_absent_gpus_cudnn_takes_samples_and_heads_where_they_lie():
    if reason := missing_wheels():
        pytest.skip(reason)
    devices = np.array(described_devices("h200", per_node=4)).reshape(2, 2)
    kinds = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.sharding.Mesh(devices, ("data", "tensor"), axis_types=kinds)
    spec = jax.sharding.PartitionSpec("data", None, "tensor")
    there = jax.sharding.NamedSharding(mesh, spec)
    q = jax.ShapeDtypeStruct((4, 256, 8, 64), jnp.bfloat16, sharding=there)
    k = jax.ShapeDtypeStruct((4, 256, 2, 64), jnp.bfloat16, sharding=there)

    def loss(q, k, v):
        y = fnn.rules.attention(q, k, v, causal=True, implementation="cudnn")
        return jnp.sum(y.astype(jnp.float32) ** 2)

    text = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, k, k).compile().as_text() or ""
    for name in NAMES.values():
        assert text.count(f'custom_call_target="{name}"') == 1
    assert "all-gather" not in text
    assert '"dimensions":["2","4","256","256"]' in text.replace(" ", "")
