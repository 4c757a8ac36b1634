"""A physics-informed network, in PyTorch.

Poisson's equation on the unit square, -(u_xx + u_yy) = 2 pi^2 sin(pi x) sin(pi y), with u = 0 on
the boundary. The Laplacian is the trace of the Hessian. The figure is the root mean square error
on a grid against the exact solution, sin(pi x) sin(pi y).

python examples/ports/physics/pytorch.py
"""

import math
from pathlib import Path

import torch
from torch import nn
from torch.func import hessian, vmap

RUN = Path("runs/ports/physics_pytorch.pt")
INSIDE, BOUNDARY, GRID = 256, 64, 51
SAVE_EVERY = 500


class Network(nn.Module):
    """Points (..., 2) -> u (...)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        )

    def forward(self, points):
        return self.layers(points).squeeze(-1)


def solution(points: torch.Tensor) -> torch.Tensor:
    """Points (..., 2) -> the exact u (...)."""
    return torch.sin(math.pi * points).prod(-1)


def draw_points() -> tuple[torch.Tensor, torch.Tensor]:
    """Points inside of the square (256, 2), and on its boundary (64, 2)."""
    boundary = torch.rand(BOUNDARY, 2)
    axis, end = torch.randint(0, 2, (2, BOUNDARY))
    boundary[torch.arange(BOUNDARY), axis] = end.float()
    return torch.rand(INSIDE, 2), boundary


def loss_fn(model: Network, inside: torch.Tensor, boundary: torch.Tensor) -> torch.Tensor:
    def residual(point):
        laplacian = hessian(model)(point).trace()
        return laplacian + 2 * math.pi**2 * solution(point)

    residuals = vmap(residual)(inside)  # (256,)
    return (residuals**2).mean() + 100 * (model(boundary) ** 2).mean()


@torch.no_grad()
def evaluate(model: Network) -> float:
    """The root mean square error on a grid."""
    axis = torch.linspace(0, 1, GRID)
    points = torch.cartesian_prod(axis, axis)
    errors = model(points) - solution(points)
    return (errors**2).mean().sqrt().item()


def main(steps: int = 1500) -> float:
    """Train for so many steps, or what is left of them; the error against the exact solution."""
    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}

    start = 0
    if RUN.exists():
        saved = torch.load(RUN)
        start = saved["step"]
        torch.set_rng_state(saved["rng"])
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    RUN.parent.mkdir(parents=True, exist_ok=True)

    for step in range(start + 1, steps + 1):
        loss = loss_fn(model, *draw_points())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % SAVE_EVERY == 0 or step == steps:
            print(f"step {step:4d}  loss {loss.item():.4f}")
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "step": step, "rng": torch.get_rng_state()}, RUN)

    error = evaluate(model)
    print(f"root mean square error {error:.2e}")
    return error


if __name__ == "__main__":
    main()
