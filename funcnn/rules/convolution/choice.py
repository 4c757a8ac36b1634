"""The algorithms of a convolution and its two gradients, in order: the first that suits is taken.

The derivation stands in conv.py, the conditions and their thresholds in suits.py. On a CPU: matrix
products, or convolutions of forward form. Elsewhere: the convolutions, forward and transposed, that
the vendor's library knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import jax
from jax import lax

from funcnn.rules.convolution import suits
from funcnn.rules.convolution.depthwise import (
    convolve_depthwise,
    filter_gradient_depthwise,
    input_gradient_depthwise,
)
from funcnn.rules.convolution.forms import (
    convolve,
    filter_gradient_convolution,
    filter_gradient_forward_form,
    input_gradient_forward_form,
    input_gradient_transposed_form,
)
from funcnn.rules.convolution.groups import each_group, filter_gradient_diagonal
from funcnn.rules.convolution.patches import (
    convolve_products,
    filter_gradient_products,
    input_gradient_products,
)
from funcnn.rules.convolution.phases import input_gradient_in_phases
from funcnn.rules.convolution.planes import convolve_by_planes, filter_gradient_by_planes
from funcnn.rules.convolution.suits import Shapes
from funcnn.rules.convolution.winograd import convolve_winograd, filter_gradient_winograd
from funcnn.rules.shared.windows import Windows
from funcnn.types import Array

Direction: TypeAlias = Literal["y", "dx", "dw"]
Run: TypeAlias = Callable[[Array, Array, Windows, int], Array]


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A way to a product: its name, whether it is the way for given shapes, and the way itself.

    `run` takes the two arrays of the product, the windows and the number of groups.
    """

    name: str
    suits: Callable[[Shapes], bool]
    run: Run


# The three on a CPU. Parts of a convolution (a group, a plane) are convolutions, which choose anew.


def convolve_fastest(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """y on a CPU.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.ones((8, 8, 8, 32)), jnp.ones((3, 3, 32, 2))
    >>> windows = Windows.of("conv", (8, 8), (3, 3), 1, "VALID")
    >>> bool(jnp.all(convolve_fastest(x, w, windows) == convolve(x, w, windows)))
    True
    """
    return chosen(FORWARD, _of_forward(x, w, windows, groups)).run(x, w, windows, groups)


def input_gradient_fastest(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """dx on a CPU.

    >>> import jax.numpy as jnp
    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient_fastest(dy, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    shapes = _of_input_gradient(dy, w, windows, groups)
    return chosen(INPUT_GRADIENT, shapes).run(dy, w, windows, groups)


def filter_gradient_fastest(x: Array, dy: Array, windows: Windows, groups: int = 1) -> Array:
    """dw on a CPU.

    >>> import jax.numpy as jnp
    >>> x, dy = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((1, 2, 1))
    >>> filter_gradient_fastest(x, dy, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    shapes = _of_filter_gradient(x, dy, windows, groups)
    return chosen(FILTER_GRADIENT, shapes).run(x, dy, windows, groups)


def _whole(f: Callable[[Array, Array, Windows], Array]) -> Run:
    """f of a single group, or of channels that stand alone, which need no number of groups."""
    return lambda a, b, windows, groups: f(a, b, windows)


# In each table all below "vendor" is for a CPU.

FORWARD = (
    Algorithm("vendor", suits.another_platform, convolve),
    Algorithm("depthwise", suits.depthwise, _whole(convolve_depthwise)),
    Algorithm("group by group", suits.wide_groups, partial(each_group, convolve_fastest)),
    Algorithm("planes", suits.planes, _whole(partial(convolve_by_planes, convolve_fastest))),
    Algorithm("winograd", suits.winograd, _whole(convolve_winograd)),
    Algorithm("products", suits.products, convolve_products),
    Algorithm("convolution", suits.everything, convolve),
)

# FORWARD has an algorithm for z, which is dy with its zeros: planes where they suit dx, Winograd's
# products unless x has fewer tiles than dy.
_forward_form = partial(input_gradient_forward_form, convolve_fastest)

INPUT_GRADIENT = (
    Algorithm("vendor", suits.another_platform, input_gradient_transposed_form),
    Algorithm("depthwise", suits.depthwise, input_gradient_depthwise),
    Algorithm("group by group", suits.wide_groups, partial(each_group, input_gradient_fastest)),
    Algorithm("phases", suits.phases, _whole(input_gradient_in_phases)),
    Algorithm("planes", suits.dx_by_planes, _forward_form),
    Algorithm("winograd", suits.winograd, _forward_form),
    Algorithm("products", suits.dx_by_products, input_gradient_products),
    Algorithm("forward form", suits.everything, _forward_form),
)

FILTER_GRADIENT = (
    Algorithm("one product", suits.one_product, filter_gradient_products),  # on every platform
    Algorithm("vendor", suits.another_platform, filter_gradient_convolution),
    Algorithm("depthwise", suits.depthwise_of_many, _whole(filter_gradient_depthwise)),
    Algorithm(
        "diagonal", suits.depthwise, partial(filter_gradient_diagonal, filter_gradient_fastest)
    ),
    Algorithm("grouped products", suits.grouped_products, filter_gradient_products),
    Algorithm("group by group", suits.grouped, partial(each_group, filter_gradient_fastest)),
    Algorithm(
        "planes",
        suits.dw_by_planes,
        _whole(partial(filter_gradient_by_planes, filter_gradient_fastest)),
    ),
    Algorithm("winograd", suits.dw_by_winograd, _whole(filter_gradient_winograd)),
    Algorithm("products", suits.dw_by_products, filter_gradient_products),
    Algorithm("forward form", suits.everything, _whole(filter_gradient_forward_form)),
)

TABLES: dict[Direction, tuple[Algorithm, ...]] = {
    "y": FORWARD,
    "dx": INPUT_GRADIENT,
    "dw": FILTER_GRADIENT,
}


def chosen(table: tuple[Algorithm, ...], shapes: Shapes) -> Algorithm:
    """The first of the table that suits the shapes.

    >>> windows = Windows.of("conv", (28, 28), (3, 3), 1, "SAME")
    >>> chosen(FORWARD, Shapes(64, windows, 32, 64)).run is convolve
    False
    """
    return next(algorithm for algorithm in table if algorithm.suits(shapes))


def algorithm(direction: Direction, shapes: Shapes) -> str:
    """The name of the algorithm by which a product of these shapes is computed.

    >>> windows = Windows.of("conv", (28, 28), (3, 3), 1, "SAME")
    >>> algorithm("y", Shapes(64, windows, 32, 64)), algorithm("y", Shapes(64, windows, 3, 64))
    ('winograd', 'convolution')
    >>> algorithm("dw", Shapes(64, windows, 32, 32, groups=32))
    'depthwise'
    >>> algorithm("dw", Shapes(64, windows, 32, 32, groups=32, platform="gpu"))
    'vendor'
    """
    return chosen(TABLES[direction], shapes).name


# All three are jitted for eager use: a loop and a choice of platform are compiled anew at each
# eager call otherwise. Inside another jit this changes nothing.


@partial(jax.jit, static_argnames=("windows", "groups"))
def convolution(x: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """y (N, *output, O) from x (N, *size, I) and w (*window, I/groups, O), as suits the platform.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((2, 1, 1))
    >>> convolution(x, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    return _on_each_platform(FORWARD, x, w, _of_forward(x, w, windows, groups))


@partial(jax.jit, static_argnames=("windows", "groups"))
def input_gradient(dy: Array, w: Array, windows: Windows, groups: int = 1) -> Array:
    """dx (N, *size, I) from dy (N, *output, O) and w, in the form that suits the platform.

    >>> import jax.numpy as jnp
    >>> dy, w = jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1)
    >>> input_gradient(dy, w, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([ 1., 11., 10.], dtype=float32)
    """
    return _on_each_platform(INPUT_GRADIENT, dy, w, _of_input_gradient(dy, w, windows, groups))


@partial(jax.jit, static_argnames=("windows", "groups"))
def filter_gradient(x: Array, dy: Array, windows: Windows, groups: int = 1) -> Array:
    """dw (*window, I/groups, O) from x (N, *size, I) and dy (N, *output, O), in its form.

    >>> import jax.numpy as jnp
    >>> x, dy = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), jnp.ones((1, 2, 1))
    >>> filter_gradient(x, dy, Windows.of("conv", (3,), 2, 1, "VALID")).ravel()
    Array([3., 5.], dtype=float32)
    """
    return _on_each_platform(FILTER_GRADIENT, x, dy, _of_filter_gradient(x, dy, windows, groups))


def _on_each_platform(table: tuple[Algorithm, ...], a: Array, b: Array, shapes: Shapes) -> Array:
    """The product of a and b; each platform that it may be compiled for gets its own algorithm."""
    here, elsewhere = (
        chosen(table, dataclasses.replace(shapes, platform=platform)) for platform in ("cpu", "gpu")
    )
    windows, groups = shapes.windows, shapes.groups
    if here is elsewhere:
        return here.run(a, b, windows, groups)
    return lax.platform_dependent(
        a,
        b,
        cpu=lambda a, b: here.run(a, b, windows, groups),
        default=lambda a, b: elsewhere.run(a, b, windows, groups),
    )


def _of_forward(x: Array, w: Array, windows: Windows, groups: int) -> Shapes:
    return Shapes(x.shape[0], windows, x.shape[-1], w.shape[-1], groups, x.dtype)


def _of_input_gradient(dy: Array, w: Array, windows: Windows, groups: int) -> Shapes:
    return Shapes(dy.shape[0], windows, groups * w.shape[-2], dy.shape[-1], groups, dy.dtype)


def _of_filter_gradient(x: Array, dy: Array, windows: Windows, groups: int) -> Shapes:
    return Shapes(x.shape[0], windows, x.shape[-1], dy.shape[-1], groups, x.dtype)
