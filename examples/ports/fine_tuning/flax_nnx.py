"""Fine-tuning of a network of PyTorch's, in Flax NNX, with Optax, Grain and Orbax.

Its body has learnt the digits 0 to 4; with a new head it learns 5 to 9. In the first half of the
steps only the head is trained, and the body's batch statistics stay as they are; in the second
half everything, at a tenth of the learning rate. The weights come from a file of safetensors.

python examples/ports/fine_tuning/flax_nnx.py
"""

from pathlib import Path

import grain
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

RUN = Path("runs/ports/fine_tuning_flax_nnx")
WEIGHTS = Path(__file__).with_name("digits_0_to_4.safetensors")
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
SAVE_EVERY = 100


class Body(nnx.Module):
    """Images (B, 8, 8, 1) -> features (B, 128)."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv_1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.norm_1 = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.conv_2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.norm_2 = nnx.BatchNorm(32, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm_1(self.conv_1(x))), (2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.norm_2(self.conv_2(x))), (2, 2), strides=(2, 2))
        return x.reshape(len(x), -1)


class Network(nnx.Module):
    """Images (B, 8, 8, 1) -> logits of the digits 5 to 9 (B, 5)."""

    def __init__(self, rngs: nnx.Rngs):
        self.body = Body(rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(128, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(self.body(x)))


def load_body(body: Body, path: Path) -> None:
    """Put PyTorch's weights into the body: kernels (out, in, H, W) become (H, W, in, out)."""
    weights = load_file(path)
    for name, conv, norm in [("0", body.conv_1, body.norm_1), ("4", body.conv_2, body.norm_2)]:
        conv.kernel[...] = weights[f"body.{name}.weight"].transpose(2, 3, 1, 0)
        conv.bias[...] = weights[f"body.{name}.bias"]
        follows = f"body.{int(name) + 1}"
        norm.scale[...] = weights[f"{follows}.weight"]
        norm.bias[...] = weights[f"{follows}.bias"]
        norm.mean[...] = weights[f"{follows}.running_mean"]
        norm.var[...] = weights[f"{follows}.running_var"]


def load_data():
    images, labels = load_digits(return_X_y=True)
    images, labels = images[labels >= 5], labels[labels >= 5] - 5
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)


def set_up(model: Network, frozen: bool) -> nnx.Optimizer:
    """The optimizer of a phase, and the model set for it."""
    model.train()
    if frozen:
        model.body.eval()
        head = nnx.All(nnx.Param, nnx.PathContains("head"))
        return nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=head)
    return nnx.Optimizer(model, optax.adam(LEARNING_RATE / 10), wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, x, y):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn, argnums=nnx.DiffState(0, optimizer.wrt))(model)
    optimizer.update(model, grads)
    return loss


def main(steps: int = 600) -> float:
    """Train for so many steps, or what is left of them; the accuracy on the test images."""
    x_train, x_test, y_train, y_test = load_data()
    rows = list(zip(x_train, y_train, strict=True))
    batches = grain.MapDataset.source(rows).seed(0).shuffle().repeat().batch(BATCH_SIZE)
    model = Network(nnx.Rngs(0, dropout=1))
    load_body(model.body, WEIGHTS)

    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    with ocp.CheckpointManager(RUN.absolute(), options=options) as checkpoints:
        start = checkpoints.latest_step() or 0
        optimizer = set_up(model, frozen=start <= steps // 2)
        if start:
            target = ocp.args.StandardRestore(nnx.state((model, optimizer)))
            nnx.update((model, optimizer), checkpoints.restore(start, args=target))

        for step in range(start, steps):
            if step == steps // 2:
                optimizer = set_up(model, frozen=False)
            loss = train_step(model, optimizer, *batches[step])
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                print(f"step {step + 1:4d}  loss {loss:.4f}")
                state = ocp.args.StandardSave(nnx.state((model, optimizer)))
                checkpoints.save(step + 1, args=state)

    model.eval()
    accuracy = float((model(x_test).argmax(-1) == y_test).mean())
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
