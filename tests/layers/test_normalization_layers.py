"""Layers that normalise: params, backprop, batch norm in training and in evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.parts import outputs_of

RANDOM = np.random.default_rng(0)
IMAGES = jnp.asarray(2 * RANDOM.normal(size=(6, 4, 3, 4)) + 1, jnp.float32)
ROWS = jnp.asarray(RANDOM.normal(size=(5, 4)), jnp.float32)

LAYERS = {
    "layer_norm": fnn.layer_norm,
    "rms_norm": fnn.rms_norm,
    "group_norm": functools.partial(fnn.group_norm, 2),
    "instance_norm": fnn.instance_norm,
    "batch_norm": fnn.batch_norm,
}


def ready(model, x, key):
    """Params with the statistics of x folded in where the model takes any."""
    params = model.init(key, x)
    return fnn.fold_statistics(params, model.statistics(params, x, key))


@pytest.mark.parametrize("name", LAYERS)
def test_params_start_at_the_identity_and_have_the_dtype_of_x(name, key):
    layer = LAYERS[name]()
    params = layer.init(key, jax.ShapeDtypeStruct(IMAGES.shape, "bfloat16"))
    assert list(params) == (["scale"] if name == "rms_norm" else ["scale", "bias"])
    assert {(p.shape, p.dtype) for p in params.values()} == {((4,), jnp.dtype("bfloat16"))}
    np.testing.assert_array_equal(params["scale"], 1)
    assert layer.init(key, jax.ShapeDtypeStruct((3, 4), "uint8"))["scale"].dtype == jnp.float32


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_rule(name, key):
    layer = LAYERS[name](epsilon=0.1)
    params = jax.tree.map(lambda p: p + 0.5, layer.init(key, IMAGES))
    static = {"epsilon": 0.1, **({"groups": 2} if name == "group_norm" else {})}
    values = [params[n] for n in ("scale", "bias") if n in params]
    y = getattr(fnn.rules, name)(IMAGES, *values, **static)
    y = y[0] if name == "batch_norm" else y
    np.testing.assert_array_equal(layer(params, IMAGES, key=key), y)


@pytest.mark.parametrize("name", LAYERS)
def test_options_are_checked(name):
    with pytest.raises(ValueError, match=f"{name}: epsilon is positive, found 0"):
        LAYERS[name](epsilon=0)
    with pytest.raises(ValueError, match="group_norm: groups is a positive integer, found True"):
        fnn.group_norm(True)
    with pytest.raises(ValueError, match="group_norm: 4 channels cannot be divided into 3 groups"):
        fnn.group_norm(3).init(None, IMAGES)  # pyright: ignore[reportArgumentType]


# Backprop


def network(name):
    norm = LAYERS[name]
    block = fnn.chain(fnn.conv(4, (3, 3)), norm(), fnn.relu)
    return fnn.chain(block, fnn.residual(norm()), fnn.flatten, fnn.dense(3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_backprop_is_jax_grad_bit_for_bit(name, training, key):
    model = network(name)
    params, used = ready(model, IMAGES, key), key if training else None
    dy = jnp.asarray(RANDOM.normal(size=(6, 3)), jnp.float32)
    dparams, dx, deltas = fnn.backprop(model, params, IMAGES, dy, key=used)
    loss = lambda p, x: jnp.vdot(dy, model(p, x, key=used))  # noqa: E731
    expected = jax.grad(loss, (0, 1))(params, IMAGES)
    assert jax.tree.structure(dparams) == jax.tree.structure(params)
    for a, b in zip(*map(jax.tree.leaves, ((dparams, dx), expected)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(dparams["chain_0"][f"{name}_0"]["scale"])
    assert f"chain_0/{name}_0" in deltas


def test_the_gradient_of_training_goes_through_the_statistics(key):
    """Σ dx = 0 in each channel: a shift of the whole batch changes nothing."""
    layer = fnn.batch_norm()
    params = ready(layer, IMAGES, key)
    dy = jnp.asarray(RANDOM.normal(size=IMAGES.shape), jnp.float32)
    trained, evaluated = (fnn.backprop(layer, params, IMAGES, dy, key=k)[1] for k in (key, None))
    np.testing.assert_allclose(trained.sum((0, 1, 2)), 0, atol=1e-5)
    assert np.abs(evaluated.sum((0, 1, 2))).max() > 0.1
    assert np.all(fnn.backprop(layer, params, IMAGES, dy, key=key)[0]["mean"] == 0)
    assert np.any(fnn.backprop(layer, params, IMAGES, dy)[0]["mean"])


# Statistics


def deep():
    body = fnn.chain(fnn.conv(4, (1, 1)), fnn.batch_norm())
    return fnn.chain(
        first=fnn.batch_norm(),
        block=fnn.residual(body, shortcut=fnn.batch_norm()),
        branches=fnn.parallel(fnn.batch_norm(), fnn.relu, combine="sum"),
        joined=fnn.parallel(fnn.batch_norm(), fnn.relu, combine=lambda a, b: a * b),
        loop=fnn.repeat(fnn.residual(fnn.chain(fnn.dense(4), fnn.batch_norm())), 3),
        same=fnn.repeat(fnn.batch_norm(), 2),
    )


PATHS = [
    *("first", "block/body/batch_norm_0", "block/shortcut", "branches/batch_norm_0"),
    *("joined/batch_norm_0", "loop/body/batch_norm_0", "same"),
]


def test_statistics_stand_at_the_paths_of_the_params(key):
    model = deep()
    params = model.init(key, IMAGES)
    y, found = jax.jit(model.value_and_statistics)(params, IMAGES, key)
    assert sorted(found) == sorted(PATHS)
    np.testing.assert_allclose(y, jax.jit(model)(params, IMAGES, key=key), rtol=1e-5, atol=1e-5)
    mean, variance, count = found["first"]
    rows = np.asarray(IMAGES, np.float64).reshape(-1, 4)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, rows.var(0), rtol=1e-5)
    assert (float(count), count.dtype) == (72.0, jnp.float32)
    assert [a.shape for a in found["loop/body/batch_norm_0"]] == [(3, 4), (3, 4), (3,)]
    folded = fnn.fold_statistics(params, found)
    assert set(folded["loop"]["body"]["batch_norm_0"]) == {"scale", "bias", "mean", "variance"}
    assert set(params["first"]) == {"scale", "bias"}  # left as they were
    assert jax.jit(model)(folded, IMAGES).shape == IMAGES.shape


def test_folding_the_statistics_of_a_batch_evaluates_that_batch_alike(key):
    model = fnn.chain(fnn.batch_norm(), fnn.relu, fnn.repeat(fnn.batch_norm(), 2))
    params = model.init(key, IMAGES)
    folded = fnn.fold_statistics(params, model.statistics(params, IMAGES, key))
    np.testing.assert_allclose(
        model(folded, IMAGES), model(params, IMAGES, key=key), rtol=1e-5, atol=1e-5
    )


def test_a_row_alone_is_the_row_of_a_batch_bit_for_bit(key):
    model = fnn.chain(fnn.batch_norm(), fnn.relu)
    x = jnp.asarray(RANDOM.normal(size=(64, 5, 7, 3)) * 3 + 1, jnp.float32)
    params = ready(model, x, key)
    for f in (model, jax.jit(model)):
        np.testing.assert_array_equal(f(params, x[5:6]), f(params, x)[5:6])
    trained = model(params, x, key=key)[5:6]
    assert not np.allclose(model(params, x[5:6], key=key), trained)


def test_a_model_without_batch_norm_takes_none(key):
    model = fnn.chain(fnn.dense(3), lambda params, x: x + 1, fnn.layer_norm())
    params = model.init(key, ROWS)
    assert model.statistics(params, ROWS, key) == {}
    assert fnn.fold_statistics(params, {}) is params


# Errors


def message(f):
    with pytest.raises((ValueError, KeyError)) as caught:
        f()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_evaluation_without_statistics_names_the_layer_and_says_to_fold(key):
    model = fnn.chain(stem=fnn.dense(4), block=fnn.residual(fnn.chain(fnn.relu, fnn.batch_norm())))
    params = model.init(key, ROWS)
    for f in (
        lambda: model(params, ROWS),
        lambda: jax.jit(model)(params, ROWS),
        lambda: fnn.backprop(model, params, ROWS, ROWS),
        lambda: outputs_of(model, params, ROWS),
    ):
        line = message(f)
        assert line.startswith("block/body/batch_norm_0: no statistics to evaluate with: fold")
        assert "fnn.fold_statistics(params, statistics)" in line
    looped = fnn.chain(fnn.repeat(fnn.batch_norm(), 2))
    line = message(lambda: looped(looped.init(key, ROWS), ROWS))
    assert line.startswith("repeat_0/batch_norm: no statistics")
    alone = fnn.batch_norm()
    assert message(lambda: alone(alone.init(key, ROWS), ROWS)).startswith("batch_norm: no stat")


def test_statistics_that_do_not_fit_are_refused(key):
    params = {"norm": {"scale": jnp.ones(2)}}
    one = (jnp.ones(2), jnp.ones(2), jnp.ones(()))
    line = message(lambda: fnn.fold_statistics(params, {"nrm/inner": one}))
    assert "fold_statistics: params have no layer 'nrm/inner'" in line
    line = message(lambda: fnn.fold_statistics(params, {"norm": (*one[:2], jnp.zeros(()))}))
    assert line == "fold_statistics: norm: no batch has been seen yet, count is 0"


def test_the_summary_of_a_model_with_batch_norm(key):
    model = fnn.chain(fnn.dense(3), fnn.batch_norm())
    params = model.init(key, ROWS)
    assert "batch_norm_0" in fnn.summary(model, params, ROWS)


# Frozen statistics


def frozen_net():
    return fnn.chain(fnn.batch_norm(frozen=True), fnn.dropout(0.5))


def test_frozen_statistics_are_those_given_beside_a_dropout(key):
    """Where a key asks the layer beside it for its mask, the statistics stay the folded ones."""
    x = 3 + jax.random.normal(key, (64, 2))
    params = frozen_net().init(key, x)
    folded = {
        "batch_norm_0": {**params["batch_norm_0"], "mean": jnp.ones(2), "variance": jnp.ones(2)}
    }
    y = frozen_net()(folded, x, key=key)
    kept = y != 0
    assert 0.3 < float(kept.mean()) < 0.7
    expected = 2 * (x - 1) / jnp.sqrt(1 + 1e-5)
    np.testing.assert_allclose(y[kept], expected[kept], rtol=1e-6)
    assert frozen_net().statistics(folded, x, key) == {}


def test_frozen_statistics_are_constants_in_both_backward_passes(key):
    x = jax.random.normal(key, (5, 2))
    layer = fnn.batch_norm(frozen=True)
    params = {"scale": 2 * jnp.ones(2), "bias": jnp.ones(2), "mean": x[0], "variance": jnp.ones(2)}
    y, pull = jax.vjp(lambda p, x: layer(p, x, key=key), params, x)
    dparams, dx = pull(y)
    by_hand, dx_by_hand, _ = fnn.backprop(layer, params, x, y, key=key)
    np.testing.assert_allclose(dx, dx_by_hand, rtol=1e-6)
    for name, gradient in dparams.items():
        np.testing.assert_allclose(gradient, by_hand[name], rtol=1e-6)
        assert bool(jnp.any(gradient != 0)) == (name in {"scale", "bias"})


def test_frozen_without_statistics_does_not_offer_the_batchs_own(key):
    layer, x = fnn.batch_norm(frozen=True), jnp.ones((4, 2))
    with pytest.raises(ValueError, match=r"fnn.fold_statistics\(params, statistics\)$"):
        layer({"scale": jnp.ones(2), "bias": jnp.zeros(2)}, x, key=key)
    inside = fnn.chain(norm=layer)
    with pytest.raises(ValueError, match=r"^norm: .* fnn.fold_statistics\(params, statistics\)$"):
        inside({"norm": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}}, x, key=key)
    assert bool(jnp.all(jnp.isnan(layer(layer.init(key, x), x, key=key))))


# What a key asks for, apart: the same model throughout, without a flag


def dropping():
    block = fnn.chain(fnn.batch_norm(), fnn.dropout(0.5))
    return fnn.chain(
        fnn.dense(4), fnn.batch_norm(), fnn.relu, fnn.dropout(0.5), fnn.repeat(block, 2)
    )


def trained(key):
    """Params, statistics that no batch of the tests has, and a batch."""
    model, x = dropping(), 3 + 2 * jax.random.normal(key, (64, 3))
    params = model.init(key, x)
    return model, params, model.statistics(params, 2 * x + 1, key), x


def test_with_frozen_statistics_a_key_drops_and_normalises_by_them_alone(key):
    model, params, statistics, x = trained(key)
    frozen = fnn.fold_statistics(params, statistics, frozen=True)
    part, own = (
        fnn.chain(fnn.batch_norm(), fnn.dropout(0.5)),
        {"batch_norm_0": frozen["batch_norm_0"]},
    )
    h, keys = fnn.dense(4)(params["dense_0"], x), jax.random.split(key, 2000)  # (64, 4)
    draws = jax.jit(jax.vmap(lambda k: part(own, h, key=k)))(keys)  # (2000, 64, 4)
    assert 0.45 < float((draws == 0).mean()) < 0.55
    once = fnn.batch_norm()(own["batch_norm_0"], h)
    np.testing.assert_allclose(draws, jnp.where(draws == 0, 0, 2 * once[None]), rtol=1e-5)
    np.testing.assert_allclose(draws.mean(0), once, atol=5 * float(jnp.abs(once).max()) / 2000**0.5)
    # A row of the whole model does not depend on its batch, as it does by the batch's statistics.
    for p, apart in ((frozen, True), (fnn.fold_statistics(params, statistics), False)):
        one, other = (model(p, x.at[1:].add(shift), key=key)[0] for shift in (0.0, 5.0))
        assert bool(jnp.array_equal(one, other)) == apart
    assert np.any(model(frozen, x, key=key) != model(frozen, x, key=keys[0]))
    plain = model(fnn.fold_statistics(params, statistics), x)
    np.testing.assert_array_equal(model(frozen, x), plain)


def test_frozen_statistics_have_no_gradient_and_no_batch_is_taken_up(key):
    model, params, statistics, x = trained(key)
    assert model.statistics(fnn.fold_statistics(params, statistics, frozen=True), x, key) == {}
    both = fnn.fold_statistics(fnn.fold_statistics(params, statistics), statistics, frozen=True)
    dy = jax.random.normal(key, (64, 4))
    for used in (key, None):
        dparams, dx, _ = fnn.backprop(model, both, x, dy, key=used)
        loss = lambda p, x: jnp.vdot(dy, model(p, x, key=used))  # noqa: B023, E731
        expected = jax.grad(loss, (0, 1))(both, x)
        assert jax.tree.structure(dparams) == jax.tree.structure(both)
        for a, b in zip(*map(jax.tree.leaves, ((dparams, dx), expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        for name in ("mean", "variance", "frozen_mean", "frozen_variance"):
            assert not np.any(dparams["batch_norm_0"][name])
        assert np.any(dparams["batch_norm_0"]["scale"])


def test_without_a_key_the_batchs_own_statistics_come_with_no_dropout(key):
    model, params, _, x = trained(key)
    y, found = model.value_and_statistics(params, x, None)
    undropped = fnn.chain(
        fnn.dense(4), fnn.batch_norm(), fnn.relu, fnn.repeat(fnn.chain(fnn.batch_norm()), 2)
    )
    bare = {**params, "repeat_0": {"batch_norm_0": params["repeat_0"]["batch_norm_0"]}}
    expected = undropped(bare, x, key=key)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    assert sorted(found) == ["batch_norm_0", "repeat_0/batch_norm_0"]
    # Which is neither what a key gives nor the evaluation, and has the gradient by hand.
    folded = fnn.fold_statistics(params, model.statistics(params, 2 * x, key))
    for other in (model(params, x, key=key), model(folded, x)):
        assert np.abs(other - y).max() > 0.1
    take = lambda f: jax.grad(lambda p: jnp.sum(jnp.sin(f(p))))(params)  # noqa: E731
    by_hand = take(lambda p: model.value_and_statistics(p, x, None)[0])
    bare_loss = lambda p: undropped(  # noqa: E731
        {**p, "repeat_0": {"batch_norm_0": p["repeat_0"]["batch_norm_0"]}}, x, key=key
    )
    for a, b in zip(*map(jax.tree.leaves, (by_hand, take(bare_loss))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
