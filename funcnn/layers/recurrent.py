"""Recurrent layers: the recurrent rules with their parameters.

Each takes sequences x (N, T, D) and returns y (N, T, H), starting from a carry of zeros; or it
takes `(carry, x)` or `(carry, x, lengths)` and returns `(carry, y)`, where the carry None stands
for zeros.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from funcnn import rules
from funcnn.core.layer import Layer, constructor, layer_from_rule
from funcnn.core.memory import Memory, Piece, SeesAhead
from funcnn.core.parts import Paths, require_key
from funcnn.core.registry import Rule
from funcnn.core.usage import in_a_word, parameter, positive_integer
from funcnn.layers.parameters import parameter_dtype
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Function, Key, Params, PyTree, Residuals

Initializer = Function
# Saxe et al. 2014: a state that goes through many orthogonal steps neither grows nor shrinks.
_ORTHOGONAL = jax.nn.initializers.orthogonal()
_LECUN = jax.nn.initializers.lecun_normal()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recurrent(Layer):
    """A layer over sequences that knows its twin of the other direction.

    Attributes:
        mirrored: makes the twin.

    >>> rnn(4).mirrored()
    rnn
    """

    mirrored: Callable[[], Recurrent] = dataclasses.field(kw_only=True)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Given:
    """What a recurrent layer was given: a tuple, in it a carry, and lengths.

    >>> Given(explicit=False)
    Given(explicit=False, carry=False, lengths=False)
    """

    explicit: bool
    carry: bool = False
    lengths: bool = False


def opened(kind: str, x: PyTree) -> tuple[Any, Any, Any, Given]:
    """carry, x and lengths, and which of them were given.

    >>> opened("gru", (None, jnp.ones((2, 5, 3))))[3]
    Given(explicit=True, carry=False, lengths=False)
    """
    if not isinstance(x, tuple):
        if not hasattr(x, "shape"):
            raise ValueError(
                f"{kind}: the input is x (N, T, D), (carry, x) or (carry, x, lengths), "
                f"found a {in_a_word(x)}"
            )
        return None, x, None, Given(explicit=False)
    if len(x) not in (2, 3):
        raise ValueError(
            f"{kind}: the input is x, (carry, x) or (carry, x, lengths), found {len(x)} things"
        )
    carry, x, lengths = x if len(x) == 3 else (*x, None)
    # x alone has three axes, (N, T, D).
    if jnp.ndim(x if hasattr(x, "shape") else 0) != 3 and jnp.ndim(_first(carry)) == 3:
        raise ValueError(f"{kind}: the carry comes first, (carry, x); found (x, carry): swap them")
    if not hasattr(x, "shape"):
        raise ValueError(f"{kind}: x in (carry, x) is an array (N, T, D), found {in_a_word(x)}")
    return carry, x, lengths, Given(True, carry is not None, lengths is not None)


def _first(carry: PyTree) -> PyTree:
    """One array of a carry, 0 where there is none."""
    return next((a for a in jax.tree.leaves(carry) if hasattr(a, "shape")), 0)


def count(carry: PyTree) -> str:
    """An array by its shape, anything else by how many things it holds.

    >>> count((jnp.ones(2), 3.0)), count(jnp.ones(2))
    ('2 things', 'float32[2]')
    """
    return f"{len(carry)} things" if isinstance(carry, (tuple, list)) else in_a_word(carry)


def _from_rule(rule: Rule, init: Callable[[Key, PyTree], Params], **static: Any) -> Recurrent:
    """The layer of a recurrent rule, whose arguments are x, the carries, w, u, b and lengths."""
    plain = layer_from_rule(rule, **static)
    names = rule.parameters[1:-4]  # of the carries

    def by_name(carry: PyTree, batch: int, hidden: int, dtype: Any) -> Params:
        """The carries as the rule names them; a carry of one array stands for itself."""
        if carry is None:
            return {name: jnp.zeros((batch, hidden), dtype) for name in names}
        carries = carry if len(names) > 1 else (carry,)
        if not isinstance(carries, (tuple, list)) or len(carries) != len(names):
            raise ValueError(
                f"{rule.name}: the carry is ({', '.join(names)}), each (N, H), found {count(carry)}"
            )
        if not all(hasattr(a, "shape") for a in carries):
            raise ValueError(
                f"{rule.name}: the carry is {', '.join(names)} (N, H), found {count(carry)}"
            )
        return dict(zip(names, carries, strict=True))

    def as_carry(arrays: PyTree) -> PyTree:
        return tuple(arrays) if len(names) > 1 else next(iter(arrays))

    def arguments(params: Params, x: PyTree) -> tuple[Params, Any, Given]:
        carry, x, lengths, given = opened(rule.name, x)
        carries = by_name(carry, x.shape[0], parameter(rule.name, params, "u").shape[0], x.dtype)
        return {**params, **carries, "lengths": lengths}, x, given

    def result(out: PyTree, given: Given) -> PyTree:
        y, *carries = out
        return (as_carry(carries), y) if given.explicit else y

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        named, x, given = arguments(params, x)
        return result(plain.apply(named, x, key), given)

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        assert plain.forward is not None
        named, x, given = arguments(params, x)
        out, res = plain.forward(named, x, key)
        return result(out, given), (res, given)

    def recursion(params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        assert plain.recursion is not None
        res, given = res
        dcarry, dy = dy if given.explicit else (None, dy)
        dcarries = by_name(dcarry, dy.shape[0], dy.shape[2], dy.dtype)
        cotangents, dx, _ = plain.recursion({**params, **dcarries}, res, (dy, *dcarries.values()))
        dparams = {name: cotangents[name] for name in params}
        if not given.explicit:
            return dparams, dx, {}
        carried = as_carry([cotangents[n] for n in names]) if given.carry else None
        return dparams, (carried, dx, None) if given.lengths else (carried, dx), {}

    def mirrored() -> Recurrent:
        return _from_rule(rule, init, **{**static, "reverse": not static["reverse"]})

    def start(params: Params, x: PyTree, length: int) -> PyTree:
        if static["reverse"]:
            raise SeesAhead(f"{rule.name}: reverse=True begins with what comes last: no cache")
        return as_carry(arguments(params, (None, x))[0][name] for name in names)

    def go_on(params: Params, x: PyTree, cache: PyTree, piece: Piece) -> tuple[PyTree, PyTree]:
        carry, y = apply(params, (cache, x, piece.lengths), None)
        return y, carry

    made = Recurrent(rule.name, init, apply, forward, recursion, mirrored=mirrored)
    can = {"carries": True, "rule": rule, "memory": Memory(start, go_on)}
    return dataclasses.replace(made, **can)


def _init(
    hidden: int,
    gates: int,
    bias: object,
    initializer: Initializer,
    recurrent_initializer: Initializer,
) -> Callable[[Key, PyTree], Params]:
    """Draws w (D, gates * H) and u (H, gates * H), each block of u by itself; b is given."""

    def init(key: Key, x: PyTree) -> Params:
        x = opened("init", x)[1]
        dtype = parameter_dtype(x)
        # An orthogonal matrix cannot be made in a low precision.
        precise = accumulator(jax.ShapeDtypeStruct((), dtype))
        require_key(key)
        key_w, *keys = jax.random.split(key, gates + 1)
        w = initializer(key_w, (x.shape[-1], gates * hidden), precise)
        blocks = [recurrent_initializer(k, (hidden, hidden), precise) for k in keys]
        u = jnp.concatenate(blocks, axis=1)  # (H, gates * H)
        return {"w": w.astype(dtype), "u": u.astype(dtype), "b": jnp.asarray(bias, dtype)}

    return init


@constructor
def rnn(
    hidden: int,
    activation: str = "tanh",
    *,
    reverse: bool = False,
    initializer: Initializer = _LECUN,
    recurrent_initializer: Initializer = _ORTHOGONAL,
) -> Recurrent:
    """The plain recurrent network, h_t = activation(x_t w + h_{t-1} u + b); the carry is h (N, H).

    Args:
        hidden: the width H of the state.
        activation: "tanh" or "relu".
        reverse: whether the steps run from the end of each sequence.
        initializer: draws w, as those of `jax.nn.initializers`.
        recurrent_initializer: draws u. b starts at 0.

    Raises:
        ValueError: hidden is not a positive integer, or there is no such activation; the rule's own
            when the layer is applied.

    >>> layer, x = rnn(4), jnp.ones((2, 5, 3))
    >>> params = layer.init(jax.random.key(0), x)
    >>> carry, y = layer(params, (jnp.zeros((2, 4)), x))
    >>> layer(params, x).shape, y.shape, carry.shape
    ((2, 5, 4), (2, 5, 4), (2, 4))
    """
    hidden = positive_integer("rnn", "hidden", hidden)
    if activation not in ("tanh", "relu"):
        raise ValueError(f"rnn: activation is 'tanh' or 'relu', found {activation!r}")
    init = _init(hidden, 1, [0.0] * hidden, initializer, recurrent_initializer)
    return _from_rule(rules.rnn, init, activation=activation, reverse=reverse)


@constructor
def lstm(
    hidden: int,
    *,
    reverse: bool = False,
    initializer: Initializer = _LECUN,
    recurrent_initializer: Initializer = _ORTHOGONAL,
) -> Recurrent:
    """The long short-term memory of `fnn.rules.lstm`; the carry is (h, c), each (N, H).

    The bias of the forget gate starts at 1 and that of the others at 0 (Jozefowicz et al., 2015);
    arguments and errors are those of `rnn`.

    >>> layer, x = lstm(4), jnp.ones((2, 5, 3))
    >>> params = layer.init(jax.random.key(0), x)
    >>> (h, c), y = layer(params, (None, x, jnp.array([5, 3])))
    >>> y.shape, h.shape, c.shape, params["b"].reshape(4, 4)[:, 0].tolist()
    ((2, 5, 4), (2, 4), (2, 4), [0.0, 1.0, 0.0, 0.0])
    """
    hidden = positive_integer("lstm", "hidden", hidden)
    bias = [0.0] * hidden + [1.0] * hidden + [0.0] * 2 * hidden
    init = _init(hidden, 4, bias, initializer, recurrent_initializer)
    return _from_rule(rules.lstm, init, reverse=reverse)


@constructor
def gru(
    hidden: int,
    *,
    reverse: bool = False,
    initializer: Initializer = _LECUN,
    recurrent_initializer: Initializer = _ORTHOGONAL,
) -> Recurrent:
    """The gated recurrent unit of `fnn.rules.gru`; the carry is h (N, H).

    Arguments and errors are those of `rnn`.

    >>> layer, x = gru(4), jnp.ones((2, 5, 3))
    >>> params = layer.init(jax.random.key(0), x)
    >>> {name: p.shape for name, p in params.items()}, layer(params, x).shape
    ({'w': (3, 12), 'u': (4, 12), 'b': (16,)}, (2, 5, 4))
    """
    hidden = positive_integer("gru", "hidden", hidden)
    init = _init(hidden, 3, [0.0] * 4 * hidden, initializer, recurrent_initializer)
    return _from_rule(rules.gru, init, reverse=reverse)
