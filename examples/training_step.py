"""A training step: pure, compiled, with hand-derived gradients, on scikit-learn's digits.

python examples/training_step.py
"""

import jax
import optax

import funcnn as fnn

model = fnn.mlp(hidden=[64, 32])


def loss(params, batch, key):
    logits = model(params, batch["x"], key=key)
    losses = fnn.rules.softmax_cross_entropy(logits, batch["y"])  # one value a row
    return losses.mean(), {"accuracy": (logits.argmax(-1) == batch["y"]).mean()}


def main(steps=400):
    fnn.train.keep_freed_memory()  # for the whole process, so a program calls it, on the CPU
    digits = fnn.data.digits(seed=0)
    batches = fnn.data.make_batches(digits.train, batch_size=32, seed=0)
    optimizer = optax.adam(3e-3)
    params = model.init(jax.random.key(0), digits.train.x[:1])
    state = fnn.train.TrainState.create(params, optimizer, seed=0)

    # K steps run in one compiled call: for a small network the calls are what takes the time.
    step = fnn.train.make_step(loss, optimizer, steps_per_call=50)
    for first in range(0, steps, 50):
        state, metrics = step(state, batches(first, 50))
        print(f"step {first + 50:4d}  loss {metrics['loss'][-1]:.4f}")

    logits = model(state.params, digits.test.x)
    print(f"test accuracy {(logits.argmax(-1) == digits.test.y).mean():.3f}")


if __name__ == "__main__":
    main()
