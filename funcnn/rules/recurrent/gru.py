"""The gated recurrent unit, over whole sequences."""

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
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, ArrayLike, Key, Residuals


@rule
def gru(
    x: ArrayLike,
    h: ArrayLike,
    w: ArrayLike,
    u: ArrayLike,
    b: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    reverse: bool = False,
) -> tuple[Array, Array]:
    r"""Gated recurrent unit over sequences, (y, h_T) from x and the carry h_0.

    Shapes: x (N, T, D); h (N, H); w (D, 3H), u (H, 3H), whose blocks of H columns are the gates
    r, z and the candidate n in this order; b (4H,): of r, z, n and of the recurrent part m of n;
    lengths (N,) integers or None; y (N, T, H); one floating-point dtype. For each step t, with ∘
    the product of elements,
        r = σ(x_t w_r + h_{t-1} u_r + b_r),  z = σ(x_t w_z + h_{t-1} u_z + b_z)
        m = h_{t-1} u_n + b_m,               n = tanh(x_t w_n + b_n + r ∘ m)
        h_t = (1 - z) ∘ n + z ∘ h_{t-1},     y_t = h_t.
    The reset gate r acts after the product with u_n, as in cuDNN, PyTorch and Flax.
    Steps at and beyond a sequence's length leave h as it is, have y = 0 and no gradient, whatever x
    holds there. With reverse (static) the steps run from the end of x, or of each sequence, to its
    beginning, and h_T is the carry after the step at 0.

    Derivation (backpropagation through time): with δ for the cotangents and a for what stands in
    σ and tanh, from the last step on,
        δh_t = dy_t + (δh_{t+1} ∘ z_{t+1} + δs_{t+1} uᵀ)      (after the last step, the given dh_T)
        δa_n = δh_t ∘ (1 - z) ∘ (1 - n²)       δm = δa_n ∘ r
        δa_z = δh_t ∘ (h_{t-1} - n) ∘ z ∘ (1 - z)
        δa_r = δa_n ∘ m ∘ r ∘ (1 - r)
        δs = (δa_r, δa_z, δm), which goes back through u,   δa = (δa_r, δa_z, δa_n), through w.
    Only δh goes from step to step. The weights are the same at every step, so their gradients are
    sums over steps and rows, taken after the loop in one matrix product each:
        dw = Σ_t x_tᵀ δa,   du = Σ_t h_{t-1}ᵀ δs,   db = Σ_t (δa_r, δa_z, δa_n, δm),   dx_t = δa wᵀ.
    Automatic differentiation of a scan adds a thin product to du, and to dw, in every step.
    A step beyond the length hands δh on as it is, and its δa and δs are 0.
    Kept for the backward pass: x, y, r, z, n and m, five arrays (T, N, H) with y, which the next
    layer keeps anyway. There are no kinks; NaN in a step goes into all steps after it.

    Earns its place by time and memory: fewer and larger products, and fewer arrays than autodiff.

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014, in the form
    of Appleyard, Kočiský, Blunsom, Optimizing performance of recurrent neural networks on GPUs,
    2016; Werbos, Backpropagation through time, 1990.

    Raises:
        TypeError: an argument is not floating point, the dtypes differ, or lengths are no integers.
        ValueError: the shapes do not fit.

    >>> w, u, b = jnp.ones((1, 3)), jnp.ones((1, 3)), jnp.zeros(4)
    >>> y, h = gru(jnp.ones((1, 3, 1)), jnp.zeros((1, 1)), w, u, b, jnp.array([2]))
    >>> [round(float(v), 3) for v in y[0, :, 0]], bool(h[0, 0] == y[0, 1, 0])
    ([0.205, 0.347, 0.0], True)
    """
    x, h, w, u, b, lengths = _checked(x, h, w, u, b, lengths)
    active = active_steps(lengths, x.shape[1])
    b_input, b_recurrent = _biases(b)

    def step(h: Array, now: tuple[Array, Array | None]) -> tuple[Array, Array]:
        x, active = now
        a = where_active(active, x, 0) @ w
        a_r, a_z, a_n = jnp.split(a + jnp.broadcast_to(b_input, a.shape), 3, axis=-1)
        s = h @ u
        s_r, s_z, m = jnp.split(s + jnp.broadcast_to(b_recurrent, s.shape), 3, axis=-1)
        z = jax.nn.sigmoid(a_z + s_z)
        n = jnp.tanh(a_n + jax.nn.sigmoid(a_r + s_r) * m)
        h_new = (1 - z) * n + z * h
        return where_active(active, h_new, h), where_active(active, h_new, 0)

    h, y = jax.lax.scan(step, h, (steps_first(x), active), reverse=reverse)
    return steps_first(y), h


def gru_forward(
    x: Array, h: Array, w: Array, u: Array, b: Array, lengths: Array | None, *, reverse: bool
) -> tuple[tuple[Array, Array], Residuals]:
    x, start, w, u, b, lengths = _checked(x, h, w, u, b, lengths)
    active = active_steps(lengths, x.shape[1])
    b_input, b_recurrent = _biases(b)

    def step(h: Array, now: tuple[Array, Array | None]) -> tuple[Array, tuple[Array, ...]]:
        a, active = now
        a, s = add_bias(a, b_input), add_bias(recur(h, u), b_recurrent)  # (N, 3H)
        (a_r, a_z, a_n), (s_r, s_z, m) = (jnp.split(v, 3, axis=-1) for v in (a, s))
        r, z = jax.nn.sigmoid(a_r + s_r), jax.nn.sigmoid(a_z + s_z)
        n = jnp.tanh(a_n + r * m)
        h_new = ((1 - z) * n + z * h.astype(z.dtype)).astype(h.dtype)
        kept = tuple(v.astype(h.dtype) for v in (r, z, n, m))
        return where_active(active, h_new, h), (where_active(active, h_new, 0), *kept)

    a = project(where_active(active, steps_first(x), 0), w)  # (T, N, 3H)
    h, (y, *kept) = jax.lax.scan(step, start, (a, active), reverse=reverse)
    y = steps_first(y)  # (N, T, H)
    return (y, h), (x, start, w, u, lengths, y, *kept)


def gru_backward(
    res: Residuals, cotangents: tuple[Array, Array], *, reverse: bool
) -> tuple[Array | None, ...]:
    x, h, w, u, lengths, y, *kept = res
    dy, dh = cotangents
    active = active_steps(lengths, x.shape[1])
    x, dy = (where_active(active, steps_first(v), 0) for v in (x, dy))  # (T, N, ...)
    h_before = before_each_step(h, steps_first(y), active, reverse)  # (T, N, H)
    ut, precise = u.T, accumulator(x)  # a transposed operand inside a loop can be slow

    def step(
        carry: tuple[Array, Array], now: tuple[Array, Array | None, *tuple[Array, ...]]
    ) -> tuple[tuple[Array, Array], Array]:
        (dh, ds), (t, active, *arrays) = carry, now
        dy, h_before, r, z, n, m = (v.astype(precise) for v in arrays)
        dh_inside = dh + dy
        da_n = dh_inside * (1 - z) * (1 - n) * (1 + n)  # where n is near 1, 1 - n² loses digits
        da_z = dh_inside * (h_before - n) * z * (1 - z)
        da_r = da_n * m * r * (1 - r)
        ds = with_step(ds, t, [where_active(active, v, 0) for v in (da_r, da_z, da_n * r)])
        dh = where_active(active, dh_inside * z + recur(ds[t], ut), dh)
        return (dh, ds), where_active(active, da_n, 0).astype(ut.dtype)

    start = dh.astype(precise), unwritten(dy, u.shape[1])
    steps = jnp.arange(dy.shape[0]), active, dy, h_before, *kept
    (dh, ds), da_n = jax.lax.scan(step, start, steps, reverse=not reverse)
    ds, hidden = ds[: dy.shape[0]], h.shape[1]  # (T, N, 3H)
    da = jnp.concatenate([ds[..., : 2 * hidden], da_n], axis=-1)  # (T, N, 3H)
    dw, du = weight_gradient(x, da), weight_gradient(h_before, ds)
    of_gates, of_m = jnp.split(bias_gradient(ds), [2 * hidden])
    db = jnp.concatenate([of_gates, bias_gradient(da_n), of_m])  # (4H,)
    dx = steps_first(where_active(active, input_gradient(da, w), 0))  # (N, T, D)
    return dx, dh.astype(h.dtype), dw, du, db, None


def _biases(b: Array) -> tuple[Array, Array]:
    """What is added to x w, and what to h u, each (3H,)."""
    hidden = b.shape[0] // 4
    return b[: 3 * hidden], jnp.concatenate([jnp.zeros_like(b[: 2 * hidden]), b[3 * hidden :]])


def _checked(
    x: ArrayLike, h: ArrayLike, w: ArrayLike, u: ArrayLike, b: ArrayLike, lengths: ArrayLike | None
) -> tuple[*tuple[Array, ...], Array | None]:
    return checked("gru", x, {"h": h}, w, u, b, lengths, gates=3, biases=4)


gru.defvjp(gru_forward, gru_backward)


@gru.defcases
def gru_cases(key: Key) -> Iterator[Case]:
    def arrays(rows: int, steps: int, depth: int, hidden: int) -> tuple[Array, ...]:
        shapes = (
            *((rows, steps, depth), (rows, hidden)),
            *((depth, 3 * hidden), (hidden, 3 * hidden), (4 * hidden,)),
        )
        return tuple(normal(jax.random.fold_in(key, i), s) for i, s in enumerate(shapes))

    yield Case("sequences", arrays(2, 4, 3, 4))
    yield Case("from the end", arrays(3, 3, 2, 4), {"reverse": True})
    padded = arrays(3, 4, 2, 3)
    yield Case("lengths", (*padded, jnp.array([4, 2, 0])))
    yield Case("lengths from the end", (*padded, jnp.array([1, 4, 3])), {"reverse": True})
    yield Case("size one", arrays(1, 1, 1, 1))
    yield Case("no steps", arrays(2, 0, 3, 4))
    yield Case("no rows", arrays(0, 3, 3, 4))
