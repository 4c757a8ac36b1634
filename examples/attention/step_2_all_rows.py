r"""
Step 2: all queries, masks, and one number a row
================================================

Step 1 for :math:`T` queries at once is five products of matrices. A mask costs the backward pass
nothing. And the sum over the row that the error signal needs is known before the row is: that is
why attention can be taken back without keeping its weights.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle
from the_lecture import COLOURS, Verification, new_figure, save

import funcnn as fnn
from funcnn.pictures.style import POSITIVE, SIGNED

jax.config.update("jax_enable_x64", True)
verification = Verification("Attention, step 2, all queries")
random = np.random.default_rng(2)

# %%
# Matrices
# --------
# Queries, keys and values as rows: :math:`Q` is :math:`T \times W`, :math:`K` is
# :math:`S \times W`, :math:`V` has :math:`S` rows. Row :math:`t` of :math:`P` holds the weights of
# query :math:`t`; the softmax is that of each row.
#
# .. math:: Z = c \, Q K^\top, \qquad P = \mathrm{softmax}(Z), \qquad Y = P V
#
# A *causal* query sees what came before it and itself, no later key. What it does not see has the
# score :math:`-\infty`, and so the weight :math:`e^{-\infty} = 0`.

T = S = 7
W, V = 4, 3
q, k, v = random.normal(size=(T, W)), random.normal(size=(S, W)), random.normal(size=(S, V))
c = W**-0.5
seen = np.tril(np.ones((T, S), bool))  # query t sees the keys s <= t


def forward(q, k, v):
    z = np.where(seen, c * q @ k.T, -np.inf)  # (T, S)
    m = z.max(axis=1, keepdims=True)
    n = np.exp(z - m).sum(axis=1, keepdims=True)
    p = np.exp(z - m) / n
    return p @ v, p, m, n


y, p, m, n = forward(q, k, v)


@jax.jit
def plain(q, k, v, dz):
    z = jnp.where(seen, c * q @ k.T + dz, -jnp.inf)
    e = jnp.exp(z)
    return e / jnp.sum(e, axis=1, keepdims=True) @ v


nothing = np.zeros((T, S))
verification.equal("A6", "Y = P V", y, plain(q, k, v, nothing), "plain jax.numpy")

# %%
# Backward
# --------
# Step 1, row by row, is
#
# .. math::
#    dV = P^\top dY, \qquad dP = dY \, V^\top, \qquad
#    dZ = P \odot (dP - \mathrm{rowsum}(P \odot dP))
#
# .. math:: dQ = c \, dZ \, K, \qquad dK = c \, dZ^\top Q
#
# A key and a value are used by all queries, and their gradients are sums over these: that is what
# the transposed matrices do.

dy = random.normal(size=(T, V))
dv = p.T @ dy  # (S, V)
dp = dy @ v.T  # (T, S)
dz = p * (dp - np.sum(p * dp, axis=1, keepdims=True))  # (T, S)
dq = c * dz @ k  # (T, W)
dk = c * dz.T @ q  # (S, W)


def loss(q, k, v, dz):
    return jnp.sum(dy * plain(q, k, v, dz))


true_dq, true_dk, true_dv, true_dz = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(q, k, v, nothing)
for name, found, truth in (
    ("dV = P^T dY", dv, true_dv),
    ("dQ = c dZ K", dq, true_dq),
    ("dK = c dZ^T Q", dk, true_dk),
    ("dZ = P (dP - rowsum(P dP))", dz, true_dz),
):
    verification.equal("A6", name, found, truth, "jax.grad")

h, quotients = 1e-5, np.zeros_like(k)
for place in np.ndindex(k.shape):
    step = np.zeros_like(k)
    step[place] = h
    quotients[place] = np.sum(dy * (forward(q, k + step, v)[0] - forward(q, k - step, v)[0]))
verification.equal("A6", "dK", dk, quotients / (2 * h), "finite differences", limit=1e-8)

# %%
# The mask is in the weights already
# ----------------------------------
# The backward pass above does not know of the mask. It need not: where a key is not seen
# :math:`p = 0`, and :math:`dz = p \, (\ldots)` is 0 with it. Whatever stands there cannot get
# through, even if it is large.

verification.holds("A7", "dz is 0 where a key is not seen", np.all(dz[~seen] == 0))

# %%
# One case needs care: a query that sees nothing, as in a sample that is all padding. Its softmax is
# 0/0. The rule says :math:`y = 0` and sends nothing back; the plain formula makes NaN.

row_3_sees_nothing = (seen & (np.arange(T) != 3)[:, None])[None, None]  # (1, 1, T, S)


@jax.jit
def of_funcnn(q, k, v, dy):
    attention = functools.partial(fnn.rules.attention, mask=row_3_sees_nothing)
    y, pullback = jax.vjp(attention, q, k, v)
    return y, *pullback(dy)


heads = [a[None, :, None] for a in (q, k, v, dy)]  # (1, T, 1, W)
found, *cotangents = of_funcnn(*heads)
verification.holds("A7", "a query that sees nothing has y = 0", np.all(found[0, 3] == 0))
verification.holds("A7", "and dq = 0", np.all(cotangents[0][0, 3] == 0))
others = np.arange(T) != 3
verification.equal("A7", "the others stay", cotangents[0][0, others, 0], dq[others], "dQ")
from_others = c * dz[others].T @ q[others]  # (S, W)
verification.equal("A7", "what they send", cotangents[1][0, :, 0], from_others, "dK")
print("plain softmax of a row that sees nothing:", jax.nn.softmax(jnp.full(3, -jnp.inf)))

# %%
# The sum over the row is there already
# -------------------------------------
# Each :math:`dz_{ts}` needs a sum over its whole row, :math:`\sum_r p_{tr} \, dp_{tr}`. Put in what
# :math:`dp` is:
#
# .. math::
#    \Delta_t = \sum_r p_{tr} (dy_t \cdot v_r) = dy_t \cdot \sum_r p_{tr} v_r = dy_t \cdot y_t
#
# It is the product of two short rows, the output and its error signal, both of which are there.
# Nobody has to go along the row for it.

delta = np.sum(dy * y, axis=1)  # (T)
verification.equal("A8", "delta = dy . y", delta, np.sum(p * dp, axis=1), "rowsum(P dP)")
verification.equal("A8", "dZ from delta", p * (dp - delta[:, None]), true_dz, "jax.grad")

# %%
# Any weight, alone
# -----------------
# The weight of one pair needs a sum over its row, too, the one in the softmax. One number a row
# replaces it, the logarithm of that sum:
#
# .. math:: l_t = \log \sum_s e^{z_{ts}}, \qquad p_{ts} = e^{z_{ts} - l_t}
#
# Now each pair stands alone. From :math:`q_t, k_s, v_s, dy_t` and the two numbers :math:`l_t` and
# :math:`\Delta_t` follow its weight and its error signal, whatever the other pairs are. The forward
# pass may forget :math:`P`: the backward pass makes of it what it needs, when it needs it.

lse = (m + np.log(n))[:, 0]  # (T)


def pair(t, s):
    """p and dz of one pair, from its own rows and two numbers."""
    weight = np.exp(c * q[t] @ k[s] - lse[t])
    return weight, weight * (dy[t] @ v[s] - delta[t])


pairs = [(t, s) for t in range(T) for s in range(t + 1)]
alone = np.array([pair(t, s) for t, s in pairs])
t, s = np.array(pairs).T
verification.equal("A9", "each p alone", alone[:, 0], p[t, s], "P")
verification.equal("A9", "each dz alone", alone[:, 1], true_dz[t, s], "jax.grad")

# %%
# On paper :math:`l_t` is enough. In float32 it is rounded: beside a score of 1,000 the spacing of
# numbers is 6e-5, and every weight of the row is wrong by as much. funcnn keeps the largest score
# :math:`m_t` and the sum :math:`n_t = \sum_s e^{z_{ts} - m_t}` apart: the largest score meets
# itself, and nothing is lost.

far = (1000 + random.normal(size=64)).astype(np.float32)
exact = np.exp(far.astype(float) - far.max()) / np.sum(np.exp(far.astype(float) - far.max()))
largest, total = far.max(), np.sum(np.exp(far - far.max()))
by_one = np.exp(far - (largest + np.log(total)))
by_two = np.exp(far - largest) / total
error_of_one, error_of_two = (np.max(np.abs(p / exact - 1)) for p in (by_one, by_two))
verification.holds("A9", "two numbers lose nothing", error_of_two < 1e-6 < error_of_one)
verification.measured(
    "A9", "float32, scores near 1,000", f"one number {error_of_one:.0e}, two {error_of_two:.0e}"
)

# %%
# **The picture.** White is what is not seen. Each row of :math:`P` sums to 1 and each row of
# :math:`dZ` to 0: what one key wins the others lose. The first query has one key to look at, its
# weight is 1 whatever the score, and its :math:`dz` is 0. On the right :math:`\Delta`, the mean of
# each row of :math:`dP` under the weights.

figure, axes = new_figure(1, 4, width=11, height=3.0, width_ratios=[1, 1, 1, 0.8])
for axis, matrix, title, colours, limits in (
    (axes[0], p, "P, weights", POSITIVE, (0, 1)),
    (axes[1], dp, "dP = dY Vᵀ", SIGNED, np.abs(dp[seen]).max() * np.array([-1, 1])),
    (axes[2], dz, "dZ = P (dP - Δ)", SIGNED, np.abs(dz).max() * np.array([-1, 1])),
):
    shown, (low, high) = np.where(seen, matrix, np.nan), limits
    image = axis.imshow(shown, cmap=colours, vmin=low, vmax=high)
    figure.colorbar(image, ax=axis, shrink=0.7)
    axis.set(title=title, xlabel="key", xticks=range(S), yticks=range(T))
    axis.set_xticklabels(range(1, S + 1))
    axis.set_yticklabels(range(1, T + 1))
    axis.add_patch(Rectangle((-0.5, -0.5), S, T, fill=False, edgecolor="0.6"))
axes[0].set_ylabel("query")
axes[3].barh(np.arange(T), delta, color=COLOURS[2])
axes[3].axvline(0, color="0.6", linewidth=0.8)
axes[3].set_box_aspect(1)
axes[3].set(title="Δ = dy · y", yticks=range(T), yticklabels=range(1, T + 1), ylim=(T - 0.5, -0.5))
save(figure, "step_2_all_rows")

# %%
# What was verified
# -----------------

verification.report()
