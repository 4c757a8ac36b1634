"""Fine-tuning of a network, in PyTorch.

Its body has learnt the digits 0 to 4; with a new head it learns 5 to 9. In the first half of the
steps only the head is trained, and the body's batch statistics stay as they are; in the second
half everything, at a tenth of the learning rate. The weights come from a file of safetensors.

python examples/ports/fine_tuning/pytorch.py
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RUN = Path("runs/ports/fine_tuning_pytorch.pt")
WEIGHTS = Path(__file__).with_name("digits_0_to_4.safetensors")
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
SAVE_EVERY = 100


class Network(nn.Module):
    """Images (B, 1, 8, 8) -> logits of the digits 5 to 9 (B, 5)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(128, 5))

    def forward(self, x):
        return self.head(self.body(x))


def load_body(model: Network, path: Path) -> None:
    weights = load_file(path)
    names = [name for name in weights if name.startswith("body.")]
    model.body.load_state_dict({name.removeprefix("body."): weights[name] for name in names})


def load_data():
    images, labels = load_digits(return_X_y=True)
    images, labels = images[labels >= 5], labels[labels >= 5] - 5
    images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(labels)
    return train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)


def shuffled(size: int, start: int, steps: int):
    """The rows of each step's batch, from step `start` on."""
    for step in range(start, steps):
        epoch, place = divmod(step, size // BATCH_SIZE)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(epoch))
        yield order[place * BATCH_SIZE :][:BATCH_SIZE].tolist()


def set_up(model: Network, frozen: bool) -> torch.optim.Optimizer:
    """The optimizer of a phase, and the model set for it."""
    model.train()
    model.body.train(not frozen)
    model.body.requires_grad_(not frozen)
    if frozen:
        return torch.optim.Adam(model.head.parameters(), lr=LEARNING_RATE)
    return torch.optim.Adam(model.parameters(), lr=LEARNING_RATE / 10)


def main(steps: int = 600) -> float:
    """Train for so many steps, or what is left of them; the accuracy on the test images."""
    torch.manual_seed(0)
    x_train, x_test, y_train, y_test = load_data()
    model = Network()
    load_body(model, WEIGHTS)

    saved = torch.load(RUN) if RUN.exists() else None
    start = saved["step"] if saved else 0
    optimizer = set_up(model, frozen=start <= steps // 2)
    if saved:
        torch.set_rng_state(saved["rng"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    RUN.parent.mkdir(parents=True, exist_ok=True)

    rows = list(shuffled(len(y_train), start, steps))
    # With a generator of its own the loader leaves the global one, of the dropout, alone.
    dataset = TensorDataset(x_train, y_train)
    loader = DataLoader(dataset, batch_sampler=rows, generator=torch.Generator())
    for step, (x, y) in enumerate(loader, start + 1):
        if step == steps // 2 + 1:
            optimizer = set_up(model, frozen=False)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % SAVE_EVERY == 0 or step == steps:
            print(f"step {step:4d}  loss {loss.item():.4f}")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "rng": torch.get_rng_state()}, RUN)

    model.eval()
    with torch.no_grad():
        accuracy = (model(x_test).argmax(-1) == y_test).float().mean().item()
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
