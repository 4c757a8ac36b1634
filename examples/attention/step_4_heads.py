r"""
Step 4: heads, shared keys, turned places
=========================================

What a transformer does around step 3. Heads cost nothing, keys that several heads share make one
sum, and rotary positions are a rotation, whose backward pass is the rotation back.
"""

import jax
import jax.numpy as jnp
import numpy as np
from the_lecture import COLOURS, Verification, new_figure, save

import funcnn as fnn
from funcnn.pictures.style import SIGNED

jax.config.update("jax_enable_x64", True)
verification = Verification("Attention, step 4, heads")
random = np.random.default_rng(4)

# %%
# Heads
# -----
# A row of :math:`D` numbers is cut into :math:`H` heads of :math:`W = D / H`, and each head does
# attention of its own. Cutting and putting together again are no computations. So each head has its
# own deltas, those of steps 1 to 3, and no head hears of another.
#
# There may be fewer heads of keys and values than of queries: :math:`K` key heads, each for a
# *group* of :math:`G = H / K` heads of queries (Ainslie et al., 2023). Head :math:`h` looks at key
# head :math:`\lfloor h / G \rfloor`. To write text, a model keeps the keys and values of all that
# came before, and these become smaller by :math:`G`.

T, H, K, W = 5, 4, 2, 4
G = H // K
q = random.normal(size=(T, H, W))
k, v = random.normal(size=(T, K, W)), random.normal(size=(T, K, W))
dy = random.normal(size=(T, H, W))
seen = np.tril(np.ones((T, T), bool))
c = W**-0.5


def one_head(q, k, v, dy):
    """y of one head, and dq, dk, dv: step 2."""
    z = np.where(seen, c * q @ k.T, -np.inf)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    y = p @ v
    dz = p * (dy @ v.T - np.sum(dy * y, axis=1, keepdims=True))
    return y, c * dz @ k, c * dz.T @ q, p.T @ dy


# %%
# Backward the group makes one sum. A key is used by :math:`G` heads, and as with a parameter that
# is used more than once, its gradient is the sum over its uses:
#
# .. math:: dk_s = \sum_{h \ \mathrm{of \ its \ group}} dk_s^{(h)}, \qquad
#           dv_s = \sum_{h \ \mathrm{of \ its \ group}} dv_s^{(h)}

y, dq = np.zeros_like(q), np.zeros_like(q)
dk, dv = np.zeros_like(k), np.zeros_like(v)
shares = []  # what each head sends to its keys
for h in range(H):
    y[:, h], dq[:, h], dk_h, dv_h = one_head(q[:, h], k[:, h // G], v[:, h // G], dy[:, h])
    dk[:, h // G] += dk_h
    dv[:, h // G] += dv_h
    shares.append(dk_h)


@jax.jit
def plain(q, k, v):
    z = c * jnp.einsum("thw,shw->hts", q, jnp.repeat(k, G, axis=1))
    p = jax.nn.softmax(jnp.where(seen, z, -jnp.inf), axis=-1)
    return jnp.einsum("hts,shw->thw", p, jnp.repeat(v, G, axis=1))


def loss(q, k, v):
    return jnp.sum(dy * plain(q, k, v))


true_dq, true_dk, true_dv = jax.jit(jax.grad(loss, (0, 1, 2)))(q, k, v)
verification.equal("A13", "y of all heads", y, plain(q, k, v), "plain jax.numpy")
verification.equal("A13", "dq, each head by itself", dq, true_dq, "jax.grad")
verification.equal("A14", "dk, summed over the group", dk, true_dk, "jax.grad")
verification.equal("A14", "dv, summed over the group", dv, true_dv, "jax.grad")

# %%
# Places
# ------
# Nothing so far knows where a key stands: with another order of keys and values the weighted mean
# stays as it is. *Rotary* positions (Su et al., 2021) turn each query and key by an angle that
# grows with its place :math:`t`. The :math:`W` numbers are taken as :math:`W / 2` pairs, pair
# :math:`i` being :math:`(x_i, x_{i + W/2})`, and each pair has its own speed:
#
# .. math::
#    R_t \begin{pmatrix} u \\ w \end{pmatrix} =
#    \begin{pmatrix} u \cos a - w \sin a \\ w \cos a + u \sin a \end{pmatrix}, \qquad
#    a = t \, b^{-2i/W}
#
# with a base :math:`b` of 10,000, here of 100. Both are turned, so a score depends on the
# difference of the places alone:
#
# .. math:: (R_t q) \cdot (R_s k) = q \cdot R_{s - t} \, k

BASE = 100.0


def turned(x, sign=1):
    """x (T, heads, W), each row turned by the angles of its place, or with sign -1 back."""
    half = x.shape[-1] // 2
    a = sign * np.arange(len(x))[:, None, None] * BASE ** (-np.arange(half) / half)  # (T, 1, W/2)
    u, w = x[..., :half], x[..., half:]
    return np.concatenate([u * np.cos(a) - w * np.sin(a), w * np.cos(a) + u * np.sin(a)], -1)


places = 8
same_q, same_k = (np.tile(random.normal(size=(1, 1, W)), (places, 1, 1)) for _ in range(2))
z = turned(same_q)[:, 0] @ turned(same_k)[:, 0].T  # (places, places)
for difference in (-3, 0, 2):
    diagonal = np.diagonal(z, difference)
    expected = np.full(len(diagonal), diagonal[0])
    what = f"scores of places that differ by {difference}"
    verification.equal("A15", what, diagonal, expected, "the first")
norms = np.sum(turned(same_q) ** 2, axis=-1)
verification.equal("A15", "turning keeps lengths", norms, np.sum(same_q**2, axis=-1), "|q|^2")

# %%
# Backward: turn back
# -------------------
# The rotation is linear, so the backward pass is the transposed matrix. That of a rotation is its
# inverse, the rotation by :math:`-a`:
#
# .. math:: dx = R_t^\top dy = R_{-t} \, dy
#
# The same code with another sign. The forward pass keeps nothing for it, not even cosines: the
# place is known. To check it we write the rotation in another way, as a product of complex numbers,
# and take the gradient of that.


@jax.jit
def turned_complex(x):
    half = x.shape[-1] // 2
    angle = jnp.arange(len(x))[:, None, None] * BASE ** (-jnp.arange(half) / half)
    both = jax.lax.complex(x[..., :half], x[..., half:]) * jnp.exp(1j * angle)
    return jnp.concatenate([both.real, both.imag], -1)


def turned_loss(q, k, v):
    return loss(turned_complex(q), turned_complex(k), v)


verification.equal("A16", "turned, as complex numbers", turned(q), turned_complex(q), "plain")
verification.equal("A16", "turned back is the beginning", turned(turned(q), -1), q, "q")

# Attention with turned queries and keys, both ways.
rq, rk = turned(q), turned(k)
all_heads = [one_head(rq[:, h], rk[:, h // G], v[:, h // G], dy[:, h]) for h in range(H)]
y, dq, dk, dv = (np.stack(each, axis=1) for each in zip(*all_heads, strict=True))  # (T, H, W)
dk, dv = (a.reshape(T, K, G, W).sum(axis=2) for a in (dk, dv))  # (T, K, W)
dq, dk = turned(dq, -1), turned(dk, -1)

truth = jax.jit(jax.grad(turned_loss, (0, 1, 2)))(q, k, v)
for name, found, true in zip(("dq", "dk", "dv"), (dq, dk, dv), truth, strict=True):
    verification.equal("A16", f"{name} with rotary places", found, true, "jax.grad")

# %%
# In funcnn all this is the layer ``fnn.attend``. It takes queries, keys and values with their heads
# side by side, :math:`(B, T, H W)` and :math:`(B, T, K W)`. ``fnn.backprop`` runs its own backward
# pass, without automatic differentiation.

layer = fnn.attend(H, key_heads=K, causal=True, rotary=BASE)
side_by_side = tuple(jnp.asarray(a.reshape(1, T, -1)) for a in (q, k, v))
both_ways = jax.jit(lambda x, dy: (layer({}, x), *fnn.backprop(layer, {}, x, dy)[1]))
found = both_ways(side_by_side, dy.reshape(1, T, -1))
for name, ours, own in zip(("y", "dq", "dk", "dv"), found, (y, dq, dk, dv), strict=True):
    verification.equal("A16", f"fnn.attend: {name}", ours[0], own.reshape(T, -1), name)

# %%
# **The picture.** Left, the first pair of one query at the places 0 to 5, turned (solid); and one
# error signal, the same for all six, on its way back (dashed): what turned forwards by an angle
# turns back by it. Middle, the scores of one query and one key at all places: the same along each
# diagonal. Right, what the two heads of a group send to the keys that they share, one number of
# each; the dots are their sum, which is :math:`dk`.

figure, axes = new_figure(1, 3, width=11, height=3.7, width_ratios=[1, 1.15, 1.2])
angles = np.arange(6) * 1.0
for t, angle in enumerate(angles):
    for sign, length, colour, style in ((1, 1.0, COLOURS[0], "-"), (-1, 0.6, COLOURS[1], "--")):
        end = length * np.array([np.cos(sign * angle), np.sin(sign * angle)])
        axes[0].plot([0, end[0]], [0, end[1]], style, color=colour, linewidth=1.8)
        middle = 1.14 * end if (t, sign) != (0, -1) else end - [0.05, 0.12]  # beside the other line
        axes[0].text(*middle, t, color=colour, ha="center", va="center")
axes[0].set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.5), aspect="equal", title="turned, and back")
axes[0].plot([], [], "-", color=COLOURS[0], label="q")
axes[0].plot([], [], "--", color=COLOURS[1], label="its delta")
axes[0].legend(loc="upper center", ncols=2, fontsize=9)
axes[0].axis("off")

limit = np.abs(z).max()
image = axes[1].imshow(z, cmap=SIGNED, vmin=-limit, vmax=limit)
figure.colorbar(image, ax=axes[1], shrink=0.8)
axes[1].set(title="scores after turning", xlabel="place of the key", ylabel="place of the query")

keys = np.arange(T)
of_pair = [shares[h][:, 0] for h in range(G)]
for h in range(G):
    axes[2].bar(keys + 0.36 * h - 0.18, of_pair[h], 0.34, color=COLOURS[2 * h], label=f"head {h}")
axes[2].plot(keys, sum(of_pair), "o", color="black", label="their sum, dk")
axes[2].axhline(0, color="0.6", linewidth=0.8, zorder=0)
axes[2].set(title="two heads, one key head", xlabel="key", xticks=keys)
low, high = axes[2].get_ylim()
axes[2].set_ylim(low, high + 0.4 * (high - low))
axes[2].legend(fontsize=9, loc="upper right")
save(figure, "step_4_heads")

# %%
# What was verified
# -----------------

verification.report()
