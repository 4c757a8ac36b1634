"""Regression of a table with holes, in PyTorch, with pandas and scikit-learn.

Means in place of missing values, standardised numbers and one-hot categories, all fitted on the
training rows; a network with dropout, stopped early by a validation split, whose best state is
kept and tested.

python examples/ports/table/pytorch.py
"""

import copy
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from make_table import make_table
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RUN = Path("runs/ports/table_pytorch.pt")
TABLE = Path("runs/ports/table.csv")
CATEGORIES = ["sex"]
BATCH_SIZE = 32
EVALUATE_EVERY, PATIENCE = 10, 30
SAVE_EVERY = 100


def make_network(columns: int) -> nn.Module:
    """Rows (B, columns) -> the standardised target (B, 1)."""
    return nn.Sequential(
        nn.Linear(columns, 64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 1),
    )


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
            torch.tensor(columns.transform(part), dtype=torch.float32),
            torch.tensor(target.transform(part[["target"]]), dtype=torch.float32),
        )
        for part in (train, valid, test)
    ]


def shuffled(size: int, start: int, steps: int):
    """The rows of each step's batch, from step `start` on."""
    for step in range(start, steps):
        epoch, place = divmod(step, size // BATCH_SIZE)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(epoch))
        yield order[place * BATCH_SIZE :][:BATCH_SIZE].tolist()


def train_step(model, optimizer, x, y) -> None:
    model.train()
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def predict(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    model.eval()
    return model(x)


def main(steps: int = 1500) -> float:
    """Train for so many steps at most; R^2 of the test rows."""
    torch.manual_seed(0)
    if not TABLE.exists():
        make_table(TABLE)
    train, (x_valid, y_valid), (x_test, y_test) = load_data()
    model = make_network(x_test.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    best = {"model": copy.deepcopy(model.state_dict()), "loss": float("inf"), "step": 0}

    start = 0
    if RUN.exists():
        saved = torch.load(RUN)
        start, best = saved["step"], saved["best"]
        torch.set_rng_state(saved["rng"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    RUN.parent.mkdir(parents=True, exist_ok=True)

    rows = list(shuffled(len(train[0]), start, steps))
    # With a generator of its own the loader leaves the global one, of the dropout, alone.
    loader = DataLoader(TensorDataset(*train), batch_sampler=rows, generator=torch.Generator())
    for step, (x, y) in enumerate(loader, start + 1):
        if step - 1 - best["step"] >= PATIENCE * EVALUATE_EVERY:
            break
        train_step(model, optimizer, x, y)
        if step % EVALUATE_EVERY == 0 or step == steps:
            loss = F.mse_loss(predict(model, x_valid), y_valid).item()
            if loss < best["loss"]:
                best = {"model": copy.deepcopy(model.state_dict()), "loss": loss, "step": step}
        if step % SAVE_EVERY == 0 or step == steps:
            print(f"step {step:4d}  best validation loss {best['loss']:.4f}")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            rng = torch.get_rng_state()
            torch.save({**state, "best": best, "step": step, "rng": rng}, RUN)

    model.load_state_dict(best["model"])
    score = float(r2_score(y_test, predict(model, x_test)))
    print(f"test R^2 {score:.4f}, by the params of step {best['step']}")
    return score


if __name__ == "__main__":
    main()
