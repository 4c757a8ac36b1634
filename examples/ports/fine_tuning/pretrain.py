"""The weights that the three programs begin with: a network of PyTorch's, taught digits 0 to 4."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

BATCH_SIZE = 64


def make_network() -> nn.Module:
    """Images (B, 1, 8, 8) -> logits (B, 5); `body` is what will be kept, `head` is thrown away."""
    body = nn.Sequential(
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
    return nn.ModuleDict({"body": body, "head": nn.Linear(128, 5)})


def pretrain(path: Path, steps: int = 200) -> None:
    """Train on digits 0 to 4, and write the state dict as safetensors: body.0.weight, ..."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, labels = load_digits(n_class=5, return_X_y=True)
        images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
        labels = torch.tensor(labels)
        network = make_network()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(steps):
            rows = torch.randint(0, len(labels), (BATCH_SIZE,))
            loss = F.cross_entropy(network["head"](network["body"](images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
