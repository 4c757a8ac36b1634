"""A variational autoencoder, in Flax NNX, with Optax, Grain and Orbax.

Scikit-learn's digits, 8x8, through 8 latent numbers; the loss is the negative evidence lower bound
of Kingma and Welling (arXiv:1312.6114): Bernoulli reconstruction and divergence from the normal
prior.

python examples/ports/vae/flax_nnx.py
"""

from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

RUN = Path("runs/ports/vae_flax_nnx")
BATCH_SIZE = 64
LATENT, HIDDEN = 8, 128
SAVE_EVERY = 500


class VAE(nnx.Module):
    """Pixels (B, 64) -> logits of them, mean and log variance of the latent numbers (B, 8)."""

    def __init__(self, rngs: nnx.Rngs):
        self.encoder = nnx.Sequential(
            nnx.Linear(64, HIDDEN, rngs=rngs), nnx.relu, nnx.Linear(HIDDEN, 2 * LATENT, rngs=rngs)
        )
        self.decoder = nnx.Sequential(
            nnx.Linear(LATENT, HIDDEN, rngs=rngs), nnx.relu, nnx.Linear(HIDDEN, 64, rngs=rngs)
        )

    def __call__(self, x, key):
        mean, log_variance = jnp.split(self.encoder(x), 2, axis=-1)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return self.decoder(z), mean, log_variance


def load_data():
    pixels = (load_digits().data / 16).astype(np.float32)  # (1797, 64)
    return train_test_split(pixels, test_size=360, random_state=0)


def loss_fn(model: VAE, x, key):
    """The negative evidence lower bound of an image, in nats."""
    logits, mean, log_variance = model(x, key)
    reconstruction = optax.sigmoid_binary_cross_entropy(logits, x).sum(-1)  # (B,)
    divergence = 0.5 * (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum(-1)  # (B,)
    return (reconstruction + divergence).mean()


@nnx.jit
def train_step(model, optimizer, x, key):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, key)
    optimizer.update(model, grads)
    return loss


def main(steps: int = 3000) -> float:
    """Train for so many steps, or what is left of them; the loss of a test image."""
    x_train, x_test = load_data()
    batches = grain.MapDataset.source(x_train).seed(0).shuffle().repeat().batch(BATCH_SIZE)
    model = VAE(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    key = jax.random.key(1)

    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    with ocp.CheckpointManager(RUN.absolute(), options=options) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            target = ocp.args.StandardRestore(nnx.state((model, optimizer)))
            nnx.update((model, optimizer), checkpoints.restore(start, args=target))

        for step in range(start, steps):
            loss = train_step(model, optimizer, batches[step], jax.random.fold_in(key, step))
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                print(f"step {step + 1:4d}  loss {loss:.4f}")
                state = ocp.args.StandardSave(nnx.state((model, optimizer)))
                checkpoints.save(step + 1, args=state)

    loss = float(loss_fn(model, x_test, jax.random.key(2)))
    print(f"test loss {loss:.4f} nats an image")
    return loss


if __name__ == "__main__":
    main()
