"""Batch norm in training: the running statistics in the state, its checkpoints, evaluation, CLI."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from train_problems import assert_bit_equal, batches, compilations, cross_entropy

import funcnn as fnn
from funcnn.cli import main
from funcnn.train import (
    Checkpoints,
    TrainingError,
    TrainState,
    fit,
    make_evaluation,
    make_step,
    merge_statistics,
)

MODEL = fnn.chain(fnn.dense(7, bias=False), norm=fnn.batch_norm(), act=fnn.relu, head=fnn.dense(4))
OPTIMIZER = optax.adamw(0.05, weight_decay=0.1)
X = jnp.asarray(batches(0)["x"])


def loss(params, batch, key):
    logits, statistics = MODEL.value_and_statistics(params, batch["x"], key)
    value, metrics = cross_entropy(logits, batch["y"])
    return value, {**metrics, "statistics": statistics}


def start():
    key = jax.random.key(0)
    params = MODEL.init(key, X)
    shapes = jax.eval_shape(MODEL.statistics, params, X, key)
    return TrainState.create(params, OPTIMIZER, seed=1, statistics=shapes)


def numbers(state):
    return jax.tree.map(np.asarray, state.statistics)["norm"]


def test_the_state_starts_without_any_and_the_first_batch_counts_whole():
    state = start()
    assert [a.tolist() for a in numbers(state)] == [[0.0] * 7, [0.0] * 7, 0.0]
    with pytest.raises(ValueError, match="norm: no batch has been seen yet"):
        state.evaluation_params()
    expected = MODEL.statistics(state.params, X, jax.random.key(0))["norm"]
    state, metrics = make_step(loss, OPTIMIZER)(state, batches(0))
    assert set(metrics) == {"loss", "accuracy", "gradient_norm"}
    for found, wanted in zip(numbers(state), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert not set(state.params["norm"]) & {"mean", "variance"}


def test_the_running_mean_is_first_that_of_all_batches_and_then_forgets():
    def of(mean, count=4.0):
        return {"n": (mean * jnp.ones(1), 2 * mean * jnp.ones(1), jnp.float32(count))}

    running = of(0.0, 0.0)
    for mean in (1.0, 2.0, 3.0):
        running = merge_statistics(running, of(mean), 0.5 if mean > 2 else 0.9)
    # (1 + 2) / 2 = 1.5, then half of it and half of 3.
    np.testing.assert_allclose(running["n"][0], 2.25)
    np.testing.assert_allclose(running["n"][1], 4.5)
    assert float(running["n"][2]) == 12
    uneven = merge_statistics(of(1.0, 30.0), of(2.0, 10.0), 0.99)
    np.testing.assert_allclose(uneven["n"][0], 1.25)


def test_the_running_statistics_are_those_of_flax():
    """From the same first batch on; flax starts at 0 and 1, which the first batch replaces here."""
    module = linen.BatchNorm(use_running_average=False, momentum=0.5, use_fast_variance=False)
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    layer, key = fnn.batch_norm(), jax.random.key(0)
    params = layer.init(key, x[0])
    running = layer.statistics(params, x[0], key)
    mean, variance, _ = running[""]
    peer = {"params": params, "batch_stats": {"mean": mean, "var": variance}}
    for batch in x[1:]:
        running = merge_statistics(running, layer.statistics(params, batch, key), 0.5)
        with jax.numpy_rank_promotion("allow"):
            _, collected = module.apply(peer, batch, mutable=["batch_stats"])
        peer = {**peer, **collected}
    np.testing.assert_allclose(running[""][0], peer["batch_stats"]["mean"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(running[""][1], peer["batch_stats"]["var"], rtol=1e-5)


def test_they_do_not_depend_on_the_optimizer():
    """One step with all weights decayed to nothing: the statistics are untouched by it."""
    states = []
    for optimizer in (optax.sgd(0.0), optax.adamw(0.0, weight_decay=10.0)):
        state = TrainState.create(start().params, optimizer, 1, start().statistics)
        states.append(make_step(loss, optimizer)(state, batches(0))[0])
    assert_bit_equal(states[0].statistics, states[1].statistics)


@pytest.fixture(scope="module")
def steps():
    return {k: make_step(loss, OPTIMIZER, steps_per_call=k) for k in (1, 8)}


def test_several_steps_a_call_and_a_resumed_run_end_in_equal_bits(steps, tmp_path):
    straight, _ = fit(steps[1], start(), batches, steps=21)
    with compilations() as names:
        scanned, _ = fit(steps[8], start(), batches, steps=21)
    assert sum(name == "jit(scanned)" or "scanned" in name for name in names) <= 2
    assert_bit_equal(straight, scanned)
    checkpoints, left = Checkpoints(tmp_path), iter([False, False, True])
    fit(steps[8], start(), batches, steps=21, checkpoints=checkpoints, stop=lambda: next(left))
    restored = checkpoints.restore(start())
    assert 0 < int(restored.step) < 21
    assert float(numbers(restored)[2]) == 6 * int(restored.step)
    resumed, _ = fit(steps[1], restored, batches, steps=21)
    assert_bit_equal(resumed, straight)
    manifest = json.loads((checkpoints.folder / "step_00000016" / "manifest.json").read_text())
    assert {name for name in manifest["leaves"] if name.startswith("statistics")} == {
        f"statistics/norm/{i}" for i in range(3)
    }


def test_fit_evaluates_with_the_statistics(steps):
    rows = {n: np.concatenate([batches(i)[n] for i in range(3)]) for n in ("x", "y")}

    def metrics(params, batch):
        return {"largest": MODEL(params, batch["x"]).max(-1)}

    evaluate = make_evaluation(metrics, rows, batch_size=7)
    state, history = fit(steps[1], start(), batches, steps=4, evaluate=evaluate)
    folded = fnn.fold_statistics(state.params, state.statistics)
    expected = float(MODEL(folded, rows["x"]).max(-1).mean())
    assert history[-1]["evaluation_largest"] == pytest.approx(expected, rel=1e-5)


def test_a_state_or_a_loss_without_them_is_told_what_to_do():
    bare = TrainState.create(start().params, OPTIMIZER, seed=1)
    with pytest.raises(TypeError, match="other statistics than the state holds, norm") as caught:
        make_step(loss, OPTIMIZER)(bare, batches(0))
    assert "TrainState.create(params, optimizer, seed, statistics=" in str(caught.value)

    def silent(params, batch, key):
        return loss(params, batch, key)[0]

    with pytest.raises(TypeError, match=r"no statistics, .* batch norm 'norm': take y, "):
        make_step(silent, OPTIMIZER)(start(), batches(0))
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1, found 1"):
        make_step(loss, OPTIMIZER, momentum=1.0)


def test_a_sharded_batch_has_global_statistics():
    assert len(jax.devices()) >= 2
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    x = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    x[4:] += 5  # the halves differ: the statistics of one are not those of both
    batch = {"x": x, "y": np.arange(8, dtype=np.int32) % 4}
    rows = NamedSharding(mesh, PartitionSpec("data"))
    step = make_step(loss, OPTIMIZER)
    whole, _ = step(start(), batch)
    everywhere = NamedSharding(mesh, PartitionSpec())
    sharded = jax.device_put(batch, rows)
    divided, _ = step(jax.device_put(start(), everywhere), sharded)
    assert len(divided.params["norm"]["scale"].sharding.device_set) == 2
    pairs = zip(*map(jax.tree.leaves, (whole.statistics, divided.statistics)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (whole.params, divided.params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    half = MODEL.statistics(start().params, jnp.asarray(x[:4]), jax.random.key(0))["norm"]
    assert not np.allclose(half[0], numbers(divided)[0], atol=0.1)


CONFIG = """
[run]
folder = "unused"
platform = "cpu"
[data]
name = "digits"
batch_size = 32
[model]
name = "lenet"
options = {channels = [8], hidden = 32, dropout = 0.0, batch_norm = true}
[optimizer]
name = "adam"
learning_rate = 1e-2
[train]
steps = 24
steps_per_call = 8
evaluate_every = 8
checkpoint_every = 8
"""


def run(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 0
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.mark.slow
def test_a_config_may_name_a_model_with_batch_norm(tmp_path, capsys):
    config = tmp_path / "norm.toml"
    config.write_text(CONFIG)
    folder, other = tmp_path / "run", tmp_path / "other"
    trained = run(capsys, "train", config, "--out", folder, "--json")
    assert trained["test_accuracy"] > 0.5
    evaluated = run(capsys, "eval", folder, "--json")
    assert evaluated["test_loss"] == trained["test_loss"]
    run(capsys, "train", config, "--out", other, "--json", "--set", "train.steps=8")
    text = (other / "config.toml").read_text()
    (other / "config.toml").write_text(text.replace("steps = 8\n", "steps = 24\n", 1))
    resumed = run(capsys, "train", config, "--out", other, "--resume", "--json")
    assert resumed["test_loss"] == trained["test_loss"]


@pytest.mark.parametrize("k", [1, 8])
def test_a_batch_norm_that_sees_one_number_is_refused_before_the_first_step(steps, k):
    def one_row(step, count=None):
        return jax.tree.map(lambda x: x[:1] if count is None else x[:, :1], batches(step, count))

    class Unmade:
        body, steps_per_call = staticmethod(steps[1].body), k

        def __call__(self, state, batch):
            raise AssertionError("a step was made")

    with pytest.raises(TrainingError, match="batch norm 'norm' would take the variance of one num"):
        fit(Unmade(), start(), one_row, steps=8)


def test_a_trained_model_is_trained_on_with_frozen_statistics_beside_its_dropout(steps):
    """The model and its params are those of before; the statistics are the loss's, and stay."""
    trained, _ = fit(steps[1], start(), batches, steps=8)
    model = fnn.chain(
        fnn.dense(7, bias=False),
        norm=fnn.batch_norm(),
        act=fnn.relu,
        drop=fnn.dropout(0.5),
        head=fnn.dense(4),
    )
    kept = jax.tree.map(np.asarray, trained.statistics)

    def tuning(params, batch, key):
        folded = fnn.fold_statistics(params, kept, frozen=True)
        return cross_entropy(model(folded, batch["x"], key=key), batch["y"])

    state = TrainState.create(trained.params, OPTIMIZER, seed=2)
    before = jax.tree.map(np.asarray, state.params)
    one_row = jax.tree.map(lambda x: x[:1], batches(0))
    with_one, _ = make_step(tuning, OPTIMIZER)(state, one_row)  # no variance of a batch is taken
    assert np.isfinite(jax.tree.leaves(with_one.params)[0]).all()
    assert set(with_one.params["norm"]) == {"scale", "bias"}
    assert np.any(with_one.params["norm"]["scale"] != before["norm"]["scale"])
    losses = {
        float(tuning(before, batches(0), jax.random.key(seed))[0]) for seed in range(3)
    }  # the masks differ
    assert len(losses) == 3
