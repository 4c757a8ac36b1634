"""A layer that stands round another: each way through that one goes through it, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from funcnn.core.layer import Extras, Layer, Statistics, Step
from funcnn.core.parts import Paths
from funcnn.types import Key, Params, PyTree, Residuals


class _Ways(Protocol):
    """The ways through a layer, as the one round it goes them: those of `Layer`, by their names."""

    @property
    def layer(self) -> Layer: ...

    def apply(self, params: Params, x: PyTree, key: Key | None) -> PyTree: ...

    def outputs(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]: ...

    def collect(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]: ...

    def flow(
        self, step: Step, params: PyTree, x: PyTree, key: Key | None
    ) -> tuple[PyTree, Extras]: ...

    def forward(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]: ...

    def recursion(
        self, params: Params, res: Residuals, dy: PyTree
    ) -> tuple[Params, PyTree, Paths]: ...


def around(ways: _Ways, again: Callable[[Layer], Layer]) -> Layer:
    """The layer of `ways`, gone in these ways where it has them; all else of it stays.

    Args:
        ways: one for each field of a layer through which numbers flow, and the layer.
        again: the same done to another layer: to that of other parts, when it is rebuilt.

    >>> from types import SimpleNamespace
    >>> plain = Layer("plain", lambda key, x: {}, lambda params, x, key: x)
    >>> twice = SimpleNamespace(layer=plain, apply=lambda params, x, key: 2 * x)
    >>> around(twice, lambda layer: layer)({}, 3.0)
    6.0
    """
    inner = ways.layer
    by_hand = inner.forward is not None and inner.recursion is not None
    rebuild = inner.rebuild
    return dataclasses.replace(
        inner,
        apply=ways.apply,
        forward=ways.forward if by_hand else None,
        recursion=ways.recursion if by_hand else None,
        outputs=None if inner.outputs is None else ways.outputs,
        collect=None if inner.collect is None else ways.collect,
        flow=None if inner.flow is None else ways.flow,
        sequential=False,
        rebuild=None if rebuild is None else lambda parts: again(rebuild(parts)),
    )
