"""The explicit recursion: it is jax.grad bit for bit, and uses no automatic differentiation."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.backprop import backprop, backprop_steps
from funcnn.core.composition import chain, parallel, residual
from funcnn.core.layer import fold_path
from funcnn.core.parts import outputs_of
from funcnn.core.stack import repeat
from funcnn.gradient.program.without_rules import without_rules
from funcnn.layers import conv, dense, dropout, flatten, global_average_pool, max_pool, relu, tanh

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 2)), jnp.float32)
ROWS = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)), jnp.float32)


def network():
    return chain(
        stem=conv(2, (3, 3)),
        act=relu,
        block=residual(chain(conv(2, (3, 3)), dropout(0.25), relu)),
        wide=residual(relu, shortcut=conv(2, (3, 3), bias=False)),
        pool=max_pool((2, 2)),
        flat=flatten,
        drop=dropout(0.5),
        head=dense(3),
    )


MODELS = {
    "a whole network": (network, X),
    "residual": (lambda: residual(dense(4)), ROWS),
    "shortcut": (lambda: residual(chain(dense(2), tanh), shortcut=dense(2)), ROWS),
    "parallel sum": (lambda: parallel(dense(2), dense(2), tanh_2(), combine="sum"), ROWS),
    "parallel concatenate": (lambda: parallel(dense(2), relu, combine="concatenate"), ROWS),
    "repeat": (lambda: chain(repeat(chain(dense(4), tanh, dropout(0.5)), 3), dense(1)), ROWS),
    "global pool": (lambda: chain(relu, global_average_pool, dense(2)), X),
    "one layer": (lambda: dense(2), ROWS),
}


def tanh_2():
    return chain(dense(2), tanh)


def setting(name, key):
    make, x = MODELS[name]
    model = make()
    params = model.init(key, x)
    y = model(params, x, key=key)
    dy = jnp.asarray(np.random.default_rng(2).normal(size=y.shape), y.dtype)
    return model, params, x, dy


def gradients(f, params, x, dy):
    """Eagerly, through a scalar loss."""
    return jax.grad(lambda p, x: jnp.vdot(dy, f(p, x)), (0, 1))(params, x)


def pairs(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    return zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True)


# A scan is compiled whole, and XLA does not round alike in two different programs.
EAGER = [name for name in MODELS if name != "repeat"]


@pytest.mark.parametrize("name", EAGER)
def test_jax_grad_and_backprop_agree_bit_for_bit(name, key):
    model, params, x, dy = setting(name, key)
    dparams, dx, _ = backprop(model, params, x, dy, key=key)
    expected = gradients(lambda p, x: model(p, x, key=key), params, x, dy)
    for (path, found), leaf in pairs((dparams, dx), expected):
        np.testing.assert_array_equal(found, leaf, err_msg=str(path))
        assert found.dtype == leaf.dtype
        assert np.any(found), path


@pytest.mark.parametrize("name", ["a whole network", "repeat"])
def test_both_agree_with_automatic_differentiation_in_float64(name, key):
    with jax.enable_x64(True):
        model, params, x, dy = setting(name, key)
        params, x, dy = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x, dy))
        explicit = jax.jit(lambda p, x: backprop(model, p, x, dy, key=key)[:2])
        f = without_rules(lambda p, x: model(p, x, key=key))
        automatic = jax.jit(lambda p, x: gradients(f, p, x, dy))
        for (path, found), leaf in pairs(explicit(params, x), automatic(params, x)):
            assert found.dtype == np.float64
            error = np.linalg.norm(found - leaf) / np.linalg.norm(leaf)
            assert error < 1e-12, path


@pytest.mark.parametrize(
    "name", [pytest.param("a whole network", marks=pytest.mark.slow), "parallel sum"]
)
def test_in_float32_each_leaf_is_as_near_to_the_truth_as_autodiff(name, key):
    model, params, x, dy = setting(name, key)
    loss = lambda p, x: jnp.vdot(dy, model(p, x, key=key))  # noqa: E731
    report = fnn.compare(loss, params, x, argnums=(0, 1), pairs=0)
    assert report.ok, str(report)
    assert len(report.leaves) == len(jax.tree.leaves(params)) + 1
    for row in report.leaves:
        assert row.manual <= 2 * row.automatic + 2, row  # in ulps, without the noise floor


def test_without_a_key_the_recursion_is_that_of_evaluation(key):
    model, params, x, dy = setting("a whole network", key)
    dparams, _, _ = backprop(model, params, x, dy)
    expected = gradients(model, params, x, dy)[0]
    np.testing.assert_array_equal(dparams["head"]["w"], expected["head"]["w"])
    trained, _, _ = backprop(model, params, x, dy, key=key)
    assert not np.array_equal(trained["head"]["w"], dparams["head"]["w"])


# Deltas


def test_deltas_are_the_cotangents_of_the_outputs_last_layer_first(key):
    model, params, x, dy = setting("a whole network", key)
    _, dx, deltas = backprop(model, params, x, dy, key=key)
    assert list(deltas) == [
        *("head", "drop", "flat", "pool"),
        *("wide", "wide/shortcut", "wide/body"),
        *("block", "block/body", "block/body/relu_0", "block/body/dropout_0"),
        *("block/body/conv_0", "act", "stem"),
    ]
    _, outputs = outputs_of(model, params, x, key)
    assert {path: d.shape for path, d in deltas.items()} == {
        path: outputs[path].shape for path in deltas
    }

    # Zeros added to the output of one layer have the gradient of that output.
    for path in ("head", "drop", "flat", "pool", "wide", "block", "act", "stem"):

        def nudged(zeros, path=path):
            h = x
            for name, part in model.parts.items():
                h = part.apply(params.get(name, {}), h, fold_path(key, name))
                h = h + zeros if name == path else h
            return jnp.vdot(dy, h)

        expected = jax.grad(nudged)(jnp.zeros_like(outputs[path]))
        np.testing.assert_allclose(deltas[path], expected, rtol=1e-5, atol=1e-6, err_msg=path)
    assert dx.shape == x.shape


def test_deltas_of_repeated_layers_are_stacked(key):
    model, params, x, dy = setting("repeat", key)
    _, _, deltas = backprop(model, params, x, dy, key=key)
    body = "repeat_0/chain"
    assert list(deltas) == [
        *("dense_0", "repeat_0", body, f"{body}/dropout_0", f"{body}/tanh_0", f"{body}/dense_0")
    ]
    assert deltas[f"{body}/tanh_0"].shape == (3, *x.shape)
    np.testing.assert_array_equal(deltas[body][-1], deltas["repeat_0"])
    np.testing.assert_array_equal(deltas["repeat_0"], dy @ params["dense_0"]["w"].T)


def test_the_delta_of_a_single_layer_is_dy(key):
    model, params, x, dy = setting("one layer", key)
    assert backprop(model, params, x, dy)[2] == {"dense": dy}


# One layer at a time


def walked(steps):
    """The triples of a generator of steps, and what it returns."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def at_path(params, path):
    for name in path.split("/"):
        params = params.get(name, {})
    return params


@pytest.mark.parametrize("name", MODELS)
def test_the_steps_are_the_gradients_and_deltas_of_backprop(name, key):
    model, params, x, dy = setting(name, key)
    dparams, dx, deltas = backprop(model, params, x, dy, key=key)
    seen, last = walked(backprop_steps(model, params, x, dy, key=key))
    assert [path for path, _, _ in seen] == list(deltas)
    for path, _, delta in seen:
        np.testing.assert_array_equal(delta, deltas[path], err_msg=path)
    np.testing.assert_array_equal(last, dx)
    # Every leaf of the gradient comes once, under the path of its layer.
    given = [gradient for _, gradient, _ in seen]
    assert len(jax.tree.leaves(given)) == len(jax.tree.leaves(dparams))
    for path, gradient, _ in seen:
        if gradient:
            whole = dparams if path == model.kind else at_path(dparams, path)
            for (leaf, found), expected in pairs(gradient, whole):
                np.testing.assert_array_equal(found, expected, err_msg=f"{path} {leaf}")


def noted(layer, name, events, factor=1.0):
    """The layer, noting when its passes run; `factor` plants a mistake in its backward pass."""

    def forward(params, x, key):
        events.append(f"forward {name}")
        return layer.forward(params, x, key)

    def recursion(params, res, dy):
        events.append(f"backward {name}")
        dparams, dx, deltas = layer.recursion(params, res, dy)
        return jax.tree.map(lambda g: factor * g, dparams), dx, deltas

    return fnn.Layer(layer.kind, layer.init, layer.apply, forward, recursion)


def events_of(steps_of, key, factor=1.0):
    """What runs, and what is yielded, in order; and the gradients by path."""
    events = []
    model = chain(
        first=noted(dense(3), "first", events),
        block=chain(inner=noted(dense(2), "inner", events, factor), act=tanh),
        last=noted(dense(1), "last", events),
    )
    params = model.init(key, ROWS)
    dy = jnp.ones((3, 1))
    steps = steps_of(model, params, ROWS, dy)
    events.append("called")
    found = {}
    for path, gradient, _ in steps:
        events.append(f"yield {path}")
        found[path] = gradient
    return events, found, (model, params, dy)


LAZY = [
    *("forward first", "forward inner", "forward last", "called"),
    *("backward last", "yield last", "yield block", "yield block/act"),
    *("backward inner", "yield block/inner", "backward first", "yield first"),
]


def test_a_gradient_is_yielded_before_the_backward_pass_of_earlier_layers_ran(key):
    assert events_of(backprop_steps, key)[0] == LAZY


def test_steps_that_are_all_taken_at_once_would_be_noticed(key):
    def eager(*args):
        return iter(list(backprop_steps(*args)))

    events, _, _ = events_of(eager, key)
    assert sorted(events) == sorted(LAZY)
    assert events != LAZY


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_mistake_in_one_layer_is_in_the_step_of_its_path(factor, key):
    _, found, (model, params, dy) = events_of(backprop_steps, key, factor)
    expected, _ = gradients(model, params, ROWS, dy)
    for path in ("last", "block/inner", "first"):
        right = np.array_equal(found[path]["w"], at_path(expected, path)["w"])
        assert right == (factor == 1.0 or path != "block/inner"), path


def test_parameters_may_be_updated_while_the_steps_are_taken(key):
    model, params, x, dy = setting("a whole network", key)
    dparams, _, _ = backprop(model, params, x, dy, key=key)
    expected = jax.tree.map(lambda p, g: p - g, params, dparams)
    updated = {}
    for path, gradient, _ in backprop_steps(model, params, x, dy, key=key):
        if gradient:
            updated[path] = jax.tree.map(lambda p, g: p - g, at_path(params, path), gradient)
    assert set(updated) == set(params)
    for (path, found), leaf in pairs(updated, expected):
        np.testing.assert_array_equal(found, leaf, err_msg=str(path))


def test_a_part_that_has_the_name_of_its_model_does_not_hide_its_gradient(key):
    model = parallel(dense(2), parallel=dense(2), combine="sum")
    params = model.init(key, ROWS)
    dy = jnp.ones((3, 2))
    expected, _ = gradients(model, params, ROWS, dy)
    for (path, found), leaf in pairs(backprop(model, params, ROWS, dy)[0], expected):
        np.testing.assert_array_equal(found, leaf, err_msg=str(path))


def test_the_steps_refuse_at_the_call(key):
    model, params, x, dy = setting("residual", key)
    with pytest.raises(ValueError, match=r"dy has shape \(4, 3\), the output \(3, 4\)"):
        backprop_steps(model, params, x, dy.T)
    with pytest.raises(TypeError, match="no hand-derived backward pass in function: make"):
        backprop_steps(fnn.as_layer(lambda p, x: x), {}, x, x)


# No automatic differentiation

FORBIDDEN = ("grad", "value_and_grad", "vjp", "jvp", "linearize", "linear_transpose")
FORBIDDEN += ("jacfwd", "jacrev", "hessian")


@contextlib.contextmanager
def automatic_differentiation_raises(monkeypatch):
    def forbidden(*args, **keywords):
        raise AssertionError("automatic differentiation ran")

    with monkeypatch.context() as patched:
        for name in FORBIDDEN:
            patched.setattr(jax, name, forbidden)
        # custom_vjp is differentiated through this method, jit through its own rules.
        patched.setattr(jax.custom_vjp, "__call__", forbidden)
        yield


@pytest.mark.parametrize("name", MODELS)
def test_no_automatic_differentiation_runs(name, key, monkeypatch):
    model, params, x, dy = setting(name, key)
    with automatic_differentiation_raises(monkeypatch):
        dparams, _, _ = backprop(model, params, x, dy, key=key)
        with pytest.raises(AssertionError, match="automatic differentiation ran"):
            jax.grad(lambda x: x)(1.0)
        with pytest.raises(AssertionError, match="automatic differentiation ran"):
            fnn.rules.relu(x)
    assert jax.tree.structure(dparams) == jax.tree.structure(params)


def test_the_program_of_backprop_holds_no_rule(key):
    model, params, x, dy = setting("a whole network", key)
    program = str(jax.make_jaxpr(lambda p: backprop(model, p, x, dy, key=key)[:2])(params))
    assert "custom_vjp" not in program
    assert "custom_jvp" not in program


def test_it_runs_under_jit_and_vmap(key):
    model, params, x, dy = setting("shortcut", key)
    expected = backprop(model, params, x, dy)[0]
    compiled = jax.jit(lambda p: backprop(model, p, x, dy)[0])(params)
    for (path, found), leaf in pairs(compiled, expected):
        np.testing.assert_allclose(found, leaf, rtol=1e-6, atol=1e-6, err_msg=str(path))
    one_by_one = jax.vmap(lambda x, dy: backprop(model, params, x, dy)[1])
    rows = one_by_one(x[:, None], dy[:, None])[:, 0]
    np.testing.assert_allclose(rows, backprop(model, params, x, dy)[1], rtol=1e-5, atol=1e-6)


# What it refuses


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (lambda: chain(dense(2), lambda p, x: 2 * x), "function_0"),
        (lambda: chain(block=chain(dense(2), head=lambda p, x: x)), "block/head"),
        (lambda: chain(parallel(relu, relu), lambda p, x: x[0]), "function_0"),
        (lambda: chain(branches=parallel(relu, relu, combine=lambda a, b: a)), "branches"),
        (lambda: chain(repeat(lambda p, x: x, 2)), "repeat_0/function"),
        (lambda: residual(relu, shortcut=lambda p, x: x), "shortcut"),
        (lambda: fnn.as_layer(lambda p, x: x), "function"),
    ],
)
def test_a_layer_without_a_backward_pass_is_named_by_its_path(model, path, key):
    made = model()
    params = made.init(key, ROWS)
    with pytest.raises(TypeError, match=f"no hand-derived backward pass in {path}: make the layer"):
        backprop(made, params, ROWS, ROWS)
    jax.eval_shape(made, params, ROWS)  # it works everywhere else


def test_a_tuple_of_branches_has_a_tuple_of_cotangents(key):
    model = parallel(dense(2), relu)
    params = model.init(key, ROWS)
    y = model(params, ROWS)
    assert model.forward is not None
    _, dx = model.backward(params, model.forward(params, ROWS, None)[1], y)
    expected = jax.vjp(lambda x: model(params, x), ROWS)[1](y)[0]
    np.testing.assert_array_equal(dx, expected)


def test_a_cotangent_of_another_shape_is_refused(key):
    model, params, x, dy = setting("residual", key)
    with pytest.raises(ValueError, match=r"dy has shape \(4, 3\), the output \(3, 4\)"):
        backprop(model, params, x, dy.T)
