"""An augmentation: a function of a key and images, and a layer made from it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, overload

import jax.numpy as jnp

from funcnn.core.layer import Layer, no_params
from funcnn.core.usage import in_a_word
from funcnn.types import Array, ArrayLike, Key, Params, PyTree

Options = ParamSpec("Options")
Moved = Callable[Concatenate[Key, Array, Options], Array]


class Augmentation(Generic[Options]):
    """A function `f(key, x, **options)` of images, or with options alone the layer of it.

    Without a key x stays as it is, unless the function is not `random`. Options are keyword-only.
    It is linear in x but for a constant: what `defbackward` is given returns dx from (key, dy), by
    drawing again what the forward pass drew, so that nothing but the key is kept.

    >>> import jax
    >>> @Augmentation
    ... def darken(key, x, *, most=0.5):
    ...     return x * (1 - most * jax.random.uniform(key, (x.shape[0], 1, 1, 1)))
    >>> x = jnp.ones((2, 3, 3, 1))
    >>> darken(None, x) is x, darken(most=0.1)
    (True, darken)
    """

    def __init__(self, function: Moved[Options], random: bool = True):
        functools.update_wrapper(self, function)
        self._name = getattr(function, "__name__", "augmentation")
        self._function, self._random = function, random
        self._backward: Callable[..., Array] | None = None

    def defbackward(self, backward: Callable[..., Array]) -> None:
        """`backward(key, dy, **options) -> dx`, for the layer's hand-derived pass."""
        self._backward = backward

    @overload
    def __call__(
        self, key: Key | None, x: ArrayLike, /, *args: Options.args, **options: Options.kwargs
    ) -> Array: ...

    @overload
    def __call__(self, *args: Options.args, **options: Options.kwargs) -> Layer: ...

    def __call__(self, *arguments: Any, **options: Any) -> Array | Layer:
        """The images, `f(key, x, **options)`, or the layer, `f(**options)`."""
        name = self._name
        if not arguments:
            return self._layer(options)
        if len(arguments) != 2:
            raise TypeError(
                f"{name} takes a key and images, {name}(key, x), or options alone, by name, for a "
                f"layer; found {', '.join(map(in_a_word, arguments))}"
            )
        key, x = arguments
        return self._moved(key, x, options)

    def _moved(self, key: Key | None, x: PyTree, options: dict[str, Any]) -> Array:
        if len(getattr(x, "shape", ())) != 4:
            raise ValueError(f"{self._name}: x must have shape (N, H, W, C), found {in_a_word(x)}")
        if key is None and self._random:
            return x
        if key is not None and not hasattr(key, "dtype"):
            raise TypeError(
                f"{self._name}: key is jax.random.key(seed) or None, found {in_a_word(key)}"
            )
        function: Callable[..., Array] = self._function
        return function(key, jnp.asarray(x), **options)

    def _layer(self, options: dict[str, Any]) -> Layer:
        backward = self._backward
        try:
            inspect.signature(self._function).bind(None, None, **options)
        except TypeError as error:
            raise TypeError(f"{self._name}: as a layer it has {error}") from None

        def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
            return self._moved(key, x, options)

        def forward(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Key | None]:
            return self._moved(key, x, options), key

        def recursion(
            params: Params, key: Key | None, dy: PyTree
        ) -> tuple[Params, PyTree, dict[str, Array]]:
            assert backward is not None
            as_it_is = key is None and self._random
            return {}, dy if as_it_is else backward(key, dy, **options), {}

        passes = (forward, recursion) if backward else (None, None)
        return Layer(self._name, no_params, apply, *passes)
