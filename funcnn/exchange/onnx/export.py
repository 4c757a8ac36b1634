"""A model as an ONNX file, which other runtimes read."""

from __future__ import annotations

import importlib.util
import os

import jax

from funcnn.core.layer import Layer
from funcnn.exchange.onnx.file import serialized
from funcnn.exchange.onnx.graph import NotConverted
from funcnn.exchange.onnx.program import graph_of
from funcnn.exchange.prediction import Prediction
from funcnn.report.files import in_place_of, require_writable
from funcnn.train.signature import leaf_names
from funcnn.types import Function, Params, PyTree


def export_onnx(
    path: str | os.PathLike[str],
    model: Layer | Function,
    params: Params,
    x: PyTree,
    *,
    open_batch: bool = True,
) -> None:
    """Write x -> model(params, x) as an ONNX file with the weights inside, whole or not at all.

    The input is called `x` and the output `y`; of trees, by their paths, `x/0`. All layers of
    funcnn are converted, as operations of opset 18; of a function of your own, what they are made
    of. The file holds the prediction without a key. Needs the package onnx, not onnxruntime.

    Args:
        path, model, params, x, open_batch: as in `fnn.export_stablehlo`.

    Raises:
        ModuleNotFoundError: onnx is not installed.
        OSError: the file cannot be written.
        TypeError: the model uses an operation that is not converted, such as a while loop, or
            needs the size of the batch that is left open.
        ValueError: the arrays of x have no first axis in common; and whatever the model raises.

    Source: https://onnx.ai/onnx/operators.

    >>> import tempfile, jax.numpy as jnp
    >>> path = tempfile.mkdtemp() + "/double.onnx"
    >>> export_onnx(path, lambda params, x: params["a"] * x, {"a": 2.0}, jnp.ones((1, 3)))
    """
    if importlib.util.find_spec("onnx") is None:
        raise ModuleNotFoundError("export_onnx needs onnx: pip install 'funcnn[onnx]'")
    require_writable(path)
    prediction = Prediction.of("export_onnx", model, params, x, open_batch)
    program, y = prediction.traced(lambda f, x: jax.make_jaxpr(f, return_shape=True)(x))
    try:
        graph = graph_of(program, _names("x", x), _names("y", y))
    except NotConverted as error:
        raise TypeError(f"export_onnx: in the model {error}: see fnn.export_stablehlo") from error
    content = serialized(graph)
    with in_place_of(path) as unfinished:
        unfinished.write_bytes(content)


def _names(whole: str, tree: PyTree) -> list[str]:
    return [f"{whole}/{name}".rstrip("/") for name in leaf_names(tree)]
