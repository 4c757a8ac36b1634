r"""
Step 3: in blocks, never all pairs at once
==========================================

With :math:`T` places there are :math:`T^2` pairs. Step 2 showed that the backward pass can make
each again. Here both passes go from block to block, and nothing of the size :math:`T \times T` is
ever there. This is what Dao et al. call FlashAttention (2022).
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle
from the_lecture import COLOURS, Verification, new_figure, save

import funcnn as fnn

jax.config.update("jax_enable_x64", True)
verification = Verification("Attention, step 3, blocks")
random = np.random.default_rng(3)

T, W, BLOCK = 14, 4, 4
q, k, v = (random.normal(size=(T, W)) for _ in range(3))
c = W**-0.5
place = np.arange(T)

# %%
# A softmax that does not know its end
# ------------------------------------
# The softmax divides by a sum over the row, and takes the largest score off before it raises
# :math:`e` to it, or there would be overflow. Both are known at the end of the row only. Milakov
# and Gimelshein (2018) keep three things of the keys so far, the largest score :math:`m`, the sum
# :math:`n = \sum e^{z_s - m}`, and the weighted sum of values :math:`a = \sum e^{z_s - m} v_s`. A
# new block of keys with scores :math:`z` makes of them
#
# .. math::
#    m' = \max(m, \max z), \qquad n' = n \, e^{m - m'} + \sum e^{z_s - m'}, \qquad
#    a' = a \, e^{m - m'} + \sum e^{z_s - m'} v_s
#
# The factor :math:`e^{m - m'}` brings the old sums to the new :math:`m`; at the beginning
# :math:`m = -\infty`, and it is 0. At any time :math:`a / n` is attention to the keys so far,
# exactly.


def scores(rows, columns):
    z = c * q[rows] @ k[columns].T
    return np.where(place[rows, None] >= place[None, columns], z, -np.inf)


def forward():
    y, shift, total, so_far, largest = np.zeros((T, W)), np.zeros(T), np.zeros(T), [], 0
    for i in range(0, T, BLOCK):
        rows = slice(i, min(i + BLOCK, T))
        count = len(place[rows])
        m, n, a = np.full(count, -np.inf), np.zeros(count), np.zeros((count, W))
        for j in range(0, i + 1, BLOCK):  # of later keys these queries see none
            columns = slice(j, min(j + BLOCK, T))
            z = scores(rows, columns)  # (rows, columns)
            m_new = np.maximum(m, z.max(axis=1))
            e, shrink = np.exp(z - m_new[:, None]), np.exp(m - m_new)
            n = n * shrink + e.sum(axis=1)
            a = a * shrink[:, None] + e @ v[columns]
            m = m_new
            so_far.append((rows, columns, m, n, a))
            largest = max(largest, z.size)
        y[rows], shift[rows], total[rows] = a / n[:, None], m, n
    return y, shift, total, so_far, largest


y, shift, total, so_far, largest_forward = forward()


@jax.jit
def plain(q, k, v, places=place):
    z = jnp.where(places[:, None] >= jnp.arange(len(k)), c * q @ k.T, -jnp.inf)
    e = jnp.exp(z)
    return e / jnp.sum(e, axis=1, keepdims=True) @ v


verification.equal("A10", "y, block after block", y, plain(q, k, v), "plain jax.numpy")
for rows, columns, _, n, a in so_far[3:6]:
    some = k[: columns.stop], v[: columns.stop]
    what = f"queries {rows.start}.. after {columns.stop} keys: a / n"
    verification.equal("A10", what, a / n[:, None], plain(q[rows], *some, place[rows]), "plain")

# %%
# Backward, block after block
# ---------------------------
# From the forward pass come :math:`y` and, of each row, :math:`m` and :math:`n`. First
# :math:`\Delta_t = dy_t \cdot y_t`, then the same blocks again. In each the scores are made again,
# and from them :math:`p`, :math:`dp` and :math:`dz`. Its share is added to :math:`dq` of its
# queries and to :math:`dk, dv` of its keys, and the block is forgotten.

dy = random.normal(size=(T, W))


def backward(y, shift, total, dy):
    delta = np.sum(dy * y, axis=1)  # (T)
    dq, dk, dv, largest = np.zeros((T, W)), np.zeros((T, W)), np.zeros((T, W)), 0
    for i in range(0, T, BLOCK):
        rows = slice(i, min(i + BLOCK, T))
        for j in range(0, i + 1, BLOCK):
            columns = slice(j, min(j + BLOCK, T))
            p = np.exp(scores(rows, columns) - shift[rows, None]) / total[rows, None]
            dp = dy[rows] @ v[columns].T
            dz = p * (dp - delta[rows, None])  # (rows, columns)
            dq[rows] += c * dz @ k[columns]
            dk[columns] += c * dz.T @ q[rows]
            dv[columns] += p.T @ dy[rows]
            largest = max(largest, dz.size)
    return dq, dk, dv, largest


dq, dk, dv, largest_backward = backward(y, shift, total, dy)
truth = jax.jit(jax.grad(lambda q, k, v: jnp.sum(dy * plain(q, k, v)), (0, 1, 2)))(q, k, v)
for name, found, true in zip(("dq", "dk", "dv"), (dq, dk, dv), truth, strict=True):
    verification.equal("A11", f"{name}, block after block", found, true, "jax.grad")

largest = max(largest_forward, largest_backward)
verification.holds("A12", "no more than a block of pairs", largest == BLOCK**2)
count = sum(len(place[rows]) * len(place[columns]) for rows, columns, *_ in so_far)
print(f"pairs computed: {count} of {T * T}; at once: {largest}")

# %%
# The rule, and how one can tell
# ------------------------------
# ``fnn.rules.attention`` runs these loops, for all samples and heads at once, as one compiled loop
# each way.


def of_funcnn(q, k, v, block: int | None = BLOCK):
    return fnn.rules.attention(q, k, v, causal=True, block=block)


@jax.jit
def both_ways(q, k, v, dy):
    y, pullback = jax.vjp(of_funcnn, q, k, v)
    return y, *pullback(dy)


found = both_ways(*(a[None, :, None] for a in (q, k, v, dy)))  # each (1, T, 1, W)
for name, own, other in zip(("y", "dq", "dk", "dv"), (y, dq, dk, dv), found, strict=True):
    number = "A10" if name == "y" else "A11"
    verification.equal(number, f"fnn.rules.attention: {name}", other[0, :, 0], own, name)

# %%
# A program says which arrays it makes: ``jax.make_jaxpr`` prints each with its shape. Of the
# program of the gradient we take the largest, for 64 places with 8 numbers each, in blocks of 8.
# Nothing is computed for that.


def of_autodiff(q, k, v):
    """Plain attention of each sample and head, (B, T, H, W)."""
    in_batch = jax.vmap(lambda q, k, v: plain(q, k, v, jnp.arange(len(q))))
    return jax.vmap(in_batch, 2, 2)(q, k, v)


def largest_array(f, places, width):
    x = jax.ShapeDtypeStruct((1, places, 1, width), float)
    program = jax.make_jaxpr(jax.grad(lambda *heads: jnp.sum(f(*heads)), (0, 1, 2)))(x, x, x)
    shapes = re.findall(r"\w+\[([\d,]+)\]", str(program))
    return max(math.prod(map(int, shape.split(","))) for shape in shapes)


in_blocks = largest_array(lambda *heads: of_funcnn(*heads, block=8), 64, 8)
verification.holds("A12", "the rule's largest array is one like q", in_blocks == 64 * 8)
verification.holds("A12", "autodiff makes arrays T x T", largest_array(of_autodiff, 64, 8) == 64**2)

# %%
# And what is kept from the forward to the backward pass is what ``jax.vjp`` returns: its function
# is a tree of arrays. For the rule these are :math:`q, k, v, y` and two numbers a row; for autodiff
# also arrays of :math:`T \times T`. (``block=None`` is a block that the rule chooses itself.)


def kept(f, places, width=64):
    """How many numbers are kept from the forward to the backward pass; nothing is computed."""
    x = jax.ShapeDtypeStruct((1, places, 1, width), float)
    pullback = jax.eval_shape(lambda *heads: jax.vjp(f, *heads)[1], x, x, x)
    return sum(math.prod(a.shape) for a in jax.tree.leaves(pullback) if a.dtype == float)


lengths = [64, 256, 1024, 4096]
by_hand = [kept(lambda *heads: of_funcnn(*heads, block=None), length) for length in lengths]
automatic = [kept(of_autodiff, length) for length in lengths]
formula = [(4 * 64 + 2) * length for length in lengths]
verification.equal("A12", "kept by the rule: (4 W + 2) T", by_hand, formula, "the count")
verification.holds("A12", "autodiff: at least 2 T^2", automatic[-1] > 2 * 4096**2)
for length, hand, auto in zip(lengths, by_hand, automatic, strict=True):
    print(f"{length:>5} places: {hand:>10,} numbers by hand, {auto:>11,} by autodiff")

# %%
# **The picture.** Left, the pairs of blocks for the :math:`T = 14` places above, numbered in the
# order in which both passes take them; what is grey no query sees, and it is never computed.
# Middle, how the sums of the last query come together: :math:`a / n` of the four numbers of its
# output, after each block of keys. Right, what one head of :math:`W = 64` keeps for the backward
# pass.

figure, axes = new_figure(1, 3, width=11, height=3.7, width_ratios=[1, 1.1, 1.3])
axis = axes[0]
axis.add_patch(Rectangle((0, 0), T, T, facecolor="0.88"))
for number, (rows, columns, *_) in enumerate(so_far, 1):
    width, height = columns.stop - columns.start, rows.stop - rows.start
    corner = (columns.start, rows.start)
    axis.add_patch(Rectangle(corner, width, height, facecolor=COLOURS[4], edgecolor="white", lw=2))
    axis.text(
        corner[0] + 0.3 * width,
        corner[1] + 0.72 * height,
        number,
        ha="center",
        va="center",
        fontsize=9,
    )
axis.plot([0, T], [0, T], color="black", linewidth=0.8)
axis.set(xlim=(0, T), ylim=(T, 0), aspect="equal", xlabel="key", ylabel="query")
axis.set(xticks=range(0, T, BLOCK), yticks=range(0, T, BLOCK), title="pairs, block by block")

of_last = [(columns.stop, a[-1] / n[-1]) for rows, columns, _, n, a in so_far if rows.stop == T]
ends, means = zip(*of_last, strict=True)
for column in range(W):
    values = [mean[column] for mean in means]
    axes[1].plot(ends, values, "o-", color=COLOURS[column], markersize=4)
    axes[1].plot(ends[-1] + 0.9, y[-1, column], "_", color=COLOURS[column], markersize=14, mew=3)
axes[1].set(title="the last query's a / n", xlabel="keys seen so far", xticks=ends)
axes[1].text(0.98, 0.94, "dashes: y", transform=axes[1].transAxes, fontsize=9, ha="right")

axes[2].loglog(lengths, automatic, "s--", color=COLOURS[1], label="autodiff")
axes[2].loglog(lengths, by_hand, "o-", color=COLOURS[0], label="by hand: q, k, v, y, m, n")
axes[2].set(title="numbers kept, one head", xlabel="places T", xticks=lengths, xticklabels=lengths)
axes[2].minorticks_off()
axes[2].legend(fontsize=9, loc="upper left")
save(figure, "step_3_blocks")

# %%
# What was verified
# -----------------

verification.report()
