"""A model as a StableHLO program, which JAX alone runs."""

from __future__ import annotations

import os

import jax

from funcnn.core.layer import Layer
from funcnn.exchange.prediction import Prediction
from funcnn.report.files import in_place_of, require_writable
from funcnn.types import Function, Params, PyTree

_PLATFORMS = ("cpu", "cuda")


def export_stablehlo(
    path: str | os.PathLike[str],
    model: Layer | Function,
    params: Params,
    x: PyTree,
    *,
    open_batch: bool = True,
) -> None:
    """Write x -> model(params, x) as a program with the weights inside, whole or not at all.

    The file is the serialised form of `jax.export`, for CPUs and CUDA GPUs. Where there are JAX and
    flatbuffers, and no funcnn, `jax.export.deserialize(Path(path).read_bytes()).call(x)` predicts.
    A JAX that is up to six months newer reads it. It holds the prediction without a key, and no
    gradient: rules run their references.

    Args:
        path: the file, there already or not; its folder must be there.
        model: a layer, or a pure function `model(params, x)`.
        params: its params; those of a batch norm with their statistics, see `fnn.fold_statistics`.
        x: an input, or its `jax.ShapeDtypeStruct`; or a tree of them.
        open_batch: whether the first axis, of each array in x, may have any size from 1 on; else
            all sizes are those of x.

    Raises:
        OSError: the file cannot be written.
        TypeError: the model needs the size of the batch that is left open; x holds no arrays.
        ValueError: the arrays of x have no first axis in common; and whatever the model raises.

    Source: https://docs.jax.dev/en/latest/export/export.html.

    >>> import tempfile, jax.numpy as jnp
    >>> from pathlib import Path
    >>> path = tempfile.mkdtemp() + "/double.stablehlo"
    >>> export_stablehlo(path, lambda params, x: params["a"] * x, {"a": 2.0}, jnp.ones((1, 3)))
    >>> jax.export.deserialize(Path(path).read_bytes()).call(jnp.ones((2, 3)))
    Array([[2., 2., 2.],
           [2., 2., 2.]], dtype=float32)
    """
    require_writable(path)
    prediction = Prediction.of("export_stablehlo", model, params, x, open_batch)
    exported = prediction.traced(
        lambda f, x: jax.export.export(jax.jit(f), platforms=_PLATFORMS)(x)
    )
    with in_place_of(path) as unfinished:
        unfinished.write_bytes(exported.serialize())
