r"""
Step 1: one query
=================

Attention is a weighted mean: a query looks at some keys, and takes of each value as much as its key
fits. This step does it for one query, by hand, both ways. All of attention's backward pass rests on
one line of it, the error signal of the scores.
"""

import jax
import jax.numpy as jnp
import numpy as np
from the_lecture import COLOURS, Verification, new_figure, save

import funcnn as fnn

jax.config.update("jax_enable_x64", True)  # derivatives are compared in double precision
verification = Verification("Attention, step 1, one query")
random = np.random.default_rng(1)

# %%
# Forward
# -------
# A query :math:`q` has :math:`W` numbers, and so has each of the :math:`S` keys :math:`k_s`; a
# value :math:`v_s` has :math:`V`. The score of a key is its product with the query, the weights are
# the softmax of the scores, and the output is the weighted mean of the values:
#
# .. math::
#    z_s = c \, q \cdot k_s, \qquad p_s = \frac{e^{z_s}}{\sum_r e^{z_r}}, \qquad
#    y = \sum_s p_s v_s
#
# The scale :math:`c = 1 / \sqrt{W}` keeps the scores from growing with :math:`W`. Papers often
# write :math:`o` for :math:`y`.

W, S, V = 4, 6, 3
q, k, v = random.normal(size=W), random.normal(size=(S, W)), random.normal(size=(S, V))
c = W**-0.5

z = c * k @ q  # (S)
p = np.exp(z - z.max()) / np.sum(np.exp(z - z.max()))  # (S)
y = p @ v  # (V)

# %%
# We check against the same in plain ``jax.numpy``. Its arguments ``dz`` and ``dp`` are zeros, added
# to the scores and to the weights: the gradients by them are the error signals of both.


@jax.jit
def plain(q, k, v, dz, dp):
    e = jnp.exp(c * k @ q + dz)
    return (e / jnp.sum(e) + dp) @ v


nothing = np.zeros(S)
verification.equal("A1", "y = sum p v", y, plain(q, k, v, nothing, nothing), "plain jax.numpy")
verification.equal("A1", "the weights sum to 1", p.sum(), 1.0, "1")

# %%
# Backward, first the easy half
# -----------------------------
# From above comes :math:`dy`, the derivative of the loss by :math:`y`. The output is a product of
# the weights and the values, and each gets the other one's share:
#
# .. math:: dv_s = p_s \, dy, \qquad dp_s = dy \cdot v_s
#
# :math:`dp_s` says how much the loss would grow if this value counted more.

dy = random.normal(size=V)
dv = np.outer(p, dy)  # (S, V)
dp = v @ dy  # (S)

# %%
# Through the softmax
# -------------------
# No weight can grow alone: the others must shrink, because all of them sum to 1. The derivative of
# the softmax is a matrix without zeros,
#
# .. math::
#    \frac{\partial p_r}{\partial z_s} = p_r ([r = s] - p_s), \qquad J = \mathrm{diag}(p) - p p^\top
#
# Multiply :math:`dp` with it, and the matrix is gone:
#
# .. math:: dz_s = \sum_r dp_r \, p_r ([r = s] - p_s) = p_s \Bigl( dp_s - \sum_r p_r \, dp_r \Bigr)
#
# The sum is the mean of :math:`dp` under the weights: one number for the whole row. A score is
# pulled up where its value is better than what the query gets on average, in proportion to its
# weight. What is pulled up is taken from the others: the :math:`dz_s` sum to 0.

mean = p @ dp  # one number
dz = p * (dp - mean)  # (S)

J = np.diag(p) - np.outer(p, p)
true_J = jax.jit(jax.jacobian(jax.nn.softmax))(z)
verification.equal("A3", "J = diag(p) - p p^T", J, true_J, "jax.jacobian")
verification.equal("A3", "dz without the matrix", dz, J.T @ dp, "J^T dp")
verification.holds("A4", "the dz sum to 0", abs(dz.sum()) < 1e-15)

# %%
# Down to the query and the keys
# ------------------------------
# A score is a product again, of the query and a key:
#
# .. math:: dq = c \sum_s dz_s \, k_s, \qquad dk_s = c \, dz_s \, q
#
# That is the whole backward pass of one query. Each piece is compared with ``jax.grad``.

dq = c * dz @ k  # (W)
dk = c * np.outer(dz, q)  # (S, W)


def loss(q, k, v, dz, dp):
    return jnp.dot(dy, plain(q, k, v, dz, dp))


true = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3, 4)))(q, k, v, nothing, nothing)
true_dq, true_dk, true_dv, true_dz, true_dp = true
verification.equal("A2", "dv = p dy", dv, true_dv, "jax.grad")
verification.equal("A2", "dp = dy . v", dp, true_dp, "jax.grad")
verification.equal("A4", "dz = p (dp - sum p dp)", dz, true_dz, "jax.grad")
verification.equal("A5", "dq = c sum dz k", dq, true_dq, "jax.grad")
verification.equal("A5", "dk = c dz q", dk, true_dk, "jax.grad")

# %%
# And with finite numbers, which know nothing of derivatives: move each number of the query a little
# up and a little down, and see how far the loss goes.

h = 1e-5
quotients = []
for i in range(W):
    up, down = q.copy(), q.copy()
    up[i], down[i] = q[i] + h, q[i] - h
    rise = loss(up, k, v, nothing, nothing) - loss(down, k, v, nothing, nothing)
    quotients.append(rise / (2 * h))
verification.equal("A5", "dq", dq, quotients, "finite differences", limit=1e-8)

# %%
# ``fnn.rules.attention`` is this rule for all rows, heads and samples at once; of each it has one
# here.


@jax.jit
def of_funcnn(q, k, v, dy):
    y, pullback = jax.vjp(fnn.rules.attention, q, k, v)
    return y, *pullback(dy)


heads = (q.reshape(1, 1, 1, W), k.reshape(1, S, 1, W), v.reshape(1, S, 1, V))
found_y, found_dq, found_dk, found_dv = of_funcnn(*heads, dy.reshape(1, 1, 1, V))
verification.equal("A1", "fnn.rules.attention: y", found_y.ravel(), y, "y")
verification.equal("A5", "fnn.rules.attention: dq", found_dq.ravel(), dq, "dq")
verification.equal("A5", "fnn.rules.attention: dk", found_dk[0, :, 0], dk, "dk")
verification.equal("A2", "fnn.rules.attention: dv", found_dv[0, :, 0], dv, "dv")

# %%
# **The picture.** Left, the weights. Middle, :math:`dp`: the bars begin at their mean under the
# weights, and not at 0. Right, :math:`dz`: the length of each bar of the middle times its weight on
# the left. The crosses are what comes out if the softmax is treated as tanh is, each output with
# its own slope alone, :math:`p_s (1 - p_s) \, dp_s`.

wrong = p * (1 - p) * dp
wrong_by = np.linalg.norm(wrong - dz) / np.linalg.norm(dz)
verification.holds("A4", "the slope p (1 - p) alone is wrong", wrong_by > 0.1)

figure, axes = new_figure(1, 3, width=10, height=3.4)
keys = np.arange(1, S + 1)
axes[0].bar(keys, p, color=COLOURS[0])
axes[0].set_title("weights p")
axes[1].bar(keys, dp - mean, bottom=mean, color=COLOURS[2])
axes[1].axhline(mean, color="black", linestyle="--", linewidth=1, label="mean under p")
axes[1].set_title("dp, from their mean")
axes[2].bar(keys, dz, color=COLOURS[1], label="dz = p (dp - mean)")
axes[2].plot(keys, wrong, "x", color="black", label="p (1 - p) dp, wrong")
axes[2].set_title("error signal of the scores")
for axis in axes:
    axis.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axis.set(xlabel="key", xticks=keys)
for axis in axes[1:]:
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.35 * (high - low))  # for the legend
    axis.legend(loc="upper right", fontsize=9)
save(figure, "step_1_one_row")

# %%
# What was verified
# -----------------

verification.report()
