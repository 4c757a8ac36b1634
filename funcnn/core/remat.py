"""Memory for time: `remat`, layers whose forward pass is computed again on the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from funcnn.core.layer import Layer, as_layer
from funcnn.core.parts import Paths
from funcnn.core.patterns import matches, matching
from funcnn.types import Key, Params, PyTree, Residuals


def remat(layer: Layer, *patterns: str) -> Layer:
    """The same layer; of itself, or of the parts whose paths match, the inputs alone are kept.

    Their forward pass is computed a second time just before their backward pass: the memory of what
    lies between goes, for the time of one more forward pass. Parts inside a part that matches
    belong to it. Params, outputs and gradients stay as they are; `jax.grad` takes `jax.checkpoint`,
    and `fnn.backprop` the layer's own passes. XLA compiles both passes into one for a CPU, where
    they do not stand in a loop, by either way: the memory stays as it was there.

    Args:
        layer: a model or a layer of one.
        patterns: of paths of its parts, as `fnn.summary` prints them, "block_*" say. None: all of
            it as one.

    Raises:
        ValueError: a pattern matches no path, or matches a part of a layer that is not put
            together from its parts alone.

    >>> import jax.numpy as jnp
    >>> import funcnn as fnn
    >>> model = fnn.chain(fnn.dense(3), fnn.relu, head=fnn.dense(1))
    >>> lean = remat(model, "dense_*", "relu_0")
    >>> params, x = model.init(jax.random.key(0), jnp.ones((2, 4))), jnp.ones((2, 4))
    >>> bool(jnp.all(lean(params, x) == model(params, x)))
    True
    """
    layer = as_layer(layer)
    if not patterns:
        return _recomputed(layer)
    paths = _paths(layer)
    matching("remat", patterns, paths)
    return _with_some_recomputed(layer, "", patterns)


def _paths(layer: Layer, path: str = "") -> list[str]:
    own = [f"{path}/{name}" if path else name for name in layer.parts]
    inside = [_paths(part, p) for part, p in zip(layer.parts.values(), own, strict=True)]
    return [*own, *(p for paths in inside for p in paths)]


def _with_some_recomputed(layer: Layer, path: str, patterns: tuple[str, ...]) -> Layer:
    changed: dict[str, Layer] = {}
    for name, part in layer.parts.items():
        own = f"{path}/{name}" if path else name
        hit = matches("remat", patterns, own)
        changed[name] = _recomputed(part) if hit else _with_some_recomputed(part, own, patterns)
    if _same(changed, layer.parts):
        return layer
    if layer.rebuild is None:
        raise ValueError(f"remat: the parts of {path or layer.kind} cannot be exchanged one by one")
    return layer.rebuild(changed)


def _same(some: Mapping[str, Layer], others: Mapping[str, Layer]) -> bool:
    return all(some[name] is others[name] for name in others)


def _recomputed(layer: Layer) -> Layer:
    """The layer that keeps its input alone, and params, which are kept anyway."""
    passes = layer.forward, layer.recursion
    collect = layer.collect and jax.checkpoint(layer.collect)
    lean = dataclasses.replace(
        layer, apply=jax.checkpoint(layer.apply), collect=collect, sequential=False
    )
    by_hand, recursion = passes
    if by_hand is None or recursion is None:
        return lean

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        return by_hand(params, x, key)[0], (x, key)

    def back(params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        x, key = res
        # Tied to dy, so that the compiler cannot take what the forward pass has computed.
        x, dy = jax.lax.optimization_barrier((x, dy))
        _, kept = by_hand(params, x, key)
        return recursion(params, kept, dy)

    return dataclasses.replace(lean, forward=forward, recursion=back)
