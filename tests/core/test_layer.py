"""A layer is two pure functions; one made from a rule carries the rule's passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.layer import (
    Layer,
    as_layer,
    constructor,
    fold_path,
    layer_from_rule,
    output_shape,
    parameter_count,
)
from funcnn.core.registry import Rule

X = jnp.array([[1.0, -2.0, 3.0], [-1.0, 0.5, 0.0]])


def affine_rule():
    def affine(x, a, b=None, *, power=1):
        y = x * a**power
        return y if b is None else y + b

    rule = Rule(affine, "module.affine")
    rule.defvjp(
        lambda x, a, b, *, power: (affine(x, a, b, power=power), (x, a)),
        lambda res, dy, *, power: (
            dy * res[1] ** power,
            jnp.sum(dy * res[0] * power * res[1] ** (power - 1)),
            jnp.sum(dy),
        ),
    )
    return rule


def noise_rule():
    def noise(x, key, *, size):
        return x + size * jax.random.normal(key, x.shape)

    rule = Rule(noise, "noise")
    rule.defvjp(
        lambda x, key, *, size: (noise(x, key, size=size), None),
        lambda res, dy, *, size: (7 * dy, None),
    )
    return rule


# From a rule


def test_arguments_come_from_params_by_name_and_static_ones_are_fixed():
    layer = layer_from_rule(affine_rule(), power=2)
    assert layer.kind == "affine"
    params = {"b": jnp.float32(1.0), "a": jnp.float32(3.0)}
    np.testing.assert_array_equal(layer(params, X), 9 * X + 1)
    np.testing.assert_array_equal(layer({"a": jnp.float32(3.0)}, X), 9 * X)


def test_its_passes_are_those_of_the_rule():
    layer = layer_from_rule(affine_rule(), power=2)
    params = {"b": jnp.float32(1.0), "a": jnp.float32(3.0)}
    assert layer.forward is not None
    y, res = layer.forward(params, X, None)
    np.testing.assert_array_equal(y, layer(params, X))
    dparams, dx = layer.backward(params, res, X)
    assert list(dparams) == ["b", "a"]
    np.testing.assert_array_equal(dx, 9 * X)
    np.testing.assert_allclose(dparams["a"], 6 * jnp.sum(X * X), rtol=1e-6)
    np.testing.assert_allclose(dparams["b"], jnp.sum(X), rtol=1e-6)
    expected = jax.grad(lambda p: jnp.vdot(X, layer(p, X)))(params)
    np.testing.assert_allclose(dparams["a"], expected["a"], rtol=1e-6)


def test_a_missing_parameter_is_named():
    layer = layer_from_rule(affine_rule())
    with pytest.raises(KeyError, match="affine: parameter 'a' is missing: params hold w, v"):
        layer({"w": X, "v": X}, X)
    with pytest.raises(KeyError, match="params hold no parameters"):
        layer({}, X)


def test_static_arguments_are_checked_when_the_layer_is_made():
    with pytest.raises(TypeError, match=r"module\.affine: unknown static argument 'powr'"):
        layer_from_rule(affine_rule(), powr=2)
    with pytest.raises(TypeError, match="noise: static argument 'size' is missing"):
        layer_from_rule(noise_rule())


def test_a_rule_with_a_key_is_the_identity_without_one(key):
    layer = layer_from_rule(noise_rule(), size=0.5)
    assert layer.forward is not None
    np.testing.assert_array_equal(layer({}, X), X)
    y, res = layer.forward({}, X, None)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(layer.backward({}, res, X)[1], X)
    y, res = layer.forward({}, X, key)
    np.testing.assert_allclose(y, layer({}, X, key=key), rtol=1e-6)
    assert not np.array_equal(y, X)
    np.testing.assert_array_equal(layer.backward({}, res, X)[1], 7 * X)


# Calls


def test_a_layer_called_as_a_function_of_arrays_names_the_rule():
    with pytest.raises(TypeError, match=r"relu is a layer: .*fnn\.rules\.relu"):
        fnn.relu(X)
    with pytest.raises(TypeError, match=r"call it as relu\(params, x\) or, to train, relu\(params"):
        fnn.relu({}, X, jax.random.key(0))


def test_a_constructor_called_with_arrays_says_what_it_is():
    with pytest.raises(TypeError, match=r"conv makes a layer from its options.*fnn\.rules\.conv"):
        fnn.conv(X)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="dense makes a layer from its options"):
        fnn.dense(4, initializer=X)  # pyright: ignore[reportArgumentType]


def test_a_layer_under_transforms(key):
    layer = fnn.dense(2)
    params = layer.init(key, X)
    y = layer(params, X)
    np.testing.assert_allclose(jax.jit(layer)(params, X), y, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(layer, (None, 0))(params, X), y, rtol=1e-6)
    gradient = jax.grad(lambda p: layer(p, X).sum())(params)
    np.testing.assert_allclose(gradient["w"], jnp.stack([X.sum(0)] * 2, 1), rtol=1e-6)
    stacked = jax.vmap(lambda k: layer.init(k, X))(jax.random.split(key, 3))
    assert jax.vmap(layer, (0, None))(stacked, X).shape == (3, 2, 2)


def test_a_layer_without_a_backward_pass_says_so():
    with pytest.raises(TypeError, match="double: no hand-derived backward pass"):
        as_layer(lambda p, x: 2 * x, kind="double").backward({}, None, X)


# From a function


def test_any_function_is_a_layer(key):
    def shifted(params, x, key=None):
        return x if key is None else x + 1

    layer = as_layer(shifted)
    assert (layer.kind, layer.init(key, X)) == ("shifted", {})
    np.testing.assert_array_equal(layer({}, X), X)
    np.testing.assert_array_equal(layer({}, X, key=key), X + 1)
    plain = as_layer(lambda params, x: params["a"] * x)
    assert plain.kind == "function"
    np.testing.assert_array_equal(plain({"a": 2.0}, X, key=key), 2 * X)
    assert as_layer(layer) is layer


def test_a_function_may_have_params_of_its_own(key):
    layer = as_layer(
        lambda params, x: params["a"] * x, init=lambda key, x: {"a": jnp.ones(x.shape[-1:])}
    )
    assert layer.init(key, X)["a"].shape == (3,)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (fnn.rules.relu, r"relu is a rule, not a layer: use fnn\.relu"),
        (fnn.gelu, r"gelu makes a layer and is not one: write gelu\(\.\.\.\)"),
        (3, r"a layer is a fnn\.Layer or a function f\(params, x\), found 3"),
        (X, r"found float32\[2, 3\]: give the layer itself, not what it returns"),
    ],
)
def test_what_is_no_layer_is_refused(f, message):
    with pytest.raises(TypeError, match=message):
        as_layer(f)


def test_constructor_keeps_name_and_marks():
    @constructor
    def scale(factor=2.0):
        """Scale."""
        return as_layer(lambda params, x: factor * x)

    assert (scale.__name__, scale.__doc__) == ("scale", "Scale.")
    assert isinstance(scale(3.0), Layer)
    with pytest.raises(TypeError, match="scale makes a layer and is not one"):
        as_layer(scale)


# Keys, shapes, counts


def test_keys_follow_names(key):
    folded = {name: jax.random.key_data(fold_path(key, name)).tolist() for name in "abc"}
    assert len({tuple(v) for v in folded.values()}) == 3
    # A figure that must never change, or a checkpoint no longer says what was drawn.
    assert jax.random.key_data(fold_path(jax.random.key(0), "dropout_0")).tolist() == [
        1508111214,
        3430605993,
    ]
    assert fold_path(None, "a") is None


def test_output_shape_computes_nothing():
    huge = jax.ShapeDtypeStruct((10**12, 2), "float32")  # 8 TB, were it there
    shape = output_shape(as_layer(lambda params, x: jnp.sin(x).sum(0)), {}, huge)
    assert shape.shape == (2,)


def test_parameters_are_counted_without_being_there(key):
    params = jax.eval_shape(fnn.dense(3).init, key, X)
    assert parameter_count({"a": params, "b": {}}) == 12
