"""Works of a size for a GPU, run on the device that JAX takes; the head of the results names it.

They are those whose bytes are known for an absent GPU, too, and a larger batch of the CNN.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.bench import absent_works
from funcnn.bench.operations import Arms, compiled_arm
from funcnn.bench.training import CNN
from funcnn.types import Array, PyTree

BATCH = 1024  # of the network
_OURS = {"by hand": "funcnn"}


def large_cnn() -> Arms:
    """The gradient of the CNN of `cnn_step` for 1,024 images, float32."""
    return _run(absent_works.network(dataclasses.replace(CNN, batch=BATCH)))


def large_stack() -> Arms:
    """`repeat` of 12 blocks, dense 512 and gelu, on 8,192 rows, bfloat16."""
    return _run(absent_works.stack())


def large_cross_entropy() -> Arms:
    """8,192 rows of width 768 into 50,304 classes and their cross entropy, bfloat16."""
    return _run(absent_works.cross_entropy())


def large_lstm() -> Arms:
    """LSTM over 128 steps of 64 sequences, 256 wide, float32."""
    return _run(absent_works.lstm())


LARGE = (large_cnn, large_stack, large_cross_entropy, large_lstm)


def _run(work: absent_works.Work) -> Arms:
    gradients, shapes = work
    args = drawn(shapes)
    arms = gradients.items()
    return [compiled_arm(_OURS.get(name, name), f, args, _lengths) for name, f in arms], {}


def drawn(shapes: PyTree) -> PyTree:
    """Arrays of these shapes: small normal numbers, or labels below 10.

    >>> [a.dtype.name for a in drawn([jax.ShapeDtypeStruct((2,), "int32")])]
    ['int32']
    """
    random = np.random.default_rng(0)

    def one(shape: jax.ShapeDtypeStruct) -> Array:
        if jnp.issubdtype(shape.dtype, jnp.integer):
            return jnp.asarray(random.integers(0, 10, shape.shape), shape.dtype)
        return jnp.asarray(0.05 * random.standard_normal(shape.shape, np.float32), shape.dtype)

    return jax.tree.map(one, shapes)


def _lengths(results: tuple[Array, PyTree]) -> list[float]:
    """The loss, and how long each gradient is: single elements in bfloat16 differ by rounding."""
    loss, gradients = results
    lengths = [jnp.linalg.norm(g.astype(jnp.float32)) for g in jax.tree.leaves(gradients)]
    scale = max(float(length) for length in lengths)
    return [float(loss), *(float(length) / scale for length in lengths)]
