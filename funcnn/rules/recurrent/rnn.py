"""The plain recurrent network, over whole sequences."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.registry import Case, rule
from funcnn.rules.recurrent.steps import (
    active_steps,
    add_bias,
    before_each_step,
    bias_gradient,
    checked,
    input_gradient,
    project,
    recur,
    steps_first,
    weight_gradient,
    where_active,
)
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator, tanh_slope
from funcnn.types import Array, ArrayLike, Key, Residuals


@rule
def rnn(
    x: ArrayLike,
    h: ArrayLike,
    w: ArrayLike,
    u: ArrayLike,
    b: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    activation: str = "tanh",
    reverse: bool = False,
) -> tuple[Array, Array]:
    r"""Plain recurrent network over sequences, (y, h_T) from x and the carry h_0.

    Shapes: x (N, T, D); h (N, H); w (D, H), u (H, H), b (H,); lengths (N,) integers or None;
    y (N, T, H); one floating-point dtype. For each step t, with φ the activation (static), "tanh"
    or "relu",
        a_t = x_t w + h_{t-1} u + b,   h_t = φ(a_t),   y_t = h_t.
    Steps at and beyond a sequence's length leave h as it is, have y = 0 and no gradient, whatever x
    holds there. With reverse (static) the steps run from the end of x, or of each sequence, to its
    beginning, and h_T is the carry after the step at 0.

    Derivation (backpropagation through time): h_t reaches the loss as y_t and through step t + 1,
    so with δ for the cotangents, from the last step on,
        δh_t = dy_t + δa_{t+1} uᵀ                      (after the last step, the given dh_T)
        δa_t = δh_t ∘ φ'(a_t),   where φ' is 1 - tanh²(a_t), or [y_t > 0] for relu.
    Only δh goes from step to step. The weights are the same at every step, so their gradients are
    sums over steps and rows, taken after the loop in one matrix product each:
        dw = Σ_t x_tᵀ δa_t,   du = Σ_t h_{t-1}ᵀ δa_t,   db = Σ_t δa_t,   dx_t = δa_t wᵀ.
    Automatic differentiation of a scan adds a thin product to du, and to dw, in every step.
    A step beyond the length hands δh on as it is, and its δa is 0. At the kink of relu its
    derivative is 0, as in jax.nn.relu. NaN in a step goes into all steps after it.
    Kept for the backward pass: x and y, which the layers around keep anyway, and for tanh φ'(a_t),
    one array (T, N, H), as 4 e / (1 + e)² with e = exp(-2 |a|): near |y| = 1 no digits of it are
    left in y, and errors there grow from step to step.

    Earns its place by time and memory, with fewer and larger products and fewer arrays, and in
    accuracy where tanh is saturated.

    Source: Elman, Finding structure in time, 1990; Werbos, Backpropagation through time, 1990.

    Raises:
        TypeError: an argument is not floating point, the dtypes differ, or lengths are no integers.
        ValueError: the shapes do not fit, or the activation is another one.

    >>> w, u, b = jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros(1)
    >>> y, h = rnn(jnp.ones((1, 3, 1)), jnp.zeros((1, 1)), w, u, b, activation="relu")
    >>> y[0, :, 0], h[0]
    (Array([1., 2., 3.], dtype=float32), Array([3.], dtype=float32))
    """
    x, h, w, u, b, lengths = _checked(x, h, w, u, b, lengths, activation)
    active = active_steps(lengths, x.shape[1])

    def step(h: Array, now: tuple[Array, Array | None]) -> tuple[Array, Array]:
        x, active = now
        a = where_active(active, x, 0) @ w + h @ u
        h_new = _activate(a + jnp.broadcast_to(b, a.shape), activation)
        return where_active(active, h_new, h), where_active(active, h_new, 0)

    h, y = jax.lax.scan(step, h, (steps_first(x), active), reverse=reverse)
    return steps_first(y), h


def rnn_forward(
    x: Array,
    h: Array,
    w: Array,
    u: Array,
    b: Array,
    lengths: Array | None,
    *,
    activation: str,
    reverse: bool,
) -> tuple[tuple[Array, Array], Residuals]:
    x, start, w, u, b, lengths = _checked(x, h, w, u, b, lengths, activation)
    active = active_steps(lengths, x.shape[1])

    def step(h: Array, now: tuple[Array, Array | None]) -> tuple[Array, tuple[Array, Array | None]]:
        z, active = now
        a = add_bias(z + recur(h, u), b)
        h_new = _activate(a, activation).astype(h.dtype)
        slope = tanh_slope(a).astype(h.dtype) if activation == "tanh" else None
        return where_active(active, h_new, h), (where_active(active, h_new, 0), slope)

    z = project(where_active(active, steps_first(x), 0), w)  # (T, N, H)
    h, (y, slope) = jax.lax.scan(step, start, (z, active), reverse=reverse)
    y = steps_first(y)  # (N, T, H)
    return (y, h), (x, start, w, u, lengths, y, slope)


def rnn_backward(
    res: Residuals, cotangents: tuple[Array, Array], *, activation: str, reverse: bool
) -> tuple[Array | None, ...]:
    x, h, w, u, lengths, y, slope = res
    dy, dh = cotangents
    active = active_steps(lengths, x.shape[1])
    x, dy = (where_active(active, steps_first(v), 0) for v in (x, dy))  # (T, N, ...)
    y = steps_first(y)  # (T, N, H)
    h_before = before_each_step(h, y, active, reverse)  # (T, N, H)
    ut, precise = u.T, accumulator(x)  # a transposed operand inside a loop can be slow

    def step(
        dh: Array, now: tuple[Array | None, Array, Array, Array | None]
    ) -> tuple[Array, Array]:
        active, dy, y, slope = now
        dh_inside = dh + dy.astype(precise)
        through = (
            jnp.where(y <= 0, 0, dh_inside) if slope is None else dh_inside * slope.astype(precise)
        )
        da = where_active(active, through, 0).astype(ut.dtype)  # (N, H)
        return where_active(active, recur(da, ut), dh), da

    dh, da = jax.lax.scan(step, dh.astype(precise), (active, dy, y, slope), reverse=not reverse)
    dw, du, db = weight_gradient(x, da), weight_gradient(h_before, da), bias_gradient(da)
    dx = steps_first(where_active(active, input_gradient(da, w), 0))  # (N, T, D)
    return dx, dh.astype(h.dtype), dw, du, db, None


def _activate(a: Array, activation: str) -> Array:
    return jnp.tanh(a) if activation == "tanh" else jnp.where(a <= 0, 0, a)


def _checked(
    x: ArrayLike,
    h: ArrayLike,
    w: ArrayLike,
    u: ArrayLike,
    b: ArrayLike,
    lengths: ArrayLike | None,
    activation: str,
) -> tuple[*tuple[Array, ...], Array | None]:
    if activation not in ("tanh", "relu"):
        raise ValueError(f"rnn: activation is 'tanh' or 'relu', found {activation!r}")
    return checked("rnn", x, {"h": h}, w, u, b, lengths, gates=1, biases=1)


rnn.defvjp(rnn_forward, rnn_backward)


@rnn.defcases
def rnn_cases(key: Key) -> Iterator[Case]:
    def arrays(rows: int, steps: int, depth: int, hidden: int) -> tuple[Array, ...]:
        shapes = (
            *((rows, steps, depth), (rows, hidden)),
            *((depth, hidden), (hidden, hidden), (hidden,)),
        )
        return tuple(normal(jax.random.fold_in(key, i), s) for i, s in enumerate(shapes))

    relu = {"activation": "relu"}
    yield Case("sequences", arrays(2, 4, 3, 4))
    yield Case("relu", arrays(2, 4, 3, 4), relu)
    yield Case("from the end", arrays(3, 3, 2, 4), {"reverse": True})
    padded = arrays(3, 4, 2, 3)
    yield Case("lengths", (*padded, jnp.array([4, 2, 0])))
    yield Case("lengths from the end", (*padded, jnp.array([1, 4, 3])), {"reverse": True, **relu})
    x, h, w, u, _ = arrays(2, 3, 3, 3)
    zero = x.at[0].set(0), h.at[0].set(0), w, u, jnp.zeros(3)
    yield Case("kink", zero, relu, kinks=True)
    yield Case("size one", arrays(1, 1, 1, 1))
    yield Case("no steps", arrays(2, 0, 3, 4))
    yield Case("no rows", arrays(0, 3, 3, 4))
