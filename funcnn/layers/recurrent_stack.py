"""Recurrent layers one after the other, each with its own carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcnn.core.layer import Layer, constructor
from funcnn.core.parts import (
    Extras,
    Step,
    Taken,
    compose,
    init_part,
    name_parts,
    shape_of_part,
    step_back,
    through,
)
from funcnn.layers.recurrent import count, opened
from funcnn.types import Function, Key, Params, PyTree, Residuals


@constructor
def stack_recurrent(*layers: Layer | Function, **named: Layer | Function) -> Layer:
    """Recurrent layers one after the other: the y of one is the x of the next.

    It takes and returns what one recurrent layer does: x (N, T, D) becomes y (N, T, H) of the last
    layer; `(carries, x)` and `(carries, x, lengths)` become `(carries, y)`. The carries are a tuple
    with that of each recurrent layer, first layer first; None stands for zeros, for all or for one.
    Lengths hold for every layer. Sequences given in pieces, each with the carries of the piece
    before, give what they give as a whole.

    Args:
        layers: `fnn.rnn`, `fnn.lstm`, `fnn.gru`, `fnn.bidirectional`, of any widths. Others, such
            as a dropout, may stand between them; they see y alone, and have no carry.
        named: further layers, by name as in `chain`.

    Backward: each layer gets the cotangents of its carry and of its y, last layer first.

    Raises:
        ValueError: no layer is a recurrent one; the carries are not as many as those that are.

    >>> import jax, jax.numpy as jnp
    >>> import funcnn as fnn
    >>> model, x = stack_recurrent(fnn.lstm(4), fnn.gru(3)), jnp.ones((2, 5, 6))
    >>> params = model.init(jax.random.key(0), x)
    >>> ((h, c), g), y = model(params, (None, x))
    >>> h.shape, c.shape, g.shape, y.shape
    ((2, 4), (2, 4), (2, 3), (2, 5, 3))
    """
    parts = name_parts(layers, named)
    recurrent = [name for name, part in parts.items() if part.carries]
    if not recurrent:
        raise ValueError(
            f"stack_recurrent: none of {', '.join(parts)} is a recurrent layer: give fnn.rnn(...), "
            "fnn.lstm(...) or fnn.gru(...)"
        )

    def init(key: Key, x: PyTree) -> Params:
        x = opened("stack_recurrent", x)[1]
        params: Params = {}
        for name, part in parts.items():
            drawn = init_part(name, part, key, x)
            params |= {name: drawn} if drawn else {}
            x = shape_of_part(name, part, drawn, x, key)
        return params

    def flow(step: Step, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        carries, y, lengths, given = opened("stack_recurrent", x)
        carry_of = _by_layer(recurrent, carries)
        further = (lengths,) if given.lengths else ()
        extras: Extras = {}
        for name, part in parts.items():
            has_carry = given.explicit and name in carry_of
            x = (carry_of[name], y, *further) if has_carry else y
            y, extras[name] = through(step, name, part, params, x, key)
            if has_carry:
                carry_of[name], y = y
        return (tuple(carry_of.values()), y) if given.explicit else y, extras

    def back(params: Params, res: Residuals, dy: PyTree) -> tuple[PyTree, Taken]:
        explicit = isinstance(dy, tuple)
        dcarries, dx = dy if explicit else (None, dy)
        dcarry_of = _by_layer(recurrent, dcarries)
        further: Sequence[Any] = ()  # the cotangent of the lengths, None where they were given
        taken: Taken = {}
        for name in reversed(parts):
            has_carry = explicit and name in dcarry_of
            dy = (dcarry_of[name], dx) if has_carry else dx
            dx, taken[name] = step_back(name, parts[name], params, res[name], dy)
            if has_carry:
                dcarry_of[name], dx, *further = dx
        if not explicit:
            return dx, taken
        dcarries = tuple(dcarry_of.values())
        some = any(dcarry is not None for dcarry in dcarries)
        return (dcarries if some else None, dx, *further), taken

    return compose(
        "stack_recurrent",
        parts,
        init,
        flow,
        back,
        rebuild=lambda parts: stack_recurrent(**parts),
    )


def _by_layer(recurrent: Sequence[str], carries: PyTree) -> dict[str, PyTree]:
    """The carry of each recurrent layer, by its name."""
    if carries is None:
        return dict.fromkeys(recurrent)
    if not isinstance(carries, (tuple, list)) or len(carries) != len(recurrent):
        raise ValueError(
            f"stack_recurrent: the carries are a tuple, one for each of {', '.join(recurrent)}, "
            f"found {count(carries)}"
        )
    return dict(zip(recurrent, carries, strict=True))
