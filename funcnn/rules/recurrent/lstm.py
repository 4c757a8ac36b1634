"""The long short-term memory, over whole sequences."""

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
    unwritten,
    weight_gradient,
    where_active,
    with_step,
)
from funcnn.rules.shared.case_data import normal
from funcnn.rules.shared.numerics import accumulator, tanh_slope
from funcnn.types import Array, ArrayLike, Key, Residuals


@rule
def lstm(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    w: ArrayLike,
    u: ArrayLike,
    b: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    reverse: bool = False,
) -> tuple[Array, Array, Array]:
    r"""Long short-term memory over sequences, (y, h_T, c_T) from x and the carries h_0, c_0.

    Shapes: x (N, T, D); h, c (N, H); w (D, 4H), u (H, 4H), b (4H,), whose blocks of H columns are
    the gates i, f, g, o in this order; lengths (N,) integers or None; y (N, T, H); one
    floating-point dtype. For each step t, with ∘ the product of elements,
        (a_i, a_f, a_g, a_o) = x_t w + h_{t-1} u + b
        i = σ(a_i),  f = σ(a_f),  g = tanh(a_g),  o = σ(a_o)
        c_t = f ∘ c_{t-1} + i ∘ g,  h_t = o ∘ tanh(c_t),  y_t = h_t.
    Steps at and beyond a sequence's length leave h and c as they are, have y = 0 and no gradient,
    whatever x holds there. With reverse (static) the steps run from the end of x, or of each
    sequence, to its beginning, and h_T, c_T are the carries after the step at 0.

    Derivation (backpropagation through time): h_t reaches the loss as y_t and through step t + 1,
    c_t through h_t and through step t + 1, so with δ for the cotangents, from the last step on,
        δh_t = dy_t + δa_{t+1} uᵀ                      (after the last step, the given dh_T)
        δc_t = δc_{t+1} ∘ f_{t+1} + δh_t ∘ o ∘ (1 - tanh²c_t)         (likewise dc_T)
        δa_i = δc_t ∘ g ∘ i ∘ (1 - i)        δa_f = δc_t ∘ c_{t-1} ∘ f ∘ (1 - f)
        δa_g = δc_t ∘ i ∘ (1 - g²)           δa_o = δh_t ∘ tanh(c_t) ∘ o ∘ (1 - o).
    Only δh and δc go from step to step. The weights are the same at every step, so their gradients
    are sums over steps and rows, taken after the loop in one matrix product each:
        dw = Σ_t x_tᵀ δa_t,   du = Σ_t h_{t-1}ᵀ δa_t,   db = Σ_t δa_t,   dx_t = δa_t wᵀ.
    Automatic differentiation of a scan adds a thin product to du, and to dw, in every step.
    A step beyond the length hands δh and δc on as they are, and its δa is 0.
    Kept for the backward pass: x, y, c_t and the four gates, six arrays (T, N, H) with y, which the
    next layer keeps anyway. tanh(c_t) is computed again, and 1 - tanh²c as 4 e / (1 + e)² with
    e = exp(-2 |c|), whose digits are not lost where tanh c is near 1. To keep c_t alone and get the
    gates from x and y in one more product is slower on a CPU. There are no kinks; NaN in a step
    goes into all steps after it.

    Earns its place by time and memory: fewer and larger products, and half the arrays of autodiff;
    and in accuracy where the cell is saturated.

    Source: Hochreiter, Schmidhuber, Long short-term memory, 1997; Gers, Schmidhuber, Cummins,
    Learning to forget, 2000; Werbos, Backpropagation through time, 1990.

    Raises:
        TypeError: an argument is not floating point, the dtypes differ, or lengths are no integers.
        ValueError: the shapes do not fit.

    >>> x, zero = jnp.ones((1, 3, 1)), jnp.zeros((1, 1))
    >>> w, u, b = jnp.ones((1, 4)), jnp.ones((1, 4)), jnp.zeros(4)
    >>> y, h, c = lstm(x, zero, zero, w, u, b, jnp.array([2]))
    >>> [round(float(v), 3) for v in y[0, :, 0]], bool(h[0, 0] == y[0, 1, 0])
    ([0.37, 0.651, 0.0], True)
    """
    x, h, c, w, u, b, lengths = _checked(x, h, c, w, u, b, lengths)
    active = active_steps(lengths, x.shape[1])

    def step(
        carry: tuple[Array, Array], now: tuple[Array, Array | None]
    ) -> tuple[tuple[Array, Array], Array]:
        (h, c), (x, active) = carry, now
        a = where_active(active, x, 0) @ w + h @ u
        a_i, a_f, a_g, a_o = jnp.split(a + jnp.broadcast_to(b, a.shape), 4, axis=-1)
        c_new = jax.nn.sigmoid(a_f) * c + jax.nn.sigmoid(a_i) * jnp.tanh(a_g)
        h_new = jax.nn.sigmoid(a_o) * jnp.tanh(c_new)
        carry = where_active(active, h_new, h), where_active(active, c_new, c)
        return carry, where_active(active, h_new, 0)

    (h, c), y = jax.lax.scan(step, (h, c), (steps_first(x), active), reverse=reverse)
    return steps_first(y), h, c


def lstm_forward(
    x: Array,
    h: Array,
    c: Array,
    w: Array,
    u: Array,
    b: Array,
    lengths: Array | None,
    *,
    reverse: bool,
) -> tuple[tuple[Array, Array, Array], Residuals]:
    start = x, h, c, w, u, b, lengths = _checked(x, h, c, w, u, b, lengths)
    active = active_steps(lengths, x.shape[1])

    def step(
        carry: tuple[Array, Array], now: tuple[Array, Array | None]
    ) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        (h, c), (z, active) = carry, now
        a_i, a_f, a_g, a_o = jnp.split(add_bias(z + recur(h, u), b), 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(a_i), jax.nn.sigmoid(a_f), jnp.tanh(a_g), jax.nn.sigmoid(a_o)
        c_new = f * c + i * g
        h_new = (o * jnp.tanh(c_new)).astype(h.dtype)
        c = where_active(active, c_new, c)
        kept = tuple(a.astype(h.dtype) for a in (c, i, f, g, o))
        return (where_active(active, h_new, h), c), (where_active(active, h_new, 0), *kept)

    z = project(where_active(active, steps_first(x), 0), w)  # (T, N, 4H)
    carry = h, c.astype(z.dtype)
    (h, c), (y, *kept) = jax.lax.scan(step, carry, (z, active), reverse=reverse)
    y = steps_first(y)  # (N, T, H)
    # b is not needed, as it has the dtype of the others.
    return (y, h, c.astype(h.dtype)), (*start[:5], lengths, y, *kept)


def lstm_backward(
    res: Residuals, cotangents: tuple[Array, Array, Array], *, reverse: bool
) -> tuple[Array | None, ...]:
    x, h, c, w, u, lengths, y, cs, *gates = res
    dy, dh, dc = cotangents
    active = active_steps(lengths, x.shape[1])
    x, dy = (where_active(active, steps_first(a), 0) for a in (x, dy))  # (T, N, ...)
    h_before = before_each_step(h, steps_first(y), active, reverse)  # (T, N, H)
    c_before = before_each_step(c, cs, active, reverse)
    ut, precise = u.T, accumulator(x)  # a transposed operand inside a loop can be slow

    def step(
        carry: tuple[Array, Array, Array], now: tuple[Array, Array | None, *tuple[Array, ...]]
    ) -> tuple[tuple[Array, Array, Array], None]:
        (dh, dc, da), (t, active, *arrays) = carry, now
        dy, c, c_before, i, f, g, o = (a.astype(precise) for a in arrays)
        tanh, slope = jnp.tanh(c), tanh_slope(c)  # 1 - tanh² loses its digits near 1
        dh = dh + dy
        dc_inside = dc + dh * o * slope
        of_gates = (
            *(dc_inside * g * i * (1 - i), dc_inside * c_before * f * (1 - f)),
            *(dc_inside * i * (1 - g) * (1 + g), dh * tanh * o * (1 - o)),
        )
        da = with_step(da, t, [where_active(active, a, 0) for a in of_gates])
        dc = where_active(active, dc_inside * f, dc)
        return (where_active(active, recur(da[t], ut), dh), dc, da), None

    start = dh.astype(precise), dc.astype(precise), unwritten(dy, u.shape[1])
    steps = jnp.arange(dy.shape[0]), active, dy, cs, c_before, *gates
    (dh, dc, da), _ = jax.lax.scan(step, start, steps, reverse=not reverse)
    da = da[: dy.shape[0]]  # (T, N, 4H)
    dw, du, db = weight_gradient(x, da), weight_gradient(h_before, da), bias_gradient(da)
    dx = steps_first(where_active(active, input_gradient(da, w), 0))  # (N, T, D)
    return dx, dh.astype(h.dtype), dc.astype(h.dtype), dw, du, db, None


def _checked(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    w: ArrayLike,
    u: ArrayLike,
    b: ArrayLike,
    lengths: ArrayLike | None,
) -> tuple[*tuple[Array, ...], Array | None]:
    return checked("lstm", x, {"h": h, "c": c}, w, u, b, lengths, gates=4, biases=4)


lstm.defvjp(lstm_forward, lstm_backward)


@lstm.defcases
def lstm_cases(key: Key) -> Iterator[Case]:
    def arrays(rows: int, steps: int, depth: int, hidden: int) -> tuple[Array, ...]:
        shapes = (
            *((rows, steps, depth), (rows, hidden), (rows, hidden)),
            *((depth, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,)),
        )
        return tuple(normal(jax.random.fold_in(key, i), s) for i, s in enumerate(shapes))

    # Where c starts at 0 and one step is made, the forget gate is out of play.
    yield Case("sequences", arrays(2, 4, 3, 4))
    yield Case("from the end", arrays(3, 3, 2, 4), {"reverse": True})
    padded = arrays(3, 4, 2, 3)
    yield Case("lengths", (*padded, jnp.array([4, 2, 0])))
    yield Case("lengths from the end", (*padded, jnp.array([1, 4, 3])), {"reverse": True})
    yield Case("size one", arrays(1, 1, 1, 1))
    yield Case("no steps", arrays(2, 0, 3, 4))
    yield Case("no rows", arrays(0, 3, 3, 4))
