"""A residual network on images, in Flax NNX, with Optax, Grain and Orbax.

ResNet-18 in its form for CIFAR, on scikit-learn's digits, each pixel doubled to 16x16: AdamW
without decay of biases and norms, warm-up and cosine, label smoothing, crops and cutout, clipped
gradients, and a moving average of the params, which is what is evaluated.

python examples/ports/resnet/flax_nnx.py
"""

from pathlib import Path

import grain
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

RUN = Path("runs/ports/resnet_flax_nnx")
BATCH_SIZE = 64
WIDTH = 16  # of the first stage; 64 in the paper, arXiv:1512.03385
LEARNING_RATE = 2e-3
SAVE_EVERY = 50


class Block(nnx.Module):
    """Two convolutions, and the way around them."""

    def __init__(self, inputs: int, features: int, stride: int, rngs: nnx.Rngs):
        self.conv_1 = nnx.Conv(inputs, features, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm_1 = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.conv_2 = nnx.Conv(features, features, (3, 3), use_bias=False, rngs=rngs)
        self.norm_2 = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.shortcut = nnx.Sequential()
        if stride != 1 or inputs != features:
            self.shortcut = nnx.Sequential(
                nnx.Conv(inputs, features, (1, 1), strides=stride, use_bias=False, rngs=rngs),
                nnx.BatchNorm(features, momentum=0.9, rngs=rngs),
            )

    def __call__(self, x):
        y = nnx.relu(self.norm_1(self.conv_1(x)))
        y = self.norm_2(self.conv_2(y))
        return nnx.relu(y + self.shortcut(x))


class ResNet(nnx.Module):
    """Eight blocks in four stages: x (B, 16, 16, 1) -> logits (B, 10)."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = nnx.Conv(1, WIDTH, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, momentum=0.9, rngs=rngs)
        blocks, inputs = [], WIDTH
        for factor, stride in [(1, 1), (2, 2), (4, 2), (8, 2)]:
            features = factor * WIDTH
            blocks += [Block(inputs, features, stride, rngs), Block(features, features, 1, rngs)]
            inputs = features
        self.blocks = nnx.Sequential(*blocks)
        self.head = nnx.Linear(8 * WIDTH, 10, rngs=rngs)

    def __call__(self, x):
        x = self.blocks(nnx.relu(self.norm(self.stem(x))))
        return self.head(x.mean((1, 2)))


def load_data():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    images = images.repeat(2, axis=1).repeat(2, axis=2)  # (1797, 16, 16, 1)
    return train_test_split(images, labels, test_size=360, stratify=labels, random_state=0)


def augment(example, rng: np.random.Generator):
    """A random crop of the padded image, and a square of zeros in it."""
    image, label = example
    top, left = rng.integers(0, 5, 2)
    image = np.pad(image, ((2, 2), (2, 2), (0, 0)))[top : top + 16, left : left + 16]
    top, left = rng.integers(0, 13, 2)
    image[top : top + 4, left : left + 4] = 0
    return image, label


def make_optimizer(model: ResNet, steps: int) -> nnx.Optimizer:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, LEARNING_RATE, warmup_steps=max(1, steps // 10), decay_steps=steps
    )
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            schedule,
            weight_decay=0.05,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
    return nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, average, x, y):
    def loss_fn(model):
        targets = optax.smooth_labels(jax.nn.one_hot(y, 10), 0.1)
        return optax.softmax_cross_entropy(model(x), targets).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    average.update(nnx.state(model, nnx.Param))
    return loss


@nnx.jit
def predict(model, x):
    return model(x).argmax(-1)


def main(steps: int = 120) -> float:
    """Train for so many steps, or what is left of them; the accuracy on the test images."""
    x_train, x_test, y_train, y_test = load_data()
    batches = (
        grain.MapDataset.source(list(zip(x_train, y_train, strict=True)))
        .seed(0)
        .shuffle()
        .repeat()
        .random_map(augment)
        .batch(BATCH_SIZE)
    )
    model = ResNet(nnx.Rngs(0))
    optimizer = make_optimizer(model, steps)
    average = nnx.EMA(model, decay=0.95, only=nnx.Param)
    everything = (model, optimizer, average)

    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    with ocp.CheckpointManager(RUN.absolute(), options=options) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            target = ocp.args.StandardRestore(nnx.state(everything))
            nnx.update(everything, checkpoints.restore(start, args=target))

        for step in range(start, steps):
            x, y = batches[step]
            loss = train_step(model, optimizer, average, x, y)
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                print(f"step {step + 1:4d}  loss {loss:.4f}")
                state = ocp.args.StandardSave(nnx.state(everything))
                checkpoints.save(step + 1, args=state)

    averaged = nnx.view(average.apply_to(model), use_running_average=True)
    accuracy = float((predict(averaged, x_test) == y_test).mean())
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
