"""The last layer of a large vocabulary and its loss in one: the logits never stand whole."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from funcnn.core.devices import device_count, varying_as
from funcnn.core.registry import Case, rule
from funcnn.core.usage import is_positive_integer
from funcnn.rules.losses.cross_entropy import softmax_cross_entropy
from funcnn.rules.losses.cut import Cut
from funcnn.rules.losses.weighing import counted
from funcnn.rules.shared.arguments import describe, floating, is_known, same_dtype
from funcnn.rules.shared.case_data import normal, uniform
from funcnn.rules.shared.numerics import accumulator, contract
from funcnn.rules.softmax import largest
from funcnn.types import Array, ArrayLike, DType, Key, PyTree, Residuals

# The logits of one chunk of rows, in the dtype of x, take at most so many bytes on a device. A
# product with fewer rows is slow, and the sum of dw, as large as w, is read and written once each.
CHUNK_BYTES = 2**24
# Where `jax.export` leaves the number of rows open, they are filled up to a multiple of the chunk.
OPEN_CHUNK = 256  # rows, at most


@rule
def linear_cross_entropy(
    x: ArrayLike,
    w: ArrayLike,
    labels: ArrayLike,
    b: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    *,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignored: int | None = None,
    chunk: int | None = None,
) -> Array:
    r"""Softmax cross entropy of the logits z = x w + b, summed over rows: L = Σ_n v_n l_n.

    Shapes: x (..., D), w (D, V), b (V,) or None, of one floating-point dtype; labels (...) integers
    in [0, V); weights v (...) floating point, or None for 1 / (number of rows that count), which
    makes L the mean. L is a scalar in the accumulator's dtype, float32 for bfloat16.
    l_n = log Σ_j exp z_nj - Σ_j t_nj z_nj + λ (log Σ_j exp z_nj)², with the target t of
    `softmax_cross_entropy` and its `smoothing`, and λ = z_loss. A row whose label is `ignored`
    counts nowhere: no loss, no gradient, and the mean is over the others (0 where none is left);
    its x may be anything. `chunk` is how many rows are taken at a time, of all devices together.

    Derivation: with p = softmax(z), s = log Σ exp z and dL the cotangent of L,
        dz_n = v_n (p_n - t_n + 2 λ s_n p_n)
        dx_n = dL dz_n wᵀ    dw = dL Σ_n x_nᵀ dz_n    db = dL Σ_n dz_n    dv_n = dL l_n.
    Everything but dL is known in the forward pass. So for each chunk of rows z, l, dz, dx and
    the chunk's part of dw are computed at once and z is dropped; the backward pass only
    multiplies by dL. That is why the rule returns one number: a cotangent for each row would
    belong inside the sum of dw, which is over by then, and the logits would have to be computed
    again: four products of N D V instead of three. What a row weighs is an argument instead,
    and gets its own gradient dv. p - t is that of `softmax_cross_entropy`, whose digits
    survive where p is 1 but for rounding. dw is summed in float32 at least.
    Kept for the backward pass: dx, dw, db and l, each in the dtype and shape of its argument, for
    dL = 1 and before the mean's 1/n: in float16 they do not vanish, and a scaled loss can help.
    There are no kinks. NaN in a row makes L and dw NaN; so does a label outside [0, V).
    Not differentiated, the rule computes the loss of chunk after chunk and no gradient.

    Earns its place by memory in large vocabularies, and against `jax.checkpoint` round the
    chunks by a quarter of the operations: for 2,048 rows of 512 numbers and 32,000 classes in
    float32, 82 MB of temporaries on a CPU where autodiff takes 524. Where w is small it gains
    accuracy only. A larger `chunk` costs memory and saves passes over dw.

    Source: Hsu et al., Liger kernel, 2024 (the gradient in the forward pass); Chowdhery et al.,
    PaLM, 2022 (z_loss); `softmax_cross_entropy` for the rest.

    Raises:
        TypeError: x, w, b or weights is not floating point, the dtypes of x, w and b differ, or the
            labels are no integers.
        ValueError: the shapes do not fit, or an option is outside its range.

    >>> x, w = jnp.array([[1.0], [0.0]]), jnp.array([[20.0, 0.0]])
    >>> linear_cross_entropy(x, w, jnp.array([0, -1]), ignored=-1)
    Array(2.0611537e-09, dtype=float32)
    >>> jax.grad(linear_cross_entropy, argnums=1)(x, w, jnp.array([0, -1]), ignored=-1)
    Array([[-2.0611537e-09,  2.0611537e-09]], dtype=float32)
    """
    x, w, labels, b, weights = _checked(x, w, labels, b, weights, z_loss, chunk)
    precise = accumulator(x)
    mask, n = _mask_and_count(labels, ignored, precise)
    z = jnp.matmul(jnp.where(mask[..., None], x, 0), w, preferred_element_type=precise)  # (..., V)
    if b is not None:
        z = z + jnp.broadcast_to(b.astype(precise), z.shape)
    losses = softmax_cross_entropy.reference(z, jnp.where(mask, labels, 0), smoothing=smoothing)
    if z_loss:
        losses = losses + z_loss * jax.nn.logsumexp(z, -1) ** 2
    losses = jnp.where(mask, losses, 0)  # (...)
    if weights is None:
        return jnp.sum(losses) / n
    return jnp.sum(jnp.where(mask, weights.astype(precise), 0) * losses)


def linear_cross_entropy_forward(
    x: Array,
    w: Array,
    labels: Array,
    b: Array | None,
    weights: Array | None,
    *,
    smoothing: float,
    z_loss: float,
    ignored: int | None,
    chunk: int | None,
) -> tuple[Array, Residuals]:
    x, w, labels, b, weights = _checked(x, w, labels, b, weights, z_loss, chunk)
    precise = accumulator(x)
    mask, n = _mask_and_count(labels, ignored, precise)
    v = jnp.ones(labels.shape, precise) if weights is None else weights.astype(precise)
    count = labels.size
    devices = device_count(x, labels)
    cut = Cut(count, *_chunks(count, w, chunk, devices), spread=devices > 1)
    rows = (x.reshape(count, x.shape[-1]), labels.ravel(), mask.ravel(), v.ravel())  # (N, ...)
    rows = tuple(map(cut.laid, rows))

    def step(sums: dict[str, PyTree], number: Array) -> tuple[dict[str, PyTree], None]:
        x, labels, mask, v = (cut.taken(a, number) for a in rows)
        mask = cut.for_the_first_time(mask, number)
        x, labels, v = (jnp.where(_like(mask, a), a, 0) for a in (x, labels, v))
        l, dx, dw, db = _chunk(x, w, labels, b, v, mask, smoothing, z_loss)
        totals = jax.tree.map(jnp.add, sums["totals"], (jnp.sum(v * l), dw, db))
        places = jax.tree.map(lambda a, new: cut.added(a, new, number), sums["rows"], (dx, l))
        return {"totals": totals, "rows": places}, None

    shapes = (jax.ShapeDtypeStruct((), precise), w, b)
    totals = jax.tree.map(lambda a: jnp.zeros(a.shape, precise), shapes)
    of_rows = (jnp.zeros_like(rows[0]), jnp.zeros(rows[1].shape, precise))
    sums = {"totals": totals, "rows": of_rows}
    sums, _ = jax.lax.scan(step, varying_as(sums, rows, w, b), jnp.arange(cut.chunks))
    (loss, dw, db), of_rows = sums["totals"], sums["rows"]
    dx, l = map(cut.as_given, of_rows)  # (N, ...)
    share = 1 / n if weights is None else jnp.ones((), precise)
    gradient = (dx.reshape(x.shape), dw, None, db, None if weights is None else l.reshape(v.shape))
    arguments = (x, w, None, b, weights)
    return loss * share, (jax.tree.map(lambda g, a: g.astype(a.dtype), gradient, arguments), share)


def _chunk(
    x: Array,
    w: Array,
    labels: Array,
    b: Array | None,
    v: Array,
    mask: Array,
    smoothing: float,
    z_loss: float,
) -> tuple[Array, Array, Array, Array | None]:
    """Losses (C,) and, for the sum of v times them, dx (C, D), dw (D, V) and db (V,)."""
    z = contract(x, w, 1, 0)  # (C, V)
    if b is not None:
        z = z + jnp.broadcast_to(b.astype(z.dtype), z.shape)
    static = {"smoothing": smoothing, "ignored": None}
    losses, res = softmax_cross_entropy.forward(z, labels, None, **static)
    dz, *_ = softmax_cross_entropy.backward(res, v, **static)
    if z_loss:
        e, _, total, *_ = res  # exp(z - largest), its sum over the others and over all, the labels
        s = jnp.log(total) + jnp.squeeze(largest(z, -1), -1)
        losses = losses + z_loss * s * s
        dz = dz + e * (2 * z_loss * v * s / total)[:, None]
    losses, dz = jnp.where(mask, losses, 0), jnp.where(mask[:, None], dz, 0)
    db = None if b is None else jnp.sum(dz, 0)
    dz = dz.astype(x.dtype)
    dx = jnp.where(mask[:, None], contract(dz, w, 1, 1), 0).astype(x.dtype)  # also for a w of NaN
    return losses, dx, contract(x, dz, 0, 0), db


def linear_cross_entropy_backward(
    res: Residuals, dl: Array, **static: object
) -> tuple[Array | None, ...]:
    gradient, share = res
    *others, weights = (
        None if g is None else (g.astype(dl.dtype) * (dl * share)).astype(g.dtype) for g in gradient
    )
    return *others, weights


def _like(mask: Array, a: Array) -> Array:
    """The mask of rows with the rank of a."""
    return mask.reshape(mask.shape + (1,) * (a.ndim - 1))


def _chunks(rows: int, w: Array, chunk: int | None, devices: int) -> tuple[int, int]:
    """How many chunks, and of how many rows: of each device multiples of 16, for matrix units."""
    unit = 16 * devices
    most = max(16, CHUNK_BYTES // (w.shape[1] * w.dtype.itemsize) // 16 * 16) * devices
    if not is_known(rows):
        chunk = chunk or min(most, OPEN_CHUNK)
        return -(-rows // chunk), chunk
    chunk = chunk or most
    chunks = max(1, math.ceil(rows / chunk))
    size = math.ceil(rows / chunks)
    return chunks, min(rows, chunk, math.ceil(size / unit) * unit)


def _mask_and_count(labels: Array, ignored: int | None, dtype: DType) -> tuple[Array, Array]:
    """Which rows count, and how many, at least 1."""
    mask = counted("linear_cross_entropy", labels, ignored)
    mask = jnp.ones(labels.shape, bool) if mask is None else mask
    return mask, jnp.maximum(jnp.sum(mask, dtype=dtype), 1)


def _checked(
    x: ArrayLike,
    w: ArrayLike,
    labels: ArrayLike,
    b: ArrayLike | None,
    weights: ArrayLike | None,
    z_loss: float,
    chunk: int | None,
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    name = "linear_cross_entropy"
    (x, w), labels = floating(name, x=x, w=w), jnp.asarray(labels)
    b = None if b is None else floating(name, b=b)[0]
    weights = None if weights is None else floating(name, weights=weights)[0]
    same_dtype(name, x=x, w=w, b=b)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name}: labels must be integers, one for each row, found {describe(labels)}"
        )
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[0] or w.shape[1] == 0:
        raise ValueError(
            f"{name}: x (..., D) needs w (D, V) with V at least 1, "
            f"found {describe(x)} and {describe(w)}"
        )
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"{name}: b must have shape ({w.shape[1]},), found {describe(b)}")
    for what, a in {"labels": labels, "weights": weights}.items():
        if a is not None and a.shape != x.shape[:-1]:
            raise ValueError(
                f"{name}: {what} must have one number for each row of x {describe(x)}, "
                f"found {describe(a)}"
            )
    if chunk is not None and not is_positive_integer(chunk):
        raise ValueError(f"{name}: chunk is a positive number of rows or None, found {chunk!r}")
    if not 0 <= z_loss < math.inf:
        raise ValueError(f"{name}: z_loss must be at least 0 and finite, found {z_loss}")
    # A narrow integer cannot count the classes.
    return x, w, labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32), b, weights


linear_cross_entropy.defvjp(linear_cross_entropy_forward, linear_cross_entropy_backward)


@linear_cross_entropy.defcases
def linear_cross_entropy_cases(key: Key) -> Iterator[Case]:
    kx, kw, kb, kv = jax.random.split(key, 4)

    # A function of x w: both sides are Σ dz (x w).
    def euler(
        args: tuple[PyTree, ...], dl: Array, cotangents: tuple[PyTree, ...]
    ) -> tuple[Array, Array]:
        return jnp.sum(args[0] * cotangents[0]), jnp.sum(args[1] * cotangents[1])

    def accurate(
        x: Array,
        w: Array,
        labels: Array,
        b: Array | None = None,
        v: Array | None = None,
        **static: object,
    ) -> Array:
        # log(1 + Σ_{j≠y} exp(z_j - z_y)): automatic differentiation sums the others by itself.
        z = x @ w
        is_label = jnp.arange(z.shape[1])[None] == labels[:, None]
        z_label = jnp.sum(jnp.where(is_label, z, 0), -1, keepdims=True)
        others = jnp.sum(jnp.where(is_label, 0, jnp.exp(z - z_label)), -1)
        return jnp.mean(jnp.log1p(others)).astype(accumulator(x))

    laws = {"sum x dx = sum w dw": euler}
    x, w, b, v = normal(kx, (7, 3)), normal(kw, (3, 5)), normal(kb, (5,)), uniform(kv, (7,))
    labels = jnp.array([0, 4, 2, 2, 1, 3, 0])
    every = {"smoothing": 0.125, "z_loss": 0.25, "ignored": 2, "chunk": 3}
    yield Case("rows", (x, w, labels, b, v), laws=laws)
    yield Case("every option", (x, w, labels, b, v), every, laws=laws)
    yield Case("mean of chunks", (x, w, labels), {"chunk": 2, "ignored": 4}, laws=laws)
    cube = (normal(kx, (2, 3, 2)), normal(kw, (2, 11)), jnp.array([[0, 5, 10], [7, 7, 1]]))
    static = {"smoothing": 0.1, "chunk": 4}
    yield Case("cube", (*cube, None, uniform(kv, (2, 3))), static, laws=laws)
    yield Case("vector", (normal(kx, (3,)), w, jnp.array(4), b), {"z_loss": 0.5}, laws=laws)
    yield Case("narrow labels", (x, w, labels.astype(jnp.uint8)), {"ignored": -1, "chunk": 1})
    yield Case("nothing left", (x[:2], w, jnp.array([9, 9]), b, v[:2]), {"ignored": 9})
    yield Case("size one", (jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros(1, int)))
    yield Case("no rows", (jnp.zeros((0, 3)), w, jnp.zeros(0, int), b))
    yield Case("no inputs", (jnp.zeros((7, 0)), jnp.zeros((0, 5)), labels, b, v))
    tail = jnp.array([[20.0, 0.0, -3.5], [0.0, 40.0, 39.5], [-16.0, -8.0, 24.0]])
    for label in range(3):
        args = (tail, jnp.eye(3), jnp.full(3, label))
        yield Case(f"tail of {label}", args, {"chunk": 2}, laws=laws, reference=accurate)
