"""How layers compose: names, params, keys, errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.backprop import missing_backward
from funcnn.core.composition import chain, parallel, residual
from funcnn.core.parts import name_parts, outputs_of
from funcnn.core.stack import repeat
from funcnn.layers import conv, dense, dropout, flatten, relu, tanh

X = jnp.array([[1.0, -2.0, 3.0], [-1.0, 0.5, 0.0]])
ONES = jnp.ones((4, 64))


def double(params, x):
    return 2 * x


def shift(params, x, key=None):
    return x if key is None else x + 1


# Names


def test_unnamed_layers_are_numbered_within_their_kind():
    parts = name_parts([dense(1), relu, dense(1), double, lambda p, x: x, relu], {"head": dense(1)})
    assert list(parts) == [
        *("dense_0", "relu_0", "dense_1", "double_0", "function_0", "relu_1", "head")
    ]


def test_the_first_argument_is_applied_first():
    model = chain(double, lambda p, x: x + 1, last=lambda p, x: x * 10)
    np.testing.assert_array_equal(model({}, X), (2 * X + 1) * 10)


def test_colliding_names_and_empty_compositions_are_refused():
    with pytest.raises(ValueError, match="two layers are called relu_0: choose another name"):
        chain(relu, relu_0=tanh)
    for make in (chain, parallel):
        with pytest.raises(ValueError, match="a composition needs at least one layer"):
            make()


@pytest.mark.parametrize("make", [chain, parallel, residual, lambda f: repeat(f, 2)])
def test_what_is_no_layer_is_refused_everywhere(make):
    with pytest.raises(TypeError, match=r"gelu makes a layer and is not one: write gelu\(\.\.\.\)"):
        make(fnn.gelu)
    with pytest.raises(TypeError, match=r"relu is a rule, not a layer: use fnn\.relu"):
        make(fnn.rules.relu)


def test_repr_shows_the_tree():
    assert repr(chain(relu, head=dense(1))) == "chain(relu_0=relu, head=dense)"


# Params


def is_nested_dict_of_arrays(params):
    return isinstance(params, dict) and all(
        isinstance(v, jax.Array) or (v and is_nested_dict_of_arrays(v)) for v in params.values()
    )


MODELS = {
    "chain": lambda: chain(dense(3), relu, block=chain(relu, dense(3)), act=chain(relu)),
    "residual": lambda: residual(chain(dense(2), relu), shortcut=dense(2)),
    "plain residual": lambda: residual(relu),
    "parallel": lambda: parallel(dense(2), relu, named=dense(4)),
    "sum": lambda: parallel(dense(3), relu, combine="sum"),
    "concatenate": lambda: parallel(dense(2), relu, combine="concatenate"),
    "function": lambda: parallel(dense(3), relu, combine=lambda a, b: a * b),
    "repeat": lambda: repeat(chain(dense(3), relu), 3),
    "repeat of nothing": lambda: repeat(relu, 2),
}


@pytest.mark.parametrize("name", MODELS)
def test_params_are_nested_dicts_of_arrays_and_the_shape_is_enough(name, key):
    model = MODELS[name]()
    params = model.init(key, X)
    assert is_nested_dict_of_arrays(params)
    of_shape = model.init(key, jax.ShapeDtypeStruct(X.shape, X.dtype))
    jax.tree.map(np.testing.assert_array_equal, params, of_shape)
    y = model(params, X)
    np.testing.assert_array_equal(
        jax.tree.leaves(jax.jit(model)(params, X))[0].shape, jax.tree.leaves(y)[0].shape
    )
    dparams = jax.grad(lambda p: sum(leaf.sum() for leaf in jax.tree.leaves(model(p, X))))(params)
    assert jax.tree.structure(dparams) == jax.tree.structure(params)
    assert jax.eval_shape(jax.vmap(model, (None, 0)), params, X[:, None]) is not None


def test_a_part_without_params_has_no_entry(key):
    params = MODELS["chain"]().init(key, X)
    assert {name: set(inner) for name, inner in params.items()} == {
        "dense_0": {"w", "b"},
        "block": {"dense_0"},
    }
    assert relu.init(key, X) == {}


def test_params_depend_on_the_name_and_not_on_the_order(key):
    one = chain(a=dense(3), b=dense(3)).init(key, X)
    other = chain(relu, b=dense(3), a=dense(3)).init(key, X)
    np.testing.assert_array_equal(one["a"]["w"], other["a"]["w"])
    assert not np.array_equal(one["a"]["w"], one["b"]["w"])


def test_init_without_a_key_says_what_is_wanted():
    for model in (chain(dense(1)), repeat(dense(3), 2), residual(dense(3))):
        with pytest.raises(TypeError, match=r"init needs a key: model\.init\(jax\.random\.key"):
            model.init(None, X)  # pyright: ignore[reportArgumentType]


def test_an_error_says_in_which_layer_it_arose(key):
    def broken(params, x):
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        chain(block=chain(dense(2), broken)).init(key, X)
    notes = "\n".join(caught.value.__notes__)
    assert "in layer broken_0, on an input of shape (2, 2)" in notes


def test_wrong_params_are_named(key):
    model = chain(first=dense(2))
    with pytest.raises(KeyError, match="first: parameter 'w' is missing: params hold no param"):
        model({"second": model.init(key, X)["first"]}, X)


# Values


def test_residual_parallel_and_repeat_compute_what_they_say(key):
    np.testing.assert_array_equal(residual(double)({}, X), 3 * X)
    np.testing.assert_array_equal(residual(double, shortcut=double)({}, X), 4 * X)
    a, b = parallel(double, relu)({}, X)
    np.testing.assert_array_equal(a, 2 * X)
    np.testing.assert_array_equal(b, jnp.maximum(X, 0))
    joined = parallel(double, relu, combine="concatenate")({}, X)
    np.testing.assert_array_equal(joined, jnp.concatenate([2 * X, jnp.maximum(X, 0)], 1))
    np.testing.assert_array_equal(parallel(double, double, combine="sum")({}, X), 4 * X)
    product = parallel(double, double, combine=lambda a, b: a * b)
    np.testing.assert_array_equal(product({}, X), 4 * X * X)

    layer = repeat(dense(3), 3)
    params = layer.init(key, X)
    assert params["w"].shape == (3, 3, 3)
    assert len({float(w) for w in params["w"][:, 0, 0]}) == 3
    expected = X
    for i in range(3):
        expected = expected @ params["w"][i] + params["b"][i][None]
    np.testing.assert_allclose(layer(params, X), expected, rtol=1e-5)


def test_repeat_does_not_grow_the_program(key):
    def size(n):
        layer = repeat(dense(3), n)
        params = layer.init(key, X)
        return len(str(jax.make_jaxpr(layer)(params, X)).splitlines())

    assert size(2) == size(9)


def test_outputs_are_those_of_each_part(key):
    model = chain(dense(3), block=residual(relu), loop=repeat(chain(double), 2))
    params = model.init(key, X)
    y, seen = outputs_of(model, params, X)
    assert list(seen) == [
        *("dense_0", "block", "block/body", "loop", "loop/chain", "loop/chain/double_0")
    ]
    np.testing.assert_allclose(y, model(params, X), rtol=1e-6)
    np.testing.assert_allclose(seen["block/body"], jnp.maximum(seen["dense_0"], 0))
    np.testing.assert_allclose(seen["loop/chain"][1], seen["loop"], rtol=1e-6)
    np.testing.assert_allclose(seen["loop/chain"][0], 2 * seen["block"], rtol=1e-6)


# Errors of shape


def test_a_residual_of_another_shape_is_refused(key):
    with pytest.raises(
        ValueError,
        match=r"residual: body returns \(2, 5\) and the shortcut \(2, 3\): give",
    ):
        residual(dense(5)).init(key, X)
    with pytest.raises(ValueError, match=r"body returns \(2, 3\) and the shortcut \(2, 5\)"):
        residual(dense(3), shortcut=dense(5)).init(key, X)


def test_repeat_refuses_what_changes_the_shape_and_a_wrong_count(key):
    with pytest.raises(
        ValueError, match=r"repeat: dense takes float32\(2, 3\) and returns float32\(2, 5\)"
    ):
        repeat(dense(5), 2).init(key, X)
    with pytest.raises(ValueError, match="must return what it takes"):
        repeat(lambda p, x: x.astype("bfloat16"), 2).init(key, X)
    wrong: Any
    for wrong in (0, -1, 2.0, "2"):
        with pytest.raises(ValueError, match="repeat: n is a positive integer, found"):
            repeat(relu, wrong)


def test_an_unknown_combination_is_refused():
    with pytest.raises(ValueError, match="combine is None, 'sum', 'concatenate' or a function"):
        parallel(relu, combine="mean")


# Keys: training and evaluation


def dropped(model, key, params=None):
    """Where the last dropout of a model of ones dropped."""
    return np.asarray(model(params or {}, ONES, key=key) == 0)


def test_without_a_key_everything_is_deterministic_evaluation(key):
    model = chain(dropout(0.5), residual(dropout(0.5)), repeat(dropout(0.5), 2), shift)
    np.testing.assert_array_equal(model({}, ONES), 2 * ONES)
    assert not np.array_equal(model({}, ONES, key=key), model({}, ONES, key=jax.random.key(1)))
    np.testing.assert_array_equal(model({}, ONES, key=key), model({}, ONES, key=key))


def test_recorded_outputs_are_those_of_training(key):
    model = chain(drop=dropout(0.5), block=chain(residual(dropout(0.5)), repeat(dropout(0.5), 2)))
    y, seen = outputs_of(model, {}, ONES, key)
    np.testing.assert_array_equal(y, model({}, ONES, key=key))
    np.testing.assert_array_equal(seen["drop"] == 0, dropped(chain(drop=dropout(0.5)), key))


def test_functions_get_the_key_where_they_ask_for_it(key):
    for model in (chain(shift), parallel(shift, combine="sum"), repeat(shift, 1)):
        np.testing.assert_array_equal(model({}, X), X)
        np.testing.assert_array_equal(model({}, X, key=key), X + 1)


def test_adding_a_layer_leaves_the_masks_of_the_others(key):
    before = dropped(chain(drop=dropout(0.5)), key)
    after = dropped(chain(double, dropout(0.0), dropout(0.0), drop=dropout(0.5)), key)
    np.testing.assert_array_equal(before, after)
    numbered = dropped(chain(double, dropout(0.5)), key)
    np.testing.assert_array_equal(numbered, dropped(chain(dropout(0.5), double, relu), key))


def test_masks_differ_between_layers_branches_and_steps(key):
    a, b = parallel(dropout(0.5), dropout(0.5))({}, ONES, key=key)
    assert not np.array_equal(a, b)
    nested = parallel(dropout(0.5), block=chain(dropout(0.5)))
    c, d = nested({}, ONES, key=key)
    assert not np.array_equal(c, d)
    _, seen = outputs_of(repeat(dropout(0.5), 2), {}, ONES, key)
    first, second = np.asarray(seen["dropout"])
    again = second[first != 0] == 0
    assert 0.3 < again.mean() < 0.7  # with one mask for both steps it would be 0


# The rule of a whole stack


def temporaries(loss, params, x):
    analysis = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(params, x).compile()
    memory = analysis.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def test_a_stack_keeps_the_inputs_of_its_layers_alone(key):
    """12 blocks: less than autodiff keeps by 2.4, and no more than autodiff with checkpoints."""
    model = repeat(chain(dense(512), fnn.gelu()), 12)
    x = jnp.ones((64, 512))
    params = jax.eval_shape(model.init, key, x)
    part = model.parts["chain"]

    def loss(params, x):
        return jnp.sum(model(params, x) ** 2)

    def checkpointed(params, x):
        block = fnn.without_rules(lambda p, x: part(p, x))
        body = jax.checkpoint(lambda x, p: (block(p, x), None))
        return jnp.sum(jax.lax.scan(body, x, params)[0] ** 2)

    manual = temporaries(loss, params, x)
    assert temporaries(fnn.without_rules(loss), params, x) > 2.4 * manual
    assert manual <= temporaries(checkpointed, params, x)
    assert manual < 2 * 12 * x.size * 4


STACK = repeat(residual(chain(dense(3), tanh, dropout(0.5))), 3)


def test_the_rule_of_a_stack_has_the_gradient_of_autodiff(key):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: a.astype("float64"), STACK.init(key, X))

        def loss(params, x, key=key):
            return jnp.sum(jnp.sin(STACK(params, x, key=key)))

        x = X.astype("float64")
        for of in (
            lambda f: jax.grad(f, (0, 1)),
            lambda f: jax.hessian(lambda p, x: f(p, x, None), 1),
        ):
            found, expected = (jax.jit(of(f))(params, x) for f in (loss, fnn.without_rules(loss)))
            for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
        batched = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, jnp.stack([x, 2 * x]))
        alone = jax.jit(jax.grad(loss))(params, 2 * x)
        for a, b in zip(*map(jax.tree.leaves, (batched, alone)), strict=True):
            np.testing.assert_allclose(a[1], b, rtol=1e-12, atol=1e-13)


def test_without_rules_leaves_none_in_a_stack(key):
    params = STACK.init(key, X)

    def program(f):
        return str(jax.make_jaxpr(jax.value_and_grad(lambda p: jnp.sum(f(p, X))))(params))

    def count(f):
        return str(jax.make_jaxpr(f)(params, X)).count("custom_vjp_call")

    assert count(STACK) == 1
    assert count(fnn.without_rules(STACK)) == 0
    # A removal that names one rule reaches it through the stack, and leaves the others.
    assert count(fnn.without_rules(STACK, only=["tanh"])) == 1
    assert count(fnn.without_rules(STACK, only=["tanh", "linear"])) == 0
    assert program(fnn.without_rules(STACK)).count("scan[") == 2


# Backward passes


def test_missing_backward_names_every_path():
    model = chain(double, block=chain(relu, residual(double)), ok=dense(1))
    assert missing_backward(model) == ["double_0", "block/residual_0/body"]
    assert model.forward is None
    assert missing_backward(chain(conv(2, (3, 3)), relu, flatten, dense(1))) == []
