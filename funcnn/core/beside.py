"""What stands beside x and goes past the layers: the lengths of padded rows, or a mask of keys.

A layer of attention is given the pair (x, seen) and returns (y, seen); a layer that treats each
place alone does so inside `pass_beside`. `residual` and `repeat` take pairs, too. Beside a
cotangent stands None: `seen` has no gradient.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from funcnn.core.around import around
from funcnn.core.given import described
from funcnn.core.layer import Extras, Layer, Statistics, Step, as_layer
from funcnn.core.parts import Paths, outputs_of
from funcnn.types import Array, Function, Key, Params, PyTree, Residuals


def apart(x: PyTree) -> tuple[PyTree, Array | None]:
    """x and what stands beside it, or x and None where nothing does.

    >>> apart((jnp.ones((2, 3, 4)), jnp.array([3, 1])))[1]
    Array([3, 1], dtype=int32)
    >>> apart(2.0)
    (2.0, None)
    """
    return x if isinstance(x, tuple) and len(x) == 2 and _is_seen(x[1]) else (x, None)


def together(x: PyTree, seen: Array | None) -> PyTree:
    """x, with what stands beside it if anything does.

    >>> together(2.0, None)
    2.0
    """
    return x if seen is None else (x, seen)


def without_seen(where: str, pair: PyTree) -> PyTree:
    """x of the pair (x, seen); a TypeError where it is none.

    >>> without_seen("residual", 2.0)
    Traceback (most recent call last):
    TypeError: residual: expected a pair (x, seen), where seen is integers (lengths) or bool ...
    """
    x, seen = apart(pair)
    if seen is None:
        found = tuple(map(described, pair)) if isinstance(pair, tuple) else described(pair)
        raise TypeError(
            f"{where}: expected a pair (x, seen), where seen is integers (lengths) or bool (a mask "
            f"of keys), found {found}"
        )
    return x


def _is_seen(a: PyTree) -> bool:
    dtype = getattr(a, "dtype", None)
    kinds = (jnp.integer, jnp.bool_)
    return dtype is not None and any(jnp.issubdtype(dtype, kind) for kind in kinds)


def pass_beside(layer: Layer | Function) -> Layer:
    """The same layer, which takes (x, seen), too: y = (layer(x), seen).

    With it layers that treat each place alone stand between layers of attention, which look at
    `seen` (`fnn.attend`): integers (B,), how many places each row has, or a mask of keys, of bool.
    Params, names and outputs are those of the layer. Of a plain x it makes what the layer does.

    Args:
        layer: a layer or a function `f(params, x)`.

    Raises:
        TypeError: at the call, x is a tuple and no such pair.

    >>> layer, lengths = pass_beside(lambda params, x: 2 * x), jnp.array([1])
    >>> layer({}, (jnp.ones((1, 2)), lengths))
    (Array([[2., 2.]], dtype=float32), Array([1], dtype=int32))
    """
    of = _Past(as_layer(layer))
    return dataclasses.replace(around(of, pass_beside), init=of.init)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Paired:
    """A residual without arrays: whether anything stood beside x."""

    yes: bool


@dataclasses.dataclass(frozen=True)
class _Past:
    """Every way through a layer, and past it."""

    layer: Layer

    def split(self, x: PyTree) -> tuple[PyTree, Array | None]:
        return (without_seen(self.layer.kind, x), x[1]) if isinstance(x, tuple) else (x, None)

    def init(self, key: Key, x: PyTree) -> Params:
        return self.layer.init(key, self.split(x)[0])

    def apply(self, params: Params, x: PyTree, key: Key | None) -> PyTree:
        x, seen = self.split(x)
        return together(self.layer.apply(params, x, key), seen)

    def outputs(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
        x, seen = self.split(x)
        y, inside = outputs_of(self.layer, params, x, key)
        return together(y, seen), inside

    def collect(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]:
        x, seen = self.split(x)
        y, statistics = self.layer.value_and_statistics(params, x, key)
        return together(y, seen), statistics

    def flow(self, step: Step, params: PyTree, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        assert self.layer.flow is not None
        x, seen = self.split(x)
        y, extras = self.layer.flow(step, params, x, key)
        return together(y, seen), extras

    def forward(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        assert self.layer.forward is not None
        x, seen = self.split(x)
        y, res = self.layer.forward(params, x, key)
        return together(y, seen), (_Paired(seen is not None), res)

    def recursion(self, params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        assert self.layer.recursion is not None
        paired, kept = res
        if not paired.yes:
            return self.layer.recursion(params, kept, dy)
        dparams, dx, deltas = self.layer.recursion(params, kept, dy[0])
        return dparams, (dx, None), deltas
