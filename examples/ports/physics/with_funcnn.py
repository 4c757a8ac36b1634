"""A physics-informed network, with funcnn: what its config names.

Poisson's equation on the unit square, -(u_xx + u_yy) = 2 pi^2 sin(pi x) sin(pi y), with u = 0 on
the boundary. The Laplacian is the trace of the Hessian. The figure is the root mean square error
on a grid against the exact solution, sin(pi x) sin(pi y).

funcnn train examples/ports/physics/funcnn.toml
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import funcnn as fnn

BOUNDARY, GRID = 64, 51


def solution(points):
    """Points (..., 2) -> the exact u (...)."""
    return jnp.sin(jnp.pi * points).prod(-1)


def grid():
    axis = np.linspace(0, 1, GRID, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    rows = {"x": points, "y": np.asarray(solution(points))}
    return {"train": rows, "test": rows}


def on_boundary(key):
    """Points of the boundary (64, 2)."""
    along_key, side_key = jax.random.split(key)
    along = jax.random.uniform(along_key, (BOUNDARY,))
    axis, end = jax.random.bernoulli(side_key, 0.5, (2, BOUNDARY))
    end = end.astype(along.dtype)
    return jnp.where(axis[:, None], jnp.stack([along, end], -1), jnp.stack([end, along], -1))


def poisson():
    def objective(model, params, batch, key):
        def u(point):
            return model(params, point[None])[0, 0]

        def residual(point):
            return jnp.trace(jax.hessian(u)(point)) + 2 * jnp.pi**2 * solution(point)

        x = batch["x"]
        if key is None:  # in evaluation the equation alone
            return jax.vmap(residual)(x) ** 2
        inside, boundary = jax.random.split(key)
        x = jax.random.uniform(inside, x.shape)  # (256, 2)
        values = jax.vmap(u)(on_boundary(boundary))  # (64,)
        return jax.vmap(residual)(x) ** 2 + 100 * (values**2).mean()

    return fnn.Task(objective=objective)


def figures():
    error = fnn.task.mean_of(lambda u, y: (u[:, 0] - y) ** 2, after=math.sqrt)
    return {"rms_error": error}
