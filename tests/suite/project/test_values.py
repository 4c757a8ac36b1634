"""A suite that knows nothing of gradients: it looks at values, and all of it passes."""

import jax
import jax.numpy as jnp
import numpy as np
import rules

LARGE = jnp.array([1.0, 200.0, 3.0])


def test_right():
    assert rules.right(2.0) == 8.0
    np.testing.assert_allclose(rules.right_tangents(jnp.array([0.0, 1.0])), [1.0, jnp.e])


def test_seven():
    assert rules.seven(0.0) == 0.0
    assert abs(rules.seven(jnp.array([0.3, 0.5]))[0] - jnp.sin(0.3)) < 1e-6


def test_sign():
    assert rules.sign(jnp.float32(2.0), jnp.float32(3.0)) == 6.0


def test_jit():
    jitted = jax.jit(lambda x: rules.in_jit(x + 1.0).sum())
    assert jitted(LARGE) == jitted(LARGE)
    gradient = jax.jit(jax.grad(lambda x: rules.in_jit(2 * x).sum()))
    assert gradient(LARGE[:2]).shape == (2,)


def test_vmap():
    assert jax.vmap(rules.in_vmap)(LARGE[::-1][:2]).shape == (2,)


def test_scan():
    def loss(x):
        return jax.lax.scan(lambda carry, row: (carry + rules.in_scan(row), None), 0.0, x)[0]

    assert jax.jit(jax.grad(loss))(LARGE).shape == (3,)


def test_grad_of_jit():
    assert jax.grad(jax.jit(lambda x: rules.in_grad_of_jit(x).sum()))(LARGE).shape == (3,)


def test_vmap_of_jit():
    f = jax.jit(lambda x: rules.in_vmap_of_jit(x).sum())
    assert jax.vmap(f)(jnp.stack([LARGE, LARGE])).shape == (2,)


def test_shapes():
    assert jax.eval_shape(rules.in_shapes, LARGE).shape == (3,)


def test_static():
    assert rules.reduced(LARGE, "sum") == 204.0
    assert rules.reduced(LARGE, "mean") == 68.0


def test_keyword():
    assert rules.by_keyword(scale=jnp.float32(2.0), x=LARGE)[0] == 2.0


def test_factory():
    for k in (2.0, 3.0):
        assert rules.scaled(k)(jnp.ones(2))[0] == k


def test_custom_gradient():
    assert rules.by_custom_gradient(jnp.float32(3.0)) == 9.0


def test_equinox():
    xs = {"a": jnp.arange(2.0), "b": jnp.arange(2.0) + 1}
    assert rules.filtered(xs, "any").shape == (2,)


def test_equinox_with_arrays_that_have_no_derivative():
    x = jnp.arange(3.0)
    assert rules.filtered_beside(x, jnp.float32(2.0)).shape == (3,)
    assert rules.filtered_tangents(x, "square", scale=jnp.float32(2.0))[2] == 8.0
    assert rules.filtered_tangents(x, "cube", scale=jnp.float32(2.0))[2] == 16.0


def test_flax_nnx():
    for f in (rules.by_nnx, rules.by_nnx_simply):
        assert f(rules.Pair(jnp.float32(jnp.pi / 2), jnp.float32(2.0))) == 2.0


def test_flax():
    module = rules.Scaled()
    x = jnp.ones((1, 3))
    params = module.init(jax.random.key(0), x)
    assert module.apply(params, x).shape == (1, 2)


def test_ours():
    assert rules.ours(jnp.float32(3.0)) == 9.0


def test_rounded():
    assert rules.rounded(jnp.float32(0.7)) == 1.0


def test_at_masks():
    for mask in ([True, True, True], [False, False, True]):
        assert rules.at_masks(LARGE, jnp.array(mask))[2] == 6.0
