r"""
Step 7: what a convolution is
=============================

A convolution slides one function over another and adds up the products. This step starts from the
integral of signal processing, samples it, writes it as a matrix, and ends with one layer of a
convolutional network, :math:`x = W * y` and :math:`\sigma(x)`. Every form is computed twice.
"""

import jax
import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.special
from drawing import COLOURS, new_figure, save
from matplotlib.patches import Rectangle
from verified import Verification

import funcnn as fnn

jax.config.update("jax_enable_x64", True)
verification = Verification("Step 7, convolution")
random = np.random.default_rng(7)

# %%
# The integral
# ------------
# For two functions of one variable the lecture defines
#
# .. math::
#    (f * g)(t) = \int_{-\infty}^{\infty} f(\tau) \, g(t - \tau) \, d\tau
#
# Turn :math:`g` round, move it to :math:`t`, multiply by :math:`f`, and take the area. Here
# :math:`f` is a box, 1 between -1 and 1, and :math:`g` is a Gaussian of width :math:`s` and area 1.
# For this pair the integral is known:
#
# .. math::
#    (f * g)(t) = \frac{1}{2} \left( \text{erf} \frac{t + 1}{s \sqrt{2}}
#    - \text{erf} \frac{t - 1}{s \sqrt{2}} \right)

s = 0.5


def f(t):
    return np.where(np.abs(t) <= 1, 1.0, 0.0)


def g(t):
    return np.exp(-((t / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))


def closed_form(t):
    ends = (t + 1) / (s * np.sqrt(2)), (t - 1) / (s * np.sqrt(2))
    return (scipy.special.erf(ends[0]) - scipy.special.erf(ends[1])) / 2


def integral(integrand, jumps):
    """By quadrature over -8 ... 8; outside, the box is 0. The box jumps at `jumps`."""
    return scipy.integrate.quad(integrand, -8, 8, points=jumps, epsabs=1e-12, epsrel=1e-12)[0]


times = np.linspace(-3, 3, 25)
f_then_g = np.array([integral(lambda tau, t=t: f(tau) * g(t - tau), (-1, 1)) for t in times])
verification.equal(
    "F41", "integral f(tau) g(t - tau)", f_then_g, closed_form(times), "the closed form", limit=1e-8
)

# %%
# With :math:`t - \tau` in the place of :math:`\tau`, the same area is
#
# .. math::
#    (f * g)(t) = \int_{-\infty}^{\infty} f(t - \tau) \, g(\tau) \, d\tau = (g * f)(t)
#
# so it does not matter which of the two is turned round: convolution is commutative.

g_then_f = np.array([integral(lambda tau, t=t: f(t - tau) * g(tau), (t - 1, t + 1)) for t in times])
verification.equal(
    "F42", "integral f(t - tau) g(tau)", g_then_f, closed_form(times), "the closed form", limit=1e-8
)
verification.equal("F42", "f * g = g * f", g_then_f, f_then_g, "the first integral", limit=1e-8)

# %%
# Look at the shaded area: it is the value of the convolution at this :math:`t`. The last panel
# collects the areas for all :math:`t`. The box has become round at its edges: it is smoothed.

figure, axes = new_figure(2, 2, width=8.6, height=5.6)
tau = np.linspace(-3, 3, 1201)
shown = (-1.6, -0.6, 0.5)
for axis, t, marker in zip(axes.flat, shown, "os^", strict=False):
    axis.plot(tau, f(tau), color=COLOURS[0], label=r"$f(\tau)$")
    axis.plot(tau, g(t - tau), "--", color=COLOURS[1], label=r"$g(t - \tau)$")
    axis.fill_between(tau, f(tau) * g(t - tau), color=COLOURS[2], alpha=0.45, label="their product")
    axis.set_title(f"t = {t}: area {closed_form(t):.3f}")
    axis.set(xlabel=r"$\tau$", ylim=(0, 1.35))
    axes[1, 1].plot(t, closed_form(t), marker, color=COLOURS[2], markersize=9, label=f"t = {t}")
axes[0, 0].legend(loc="upper right", fontsize=9)
axes[1, 1].plot(tau, f(tau), ":", color=COLOURS[0], label=r"$f$")
axes[1, 1].plot(tau, closed_form(tau), color="black", label=r"$f * g$")
axes[1, 1].set(xlabel="t", ylim=(0, 1.75), title="all areas: the convolution")
axes[1, 1].legend(fontsize=9, ncols=2, loc="upper right")
save(figure, "step_07_integral")

# %%
# Sampled functions: the sum
# --------------------------
# A signal in a computer is a row of numbers. The integral becomes a sum:
#
# .. math::
#    (f * g)_n = \sum_k f_k \, g_{n-k}
#
# Two rows of lengths :math:`n` and :math:`m` meet in :math:`n + m - 1` places. It is also how two
# polynomials are multiplied: the coefficients of the product are the convolution of theirs.


def convolve(f, g):
    x = np.zeros(len(f) + len(g) - 1)
    for n in range(len(x)):
        for k in range(len(f)):
            if 0 <= n - k < len(g):
                x[n] += f[k] * g[n - k]
    return x


row, other = random.normal(size=9), random.normal(size=4)
found = convolve(row, other)
verification.equal("F41", "sum over f_k g_(n-k)", found, np.convolve(row, other), "np.convolve")
truth = scipy.signal.convolve(row, other, method="direct")
verification.equal("F41", "sum over f_k g_(n-k)", found, truth, "scipy.signal.convolve")
verification.equal("F41", "product of polynomials", found, np.polymul(row, other), "np.polymul")
verification.equal("F42", "f * g = g * f, sampled", convolve(other, row), found, "f * g")

# %%
# The sum tends to the integral. Sample both functions at a distance of :math:`h`, at the middles of
# the intervals, and multiply the sum by :math:`h`. Half the distance, a quarter of the error.

errors = []
for h in (0.1, 0.05, 0.025):
    samples = np.arange(-6 + h / 2, 6, h)
    values = np.convolve(f(samples), g(samples)) * h
    at = np.arange(len(values)) * h - 12 + h  # two positions were added
    errors.append(np.max(np.abs(values - closed_form(at))))
    print(f"h = {h:<5}  largest difference from the integral {errors[-1]:.1e}")
verification.measured(
    "F41", "sampled twice as finely", f"error divided by {errors[1] / errors[2]:.2f}"
)

# %%
# Images, and the flip that networks leave out
# --------------------------------------------
# In two dimensions a kernel :math:`\omega` of :math:`m \times m` numbers meets an image :math:`y`.
# Convolution turns the kernel round, in both directions. What networks compute does not. It is
# called *cross-correlation*, and it is the lecture's formula for one layer:
#
# .. math::
#    x_{ij}^{(l)} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1} \omega_{ab} \, y_{(i+a)(j+b)}^{(l-1)}
#
# The index is :math:`i + a` where a convolution has :math:`i - a`. A learnt kernel can be learnt
# turned round just as well, so nothing is lost, and the flip is saved. ``fnn.rules.conv``, like the
# convolution of every library for networks, is this sum.


def correlate(y, omega, stride=1):
    """The lecture's sum, for a square image y (N, N) and a square kernel omega (m, m)."""
    N, m = len(y), len(omega)
    size = (N - m) // stride + 1
    x = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            for a in range(m):
                for b in range(m):
                    x[i, j] += omega[a, b] * y[stride * i + a, stride * j + b]
    return x


def layer(y, omega, **options):
    """fnn.rules.conv of one image with one kernel: (N, N) and (m, m) -> the output's rows."""
    options = {"padding": "VALID", **options}
    return fnn.rules.conv(y[None, :, :, None], omega[:, :, None, None], **options)[0, :, :, 0]


y, omega = random.normal(size=(8, 8)), random.normal(size=(3, 3))
x = correlate(y, omega)
truth = scipy.signal.correlate2d(y, omega, "valid")
verification.equal("F54", "x_ij, plain loops", x, truth, "scipy.signal.correlate2d")
verification.equal("F54", "x_ij, fnn.rules.conv", layer(y, omega), truth, "correlate2d")
flipped = omega[::-1, ::-1]
truth = scipy.signal.convolve2d(y, omega, "valid")
verification.equal("F54", "kernel turned round = convolution", layer(y, flipped), truth, "SciPy")

# %%
# Red is positive, blue negative, white 0. Look at the upper row: the image is one bright pixel.
# Convolution stamps the kernel there as it is; cross-correlation stamps it turned round, by half a
# turn. Below are a real digit and a kernel that looks for edges whose left side is brighter:
# cross-correlation is red at the right-hand edges of the strokes. This kernel is the opposite of
# its own flip, so convolution changes all signs.

dot = np.zeros((7, 7))
dot[3, 3] = 1
shape = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
digit = fnn.data.digits(seed=0).train.x[8, :, :, 0].astype(float)
edge = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
figure, axes = new_figure(2, 4, width=9.2, height=5.2)
for line, picture, taken in ((axes[0], dot, shape), (axes[1], digit, edge)):
    panels = {
        "image": picture,
        "kernel": taken,
        "cross-correlation": correlate(picture, taken),
        "convolution": scipy.signal.convolve2d(picture, taken, "valid"),
    }
    for axis, (title, panel) in zip(line, panels.items(), strict=True):
        top = np.max(np.abs(panel))
        axis.imshow(panel, cmap="RdBu_r", vmin=-top, vmax=top)
        axis.set_title(f"{title}, {panel.shape[0]} x {panel.shape[1]}", fontsize=11)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
save(figure, "step_07_flip")

# %%
# A 3 by 3 kernel over a 5 by 5 input with padding 1
# --------------------------------------------------
# The lecture's example. With a frame of zeros, one pixel wide, the kernel fits 25 times, and the
# output is as large as the input. The numbers of image and kernel are those of Dumoulin and Visin's
# guide to convolution arithmetic (2016), which prints the nine inner numbers of the output.

image = np.array(
    [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]], float
)
kernel = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]], float)
padded = np.pad(image, 1)
output = correlate(padded, kernel)

truth = scipy.signal.correlate2d(image, kernel, "same")
verification.equal("F43", "3x3 over 5x5 with padding 1", output, truth, "correlate2d")
found = layer(image, kernel, padding=((1, 1), (1, 1)))
verification.equal("F43", "fnn.rules.conv, padding 1", found, truth, "correlate2d")
published = np.array([[12, 12, 17], [10, 17, 19], [9, 6, 14]], float)
verification.equal("F43", "the nine inner numbers", output[1:-1, 1:-1], published, "the guide")

# %%
# Look at the orange squares. Nine numbers of the padded image, times the nine of the kernel, added
# up, make the one orange number of the output. Move both squares by one to get the next number.


def draw_numbers(axis, matrix, title, frame=None, grey=None):
    """A matrix as a table: a `frame` (row, column, size) in orange, cells where `grey` in grey."""
    rows, columns = matrix.shape
    for (i, j), value in np.ndenumerate(matrix):
        colour = "0.88" if grey is not None and grey[i, j] else "white"
        axis.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="0.6", linewidth=0.8))
        axis.text(j + 0.5, i + 0.5, f"{value:g}", ha="center", va="center", fontsize=11)
    if frame is not None:
        i, j, size = frame
        axis.add_patch(
            Rectangle((j, i), size, size, fill=False, edgecolor=COLOURS[1], linewidth=3, zorder=3)
        )
    axis.set(xlim=(-0.1, columns + 0.1), ylim=(rows + 0.1, -0.1), aspect="equal")
    axis.set_title(title, fontsize=11)
    axis.axis("off")


figure, axes = new_figure(1, 4, width=11, height=3.2, width_ratios=[5, 3, 7, 5])
i, j = 1, 3
draw_numbers(axes[0], image, "image, 5 x 5")
draw_numbers(axes[1], kernel, "kernel, 3 x 3", frame=(0, 0, 3))
added = np.pad(image < 0, 1, constant_values=True)  # the zeros of the frame
draw_numbers(axes[2], padded, "padded image, 7 x 7", frame=(i, j, 3), grey=added)
draw_numbers(axes[3], output, "output, 5 x 5", frame=(i, j, 1))
save(figure, "step_07_padding")

# %%
# One layer
# ---------
# A layer of a convolutional network is this sum and then a function of each number:
#
# .. math::
#    x_{ij}^{(l)} = W * y^{(l-1)} \qquad y_{ij}^{(l)} = \sigma(x_{ij}^{(l)})
#
# The star stands for the sum above, without the flip. (By the integral's definition, with the
# minus, it would be the convolution with the kernel turned round. Where the lecture repeats the
# second equation it prints :math:`\delta` for :math:`\sigma`; ``errata`` demonstrates both.) Here
# :math:`\sigma` is the sigmoid. In funcnn the layer is a chain of two.

model = fnn.chain(fnn.conv(1, (3, 3), padding="VALID", bias=False), fnn.sigmoid)
params = {"conv_0": {"w": omega[:, :, None, None]}, "sigmoid_0": {}}
y_next = 1 / (1 + np.exp(-x))
found = model(params, y[None, :, :, None])[0, :, :, 0]
verification.equal("F50", "x = W * y, y = sigma(x)", found, y_next, "loops and formula")
truth = scipy.special.expit(scipy.signal.correlate2d(y, omega, "valid"))
verification.equal("F50", "the layer", found, truth, "SciPy")
verification.equal("F55", "y_ij = sigma(x_ij)", found, scipy.special.expit(x), "scipy expit")

# %%
# Convolution as a matrix
# -----------------------
# A convolution is linear in :math:`y`, so there is a matrix for it. In one dimension, with a kernel
# of :math:`m` numbers and a signal of :math:`n`, it has :math:`n + m - 1` rows and :math:`n`
# columns. Each column is the kernel, one row lower than in the column before. A matrix with equal
# numbers along each diagonal is called a Toeplitz matrix. For :math:`m = 3` and :math:`n = 5`:
#
# .. math::
#    W * y = \begin{pmatrix}
#    w_1 & 0 & 0 & 0 & 0 \\
#    w_2 & w_1 & 0 & 0 & 0 \\
#    w_3 & w_2 & w_1 & 0 & 0 \\
#    0 & w_3 & w_2 & w_1 & 0 \\
#    0 & 0 & w_3 & w_2 & w_1 \\
#    0 & 0 & 0 & w_3 & w_2 \\
#    0 & 0 & 0 & 0 & w_3
#    \end{pmatrix}
#    \begin{pmatrix} y_1 \\ y_2 \\ y_3 \\ y_4 \\ y_5 \end{pmatrix}
#
# The lecture prints one row twice, and :math:`w_m` above :math:`w_{m-1}` in the second column;
# ``errata`` demonstrates what that would compute. All of :math:`W` is built of :math:`m` numbers:
# this is parameter sharing, seen as a matrix.

n, m = 9, 4
w, signal = random.normal(size=m), random.normal(size=n)
column = np.concatenate([w, np.zeros(n - 1)])
row = np.concatenate([w[:1], np.zeros(n - 1)])
W = scipy.linalg.toeplitz(column, row)  # (n + m - 1, n)
truth = np.convolve(w, signal)
verification.equal("F51", "Toeplitz matrix times y", W @ signal, truth, "np.convolve")
by_shifts = np.stack([np.roll(column, i) for i in range(n)], axis=1)
verification.equal("F51", "each column the one before, shifted", W, by_shifts, "np.roll")

# %%
# This is the *full* convolution: every place where the two meet at all. Take fewer rows for the
# other two kinds. *Valid*: only the :math:`n - m + 1` rows that hold the whole kernel, from row
# :math:`m` to row :math:`n`. *Same*: the middle :math:`n` rows.

valid = slice(m - 1, n)
same = slice((m - 1) // 2, (m - 1) // 2 + n)
truth = np.convolve(signal, w, "valid")
verification.equal("F51", "valid: rows of W times y", W[valid] @ signal, truth, "np.convolve")
truth = np.convolve(signal, w, "same")
verification.equal("F51", "same: rows of W times y", W[same] @ signal, truth, "np.convolve")

# What a network computes has the kernel turned round in each row: the matrix of w[::-1].
correlating = scipy.linalg.toeplitz(
    np.concatenate([w[:1], np.zeros(n - m)]), np.concatenate([w, np.zeros(n - m)])
)  # (n - m + 1, n)
truth = np.correlate(signal, w, "valid")
verification.equal("F51", "cross-correlation", correlating @ signal, truth, "np.correlate")
found = fnn.rules.conv(signal[None, :, None], w[:, None, None], padding="VALID")[0, :, 0]
verification.equal("F51", "fnn.rules.conv, one dimension", found, correlating @ signal, "matrix")

# %%
# Look along the diagonals: one colour each. The brackets mark the rows of the two smaller kinds.


def bracket(axis, first, last, column, text, colour):
    axis.plot([column - 0.15, column, column, column - 0.15], [first, first, last, last], colour)
    axis.text(column + 0.2, (first + last) / 2, text, va="center", color=colour, rotation=90)


figure, axes = new_figure(1, 2, width=9, height=4.6)
names = np.array(["0", *(f"$w_{k}$" for k in range(1, m + 1))])
for axis, matrix, title in (
    (axes[0], W, f"full convolution, {n + m - 1} x {n}"),
    (axes[1], correlating, f"valid cross-correlation, {n - m + 1} x {n}"),
):
    which = sum((k + 1) * (matrix == value) for k, value in enumerate(w))  # 0, or k for w_k
    for (i, j), k in np.ndenumerate(which):
        colour = (COLOURS[k - 1], 0.45) if k else "white"
        axis.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="0.8"))
        axis.text(
            j + 0.5, i + 0.5, names[k], ha="center", va="center", color="black" if k else "0.7"
        )
    axis.set(xlim=(0, n + 2.2), ylim=(n + m - 1, -0.1), aspect="equal")
    axis.set_title(title, fontsize=11)
    axis.axis("off")
bracket(axes[0], m - 1, n, n + 0.4, "valid", COLOURS[1])
bracket(axes[0], same.start, same.stop, n + 1.4, "same", COLOURS[0])
save(figure, "step_07_toeplitz")

# %%
# In two dimensions
# -----------------
# Write the image as one long column, row after row. The matrix of the layer is then made of blocks.
# The block that leads from row :math:`i` of the image to row :math:`p` of the output is the
# one-dimensional matrix of row :math:`a = i - p` of the kernel, or 0 where there is no such row.
# Blocks are equal along diagonals, and so are the numbers in each block: a doubly blocked Toeplitz
# matrix. It has :math:`(N - m + 1)^2` rows and :math:`N^2` columns.


def matrix_of_layer(omega, N):
    """T with T @ y.ravel() = correlate(y, omega).ravel(), for images (N, N)."""
    m = len(omega)
    zeros = np.zeros(N - m)
    of_row = [
        scipy.linalg.toeplitz(np.append(omega[a, :1], zeros), np.append(omega[a], zeros))
        for a in range(m)
    ]  # m times (N - m + 1, N)
    nothing = np.zeros((N - m + 1, N))
    return np.block(
        [[of_row[i - p] if 0 <= i - p < m else nothing for i in range(N)] for p in range(N - m + 1)]
    )


T = matrix_of_layer(omega, 8)
verification.equal("F51", "two dimensions, T y, by loops", T @ y.ravel(), x.ravel(), "loops")
truth = scipy.signal.correlate2d(y, omega, "valid").ravel()
verification.equal("F51", "two dimensions, T y", T @ y.ravel(), truth, "correlate2d")
T = matrix_of_layer(kernel, 7)
verification.equal("F51", "the example with padding", T @ padded.ravel(), output.ravel(), "loops")

# %%
# Look at the matrix of a 3 by 3 kernel on a 6 by 6 image: 16 rows for the 16 numbers of the output,
# 36 columns for the pixels. The nine colours are the nine numbers of the kernel. White is 0. A
# dense layer of this size would have 576 numbers of its own to learn.

ranks = np.arange(1.0, 10.0).reshape(3, 3)
T = matrix_of_layer(ranks, 6)
colours = ["white", *COLOURS, "#7F7F7F", "#000000", "#F0E442"]
figure, axes = new_figure(1, 2, width=10, height=3.9, width_ratios=[1, 6])
for axis, matrix in ((axes[0], ranks), (axes[1], T)):
    for (i, j), k in np.ndenumerate(matrix.astype(int)):
        if k or axis is axes[0]:
            axis.add_patch(Rectangle((j, i), 1, 1, facecolor=colours[k]))
    axis.set(xlim=(0, matrix.shape[1]), ylim=(matrix.shape[0], 0), aspect="equal")
axes[0].set(xticks=[], yticks=[])
axes[0].set_title("kernel", fontsize=11)
for axis in axes:
    axis.spines[:].set_visible(True)
for edge_of_block in range(6, 36, 6):
    axes[1].axvline(edge_of_block, color="0.6", linewidth=0.8)
for edge_of_block in range(4, 16, 4):
    axes[1].axhline(edge_of_block, color="0.6", linewidth=0.8)
axes[1].set(xlabel="pixel of the image, row after row", ylabel="number of the output")
axes[1].set(xticks=range(0, 37, 6), yticks=range(0, 17, 4))
axes[1].set_title("its matrix for a 6 x 6 image: blocks of 4 x 6", fontsize=11)
save(figure, "step_07_blocks")
print(f"{np.count_nonzero(T)} of {T.size} numbers are not 0, and 9 of them are different")

# %%
# Size and stride
# ---------------
# An :math:`m \times m` kernel fits into :math:`N \times N` neurons at :math:`N - m + 1` places in
# each direction, when it moves by one pixel. That is stride 1; the lecture prints "stride 0", with
# which the kernel would never move (``errata`` demonstrates it). With stride :math:`s` and padding
# :math:`p` on every side the size is
#
# .. math::
#    \left\lfloor \frac{N + 2 p - m}{s} \right\rfloor + 1
#
# The loop below counts the places one by one, and asks funcnn for the shape of its output.

compared = []
for N in range(3, 9):
    for m in range(1, N + 1):
        for p in range(3):
            for stride in range(1, 4):
                places = len(range(0, N + 2 * p - m + 1, stride))
                options = {"padding": ((p, p), (p, p))}
                shapes = (
                    jax.ShapeDtypeStruct((1, N, N, 1), float),
                    jax.ShapeDtypeStruct((m, m, 1, 1), float),
                )
                ours = jax.eval_shape(
                    lambda x, w, s=stride, o=options: fnn.rules.conv(x, w, stride=s, **o), *shapes
                )
                compared.append(((N + 2 * p - m) // stride + 1, places, ours.shape[1]))
by_formula, counted, of_funcnn = np.array(compared).T
verification.equal("F52", "size with stride s, padding p", by_formula, counted, "counting places")
verification.equal("F52", "size with stride s, padding p", by_formula, of_funcnn, "fnn.rules.conv")
verification.holds("F52", "stride 1, no padding: N - m + 1", x.shape == (8 - 3 + 1, 8 - 3 + 1))
print(f"{len(compared)} combinations of N, m, p and s")

# %%
# With stride :math:`s` the sum is :math:`x_{ij} = \sum_a \sum_b \omega_{ab} \,
# y_{(s i + a)(s j + b)}`: every :math:`s`-th number of the output with stride 1.

truth = correlate(y, omega)
for stride in (2, 3):
    found = correlate(y, omega, stride)
    verification.equal("F52", f"stride {stride}", found, truth[::stride, ::stride], "every s-th")
    strided = layer(y, omega, stride=stride)
    verification.equal("F52", f"stride {stride}, fnn.rules.conv", strided, found, "loops")

# %%
# The shift of the centre
# -----------------------
# In the lecture's sum :math:`\omega_{00}`, the corner of the kernel, meets :math:`y_{ij}`. It is
# easier to think of the window as centred. The centre is half a kernel further down and to the
# right: the lecture says a shift by :math:`(\frac{m}{2}, \frac{m}{2})`, for which whole pixels need
# :math:`h = \lfloor \frac{m}{2} \rfloor`. For an odd :math:`m`
#
# .. math::
#    c_{ij} = \sum_{a=-h}^{h} \sum_{b=-h}^{h} \omega_{(a+h)(b+h)} \, y_{(i+a)(j+b)}
#    \qquad x_{ij} = c_{(i+h)(j+h)}
#
# The centred form is there for each pixel once zeros stand round the image. It is what SciPy's
# ``ndimage`` computes, and "same" padding.

for m in (3, 5):
    h = m // 2
    omega = random.normal(size=(m, m))
    centred = scipy.ndimage.correlate(y, omega, mode="constant")  # (N, N)
    x = correlate(y, omega)  # (N - m + 1, N - m + 1)
    found = centred[h : len(y) - h, h : len(y) - h]
    verification.equal("F53", f"m = {m}: x_ij = c_(i+h)(j+h)", found, x, "ndimage")
    found = layer(y, omega, padding="SAME")
    verification.equal("F53", f"m = {m}: padding SAME is centred", found, centred, "ndimage")

# %%
# For an even :math:`m` no pixel is in the middle, and the two libraries choose differently. SciPy
# shifts by :math:`\frac{m}{2}`, as the lecture does, and "same" padding by :math:`\frac{m}{2} - 1`.
# This is one reason why kernels have odd sizes.

m = 4
omega = random.normal(size=(m, m))
x = correlate(y, omega)
centred = scipy.ndimage.correlate(y, omega, mode="constant")
h = m // 2
found = centred[h : h + len(x), h : h + len(x)]
verification.equal("F53", "m = 4: ndimage shifts by m/2", found, x, "loops")
h = m // 2 - 1
found = layer(y, omega, padding="SAME")[h : h + len(x), h : h + len(x)]
verification.equal("F53", "m = 4: SAME shifts by m/2 - 1", found, x, "loops")

# %%
# Look at the same window twice. On the left :math:`x_{ij}` is named after the corner of its window,
# on the right :math:`c_{ij}` after its centre. Below, the corners at stride 1 and at stride 2.

figure, axes = new_figure(1, 4, width=11, height=3.2)
N, m = 7, 3
anchors = {
    "named after the corner": [(2, 3)],
    "named after the centre": [(3, 4)],
    "stride 1: 5 x 5 corners": [(i, j) for i in range(5) for j in range(5)],
    "stride 2: 3 x 3 corners": [(i, j) for i in range(0, 5, 2) for j in range(0, 5, 2)],
}
for axis, (title, places) in zip(axes, anchors.items(), strict=True):
    for i in range(N):
        for j in range(N):
            colour = (COLOURS[1], 0.8) if (i, j) in places else "white"
            axis.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="0.6"))
    i, j = (2, 3) if len(places) == 1 else (0, 0)
    axis.add_patch(Rectangle((j, i), m, m, fill=False, edgecolor=COLOURS[0], linewidth=3))
    axis.set(xlim=(-0.1, N + 0.1), ylim=(N + 0.1, -0.1), aspect="equal")
    axis.set_title(title, fontsize=11)
    axis.axis("off")
save(figure, "step_07_places")

# %%
# What was verified
# -----------------

verification.report()
