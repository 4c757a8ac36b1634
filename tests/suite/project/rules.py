"""A project with rules that are right and rules that are wrong, as people write them."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import funcnn as fnn


@jax.custom_vjp
def right(x):
    return x**3


right.defvjp(lambda x: (x**3, x), lambda x, dy: (3 * x**2 * dy,))


@jax.custom_jvp
def right_tangents(x):
    return jnp.exp(x)


right_tangents.defjvps(lambda dx, y, x: dx * y)


@jax.custom_vjp
def seven(x):
    return jnp.sin(x)


seven.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (7 * jnp.cos(x) * dy,))


@jax.custom_jvp
def sign(x, y):
    return x * y


@sign.defjvp
def sign_tangents(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return x * y, dx * y - x * dy


# Right at the numbers that anybody would draw, wrong at those with which the suite calls them.
def far_out(x, dy):
    return (jnp.where(x > 100, 3 * x, 2 * x) * dy,)


@jax.custom_vjp
def in_jit(x):
    return x**2


in_jit.defvjp(lambda x: (x**2, x), lambda x, dy: far_out(x, dy))


@jax.custom_vjp
def in_vmap(x):
    return x**2


in_vmap.defvjp(lambda x: (x**2, x), lambda x, dy: far_out(x, dy))


@jax.custom_vjp
def in_scan(x):
    return x**2


in_scan.defvjp(lambda x: (x**2, x), lambda x, dy: far_out(x, dy))


@jax.custom_vjp
def in_grad_of_jit(x):
    return x**2


in_grad_of_jit.defvjp(lambda x: (x**2, x), lambda x, dy: far_out(x, dy))


@jax.custom_vjp
def in_vmap_of_jit(x):
    return x**2


in_vmap_of_jit.defvjp(lambda x: (x**2, x), lambda x, dy: far_out(x, dy))


@jax.custom_vjp
def in_shapes(x):
    return x**2


in_shapes.defvjp(lambda x: (x**2, x), lambda x, dy: far_out(x, dy))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def reduced(x, how):
    return x.sum() if how == "sum" else x.mean()


reduced.defvjp(
    lambda x, how: (reduced(x, how), x), lambda how, x, dy: (jnp.full(x.shape, dy, x.dtype),)
)


@jax.custom_vjp
def by_keyword(x, scale):
    return x * scale


by_keyword.defvjp(
    lambda x, scale: (x * scale, (x, scale)),
    lambda res, dy: (dy * res[1], jnp.sum(dy * res[0]) / 2),
)


def scaled(k):
    """A factory: its rule is wrong for one value of what it closes over."""

    @jax.custom_vjp
    def rule(x):
        return k * x

    rule.defvjp(lambda x: (k * x, None), lambda _, dy: ((k if k != 3.0 else 4.0) * dy,))
    return rule


@jax.custom_gradient
def by_custom_gradient(x):
    return x**2, lambda dy: 3 * x * dy


@eqx.filter_custom_vjp
def filtered(xs, how):
    return xs["a"] * xs["b"]


@filtered.def_fwd
def filtered_forward(perturbed, xs, how):
    return xs["a"] * xs["b"], None


@filtered.def_bwd
def filtered_backward(residuals, dy, perturbed, xs, how):
    return {"a": dy * xs["b"], "b": 2 * dy * xs["a"]}


@eqx.filter_custom_vjp
def filtered_beside(x, scale):
    return scale * jnp.sin(x)


@filtered_beside.def_fwd
def filtered_beside_forward(perturbed, x, scale):
    return scale * jnp.sin(x), None


@filtered_beside.def_bwd
def filtered_beside_backward(residuals, dy, perturbed, x, scale):
    return dy * scale * jnp.cos(x)


@eqx.filter_custom_jvp
def filtered_tangents(x, how, *, scale):
    return scale * x**2 if how == "square" else scale * x**3


@filtered_tangents.def_jvp
def filtered_tangents_jvp(primals, tangents, *, scale):
    (x, how), (dx, _) = primals, tangents
    return filtered_tangents(x, how, scale=scale), 2 * scale * x * dx


class Pair(nnx.Module):
    def __init__(self, x, y):
        self.x, self.y = nnx.Param(x), nnx.Param(y)


@nnx.custom_vjp(graph_updates=True)
def by_nnx(pair):
    return jnp.sin(pair.x[...]) * pair.y[...]


def by_nnx_backward(pair, dy):
    (d_pair,), d = dy
    d_pair = jax.tree.map(lambda x: x, d_pair)
    d_pair["x"][...] = jnp.cos(pair.x[...]) * d * pair.y[...]
    d_pair["y"][...] = 2 * jnp.sin(pair.x[...]) * d
    return (d_pair,)


by_nnx.defvjp(lambda pair: (by_nnx(pair), pair), by_nnx_backward)


@nnx.custom_vjp(graph_updates=False)
def by_nnx_simply(pair):
    return jnp.sin(pair.x[...]) * pair.y[...]


def by_nnx_simply_backward(pair, dy):
    d_pair = nnx.clone(pair)
    d_pair.x[...] = jnp.cos(pair.x[...]) * dy * pair.y[...]
    d_pair.y[...] = 2 * jnp.sin(pair.x[...]) * dy
    return (d_pair,)


by_nnx_simply.defvjp(lambda pair: (by_nnx_simply(pair), pair), by_nnx_simply_backward)


class Scaled(nn.Module):
    """A module whose derivative by its parameter is twice what it should be."""

    @nn.compact
    def __call__(self, x):
        def f(module, x):
            return module(x)

        def forward(module, x):
            return nn.vjp(f, module, x)

        def backward(pull, dy):
            by_params, by_x = pull(dy)
            return jax.tree.map(lambda d: 2 * d, by_params), by_x

        return nn.custom_vjp(f, forward_fn=forward, backward_fn=backward)(nn.Dense(2), x)


@fnn.rule
def ours(x):
    return x * x


ours.defvjp(lambda x: (x * x, x), lambda x, dy: (x * dy,))


@fnn.rule
def ours_uncalled(x):
    return x * x


ours_uncalled.defvjp(lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))


@jax.custom_vjp
def uncalled(x):
    return x


uncalled.defvjp(lambda x: (x, None), lambda _, dy: (dy,))


@jax.custom_vjp
def rounded(x):
    return jnp.round(x)


rounded.defvjp(lambda x: (jnp.round(x), None), lambda _, dy: (dy,))


@jax.custom_vjp
def at_masks(x, mask):
    return jnp.where(mask, 2 * x, x)


def at_masks_backward(mask, dy):
    return dy * jnp.where(mask, 2.0, 1.5), None


at_masks.defvjp(lambda x, mask: (at_masks(x, mask), mask), at_masks_backward)
