"""Composing a network: a model is a pure function, and params is a nested dict of arrays.

python examples/compose_a_network.py
"""

import jax
import jax.numpy as jnp

import funcnn as fnn


def scale(params, x):
    """Any function f(params, x) may stand in a chain."""
    return 2 * x - 1


block = fnn.chain(fnn.conv(8, (3, 3)), fnn.relu, fnn.conv(8, (3, 3)))
model = fnn.chain(
    scale,
    stem=fnn.conv(8, (3, 3)),
    body=fnn.residual(block),
    pool=fnn.parallel(fnn.global_max_pool, fnn.global_average_pool, combine="concatenate"),
    drop=fnn.dropout(0.5),
    head=fnn.dense(10),
)


def main():
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))
    params = model.init(jax.random.key(0), x)
    print(fnn.summary(model, params, x))

    same = jnp.array_equal(model(params, x), model(params, x))
    print("without a key it is deterministic:", bool(same))
    trained = [model(params, x, key=jax.random.key(i)) for i in (2, 3)]
    print("with keys it drops elements:      ", not bool(jnp.array_equal(*trained)))

    batched = jax.jit(jax.vmap(lambda image: model(params, image[None])[0]))(x)
    print("jit, vmap and grad are JAX's own: ", batched.shape)


if __name__ == "__main__":
    main()
