"""Layers with weights: dense, convolution and transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from funcnn import rules
from funcnn.core.layer import Layer, constructor, layer_from_rule
from funcnn.core.parts import require_key
from funcnn.core.usage import function, hashable, positive_integer
from funcnn.layers.parameters import parameter_dtype
from funcnn.rules.shared.windows import check_windows
from funcnn.types import Function, Key, Params, PyTree

Initializer = Function
# He et al. 2015: keeps the variance of the activations through layers of relu.
_HE = jax.nn.initializers.he_normal()


def _weights(
    shape: tuple[int, ...], x: PyTree, key: Key | None, initializer: Initializer, bias: bool
) -> Params:
    """w from the initializer and b = 0, in the dtype of x (float32 where x is not floating)."""
    dtype = parameter_dtype(x)
    require_key(key)
    params = {"w": initializer(key, shape, dtype)}
    return {**params, "b": jnp.zeros(shape[-1:], dtype)} if bias else params


@constructor
def dense(features: int, *, bias: bool = True, initializer: Initializer = _HE) -> Layer:
    """y = x w + b, with x (..., D), w (D, features), b (features).

    Args:
        features: how many numbers come out.
        bias: whether there is a b; it starts at 0.
        initializer: draws w, as those of `jax.nn.initializers`.

    Raises:
        ValueError: features is not a positive integer.

    >>> import jax
    >>> params = dense(3).init(jax.random.key(0), jax.ShapeDtypeStruct((2, 4), "float32"))
    >>> {name: p.shape for name, p in params.items()}
    {'w': (4, 3), 'b': (3,)}
    """
    features = positive_integer("dense", "features", features)
    function("dense", "initializer", initializer)

    def init(key: Key, x: PyTree) -> Params:
        return _weights((x.shape[-1], features), x, key, initializer, bias)

    return layer_from_rule(rules.linear, init=init, kind="dense")


@constructor
def conv(
    features: int,
    window: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str | Sequence[Sequence[int]] = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    bias: bool = True,
    initializer: Initializer = _HE,
) -> Layer:
    """Convolution of x (N, *size, C) with w (*window, C / groups, features), plus b.

    There are one, two or three spatial axes. With groups = C each channel stands alone (depthwise).

    Args:
        features: how many channels come out.
        window: its size along each spatial axis, (3, 3).
        stride, dilation: one number, or one for each spatial axis.
        padding: "SAME", "VALID" or a pair (before, after) for each spatial axis.
        groups: into how many runs of neighbours the channels, in and out, are divided.
        bias, initializer: as in `dense`.

    Raises:
        ValueError: an option is not what it should be; at `init`, groups do not divide the
            channels, and the rule's own.

    >>> import jax
    >>> x = jax.ShapeDtypeStruct((2, 6, 6, 4), "float32")
    >>> conv(8, (3, 3)).init(jax.random.key(0), x)["w"].shape
    (3, 3, 4, 8)
    >>> conv(8, (3, 3), groups=4).init(jax.random.key(0), x)["w"].shape
    (3, 3, 1, 8)
    """
    groups = positive_integer("conv", "groups", groups)
    features = positive_integer("conv", "features", features)
    function("conv", "initializer", initializer)

    def init(key: Key, x: PyTree) -> Params:
        if x.shape[-1] % groups or features % groups:
            raise ValueError(
                f"conv: groups={groups} must divide the {x.shape[-1]} input and the {features} "
                f"output channels; found x of shape {x.shape}"
            )
        shape = (*sizes, x.shape[-1] // groups, features)
        return _weights(shape, x, key, initializer, bias)

    sizes = _sizes("conv", window, stride, padding, dilation)
    return layer_from_rule(
        rules.conv,
        init=_with_axes("conv", len(sizes), init),
        stride=hashable(stride),
        padding=hashable(padding),
        dilation=hashable(dilation),
        groups=groups,
    )


@constructor
def conv_transposed(
    features: int,
    window: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str | Sequence[Sequence[int]] = "SAME",
    dilation: int | Sequence[int] = 1,
    *,
    bias: bool = True,
    initializer: Initializer = _HE,
) -> Layer:
    """Transposed convolution of x (N, *size, C) with w (*window, C, features), plus b.

    A stride of 2 makes images twice as large; see `fnn.rules.conv_transposed`.

    Args:
        features: how many channels come out.
        window: its size along each of the one, two or three spatial axes, (3, 3).
        stride, dilation: one number, or one for each spatial axis.
        padding: "SAME", "VALID" or a pair (before, after) for each spatial axis.
        bias, initializer: as in `dense`.

    Raises:
        ValueError: an option is not what it should be; the rule's own at `init`.

    >>> import jax
    >>> x = jax.ShapeDtypeStruct((2, 6, 6, 4), "float32")
    >>> conv_transposed(8, (3, 3), stride=2).init(jax.random.key(0), x)["w"].shape
    (3, 3, 4, 8)
    """

    def init(key: Key, x: PyTree) -> Params:
        return _weights((*sizes, x.shape[-1], features), x, key, initializer, bias)

    features = positive_integer("conv_transposed", "features", features)
    function("conv_transposed", "initializer", initializer)
    sizes = _sizes("conv_transposed", window, stride, padding, dilation)
    return layer_from_rule(
        rules.conv_transposed,
        init=_with_axes("conv_transposed", len(sizes), init),
        stride=hashable(stride),
        padding=hashable(padding),
        dilation=hashable(dilation),
    )


def _sizes(
    layer: str, window: PyTree, stride: object, padding: object, dilation: object
) -> tuple[int, ...]:
    """The window as a tuple; a ValueError where one of the options is no option of a window."""
    window = (window,) if hasattr(window, "__index__") else window
    if not isinstance(window, (tuple, list)):
        raise ValueError(
            f"{layer}: window is its size along each spatial axis, such as (3, 3), found {window!r}"
        )
    window = tuple(positive_integer(layer, "window", size) for size in window)
    if not 1 <= len(window) <= 3:
        raise ValueError(f"{layer}: window has one, two or three spatial axes, found {window}")
    check_windows(layer, window, stride, padding, dilation)
    return window


def _with_axes(layer: str, axes: int, init: Function) -> PyTree:
    """`init` for an x that has as many spatial axes as the window."""

    def checked(key: Key, x: PyTree) -> Params:
        if len(x.shape) != axes + 2:
            raise ValueError(
                f"{layer}: a window of {axes} axes takes x (N, {axes} spatial axes, C), "
                f"found shape {x.shape}"
            )
        return init(key, x)

    return checked
