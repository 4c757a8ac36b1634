"""Fine-tuning of a network of PyTorch's, with funcnn and optax.

Its body has learnt the digits 0 to 4; with a new head it learns 5 to 9. In the first half of the
steps only the head is trained, and the body's batch statistics stay as they are; in the second
half everything, at a tenth of the learning rate.

python examples/ports/fine_tuning/with_funcnn.py
"""

from pathlib import Path

import jax
import numpy as np
import optax
from safetensors.numpy import load_file

import funcnn as fnn
from funcnn.data.dataset import cut
from funcnn.train import Checkpoints, TrainState, fit, make_evaluation, make_step

RUN = Path("runs/ports/fine_tuning_with_funcnn")
WEIGHTS = Path(__file__).with_name("digits_0_to_4.safetensors")
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
SAVE_EVERY = 100

BODY = fnn.chain(
    *(fnn.conv(16, (3, 3)), fnn.batch_norm(), fnn.relu, fnn.max_pool((2, 2))),
    *(fnn.conv(32, (3, 3)), fnn.batch_norm(), fnn.relu, fnn.max_pool((2, 2))),
    fnn.flatten,
)
MODEL = fnn.chain(body=BODY, dropout=fnn.dropout(0.3), head=fnn.dense(5))


def load_data():
    data = fnn.data.digits(seed=0)
    x, y = (np.concatenate([s[name] for s in data.splits().values()]) for name in "xy")
    rows = fnn.data.Split(x=x[y >= 5], y=y[y >= 5] - 5)
    return cut(rows, 0.2, seed=0, by="y")


def pretrained(x):
    """Fresh params with the body of PyTorch's, and its batch statistics by their paths."""
    weights = {name: a for name, a in load_file(WEIGHTS).items() if name.startswith("body.")}
    body = fnn.import_torch(weights, BODY, x)
    statistics = {
        f"body/{name}": (part.pop("mean"), part.pop("variance"), np.float32(1))
        for name, part in body.items()
        if "mean" in part
    }
    return {**MODEL.init(jax.random.key(0), x), "body": body}, statistics


def loss_of(frozen):
    """The loss of a phase: with these statistics, or with those of its batches."""

    def loss(params, batch, key):
        if frozen:
            params = fnn.fold_statistics(params, frozen, frozen=True)
        logits, statistics = MODEL.value_and_statistics(params, batch["x"], key)
        losses = fnn.rules.softmax_cross_entropy(logits, batch["y"])
        return losses.mean(), {"statistics": statistics} if statistics else {}

    return loss


def part_of(params):
    return {name: "head" if name == "head" else "rest" for name in params}


def accuracy(params, batch):
    return {"accuracy": MODEL(params, batch["x"]).argmax(-1) == batch["y"]}


def train_phase(state, loss, optimizer, batches, start, steps):
    """The steps from `start` on, with checkpoints of their own; a state that was saved goes on."""
    checkpoints = Checkpoints(RUN / f"from_{start}")
    if checkpoints.latest() is not None:
        state = checkpoints.restore(state)
    state, history = fit(
        make_step(loss, optimizer),
        state,
        lambda step: batches(start + step),
        steps=steps,
        log_every=SAVE_EVERY,
        checkpoints=checkpoints,
        checkpoint_every=SAVE_EVERY,
    )
    for record in history:
        print(f"step {start + record['step']:4d}  loss {record['loss']:.4f}")
    return state


def main(steps: int = 600) -> float:
    """Train for so many steps, or what is left of them; the accuracy on the test images."""
    train, test = load_data()
    batches = fnn.data.make_batches(train, BATCH_SIZE, seed=0)
    params, statistics = pretrained(test.x[:1])
    rest, head = optax.set_to_zero(), optax.adam(LEARNING_RATE)
    only_head = optax.partition({"head": head, "rest": rest}, part_of)
    half = steps // 2

    state = TrainState.create(params, only_head, seed=0)
    state = train_phase(state, loss_of(statistics), only_head, batches, 0, half)

    everything = optax.adam(LEARNING_RATE / 10)
    state = TrainState.create(state.params, everything, seed=1, statistics=statistics)
    state = state._replace(statistics=statistics)  # they go on from PyTorch's
    state = train_phase(state, loss_of({}), everything, batches, half, steps - half)

    evaluate = make_evaluation(accuracy, test, 512)
    figure = evaluate(state.evaluation_params())["accuracy"]
    print(f"test accuracy {figure:.4f}")
    return figure


if __name__ == "__main__":
    main()
