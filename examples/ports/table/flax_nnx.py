"""Regression of a table with holes, in Flax NNX, with Optax, Grain, Orbax, pandas and scikit-learn.

Means in place of missing values, standardised numbers and one-hot categories, all fitted on the
training rows; a network with dropout, stopped early by a validation split, whose best state is
kept and tested.

python examples/ports/table/flax_nnx.py
"""

from pathlib import Path

import grain
import numpy as np
import optax
import orbax.checkpoint as ocp
import pandas as pd
from flax import nnx
from make_table import make_table
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

RUN = Path("runs/ports/table_flax_nnx")
TABLE = Path("runs/ports/table.csv")
CATEGORIES = ["sex"]
BATCH_SIZE = 32
EVALUATE_EVERY, PATIENCE = 10, 30
SAVE_EVERY = 100


class Network(nnx.Module):
    """Rows (B, columns) -> the standardised target (B,)."""

    def __init__(self, columns: int, rngs: nnx.Rngs):
        self.layers = nnx.Sequential(
            nnx.Linear(columns, 64, rngs=rngs),
            nnx.relu,
            nnx.Dropout(0.1, rngs=rngs),
            nnx.Linear(64, 64, rngs=rngs),
            nnx.relu,
            nnx.Dropout(0.1, rngs=rngs),
            nnx.Linear(64, 1, rngs=rngs),
        )

    def __call__(self, x):
        return self.layers(x).squeeze(-1)


def load_data():
    """Rows and standardised targets: to train, to validate and to test."""
    table = pd.read_csv(TABLE)
    rest, test = train_test_split(table, test_size=0.2, random_state=0)
    train, valid = train_test_split(rest, test_size=0.2, random_state=0)
    numbers = [name for name in table.columns if name not in [*CATEGORIES, "target"]]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(sparse_output=False), CATEGORIES),
    )
    columns.fit(train)
    target = StandardScaler().fit(train[["target"]])
    return [
        (
            np.asarray(columns.transform(part), np.float32),
            np.asarray(target.transform(part[["target"]]), np.float32).squeeze(-1),
        )
        for part in (train, valid, test)
    ]


def loss_fn(model: Network, x, y):
    return optax.squared_error(model(x), y).mean()


@nnx.jit
def train_step(model, optimizer, x, y):
    grads = nnx.grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)


eval_step = nnx.jit(loss_fn)


def main(steps: int = 1500) -> float:
    """Train for so many steps at most; R^2 of the test rows."""
    if not TABLE.exists():
        make_table(TABLE)
    (x_train, y_train), valid, (x_test, y_test) = load_data()
    rows = list(zip(x_train, y_train, strict=True))
    batches = grain.MapDataset.source(rows).seed(0).shuffle().repeat().batch(BATCH_SIZE)
    model = Network(x_train.shape[1], nnx.Rngs(0, dropout=1))
    evaluated = nnx.view(model, deterministic=True)
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    best = {"params": nnx.state(model, nnx.Param), "loss": np.inf, "step": 0}

    def everything():
        return {"modules": nnx.state((model, optimizer)), "best": best}

    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    with ocp.CheckpointManager(RUN.absolute(), options=options) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            target = ocp.args.StandardRestore(everything())
            saved = checkpoints.restore(start, args=target)
            nnx.update((model, optimizer), saved["modules"])
            best = saved["best"]

        for step in range(start, steps):
            if step - best["step"] >= PATIENCE * EVALUATE_EVERY:
                break
            train_step(model, optimizer, *batches[step])
            if (step + 1) % EVALUATE_EVERY == 0 or step + 1 == steps:
                loss = float(eval_step(evaluated, *valid))
                if loss < best["loss"]:
                    params = nnx.clone(nnx.state(model, nnx.Param))
                    best = {"params": params, "loss": loss, "step": step + 1}
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                print(f"step {step + 1:4d}  best validation loss {best['loss']:.4f}")
                checkpoints.save(step + 1, args=ocp.args.StandardSave(everything()))

    nnx.update(model, best["params"])
    score = float(r2_score(y_test, evaluated(x_test)))
    print(f"test R^2 {score:.4f}, by the params of step {best['step']}")
    return score


if __name__ == "__main__":
    main()
