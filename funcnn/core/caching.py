"""A model that goes on from what came before: `start_cache`, and `apply_cached`.

The caches of the layers have the paths of their params, and go through the flow of each composition
beside them; where layers are repeated they are stacked on axis 0, as the params are.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.core import Tracer

from funcnn.core.layer import Layer, as_layer
from funcnn.core.memory import Beside, Piece
from funcnn.core.parts import Extras
from funcnn.core.usage import in_a_word, positive_integer
from funcnn.types import Array, ArrayLike, Function, Key, Params, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """What a model has kept of B sequences.

    Attributes:
        layers: what each layer keeps, by its path: of attention k and v, (B, length, heads, W).
        lengths: (B,), how many places of each sequence have been given.
        length: how many there is room for.

    >>> Cache({}, jnp.zeros(2, jnp.int32), 5).length
    5
    """

    layers: PyTree
    lengths: Array
    length: int = dataclasses.field(metadata={"static": True})


def start_cache(model: Layer | Function, params: Params, batch: int, length: int) -> Cache:
    """The cache of nothing, with which `fnn.apply_cached` reads tokens from their beginning.

    Args:
        model: takes tokens (B, T), integers; all of its layers act at each place alone but causal
            attention (`fnn.attend`) and recurrent layers, and so do the functions between them,
            which cannot be checked.
        params: of the model.
        batch: B, how many sequences.
        length: for how many places of each there is room.

    Raises:
        TypeError: no layer keeps anything, or one cannot be reached, inside a layer of one's own.
        ValueError: the model has fewer places, or a layer sees what comes after.

    >>> import funcnn as fnn
    >>> model = fnn.gpt(5, length=8, width=4, depth=2, heads=2)
    >>> params = model.init(jax.random.key(0), jnp.zeros((1, 1), int))
    >>> cache = start_cache(model, params, batch=3, length=8)
    >>> jax.tree.map(jnp.shape, cache.layers)
    {'blocks': {'attention': {'body': {'attend': {'k': (2, 3, 8, 2, 2), 'v': (2, 3, 8, 2, 2)}}}}}
    """
    model = as_layer(model)
    batch = positive_integer("start_cache", "batch", batch)
    length = positive_integer("start_cache", "length", length)
    check_room(model, params, length)
    tokens = jax.ShapeDtypeStruct((batch, 1), jnp.int32)
    walk = functools.partial(_start, model, length=length)
    _, layers = jax.eval_shape(walk, params, tokens)
    layers = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), layers)
    return Cache(layers, jnp.zeros(batch, jnp.int32), length)


def apply_cached(
    model: Layer | Function,
    params: Params,
    cache: Cache,
    x: ArrayLike,
    lengths: ArrayLike | None = None,
) -> tuple[PyTree, Cache]:
    """`model(params, x)` of places that follow those in the cache, and the cache with them.

    Each row goes on from its own length, so that sequences of unequal length are read together:
    padded on the right, with `lengths`. What is returned for padding means nothing.

    Args:
        model, params: those that the cache was made for.
        cache: of `fnn.start_cache`, or of the call before.
        x: (B, T), integers, or (B, T, ...).
        lengths: (B,), how many of the T there are; None for all.

    Raises:
        ValueError: the cache has other rows, no room for T more, or lengths are beyond T (both
            where they are known before the program runs).

    >>> import funcnn as fnn
    >>> model, x = fnn.llama(5, width=4, depth=2, heads=2), jnp.array([[3, 0, 2, 1]])
    >>> params = model.init(jax.random.key(0), x)
    >>> first, cache = apply_cached(model, params, start_cache(model, params, 1, 4), x[:, :3])
    >>> last, cache = apply_cached(model, params, cache, x[:, 3:])
    >>> jnp.allclose(model(params, x), jnp.concatenate([first, last], 1), atol=1e-6).item()
    True
    """
    model, x = as_layer(model), jnp.asarray(x)
    rows = cache.lengths.shape[0]
    if x.ndim < 2 or x.shape[0] != rows:
        raise ValueError(f"apply_cached: the cache is of {rows} rows, found x {in_a_word(x)}")
    batch, steps = x.shape[:2]
    known = not isinstance(cache.lengths, Tracer)
    used = int(jnp.max(cache.lengths)) if known else 0
    if used + steps > cache.length:
        raise ValueError(
            f"apply_cached: the cache has room for {cache.length} places, {used} are taken and "
            f"{steps} are to come: start_cache(..., length={used + steps}) or more"
        )
    new = jnp.full(batch, steps) if lengths is None else _lengths(lengths, batch, steps)
    new = new.astype(jnp.int32)  # (B,)
    piece = Piece(cache.lengths[:, None] + jnp.arange(steps, dtype=jnp.int32)[None], new)
    y, layers = _go_on(model, Beside(params, cache.layers), x, piece)
    return y, Cache(layers, cache.lengths + new, cache.length)


def _lengths(given: ArrayLike, batch: int, steps: int) -> Array:
    lengths = jnp.asarray(given)
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        found = in_a_word(lengths)
        raise ValueError(f"apply_cached: lengths are integers ({batch},), found {found}")
    if not isinstance(lengths, Tracer):
        found = lengths.tolist()
        if not all(0 <= n <= steps for n in found):
            wanted = f"from 0 to {steps}, as x has"
            raise ValueError(f"apply_cached: lengths are {wanted}, found {found}")
    return lengths


def check_room(model: Layer, params: Params, length: int) -> None:
    """A ValueError where the model has fewer places than `length`.

    >>> import funcnn as fnn
    >>> check_room(fnn.places(4), {"table": jnp.zeros((4, 3))}, 5)
    Traceback (most recent call last):
    ValueError: places has 4 places, and 5 are asked for: ask for fewer, or train it with more
    """
    for path, most in _limits(model, params, ""):
        if most < length:
            raise ValueError(
                f"{path} has {most} places, and {length} are asked for: ask for fewer, or train it "
                "with more"
            )


def most_places(model: Layer, params: Params) -> int | None:
    """How many places the model has at most, or None where it has any number of them.

    >>> import funcnn as fnn
    >>> most_places(fnn.places(4), {"table": jnp.zeros((4, 3))})
    4
    """
    return min((most for _, most in _limits(model, params, "")), default=None)


def _limits(layer: Layer, params: Params, path: str) -> list[tuple[str, int]]:
    """The layers that have a number of places, by path, and how many."""
    if layer.memory is not None and layer.memory.most is not None:
        return [(path or layer.kind, layer.memory.most(params))]
    found: list[tuple[str, int]] = []
    for name, part in layer.parts.items():
        own = params if layer.stacked else params.get(name, {})
        found += _limits(part, own, f"{path}/{name}" if path else name)
    return found


def _start(model: Layer, params: Params, x: Array, *, length: int) -> tuple[PyTree, PyTree]:
    """The model on its first place, and the caches as they were before it."""
    if not _remembers(model):
        raise TypeError(
            f"start_cache: no layer of {model.kind} keeps anything of the places before, as "
            "fnn.attend and recurrent layers do"
        )
    piece = Piece(jnp.zeros(x.shape[:2], jnp.int32), jnp.ones(x.shape[0], jnp.int32))

    def step(part: Layer, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, PyTree]:
        if part.memory is None:
            return _through(step, part, params, params, x)
        cache = part.memory.start(params, x, length)
        return part.memory.go_on(params, x, cache, piece)[0], cache

    return step(model, params, x, None)


def _go_on(model: Layer, beside: Beside, x: PyTree, piece: Piece) -> tuple[PyTree, PyTree]:
    """The model on further places, and the caches with them."""

    def step(part: Layer, beside: Beside, x: PyTree, key: Key | None) -> tuple[PyTree, PyTree]:
        if part.memory is None:
            return _through(step, part, beside, beside.params, x)
        return part.memory.go_on(beside.params, x, beside.cache, piece)

    return step(model, beside, x, None)


def _through(
    step: Function, part: Layer, flowing: PyTree, params: Params, x: PyTree
) -> tuple[PyTree, PyTree]:
    """A step through a part that keeps nothing itself: through the parts inside, if any do."""
    if not _remembers(part):
        return part.apply(params, x, None), None
    if part.flow is None:
        raise TypeError(f"start_cache: the layers inside {part.kind} cannot be reached one by one")
    y, extras = part.flow(step, flowing, x, None)
    return y, next(iter(extras.values())) if part.stacked else _kept(extras)


def _kept(extras: Extras) -> PyTree:
    return {name: extra for name, extra in extras.items() if jax.tree.leaves(extra)}


def _remembers(layer: Layer) -> bool:
    return layer.memory is not None or any(map(_remembers, layer.parts.values()))
