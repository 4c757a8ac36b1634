"""What a step finds it returns: it fills nothing, and a composition merges what is returned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import funcnn as fnn
from funcnn.core.layer import Layer, as_layer, layer_from_rule, no_params
from funcnn.core.parts import compose, outputs_of, step_back, through, through_each
from funcnn.gradient.check import check
from funcnn.pictures.network import convolutions

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
IMAGES = jnp.ones((2, 6, 6, 1))
BLOCK = fnn.chain(dense=fnn.dense(3), norm=fnn.batch_norm())


# Steps


def with_a_dropped_step(abstract):
    """A composition that takes a step, under eval_shape where asked, and drops what it found."""

    def flow(step, params, x, key):
        def dropped(x):
            return through(step, "dropped", BLOCK, {"dropped": params["block"]}, x, key)[0]

        _ = jax.eval_shape(dropped, x) if abstract else dropped(x)
        y, extra = through(step, "block", BLOCK, params, x, key)
        return y, {"block": extra}

    def back(params, res, dy):
        step_back("dropped", BLOCK, {"dropped": params["block"]}, res["block"], 2 * dy)
        dx, taken = step_back("block", BLOCK, params, res["block"], dy)
        return dx, {"block": taken}

    def init(key, x):
        return {"block": BLOCK.init(key, x)}

    return compose("probing", {"block": BLOCK}, init, flow, back, rebuild=None)


@pytest.mark.parametrize("abstract", [False, True], ids=["run", "under eval_shape"])
def test_a_step_whose_result_is_dropped_leaves_no_trace(abstract, key):
    model = with_a_dropped_step(abstract)
    params = model.init(key, ROWS)
    y, seen = outputs_of(model, params, ROWS, key)
    assert list(seen) == ["block", "block/dense", "block/norm"]
    _, statistics = model.value_and_statistics(params, ROWS, key)
    assert list(statistics) == ["block/norm"]
    assert model.forward is not None
    assert model.recursion is not None
    _, res = model.forward(params, ROWS, key)
    assert list(res) == ["block"]
    dparams, _, deltas = model.recursion(params, res, y)
    assert list(dparams) == ["block"]
    assert list(deltas) == ["block", "block/norm", "block/dense"]
    # A tracer that had been filed while the shape was asked for would raise here.
    np.testing.assert_array_equal(seen["block"], y)
    expected = fnn.backprop(BLOCK, params["block"], ROWS, y, key=key)[0]
    jax.tree.map(np.testing.assert_array_equal, dparams["block"], expected)


def test_what_a_model_returns_is_its_callers_own(key):
    model = fnn.chain(block=BLOCK, loop=fnn.repeat(BLOCK, 2))
    params = model.init(key, ROWS)

    def found():
        assert model.forward is not None
        y, res = model.forward(params, ROWS, key)
        deltas = fnn.backprop(model, params, ROWS, y, key=key)[2]
        return [
            model.statistics(params, ROWS, key),
            outputs_of(model, params, ROWS, key)[1],
            deltas,
            res,
        ]

    first = found()
    names = [list(part) for part in first]
    for part in first:
        part.clear()
    with jax.checking_leaks():
        jax.eval_shape(lambda: found()[:3])
    again = found()
    assert [list(part) for part in again] == names
    assert not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(again))


def test_one_layer_in_two_places_has_the_statistics_of_each(key):
    norm = fnn.batch_norm()
    model = fnn.chain(norm, lambda params, x: 3 * x + 2, norm, inside=fnn.chain(norm))
    statistics = model.statistics(model.init(key, ROWS), ROWS, key)
    assert list(statistics) == ["batch_norm_0", "batch_norm_1", "inside/batch_norm_0"]
    first, second, third = (mean for mean, _, _ in statistics.values())
    np.testing.assert_allclose(first, ROWS.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second, jnp.full(3, 2.0), rtol=1e-5)
    np.testing.assert_allclose(third, jnp.zeros(3), atol=1e-5)


def test_the_outputs_of_a_stack_come_in_the_order_of_its_layers(key):
    """A scan sorts a dict by its keys."""
    model = fnn.repeat(fnn.chain(z=fnn.relu, a=fnn.tanh, m=fnn.relu), 2)
    _, seen = outputs_of(model, {}, ROWS, key)
    assert list(seen) == ["chain", "chain/z", "chain/a", "chain/m"]


def test_the_branches_of_a_compiled_forward_pass_keep_their_halves(key):
    """What comes out of jit is sorted by name."""
    model = fnn.parallel(z=fnn.dense(2), a=fnn.dense(3), combine="concatenate")
    params = model.init(key, ROWS)
    assert model.forward is not None
    y, res = jax.jit(model.forward)(params, ROWS, None)
    dparams, _ = model.backward(params, res, y)
    np.testing.assert_allclose(dparams["z"]["b"], y[:, :2].sum(0), rtol=1e-5)
    np.testing.assert_allclose(dparams["a"]["b"], y[:, 2:].sum(0), rtol=1e-5)


def test_parts_side_by_side_want_an_input_each():
    with pytest.raises(ValueError, match="shorter"):
        through_each(lambda *step: (0, 0), {"a": fnn.relu, "b": fnn.tanh}, {}, [ROWS], None)


# Kinds


def called(layer, kind):
    return dataclasses.replace(layer, kind=kind)


def the_same(layer):
    return layer


def invented(layer):
    return called(layer, "invented")


def network(name):
    """A layer of every sort, each called what `name` calls it."""
    block = name(fnn.chain(conv=name(fnn.conv(1, (3, 3))), norm=name(fnn.batch_norm())))
    return name(
        fnn.chain(
            stem=name(fnn.chain(conv=name(fnn.conv(1, (3, 3))), act=name(fnn.relu))),
            loop=name(fnn.chain(stack=name(fnn.repeat(invented(block), 2)))),
            skip=name(fnn.residual(block)),
            both=name(fnn.parallel(a=block, b=name(fnn.relu), combine="sum")),
        )
    )


def test_a_layer_of_an_invented_kind_behaves_as_any_other(key):
    plain, other = network(the_same), network(invented)
    params = plain.init(key, IMAGES)
    jax.tree.map(np.testing.assert_array_equal, params, other.init(key, IMAGES))
    x = jax.random.normal(key, IMAGES.shape)
    y = plain(params, x, key=key)
    found = []
    for model in (plain, other):
        steps = list(fnn.backprop_steps(model, params, x, y, key=key))
        whole = fnn.backprop(model, params, x, y, key=key)
        found.append((steps, whole, model(params, x, key=key), model.statistics(params, x, key)))
        assert list(whole[2]) == [path for path, _, _ in steps]
        paths = [(c.path, c.params["w"].shape, c.repeats) for c in convolutions(model, params)]
        assert paths == [
            ("stem/conv", (3, 3, 1, 1), 0),
            ("loop/stack/invented/conv", (3, 3, 1, 1), 1),
            ("skip/body/conv", (3, 3, 1, 1), 0),
            ("both/a/conv", (3, 3, 1, 1), 0),
        ]
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert fnn.summary(plain, params, x) == fnn.summary(other, params, x)


def test_a_layer_that_borrows_a_kind_is_not_treated_as_its_own(key):
    like_conv = as_layer(
        lambda params, x: x, kind="conv", init=lambda key, x: {"w": jnp.ones((3, 3, 1, 1))}
    )
    model = fnn.chain(like_conv)
    assert convolutions(model, model.init(key, IMAGES)) == []
    alone = layer_from_rule(fnn.rules.relu, kind="chain")
    dparams, dx, deltas = fnn.backprop(alone, {}, ROWS, ROWS)
    assert (dparams, list(deltas)) == ({}, ["chain"])
    np.testing.assert_array_equal(dx, jnp.where(ROWS > 0, ROWS, 0))
    named = called(fnn.chain(head=fnn.dense(2)), "repeat")
    assert "head" in fnn.summary(named, params := named.init(key, ROWS), ROWS)
    assert fnn.summary(named, params, ROWS) == fnn.summary(called(named, "chain"), params, ROWS)


def test_the_rule_of_a_layer_is_the_one_it_applies():
    with pytest.raises(TypeError, match=r"^other is a layer: .*it is fnn\.rules\.relu$"):
        called(fnn.relu, "other")(ROWS)
    with pytest.raises(TypeError, match=r"^other is a layer: .*it is fnn\.rules\.batch_norm$"):
        called(fnn.batch_norm(), "other")(ROWS)
    with pytest.raises(
        TypeError, match=r"check: other is .*its rule, fnn\.check\(fnn\.rules\.relu"
    ):
        check(called(fnn.relu, "other"))
    stranger = Layer("relu", no_params, lambda params, x, key: x)
    with pytest.raises(TypeError, match=r"relu\(params, x, key=key\)$"):
        stranger(ROWS)
    with pytest.raises(TypeError, match="check: relu is a layer: check a rule, or"):
        check(stranger)


@pytest.mark.parametrize("name", ["gru", "lstm", "rnn"])
def test_a_recurrent_layer_names_its_rule(name):
    layer = getattr(fnn, name)(2)
    assert layer.rule is getattr(fnn.rules, name)
    assert fnn.embedding(3, 2).rule is fnn.rules.embedding
