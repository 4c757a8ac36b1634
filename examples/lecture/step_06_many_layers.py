r"""
Step 6: many layers, many parameters
====================================

More layers mean more parameters. This step counts them, for a perceptron of any depth and for an
image of one megapixel; then it shows the lecture's keyword of the day, *parameter sharing*: what it
saves, and what the gradient of a shared parameter is.
"""

# %%
import jax
import jax.numpy as jnp
import numpy as np
from drawing import COLOURS, new_figure, save
from scipy.linalg import toeplitz
from verified import Verification

import funcnn as fnn
from funcnn.pictures.style import SIGNED

jax.config.update("jax_enable_x64", True)
verification = Verification("Step 6, many layers")
random = np.random.default_rng(6)

# %%
# Counting
# --------
# A dense layer from :math:`m^{(l-1)}` to :math:`m^{(l)}` units has a weight for each pair, and a
# bias for each unit that it computes. An :math:`(L+1)`-layer perceptron with :math:`m^{(0)} = D`
# inputs, hidden layers of :math:`m^{(1)}, \ldots, m^{(L)}` units and :math:`m^{(L+1)} = C` outputs
# has
#
# .. math:: \sum_{l=1}^{L+1} (m^{(l-1)} + 1) \, m^{(l)} \quad \text{parameters.}


def perceptron_count(D, hidden, C):
    m = [D, *hidden, C]
    return sum((m[ell - 1] + 1) * m[ell] for ell in range(1, len(m)))


# %%
# ``model.init`` draws the parameters of a model. Inside ``jax.eval_shape`` it only says which
# shapes they would have, and nothing is allocated. So we can count models that would not fit.


def shapes_of(model, *size):
    x = jax.ShapeDtypeStruct(size, jnp.float32)
    return jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))


def count(model, *size):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model, *size)))


print("layers     D  hidden units            C  parameters")
for D, hidden, C in [
    (64, [], 10),
    (64, [32], 10),
    (64, [64, 64, 64], 10),
    (784, [512, 512], 10),
    (784, [512] * 10, 10),
]:
    found = count(fnn.mlp(hidden, classes=C), 1, D)
    print(
        f"{len(hidden) + 1:6} {D:5}  {hidden[:3]!s:<20.20}{'...' if len(hidden) > 3 else '   '}",
        end="",
    )
    print(f"{C:3} {found:11,}")
    what = f"parameters of {len(hidden) + 1} layers on {D} inputs"
    verification.equal("F39", what, perceptron_count(D, hidden, C), found, "model.init")

# %%
# One megapixel
# -------------
# A grey image of 1000 by 1000 pixels has a million inputs. One dense layer of 1000 units on it has
# a billion weights; with three colours, three billion. Each weight takes 4 bytes in float32, and
# training keeps at least a gradient beside it (Adam keeps two more numbers).

PIXELS = 1000
GB = 1e9
dense_1000 = fnn.chain(fnn.flatten, fnn.dense(1000))
for colours in (1, 3):
    found = count(dense_1000, 1, PIXELS, PIXELS, colours)
    verification.equal(
        "F39",
        f"dense, 1000 units, {colours} colour(s)",
        (PIXELS**2 * colours + 1) * 1000,
        found,
        "model.init",
    )
    print(f"1000 dense units on 1000 x 1000 x {colours}: {found:,} parameters,")
    print(
        f"    {4 * found / GB:.0f} GB of weights, {16 * found / GB:.0f} GB while Adam trains them"
    )

# %%
# Parameter sharing
# -----------------
# How may we have fewer? Let one parameter do several jobs. Take a weight :math:`w` that is used
# :math:`K` times. Give each use a name of its own, :math:`w_1, \ldots, w_K`, all with the value of
# :math:`w`. Then the chain rule says: **the gradient of a shared parameter is the sum of the
# gradients of its uses,**
#
# .. math:: \frac{\partial s}{\partial w} = \sum_{k=1}^K \frac{\partial s}{\partial w_k} .
#
# Here one 4 by 4 matrix is used in three layers. ``separate`` is the network with three matrices.

x = random.normal(size=4)
W = 0.8 * random.normal(size=(4, 4))


def separate(W1, W2, W3):
    return jnp.sum(jnp.tanh(W3 @ jnp.tanh(W2 @ jnp.tanh(W1 @ x))) ** 2)


def shared(W):
    return separate(W, W, W)


# The three steps of backprop for three separate matrices (the last activation is tanh, too).
a = [x]
for _ in range(3):
    a.append(np.tanh(W @ a[-1]))
delta = 2 * a[3] * (1 - a[3] ** 2)
uses = {}
for ell in (3, 2, 1):
    uses[ell] = np.outer(delta, a[ell - 1])
    delta = W.T @ delta * (1 - a[ell - 1] ** 2)

for ell, found in zip((1, 2, 3), jax.grad(separate, (0, 1, 2))(W, W, W), strict=True):
    verification.equal("F40", f"the gradient of use {ell}", uses[ell], found, "jax.grad")
total = uses[1] + uses[2] + uses[3]
verification.equal(
    "F40", "shared W: the sum over its three uses", total, jax.grad(shared)(W), "jax.grad"
)

# %%
# Convolution is sharing
# ----------------------
# A convolution is a dense layer with two restrictions. It is *local*: an output sees only the few
# inputs under its window. And it *shares*: every output uses the same weights. In one dimension,
#
# .. math:: z_i = \sum_{k=0}^{K-1} w_k \, x_{i+k}, \qquad z = T x,
#
# where :math:`T` is a matrix that has :math:`w` in every row, each time one place further right (a
# Toeplitz matrix). Here 12 inputs, a window of :math:`K = 4` weights, 9 outputs: the dense layer
# would have 108 weights, the local one 36, the convolution has 4.

n, K = 12, 4
w = random.normal(size=K)
x = random.normal(size=n)
T = toeplitz(np.r_[w[0], np.zeros(n - K)], np.r_[w, np.zeros(n - K)])
z = T @ x
verification.equal("F40", "convolution: T x", z, np.correlate(x, w, "valid"), "numpy.correlate")
conv = fnn.rules.conv(jnp.asarray(x[None, :, None]), jnp.asarray(w[:, None, None]), padding="VALID")
verification.equal("F40", "convolution: fnn.rules.conv", conv[0, :, 0], z, "T x")

# %%
# Its gradient follows from the rule above. As a dense layer :math:`T` has the gradient
# :math:`\delta x^\top`, one number for each entry. The weight :math:`w_k` is used once in each row,
# at :math:`T_{i, i+k}`, so its gradient is the sum along that diagonal,
# :math:`\partial s / \partial w_k = \sum_i \delta_i \, x_{i+k}`: again a convolution, of the input
# with :math:`\delta`.


def s(w):  # s = sum of tanh(z)^2, in plain jax.numpy
    z = sum(w[k] * x[k : n - K + 1 + k] for k in range(K))
    return jnp.sum(jnp.tanh(z) ** 2)


delta = 2 * np.tanh(z) * (1 - np.tanh(z) ** 2)
dT = np.outer(delta, x)  # (9, 12), as if all entries were free
dw = np.array([np.trace(dT, offset=k) for k in range(K)])  # sum along each diagonal

true_dw = jax.grad(s)(w)
verification.equal("F40", "dw: the diagonals of delta x^T, summed", dw, true_dw, "jax.grad")
verification.equal(
    "F40", "dw: x convolved with delta", np.correlate(x, delta, "valid"), true_dw, "jax.grad"
)

# %%
# **The picture.** Left, the matrix :math:`T`: white entries are zero (no connection), and entries
# with one name are one and the same weight. Middle, the gradient :math:`\delta x^\top` of a dense
# layer, with the four diagonals that a convolution uses framed. Right, the sums along these
# diagonals (bars), and the gradient of :math:`w` from ``jax.grad`` (circles).

figure, (left, middle, right) = new_figure(1, 3, width=10.0, height=3.5, width_ratios=[1.3, 1.3, 1])
limit = np.abs(w).max()
left.imshow(np.where(T == 0, np.nan, T), cmap=SIGNED, vmin=-1.6 * limit, vmax=1.6 * limit)
left.set_title("T: four weights, each used nine times")
limit = np.abs(dT).max()
middle.imshow(dT, cmap=SIGNED, vmin=-limit, vmax=limit)
middle.set_title("δ xᵀ: the gradient of a dense layer")
for i in range(n - K + 1):
    for k in range(K):
        left.text(i + k, i, f"w{'₀₁₂₃'[k]}", ha="center", va="center", fontsize=8)
        frame = [i + k - 0.5, i + k + 0.5]
        middle.fill_between(
            frame, i - 0.5, i + 0.5, facecolor="none", edgecolor="0.2", linewidth=0.8
        )
for ax in (left, middle):
    ax.set_xlabel("input")
    ax.set_ylabel("output")
    ax.set_xticks(range(n), range(1, n + 1), fontsize=8)
    ax.set_yticks(range(n - K + 1), range(1, n - K + 2), fontsize=8)
right.bar(range(K), dw, color="0.75", label="sum of the diagonal")
right.plot(range(K), true_dw, "o", color=COLOURS[0], fillstyle="none", label="jax.grad")
right.axhline(0, color="0.4", linewidth=0.8)
right.set_xticks(range(K), [f"w{'₀₁₂₃'[k]}" for k in range(K)])
right.set_title("gradient of each weight")
right.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.12))
save(figure, "step_06_sharing")

# %%
# 128 kernels of 5 by 5
# ---------------------
# The lecture's example: a layer of 128 convolution kernels, each 5 by 5 in size, has
# :math:`128 \times 5 \times 5 = 3200` parameters. That holds for one input channel, without biases.
# With biases it is 3328; on a colour image each kernel is :math:`5 \times 5 \times 3`, and it is
# 9600. The size of the image does not occur.

image = (1, PIXELS, PIXELS, 1)
kernels = fnn.conv(128, (5, 5), padding="VALID", bias=False)
verification.equal(
    "F45", "128 x 5 x 5, one channel, no biases", 128 * 5 * 5, count(kernels, *image), "model.init"
)
found = count(fnn.conv(128, (5, 5), padding="VALID"), *image)
verification.equal("F45", "3200 + 128 with biases", 3200 + 128, found, "model.init")
verification.equal(
    "F45", "9600 on three colours", 9600, count(kernels, 1, PIXELS, PIXELS, 3), "model.init"
)
verification.equal(
    "F45", "3200 on an image of 8 x 8 as well", 3200, count(kernels, 1, 8, 8, 1), "model.init"
)

# %%
# How many images come out? The slide says that 128 kernels create 64 "copies" of the image. Each
# kernel creates one filtered image (a *map*), so 128 kernels create **128** maps. Without padding a
# map of :math:`N \times N` pixels loses 4 rows and 4 columns to the 5 by 5 window.

shape = jax.eval_shape(
    kernels, shapes_of(kernels, *image), jax.ShapeDtypeStruct(image, jnp.float32)
).shape
print(f"128 kernels on a megapixel: {shape[3]} maps of {shape[1]} x {shape[2]}")
verification.equal("F44", "128 kernels create 128 maps", shape[3], 128, "the output's shape")

digit = jnp.asarray(fnn.data.digits().train.x[:1], jnp.float64)
kernel_values = random.normal(size=(5, 5, 1, 128))
maps = fnn.rules.conv(digit, jnp.asarray(kernel_values), padding="VALID")
windows = np.lib.stride_tricks.sliding_window_view(np.asarray(digit)[0, :, :, 0], (5, 5))
expected = np.einsum("ijab,abk->ijk", windows, kernel_values[:, :, 0])
verification.equal(
    "F44", "each map is the image under one kernel", maps[0], expected, "NumPy, window by window"
)

# %%
# A lot less than fully connected
# -------------------------------
# What would a dense layer need that computes the same 128 maps from the same image? A weight for
# each pair of an output and a pixel. We go from there to the convolution in two moves, to see what
# each of them saves.
#
# 1. *Local*: each output keeps the 25 weights of its window and drops the other connections.
# 2. *Shared*: all outputs of a map use the same 25 weights.

outputs = shape[1] * shape[2] * shape[3]
dense = outputs * PIXELS**2
local = outputs * 25
convolution = 3200
rows = {"dense": (dense, ""), "local": (local, dense), "convolution": (convolution, local)}
for name, (number, before) in rows.items():
    fewer = f"{before // number:,} times fewer" if before else ""
    print(f"{name:<12}{number:>20,} weights, {4 * number / GB:>14,.6f} GB   {fewer}")

same_outputs = fnn.chain(fnn.flatten, fnn.dense(outputs, bias=False))
verification.equal(
    "F46", "weights of the dense layer", dense, count(same_outputs, *image), "model.init"
)
verification.equal(
    "F46", "locality saves 1,000,000 / 25", dense / local, PIXELS**2 / 25, "the counts"
)
verification.equal(
    "F46",
    "sharing saves the pixels of a map",
    local / convolution,
    shape[1] * shape[2],
    "the counts",
)
verification.holds(
    "F46", "a lot less than 1000 dense units", convolution * 10**5 < PIXELS**2 * 1000
)

# %%
# On one small digit the dense matrix can be written out. It has 16 rows (the 4 by 4 outputs) and 64
# columns (the 8 by 8 pixels): 1024 entries, 400 of them not zero, with 25 different values.

kernel = random.normal(size=(5, 5))


def conv_2d(image):  # (8, 8) -> (4, 4)
    return fnn.rules.conv(
        image[None, :, :, None], jnp.asarray(kernel)[:, :, None, None], padding="VALID"
    )[0, :, :, 0]


basis = jnp.eye(64).reshape(64, 8, 8)
matrix = np.asarray(jax.vmap(conv_2d)(basis)).reshape(64, 16).T
pixels = np.asarray(digit).reshape(64)
verification.equal(
    "F46",
    "5 x 5 convolution as a 16 x 64 matrix",
    matrix @ pixels,
    np.einsum("ijab,ab->ij", windows, kernel).reshape(16),
    "NumPy, window by window",
)
verification.equal("F46", "entries that are not zero", np.count_nonzero(matrix), 16 * 25, "16 x 25")
different = np.unique(matrix[matrix != 0]).size
verification.equal("F46", "different values among them", different, 25, "5 x 5")

# %%
# What sharing does not save is arithmetic and memory for the maps: every output still multiplies 25
# pixels, and the 128 maps are themselves large.

print(f"multiplications: {local:,}; the maps: {4 * outputs / GB:.2f} GB for one image in float32")

# %%
# **The picture.** Parameters of a layer on the megapixel, on a logarithmic axis: each number below
# the axis is a hundred times the one before. The dashed line is where float32 weights alone fill
# 80 GB, the memory of one large GPU.

kinds = {
    "dense, to as many outputs\nas the 128 maps have": dense,
    "local 5 x 5, not shared,\n128 maps": local,
    "dense, to 1000 units": count(dense_1000, *image),
    "convolution, 128 kernels\n5 x 5, three colours": count(kernels, 1, PIXELS, PIXELS, 3),
    "convolution, 128 kernels\n5 x 5, one colour": convolution,
    "one kernel 5 x 5": 25,
}
figure, axes = new_figure(width=8.4, height=4.0)
colours = [
    COLOURS[1] if "convolution" not in kind and "kernel" not in kind else COLOURS[0]
    for kind in kinds
]
axes.barh(range(len(kinds)), list(kinds.values()), color=colours)
axes.axvline(80 * GB / 4, color="0.3", linestyle="--", linewidth=1, zorder=0)
axes.text(80 * GB / 4 * 1.6, 4.6, "80 GB of weights", color="0.3", va="center")
for row, number in enumerate(kinds.values()):
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(number * 1.8, row, f"{number:,}", va="center", bbox=background)
axes.set_xscale("log")
axes.set_xlim(1, 1e20)
axes.set_xticks([10**i for i in range(0, 16, 2)])
axes.set_yticks(range(len(kinds)), list(kinds))
axes.invert_yaxis()
axes.set_xlabel("parameters")
axes.set_title("One layer on an image of 1000 x 1000 pixels")
save(figure, "step_06_parameters")

# %%
# What was verified
# -----------------

verification.report()
