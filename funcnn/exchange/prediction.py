"""What is exported of a model: its prediction, a program of x alone with the weights inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax

from funcnn.core.errors import first_line
from funcnn.core.given import check_flag, check_function, described
from funcnn.core.layer import Layer
from funcnn.core.usage import in_a_word
from funcnn.gradient.program.without_rules import without_rules
from funcnn.types import Function, Params, PyTree

Made = TypeVar("Made")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model at its params, without a key, and the input at which it is traced.

    Attributes:
        function: x -> model(params, x). Rules run their references: the gradient stays here, so
            that one plain program is right for every platform.
        fixed: the shapes and dtypes of x as given.
        x: the same, with the first axis of each array, the batch, left open where asked for.
        tool: what an error begins with.

    >>> import jax.numpy as jnp
    >>> double = Prediction.of("export", lambda params, x: 2 * x, {}, jnp.ones((3, 4)), True)
    >>> double.x.shape
    (n, 4)
    >>> double.traced(jax.eval_shape).shape
    (n, 4)
    """

    function: Function
    fixed: PyTree
    x: PyTree
    tool: str

    @classmethod
    def of(
        cls, tool: str, model: Layer | Function, params: Params, x: PyTree, open_batch: bool
    ) -> Prediction:
        """A TypeError or ValueError where the arguments are none, and whatever the model raises."""
        check_function(tool, model, "a model, model(params, x)")
        check_flag(tool, "open_batch", open_batch)
        fixed = jax.tree.map(lambda leaf: _shape_of(tool, leaf), x)
        plain = without_rules(lambda x: model(params, x))
        jax.eval_shape(plain, fixed)  # what is wrong at any batch is said in the model's own words
        return cls(plain, fixed, _open(tool, fixed) if open_batch else fixed, tool)

    def traced(self, trace: Callable[[Function, PyTree], Made]) -> Made:
        """What `trace` makes of the function and x; a TypeError where it is due to the open batch.

        >>> def four_rows(params, x):
        ...     return x.reshape(4, -1)
        >>> x = jax.ShapeDtypeStruct((4, 2), "float32")
        >>> Prediction.of("export", four_rows, {}, x, True).traced(jax.eval_shape)
        Traceback (most recent call last):
        TypeError: export: the model needs the size of the batch, which is left open: Cannot ...
        """
        try:
            return trace(self.function, self.x)
        except Exception as error:
            if self.x is self.fixed:
                raise
            raise TypeError(
                f"{self.tool}: the model needs the size of the batch, which is left open: "
                f"{first_line(error)}; open_batch=False fixes it as it is in x"
            ) from error


def _shape_of(tool: str, leaf: object) -> jax.ShapeDtypeStruct:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None:
        raise TypeError(f"{tool}: x is an array or a jax.ShapeDtypeStruct, found {described(leaf)}")
    return jax.ShapeDtypeStruct(shape, dtype)


def _open(tool: str, x: PyTree) -> PyTree:
    """The shapes with one symbol for the first axis of all."""
    leaves = jax.tree.leaves(x)
    if not leaves or len({leaf.shape[:1] for leaf in leaves}) > 1 or not leaves[0].shape:
        found = ", ".join(map(in_a_word, leaves)) or "no array"
        raise ValueError(f"{tool}: x has no first axis of one size, the batch: found {found}")
    (n,) = jax.export.symbolic_shape("n")
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype), x)
