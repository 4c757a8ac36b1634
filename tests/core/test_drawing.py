"""The init of a composition is one program: how often it compiles, and that it draws the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.drawing import one_program
from funcnn.core.layer import fold_path

ROWS = jnp.ones((2, 4))
COMPILED = "/jax/core/compile/backend_compile_duration"


def twenty_layers():
    """Each of another width, so that no draw could be compiled for another one."""
    return fnn.chain(*(layer for i in range(10) for layer in (fnn.dense(3 + i), fnn.layer_norm())))


def compilations(f):
    """How often XLA is asked for a program."""
    found = []

    def listen(event, duration_secs, **about):
        found.extend([event] * (event == COMPILED))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        f()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(found)


def test_the_init_of_twenty_layers_compiles_once():
    key, model = jax.random.key(0), twenty_layers()
    assert compilations(lambda: model.init(key, ROWS)) == 1
    other, wide = jax.random.key(7), jnp.zeros((5, 3))
    assert compilations(lambda: model.init(other, ROWS)) == 0
    shape = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    assert compilations(lambda: model.init(key, shape)) == 0
    assert compilations(lambda: model.init(key, wide)) == 1
    # What is counted is there: the layers by themselves take a program for each shape, and more.
    assert compilations(lambda: [part.init(key, ROWS) for part in model.parts.values()]) > 10


def test_so_does_that_of_a_composite_with_others_inside():
    def flow(run, x):
        return run("head", jnp.concatenate([run("body", x), x], axis=-1))

    block = fnn.residual(fnn.repeat(fnn.dense(4), 3), shortcut=fnn.dense(4))
    model = fnn.composite(flow, body=fnn.chain(block, fnn.dense(5)), head=twenty_layers())
    assert compilations(lambda: model.init(jax.random.key(0), ROWS)) == 1


def test_it_draws_what_each_layer_draws_from_its_own_key(key):
    model = twenty_layers()
    params, x = model.init(key, ROWS), ROWS
    assert list(params) == list(model.parts)
    assert [list(p) for p in params.values()] == [["w", "b"], ["scale", "bias"]] * 10
    traced = jax.jit(model.init)(key, ROWS)
    for name, part in model.parts.items():
        own = part.init(fold_path(key, name), x)
        for leaf in own:
            np.testing.assert_array_equal(params[name][leaf], own[leaf])
            np.testing.assert_array_equal(traced[name][leaf], own[leaf])
            assert isinstance(params[name][leaf], jax.Array)
            assert params[name][leaf].weak_type == own[leaf].weak_type
        x = part(own, x)


def test_what_cannot_be_traced_is_called_as_it_stands(key):
    def init(key, x):
        scale = float(jax.random.uniform(key))  # which a tracer cannot be
        return {"w": np.full(x.shape[-1], scale, np.float32)}

    own = fnn.as_layer(lambda params, x: params["w"][None] * x, init=init)
    model = fnn.chain(fnn.dense(3), own)
    params = model.init(key, ROWS)
    expected = init(fold_path(key, "function_0"), np.ones((2, 3)))
    np.testing.assert_array_equal(params["function_0"]["w"], expected["w"])


def test_errors_are_those_of_the_call_itself(key):
    calls = []

    def init(key, x):
        calls.append(x)
        raise ValueError("no such shape")

    model = fnn.chain(fnn.chain(fnn.as_layer(lambda params, x: x, init=init)))
    with pytest.raises(ValueError, match="no such shape"):
        model.init(key, ROWS)
    assert len(calls) == 3  # in the program of each chain, and as it stands
    assert calls[2] is ROWS
    with pytest.raises(TypeError, match="init needs a key"):
        fnn.chain(fnn.relu).init(None, ROWS)  # pyright: ignore[reportArgumentType]


def test_another_dtype_or_tree_is_another_program(key):
    seen = []

    def init(key, x):
        seen.append(jax.tree.map(lambda a: (a.shape, str(a.dtype)), x))
        return {"w": jax.random.normal(key, (2,))}

    draw = one_program(init)
    for x in (ROWS, ROWS + 1, ROWS.astype("bfloat16"), (None, ROWS), [ROWS, 2 * ROWS], ROWS):
        draw(key, x)
    assert len(seen) == 4


def test_a_weak_type_is_one_in_the_program_too(key):
    x = jax.lax.broadcast(jnp.asarray(1.0), (2, 3))  # of no dtype of its own
    model = fnn.chain(lambda params, x: x * jnp.ones((2, 3), "bfloat16"), fnn.dense(2))
    with jax.numpy_dtype_promotion("standard"):
        assert x.weak_type
        assert model.init(key, x)["dense_0"]["w"].dtype == "bfloat16"


def test_an_ensemble_is_drawn_by_vmap(key):
    model = fnn.chain(fnn.dense(3), fnn.dense(2))
    keys = jax.random.split(key, 3)
    many = jax.vmap(model.init, (0, None))(keys, ROWS)
    one = model.init(keys[1], ROWS)
    np.testing.assert_allclose(many["dense_1"]["w"][1], one["dense_1"]["w"], rtol=1e-6)
