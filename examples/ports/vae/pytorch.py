"""A variational autoencoder, in PyTorch.

Scikit-learn's digits, 8x8, through 8 latent numbers; the loss is the negative evidence lower bound
of Kingma and Welling (arXiv:1312.6114): Bernoulli reconstruction and divergence from the normal
prior.

python examples/ports/vae/pytorch.py
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader

RUN = Path("runs/ports/vae_pytorch.pt")
BATCH_SIZE = 64
LATENT, HIDDEN = 8, 128
SAVE_EVERY = 500


class VAE(nn.Module):
    """Pixels (B, 64) -> logits of them, mean and log variance of the latent numbers (B, 8)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT)
        )
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 64))

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


def load_data():
    pixels = torch.tensor(load_digits().data / 16, dtype=torch.float32)  # (1797, 64)
    return train_test_split(pixels, test_size=360, random_state=0)


def shuffled(size: int, start: int, steps: int):
    """The rows of each step's batch, from step `start` on."""
    for step in range(start, steps):
        epoch, place = divmod(step, size // BATCH_SIZE)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(epoch))
        yield order[place * BATCH_SIZE :][:BATCH_SIZE].tolist()


def loss_fn(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """The negative evidence lower bound of an image, in nats."""
    logits, mean, log_variance = model(x)
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    divergence = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(-1)  # (B,)
    return (reconstruction + divergence).mean()


def main(steps: int = 3000) -> float:
    """Train for so many steps, or what is left of them; the loss of a test image."""
    torch.manual_seed(0)
    x_train, x_test = load_data()
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    start = 0
    if RUN.exists():
        saved = torch.load(RUN)
        start = saved["step"]
        torch.set_rng_state(saved["rng"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    RUN.parent.mkdir(parents=True, exist_ok=True)

    rows = list(shuffled(len(x_train), start, steps))
    # With a generator of its own the loader leaves the global one, of the noise, alone.
    loader = DataLoader(x_train, batch_sampler=rows, generator=torch.Generator())
    for step, x in enumerate(loader, start + 1):
        loss = loss_fn(model, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % SAVE_EVERY == 0 or step == steps:
            print(f"step {step:4d}  loss {loss.item():.4f}")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "rng": torch.get_rng_state()}, RUN)

    torch.manual_seed(2)
    with torch.no_grad():
        loss = loss_fn(model, x_test).item()
    print(f"test loss {loss:.4f} nats an image")
    return loss


if __name__ == "__main__":
    main()
