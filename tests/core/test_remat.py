"""`remat`: the same values and gradients, by both ways back, for less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.layer import parameter_count

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), "float32")
KEY = jax.random.key(1)


def block():
    return fnn.residual(fnn.chain(fnn.layer_norm(), fnn.dense(12), fnn.gelu(), fnn.dense(6)))


def skip(run, x):
    return run("head", x + run("body", x))


MODELS = {
    "chain": (fnn.chain(fnn.dense(6), fnn.tanh, fnn.dropout(0.5), fnn.dense(3)), ["dense_0"]),
    "of blocks": (fnn.chain(block(), block(), head=fnn.dense(2)), ["residual_*/body"]),
    "repeat": (fnn.chain(fnn.repeat(block(), 3), head=fnn.dense(2)), ["repeat_0/residual"]),
    "parallel": (fnn.parallel(a=fnn.dense(3), b=fnn.dense(3), combine="sum"), ["b"]),
    "composite": (fnn.composite(skip, body=block(), head=fnn.dense(2)), ["body", "head"]),
    "batch norm": (fnn.chain(fnn.dense(6), fnn.batch_norm(), fnn.relu, fnn.dense(2)), ["b*_0"]),
    "whole": (fnn.chain(block(), head=fnn.dense(2)), []),
}


def loss(model, x=X):
    return lambda params: jnp.sum(jnp.sin(model(params, x, key=KEY)))


@pytest.mark.parametrize("name", MODELS)
def test_values_statistics_and_gradients_stay(name):
    model, patterns = MODELS[name]
    with jax.enable_x64(True):
        _check_same(model, patterns, X.astype("float64"))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def _check_same(model, patterns, x):
    lean, params = fnn.remat(model, *patterns), model.init(KEY, x)
    assert jax.tree.structure(lean.init(KEY, x)) == jax.tree.structure(params)
    one, other = (jax.jit(jax.value_and_grad(loss(m, x)))(params) for m in (model, lean))
    jax.tree.map(close, one, other)
    taken = [m.value_and_statistics(params, x, KEY)[1] for m in (model, lean)]
    jax.tree.map(np.testing.assert_array_equal, *taken)
    dy = jnp.cos(model(params, x, key=KEY))
    for m in (model, lean):
        assert m.forward is not None
        _, res = m.forward(params, x, KEY)
        dparams, _ = m.backward(params, res, dy)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), dparams, one[1]
        )


def test_less_is_kept_by_both_ways_back():
    model = fnn.chain(block(), block(), head=fnn.dense(2))
    params, lean = model.init(KEY, X), fnn.remat(model, "residual_*")

    def kept(model):
        back = jax.eval_shape(lambda params: jax.vjp(loss(model), params)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(back)) - parameter_count(params)

    def kept_by_hand(model):
        _, res = jax.eval_shape(model.forward, params, X, KEY)
        return sum(leaf.size for leaf in jax.tree.leaves(res) if leaf.dtype == X.dtype)

    assert kept(lean) < kept(model) / 2
    inputs = 3 * X.size  # of two blocks and of the head, which keeps its params, too
    assert kept_by_hand(lean) == inputs + parameter_count(params["head"]) < kept_by_hand(model) / 2


def test_the_second_forward_pass_waits_for_the_cotangent():
    """Else a compiler may share the two, and keep what it shares. (XLA:CPU does, outside loops.)"""
    lean = fnn.remat(fnn.chain(fnn.dense(6), fnn.tanh, fnn.dense(6)))
    params = lean.init(KEY, X)

    def both_ways(params, x, dy):
        assert lean.forward is not None
        y, res = lean.forward(params, x, None)
        return y, lean.backward(params, res, dy)

    program = jax.make_jaxpr(both_ways)(params, X, X)
    barriers = [e for e in program.eqns if e.primitive.name == "optimization_barrier"]
    assert len(barriers) == 1
    barrier = barriers[0]
    *_, x, dy = program.jaxpr.invars
    assert list(barrier.invars) == [x, dy]
    after = program.eqns[program.eqns.index(barrier) :]
    assert sum("tanh" in str(e) for e in after) == 1


def test_what_cannot_be_recomputed_is_one_line():
    model = fnn.chain(fnn.bidirectional(fnn.gru(2)), fnn.dense(3))
    with pytest.raises(ValueError, match=r"^remat: the pattern dens_0 \(did you mean dense_0\?\)"):
        fnn.remat(model, "dens_0")
    with pytest.raises(ValueError, match=r"^remat: the parts of bidirectional_0 cannot be"):
        fnn.remat(model, "bidirectional_0/forward")
