"""Comparing gradients: hand-derived against automatic, in funcnn, Flax and Equinox programs.

python examples/compare_gradients.py
"""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp

import funcnn as fnn

key = jax.random.key(0)
images = jax.random.uniform(key, (16, 8, 8, 1))
labels = jax.random.randint(key, (16,), 0, 10)


def of_funcnn():
    """A network of funcnn: each layer's gradient is derived by hand."""
    model = fnn.lenet(channels=[8, 16], hidden=32, dropout=0.0)
    params = model.init(key, images)

    def loss(params, x, y):
        return fnn.rules.softmax_cross_entropy(model(params, x), y).mean()

    return fnn.compare(loss, params, images, labels)


@jax.custom_vjp
def wrong_square(x):
    """Somebody's custom_vjp, in which a factor of 2 is forgotten."""
    return x * x


wrong_square.defvjp(lambda x: (x * x, x), lambda x, dy: (x * dy,))


def of_flax():
    """A Flax module with that rule in it: the comparison finds it, and says where."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(32)(x.reshape(len(x), -1)))
            with jax.named_scope("square"):
                x = wrong_square(x)
            return nn.Dense(10)(x)

    network = Network()
    params = network.init(key, images)

    def loss(params, x, y):
        logits = jnp.array(network.apply(params, x))
        return fnn.rules.softmax_cross_entropy(logits, y).mean()

    return fnn.compare(loss, params, images, labels, pairs=0, cost=False)  # errors alone


def of_equinox():
    """An Equinox module: only its arrays are parameters."""
    network = eqx.nn.MLP(64, 10, width_size=32, depth=1, activation=jax.nn.silu, key=key)
    arrays, rest = eqx.partition(network, eqx.is_array)

    def loss(arrays, x, y):
        network = eqx.combine(arrays, rest)
        logits = jax.vmap(network)(x.reshape(len(x), -1))
        return fnn.rules.softmax_cross_entropy(logits, y).mean()

    return fnn.compare(loss, arrays, images, labels)


def main():
    for name, run in (("funcnn", of_funcnn), ("Flax", of_flax), ("Equinox", of_equinox)):
        print(f"--- {name}")
        print(run())


if __name__ == "__main__":
    main()
