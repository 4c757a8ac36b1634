"""A recurrent layer in both directions: itself and its twin, side by side."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax.numpy as jnp

from funcnn.core.layer import Layer, as_layer, constructor
from funcnn.core.parts import (
    Extras,
    Step,
    Taken,
    compose,
    init_all,
    step_back_each,
    through_each,
)
from funcnn.layers.recurrent import Recurrent, count
from funcnn.types import Key, Params, PyTree, Residuals


@constructor
def bidirectional(layer: Layer) -> Layer:
    """A recurrent layer and its twin of the other direction, their outputs side by side.

    x (N, T, D) becomes y (N, T, 2H); in the explicit form the carry is that of both, `(forward,
    backward)`. The params are those of the parts "forward" and "backward". Backward: each part gets
    its half of dy, and dx is the sum of what they return.

    Raises:
        TypeError: the layer is not a recurrent one.

    >>> import jax
    >>> import funcnn as fnn
    >>> model, x = bidirectional(fnn.gru(4)), jnp.ones((2, 5, 3))
    >>> params = model.init(jax.random.key(0), x)
    >>> model(params, x).shape, list(params)
    ((2, 5, 8), ['forward', 'backward'])
    """
    layer = as_layer(layer)
    if not isinstance(layer, Recurrent):
        raise TypeError(
            "bidirectional: the layer is fnn.rnn(...), fnn.lstm(...) or fnn.gru(...), "
            f"found {layer!r}"
        )
    parts: dict[str, Layer] = {"forward": layer, "backward": layer.mirrored()}

    def flow(step: Step, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        if not isinstance(x, tuple):
            ys, extras = through_each(step, parts, params, [x, x], key)
            return jnp.concatenate(ys, axis=-1), extras  # (N, T, 2H)
        xs = [(carry, *x[1:]) for carry in _of_both(x[0])]
        outs, extras = through_each(step, parts, params, xs, key)
        carries, ys = zip(*outs, strict=True)
        return (carries, jnp.concatenate(ys, axis=-1)), extras

    def back(params: Params, res: Residuals, dy: PyTree) -> tuple[PyTree, Taken]:
        explicit = isinstance(dy, tuple)
        dys: Sequence[PyTree] = jnp.split(dy[1] if explicit else dy, 2, axis=-1)  # each (N, T, H)
        if explicit:
            dys = list(zip(_of_both(dy[0]), dys, strict=True))
        dxs, taken = step_back_each(parts, params, res, dys)
        return _joined(dxs["forward"], dxs["backward"]), taken

    init = functools.partial(init_all, parts)
    # The second part is the first's twin: neither can be exchanged alone.
    return compose("bidirectional", parts, init, flow, back, rebuild=None)


def _of_both(carry: PyTree) -> Sequence[PyTree]:
    """The carries of both directions; those of None are zeros, None again."""
    carries = (None, None) if carry is None else carry
    if not isinstance(carries, (tuple, list)) or len(carries) != 2:
        raise ValueError(
            "bidirectional: the input is x or (carry, x), the carry (forward, backward), "
            f"found {count(carries)} for it"
        )
    return carries


def _joined(of_forward: PyTree, of_backward: PyTree) -> PyTree:
    """The cotangent of the input of both: a sum for x, a pair for the carries."""
    if not isinstance(of_forward, tuple):
        return of_forward + of_backward
    carry = None if of_forward[0] is None else (of_forward[0], of_backward[0])
    return carry, of_forward[1] + of_backward[1], *of_forward[2:]
