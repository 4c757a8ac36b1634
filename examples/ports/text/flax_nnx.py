"""A character model, in Flax NNX, with Optax and Orbax.

The sources of Python's standard library, read by two GRU layers in 16 streams. Truncated
backpropagation through time: each window of 64 goes on from where the one before it has left off;
at the beginning of a stream the carries are zero. The figure is bits a character of the last fifth
of the text, which depends on the version of Python whose sources are read.

python examples/ports/text/flax_nnx.py
"""

import sysconfig
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

RUN = Path("runs/ports/text_flax_nnx")
CHARACTERS, STREAMS, WINDOW = 200_000, 16, 64
EMBEDDING, LAYERS = 64, (128, 192)
SAVE_EVERY = 200


class CharacterModel(nnx.Module):
    """Ids (B, T) and carries -> logits (B, T, classes) and the carries after them."""

    def __init__(self, classes: int, rngs: nnx.Rngs):
        self.embed = nnx.Embed(classes, EMBEDDING, rngs=rngs)
        inputs = (EMBEDDING, *LAYERS)
        self.layers = nnx.List(
            nnx.RNN(nnx.GRUCell(*sizes, rngs=rngs), return_carry=True)
            for sizes in zip(inputs, LAYERS, strict=False)
        )
        self.head = nnx.Linear(LAYERS[-1], classes, rngs=rngs)

    def __call__(self, ids, carries):
        x, after = self.embed(ids), []
        for layer, carry in zip(self.layers, carries, strict=True):
            carry, x = layer(x, initial_carry=carry)
            after.append(carry)
        return self.head(x), after


def load_text():
    """Ids of the first four fifths of the text and of the last, and how many there are."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    text = "".join(path.read_text(encoding="utf-8") for path in files)[:CHARACTERS]
    alphabet, ids = np.unique(list(text), return_inverse=True)
    train, test = np.split(ids.astype(np.int32), [CHARACTERS * 4 // 5])
    return train, test, len(alphabet)


def windows(ids: np.ndarray) -> np.ndarray:
    """One window and the character after it for each stream: (number, streams, window + 1)."""
    length = len(ids) // STREAMS
    streams = ids[: STREAMS * length].reshape(STREAMS, length)
    starts = range(0, length - WINDOW, WINDOW)
    return np.stack([streams[:, start : start + WINDOW + 1] for start in starts])


def fresh_carries():
    return [jnp.zeros((STREAMS, size)) for size in LAYERS]


def loss_fn(model: CharacterModel, carries, window):
    """Nats a character, and the carries."""
    logits, carries = model(window[:, :-1], carries)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:])  # (B, T)
    return losses.mean(), carries


@nnx.jit
def train_step(model, optimizer, carries, window):
    (loss, carries), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, carries, window)
    optimizer.update(model, grads)
    return loss, carries


eval_step = nnx.jit(loss_fn)


def evaluate(model: CharacterModel, test: np.ndarray) -> float:
    """Bits a character."""
    carries, losses = fresh_carries(), []
    for window in windows(test):
        loss, carries = eval_step(model, carries, window)
        losses.append(loss)
    return float(np.mean(losses) / np.log(2))


def main(steps: int = 800) -> float:
    """Train for so many steps, or what is left of them; bits a character of the test text."""
    train, test, classes = load_text()
    batches = windows(train)
    model = CharacterModel(classes, nnx.Rngs(0))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    carries = fresh_carries()

    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    with ocp.CheckpointManager(RUN.absolute(), options=options) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            target = {"modules": nnx.state((model, optimizer)), "carries": carries}
            saved = checkpoints.restore(start, args=ocp.args.StandardRestore(target))
            nnx.update((model, optimizer), saved["modules"])
            carries = saved["carries"]

        for step in range(start, steps):
            place = step % len(batches)
            if place == 0:
                carries = fresh_carries()
            loss, carries = train_step(model, optimizer, carries, batches[place])
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                print(f"step {step + 1:4d}  loss {loss:.4f}")
                state = {"modules": nnx.state((model, optimizer)), "carries": carries}
                checkpoints.save(step + 1, args=ocp.args.StandardSave(state))

    bits = evaluate(model, test)
    print(f"test text {bits:.4f} bits a character")
    return bits


if __name__ == "__main__":
    main()
