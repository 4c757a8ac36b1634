"""`compute_in`: half the width inside, the same dtypes outside, by both ways back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6)), "float32")
KEY = jax.random.key(1)


def skip(run, x):
    return run("head", x + run("body", x))


MODELS = {
    "chain": lambda: fnn.chain(fnn.dense(6), fnn.tanh, fnn.dropout(0.5), fnn.dense(3)),
    "norms": lambda: fnn.chain(fnn.dense(6), fnn.batch_norm(), fnn.relu, fnn.layer_norm()),
    "composite": lambda: fnn.composite(skip, body=fnn.dense(6), head=fnn.dense(2)),
    "repeat": lambda: fnn.repeat(fnn.residual(fnn.dense(6)), 3),
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", MODELS)
def test_near_the_same_and_of_the_same_dtypes(name, dtype):
    model, params = MODELS[name](), MODELS[name]().init(KEY, X)
    half = fnn.compute_in(model, dtype)
    dy = jnp.cos(jnp.arange(8.0))[:, None]

    def loss(params, x, model=half):
        y, statistics = model.value_and_statistics(params, x, KEY)
        return jnp.sum(y * dy), (y, statistics)

    def of(model):
        return jax.value_and_grad(lambda p, x: loss(p, x, model), (0, 1), has_aux=True)(params, X)

    (_, (y, statistics)), gradient = of(half)
    (_, (true_y, true_statistics)), true_gradient = of(model)
    near = {"bfloat16": 0.05, "float16": 0.005}[dtype]
    for one, true in ((y, true_y), (statistics, true_statistics), (gradient, true_gradient)):
        assert jax.tree.map(jnp.result_type, one) == jax.tree.map(jnp.result_type, true)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(true), strict=True):
            scale = 1 + float(jnp.max(jnp.abs(b)))
            assert float(jnp.max(jnp.abs(a - b))) < near * scale
    assert float(jnp.max(jnp.abs(y - true_y))) > 0  # it does compute in less
    assert half.forward is not None
    _, res = half.forward(params, X, KEY)
    by_hand = half.backward(params, res, jnp.broadcast_to(dy, y.shape))
    for a, b in zip(jax.tree.leaves(by_hand), jax.tree.leaves(gradient), strict=True):
        assert a.dtype == b.dtype
        assert float(jnp.max(jnp.abs(a - b))) < near * (1 + float(jnp.max(jnp.abs(b))))


def test_products_are_of_the_narrow_dtype():
    half = fnn.compute_in(fnn.dense(3), "bfloat16")
    params = half.init(KEY, X)
    gradient = jax.make_jaxpr(jax.grad(lambda p: half(p, X).sum()))(params)
    dtypes = {str(v.aval.dtype) for v in _operands_of_products(gradient.jaxpr)}
    assert dtypes == {"bfloat16"}


def _operands_of_products(jaxpr):
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            found += eqn.invars
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                found += _operands_of_products(getattr(inner, "jaxpr", inner))
    return found


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def test_integers_and_keys_stay_as_they_are():
    model = fnn.compute_in(fnn.chain(fnn.embedding(5, 4), fnn.dense(2)), "bfloat16")
    tokens = jnp.array([[0, 4], [300, 1]]) % 5
    params = model.init(KEY, tokens)
    assert model(params, tokens).dtype == jnp.float32
    dparams = jax.grad(lambda p: model(p, tokens).sum())(params)
    assert jax.tree.leaves(dparams)[0].dtype == jnp.float32


def test_parts_can_still_be_exchanged():
    model = fnn.compute_in(fnn.chain(fnn.dense(6), fnn.tanh, fnn.dense(3)), "bfloat16")
    lean = fnn.remat(model, "dense_*")
    params = model.init(KEY, X)
    one, other = (jax.grad(lambda p, m=m: m(p, X).sum())(params) for m in (model, lean))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("dtype", ["int32", "float33", None, 3])
def test_another_dtype_is_one_line(dtype):
    with pytest.raises(TypeError, match=r"^compute_in: dtype is one of floating point, found "):
        fnn.compute_in(fnn.dense(3), dtype)
