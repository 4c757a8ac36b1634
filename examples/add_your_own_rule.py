"""Adding your own rule: a layer with a parameter, from derivation to training.

The rule is a scaled tanh, y = a tanh(x), with one learnt a for each feature.

    python examples/add_your_own_rule.py
"""

import jax
import jax.numpy as jnp
import optax

import funcnn as fnn


@fnn.rule
def scaled_tanh(x, a):
    """y = a tanh(x).

    Shapes: x, y (..., D), a (D).
    Derivation: with t = tanh(x), dx = a (1 - t^2) dy, and da = sum over all rows of t dy.
    Kept for the backward pass: t and a; x follows from t where it is needed, and it is not.
    """
    return jnp.expand_dims(a, range(x.ndim - 1)) * jnp.tanh(x)


def scaled_tanh_forward(x, a):
    t = jnp.tanh(x)
    return jnp.expand_dims(a, range(x.ndim - 1)) * t, (t, a)


def scaled_tanh_backward(res, dy):
    t, a = res
    da = jnp.sum(t * dy, range(dy.ndim - 1))  # (D,)
    return jnp.expand_dims(a, range(dy.ndim - 1)) * (1 - t * t) * dy, da


scaled_tanh.defvjp(scaled_tanh_forward, scaled_tanh_backward)


@scaled_tanh.defcases
def scaled_tanh_cases(key):
    kx, ka = jax.random.split(key)
    for shape in ((5, 3), (2, 3, 7)):
        args = jax.random.normal(kx, shape), jax.random.normal(ka, shape[-1:])
        yield fnn.Case(f"{len(shape)} axes", args)
    yield fnn.Case("no rows", (jnp.zeros((0, 3)), jnp.ones(3)))


def init(key, x):
    return {"a": jnp.ones(x.shape[-1], x.dtype)}  # the parameter has the name of the argument


layer = fnn.layer_from_rule(scaled_tanh, init=init)
model = fnn.chain(fnn.dense(16), layer, fnn.dense(1))


def main():
    fnn.check(scaled_tanh).raise_if_failed()
    print("the rule is right")

    x = jnp.linspace(-2, 2, 64)[:, None]  # (64, 1)
    batch = {"x": x, "y": jnp.sin(3 * x)}

    def loss(params, batch, key):
        y = model(params, batch["x"], key=key)
        return fnn.rules.squared_error(y, batch["y"]).mean()

    optimizer = optax.adam(1e-2)
    state = fnn.train.TrainState.create(model.init(jax.random.key(0), x), optimizer, seed=0)
    step = fnn.train.make_step(loss, optimizer)
    losses = []
    for _ in range(300):
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    print(f"loss {losses[0]:.4f} at the start, {losses[100]:.4f} after 100 steps")
    print(f"at the end loss {losses[-1]:.5f}")


if __name__ == "__main__":
    main()
