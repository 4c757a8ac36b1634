"""A physics-informed network, in Flax NNX, with Optax and Orbax.

Poisson's equation on the unit square, -(u_xx + u_yy) = 2 pi^2 sin(pi x) sin(pi y), with u = 0 on
the boundary. The Laplacian is the trace of the Hessian. The figure is the root mean square error
on a grid against the exact solution, sin(pi x) sin(pi y).

python examples/ports/physics/flax_nnx.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

RUN = Path("runs/ports/physics_flax_nnx")
INSIDE, BOUNDARY, GRID = 256, 64, 51
SAVE_EVERY = 500


class Network(nnx.Module):
    """A point (2,) -> u, a number."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.Sequential(
            nnx.Linear(2, 32, rngs=rngs),
            jnp.tanh,
            nnx.Linear(32, 32, rngs=rngs),
            jnp.tanh,
            nnx.Linear(32, 1, rngs=rngs),
        )

    def __call__(self, point):
        return self.layers(point)[0]


def solution(points):
    """Points (..., 2) -> the exact u (...)."""
    return jnp.sin(jnp.pi * points).prod(-1)


def draw_points(key):
    """Points inside of the square (256, 2), and on its boundary (64, 2)."""
    inside_key, boundary_key, side_key = jax.random.split(key, 3)
    inside = jax.random.uniform(inside_key, (INSIDE, 2))
    along = jax.random.uniform(boundary_key, (BOUNDARY,))
    axis, end = jax.random.bernoulli(side_key, 0.5, (2, BOUNDARY))
    end = end.astype(along.dtype)
    boundary = jnp.where(axis[:, None], jnp.stack([along, end], -1), jnp.stack([end, along], -1))
    return inside, boundary


def loss_fn(model: Network, inside, boundary):
    def residual(point):
        laplacian = jnp.trace(jax.hessian(model)(point))
        return laplacian + 2 * jnp.pi**2 * solution(point)

    residuals = jax.vmap(residual)(inside)  # (256,)
    values = jax.vmap(model)(boundary)  # (64,)
    return (residuals**2).mean() + 100 * (values**2).mean()


@nnx.jit
def train_step(model, optimizer, key):
    inside, boundary = draw_points(key)
    loss, grads = nnx.value_and_grad(loss_fn)(model, inside, boundary)
    optimizer.update(model, grads)
    return loss


def evaluate(model: Network) -> float:
    """The root mean square error on a grid."""
    axis = np.linspace(0, 1, GRID, dtype=np.float32)
    points = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    errors = jax.vmap(model)(points) - solution(points)
    return float(jnp.sqrt((errors**2).mean()))


def main(steps: int = 1500) -> float:
    """Train for so many steps, or what is left of them; the error against the exact solution."""
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(
        model, optax.adam(optax.cosine_decay_schedule(5e-3, steps)), wrt=nnx.Param
    )
    key = jax.random.key(1)

    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    with ocp.CheckpointManager(RUN.absolute(), options=options) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            target = ocp.args.StandardRestore(nnx.state((model, optimizer)))
            nnx.update((model, optimizer), checkpoints.restore(start, args=target))

        for step in range(start, steps):
            loss = train_step(model, optimizer, jax.random.fold_in(key, step))
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                print(f"step {step + 1:4d}  loss {loss:.4f}")
                state = ocp.args.StandardSave(nnx.state((model, optimizer)))
                checkpoints.save(step + 1, args=state)

    error = evaluate(model)
    print(f"root mean square error {error:.2e}")
    return error


if __name__ == "__main__":
    main()
