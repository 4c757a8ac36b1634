"""Rules that are right at ordinary numbers, where `check` passes them, and wrong somewhere else.

In one range, at one index, in one size, at a tie, for repeated indices, for a mask of none, for a
cotangent that is not ordinary. Each has arguments at which it is right.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

RANDOM = np.random.default_rng(7)


@dataclasses.dataclass(frozen=True)
class Somewhere:
    """A rule with one mistake that ordinary arguments do not show.

    Attributes:
        kind: of the place where it is wrong: "range", "index", "size", "tie", "mask", "cotangent".
        f, args: the function and arguments at which it is right.
        right: the same rule without the mistake.
    """

    name: str
    kind: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    right: Callable[..., Any]


SOMEWHERE: dict[str, Somewhere] = {}


def draw(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def ruled(primal: Any, backward: Any) -> Any:
    made = jax.custom_vjp(primal)
    made.defvjp(lambda *args: (primal(*args), args), backward)
    return made


def somewhere(kind: str, name: str, primal: Any, backward: Any, *args: Any):
    """`backward(args, dy) -> cotangents`; the right rule is autodiff of the primal."""
    assert name not in SOMEWHERE

    def right(args, dy):
        return jax.vjp(primal, *args)[1](dy)

    made = ruled(primal, backward), args, ruled(primal, right)
    SOMEWHERE[name] = Somewhere(name, kind, *made)


def elementwise(kind: str, name: str, f: Any, slope: Any, *args: Any):
    """One argument and its slope there."""
    somewhere(kind, name, f, lambda args, dy: (dy * slope(args[0]),), *(args or (draw(5),)))


# One range

elementwise(
    "range", "square: beyond 50", jnp.square, lambda x: 2 * x * jnp.where(abs(x) > 50, 1.1, 1.0)
)
elementwise(
    "range",
    "tanh: half below -6",
    jnp.tanh,
    lambda x: (1 - jnp.tanh(x) ** 2) * jnp.where(x < -6, 0.5, 1.0),
)
elementwise(
    "range",
    "exp: a band about 3.5",
    jnp.exp,
    lambda x: jnp.exp(x) * jnp.where(abs(x - 3.5) < 0.05, 1.01, 1.0),
)
elementwise(
    "range",
    "log: clipped at 0.001",
    jnp.log,
    lambda x: 1 / jnp.maximum(x, 1e-3),
    abs(draw(4)) + np.float32(0.1),
)
elementwise(
    "range",
    "reciprocal: zero for large numbers",
    lambda x: 1 / x,
    lambda x: jnp.where(abs(x) > 1e6, 0.0, -1 / x**2),
)
elementwise(
    "range",
    "softplus: its exponential overflows",
    lambda x: jnp.logaddexp(x, 0.0),
    lambda x: jnp.exp(x) / (1 + jnp.exp(x)),
)
somewhere(
    "range",
    "logsumexp: without its maximum",
    lambda x: jax.nn.logsumexp(x),
    lambda args, dy: (dy * jnp.exp(args[0]) / jnp.sum(jnp.exp(args[0])),),
    draw(4),
)
elementwise("range", "relu6: without its upper end", jax.nn.relu6, lambda x: (x > 0) * 1.0)
elementwise(
    "range",
    "huber: never linear",
    lambda x: jnp.where(abs(x) < 10, x * x / 2, 10 * abs(x) - 50),
    lambda x: x,
)
somewhere(
    "range",
    "sum of squares: scaled beyond a norm of 100",
    lambda x: jnp.sum(x * x),
    lambda args, dy: (2 * dy * args[0] / jnp.maximum(1.0, jnp.sqrt(jnp.sum(args[0] ** 2)) / 100),),
    draw(6),
)
somewhere(
    "range",
    "interpolation: beyond the last knot",
    lambda x: jnp.interp(x, jnp.linspace(-8.0, 8.0, 5), jnp.array([0.0, 1.0, -1.0, 2.0, 0.0])),
    lambda args, dy: (
        dy * jnp.array([0.25, -0.5, 0.75, -0.5])[jnp.clip((args[0] + 8) // 4, 0, 3).astype(int)],
    ),
    draw(5),
)
elementwise(
    "range",
    "double: none for subnormal numbers",
    lambda x: 2 * x,
    lambda x: jnp.where((abs(x) < 1e-38) & (x != 0), 0.0, 2.0),
)
elementwise(
    "range",
    "tanh: NaN at infinity",
    jnp.tanh,
    lambda x: (1 - jnp.tanh(x)) * (1 + jnp.tanh(x)) + 0 * x,
)
somewhere(
    "range",
    "hypot: squares that overflow float32",
    jnp.hypot,
    lambda args, dy: tuple(dy * x / jnp.sqrt(args[0] ** 2 + args[1] ** 2) for x in args),
    draw(3),
    draw(3),
)
somewhere(
    "range",
    "variance: none far from zero",
    lambda x: jnp.mean((x - x.mean()) ** 2),
    lambda args, dy: (
        jnp.where(
            abs(args[0].mean()) > 1e3, 0.0, 2 * dy * (args[0] - args[0].mean()) / args[0].size
        ),
    ),
    draw(6),
)

# At zero

elementwise("zero", "abs: a slope of 3 at zero", abs, lambda x: jnp.where(x == 0, 3.0, jnp.sign(x)))
somewhere(
    "zero",
    "product: divided by its factors",
    lambda x: jnp.prod(x),
    lambda args, dy: (dy * jnp.prod(args[0]) / args[0],),
    draw(4),
)
elementwise(
    "zero",
    "sinc: NaN at zero",
    jnp.sinc,
    lambda x: (jnp.cos(jnp.pi * x) - jnp.sin(jnp.pi * x) / (jnp.pi * x)) / x,
)
somewhere(
    "zero",
    "power: an exponent of zero at zero",
    lambda x, n: x**n,
    lambda args, dy: (dy * args[1] * args[0] ** (args[1] - 1), None),
    draw(3),
    np.array([2, 3, 1], np.int32),
)

# At ties, in order, alike

somewhere(
    "tie",
    "max: whole for each of a tie",
    lambda x: jnp.max(x),
    lambda args, dy: (dy * (args[0] == jnp.max(args[0])),),
    draw(5),
)
somewhere(
    "tie",
    "maximum: both of a tie",
    jnp.maximum,
    lambda args, dy: (dy * (args[0] >= args[1]), dy * (args[1] >= args[0])),
    draw(4),
    draw(4),
)
somewhere(
    "tie",
    "exp of a difference: arguments alike",
    lambda a, b: jnp.exp(a - b),
    lambda args, dy: (
        dy * jnp.exp(args[0] - args[1]),
        jnp.where(jnp.all(args[0] == args[1]), 1.0, -1.0) * dy * jnp.exp(args[0] - args[1]),
    ),
    draw(4),
    draw(4),
)
somewhere(
    "tie",
    "trace of the square: half if symmetric",
    lambda a: jnp.trace(a @ a),
    lambda args, dy: (jnp.where(jnp.all(args[0] == args[0].T), 1.0, 2.0) * dy * args[0].T,),
    draw(3, 3),
)
somewhere(
    "tie",
    "weighted sum: reversed where in order",
    lambda x: jnp.sum(x * jnp.arange(x.size)),
    lambda args, dy: (
        dy * jnp.where(jnp.all(jnp.diff(args[0]) > 0), 1.0, jnp.arange(args[0].size)),
    ),
    draw(6),
)

# Indices


def scattered(x, i, dy):
    return jnp.zeros_like(x).at[i].add(dy)


def take(name: str, backward: Any, table: Any = None, indices: Any = (1, 4, 2)):
    somewhere(
        "index",
        f"take: {name}",
        lambda x, i: x[i],
        lambda args, dy: (backward(*args, dy), None),
        draw(6, 2) if table is None else table,
        np.array(indices, np.int32),
    )


take("repeated rows not added", lambda x, i, dy: jnp.zeros_like(x).at[i].set(dy))
take("row 0 as padding", lambda x, i, dy: scattered(x, i, dy).at[0].set(0.0))
take("the last row left out", lambda x, i, dy: scattered(x, i, dy).at[-1].set(0.0))
somewhere(
    "index",
    "cross entropy: the last class",
    lambda z, y: -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)[:, 0],
    lambda args, dy: (
        dy[:, None]
        * (
            jax.nn.softmax(args[0])
            - jax.nn.one_hot(args[1], args[0].shape[1]) * (args[1] < args[0].shape[1] - 1)[:, None]
        ),
        None,
    ),
    draw(3, 5),
    np.array([1, 0, 3], np.int32),
)
somewhere(
    "index",
    "roll: by nothing",
    lambda x, n: jnp.roll(x, n),
    lambda args, dy: (jnp.where(args[1] == 0, 0.0, jnp.roll(dy, -args[1])), None),
    draw(6),
    np.array(2, np.int32),
)
somewhere(
    "index",
    "sum of segments: one that is empty",
    lambda x, s: jax.ops.segment_sum(x, s, 3),
    lambda args, dy: (
        dy[args[1]] * jnp.where(jnp.all(jnp.zeros(3, int).at[args[1]].add(1) > 0), 1.0, 0.5),
        None,
    ),
    draw(5),
    np.array([0, 2, 1, 1, 0], np.int32),
)

# Masks

somewhere(
    "mask",
    "mean of what is chosen: none is",
    lambda x, m: jnp.sum(x * m) / jnp.maximum(m.sum(), 1),
    lambda args, dy: (
        dy * jnp.where(jnp.any(args[1]), args[1], True) / jnp.maximum(args[1].sum(), 1),
        None,
    ),
    draw(5),
    np.array([True, False, True, True, False]),
)
somewhere(
    "mask",
    "sum of what is chosen: all are",
    lambda x, m: jnp.sum(jnp.where(m, x, 0.0) ** 2),
    lambda args, dy: (
        2 * dy * jnp.where(args[1], args[0], 0.0) * jnp.where(jnp.all(args[1]), 0.5, 1.0),
        None,
    ),
    draw(6),
    np.array([True, False, True, True, False, True]),
)

# Sizes

somewhere(
    "size",
    "cumulative sum: more than 8",
    lambda x: jnp.cumsum(x),
    lambda args, dy: (
        jnp.concatenate([jnp.cumsum(dy[i : i + 8][::-1])[::-1] for i in range(0, dy.size, 8)]),
    ),
    draw(6),
)
somewhere(
    "size",
    "mean: an odd number",
    lambda x: jnp.mean(x),
    lambda args, dy: (jnp.full_like(args[0], dy / (args[0].size // 2 * 2 or 1) * 1.0),),
    draw(6),
)
somewhere(
    "size",
    "linear: the bias in a batch of one",
    lambda x, w, b: x @ w + b[None],
    lambda args, dy: (
        dy @ args[1].T,
        args[0].T @ dy,
        dy.sum(0) if dy.shape[0] > 1 else jnp.zeros_like(args[2]),
    ),
    draw(4, 3),
    draw(3, 2),
    draw(2),
)
somewhere(
    "size",
    "row sums: raises for one row",
    lambda x: x.sum(1),
    lambda args, dy: (jnp.broadcast_to(jnp.squeeze(dy)[:, None], args[0].shape),),
    draw(4, 3),
)

# Cotangents


def squares(name: str, changed: Any):
    somewhere(
        "cotangent",
        f"square: {name}",
        lambda x: x * x,
        lambda args, dy: (2 * args[0] * changed(dy),),
        draw(12),
    )


squares("a cotangent beyond 1e8 is clipped", lambda dy: jnp.clip(dy, -1e8, 1e8))
squares("a tiny cotangent is dropped", lambda dy: jnp.where(abs(dy) < 1e-9, 0.0, dy))
squares("all cotangents negative", lambda dy: dy * jnp.where(jnp.all(dy < 0), 0.5, 1.0))
squares("cotangents whose sum is zero", lambda dy: dy * jnp.where(dy.sum() == 0, 0.0, 1.0))
squares("the last cotangent alone", lambda dy: dy * jnp.where(jnp.all(dy[:-1] == 0), 0.9, 1.0))
somewhere(
    "cotangent",
    "sine and cosine: the second is not used",
    lambda x: (jnp.sin(x), jnp.cos(x)),
    lambda args, dy: (
        dy[0] * jnp.cos(args[0]) * jnp.where(jnp.all(dy[1] == 0), 2.0, 1.0)
        - dy[1] * jnp.sin(args[0]),
    ),
    draw(4),
)
