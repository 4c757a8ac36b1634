r"""
Step 8: backpropagation through a convolution
=============================================

Step 3 sent the error signal :math:`\delta` back through a matrix. Here the matrix is a convolution.
Both gradients turn out to be convolutions again: the one by the image is :math:`\delta` convolved
with the kernel, the one by the kernel is the image correlated with :math:`\delta`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.signal
from drawing import COLOURS, new_figure, save
from matplotlib.patches import Rectangle
from verified import Verification

import funcnn as fnn

jax.config.update("jax_enable_x64", True)
verification = Verification("Step 8, backpropagation through a convolution")
random = np.random.default_rng(8)

# %%
# The layer
# ---------
# As in step 7: an image :math:`y^{(l-1)}` of :math:`N \times N` numbers, a kernel :math:`\omega` of
# :math:`m \times m`, and for :math:`i, j = 0, \ldots, N - m`
#
# .. math::
#    x_{ij}^{(l)} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1} \omega_{ab} \, y_{(i+a)(j+b)}^{(l-1)}
#    \qquad y_{ij}^{(l)} = \sigma(x_{ij}^{(l)})
#
# Here :math:`N = 6`, :math:`m = 3`, and :math:`\sigma` is the sigmoid. To have an error, a target
# :math:`t` is made up: :math:`E = \frac{1}{2} \sum_{ij} (y_{ij}^{(l)} - t_{ij})^2`, so that
# :math:`\frac{\partial E}{\partial y_{ij}^{(l)}} = y_{ij}^{(l)} - t_{ij}`. In the code ``y`` is the
# layer's input :math:`y^{(l-1)}` and ``y_next`` its output :math:`y^{(l)}`.

N, m = 6, 3
size = N - m + 1
y = random.normal(size=(N, N))
omega = random.normal(size=(m, m)) / 2
t = random.uniform(size=(size, size))


def sigma(x):
    return 1 / (1 + jnp.exp(-x))


def x_of(y, omega):
    """Plain jnp, for the automatic derivatives to compare with."""
    m = len(omega)
    places = jnp.arange(len(y) - m + 1)
    x = jnp.zeros((len(places), len(places)))
    for a in range(m):
        for b in range(m):
            x = x + omega[a, b] * y[jnp.ix_(places + a, places + b)]
    return x


def E_of(y, omega):
    return jnp.sum((sigma(x_of(y, omega)) - t) ** 2) / 2


x = np.asarray(x_of(y, omega))
y_next = np.asarray(sigma(x))
dE_dy_next = y_next - t

# %%
# The derivatives that are needed
# -------------------------------
# The first: a number of the output depends on the one number below it, and on no other.
#
# .. math::
#    \frac{\partial y_{ij}^{(l)}}{\partial x_{ij}^{(l)}} = \sigma'(x_{ij}^{(l)})
#    = y_{ij}^{(l)} (1 - y_{ij}^{(l)})

sigma_prime = y_next * (1 - y_next)
jacobian = jax.jacobian(sigma)(x)  # (size, size, size, size)
found = np.zeros_like(jacobian)
for i in range(size):
    for j in range(size):
        found[i, j, i, j] = sigma_prime[i, j]
verification.equal("F56", "dy_ij/dx_ij = sigma'(x_ij)", found, jacobian, "jax.jacobian")

# %%
# The second: :math:`\omega_{ab}` was multiplied by one pixel in each window. (Printed is the index
# :math:`ia, j+b`; a plus sign is missing. ``errata`` demonstrates it.)
#
# .. math::
#    \frac{\partial x_{ij}^{(l)}}{\partial \omega_{ab}} = y_{(i+a)(j+b)}^{(l-1)}

dx_domega = np.zeros((size, size, m, m))
for i in range(size):
    for j in range(size):
        for a in range(m):
            for b in range(m):
                dx_domega[i, j, a, b] = y[i + a, j + b]
jacobian = jax.jacobian(x_of, argnums=1)(y, omega)
verification.equal("F57", "dx_ij/domega_ab = y_(i+a)(j+b)", dx_domega, jacobian, "jax.jacobian")

# %%
# The third: pixel :math:`ij` meets :math:`\omega_{ab}` in that window whose corner is :math:`a`
# rows higher and :math:`b` columns further left. So
#
# .. math::
#    \frac{\partial x_{(i-a)(j-b)}^{(l)}}{\partial y_{ij}^{(l-1)}} = \omega_{ab}
#    \qquad \text{where } 0 \le i - a \le N - m \text{ and } 0 \le j - b \le N - m
#
# and all other derivatives are 0. The lecture leaves the condition out (``errata`` demonstrates
# it).
# It matters at the borders: the window that would begin at row -1 does not exist.

dx_dy = np.zeros((size, size, N, N))
for i in range(N):
    for j in range(N):
        for a in range(m):
            for b in range(m):
                if 0 <= i - a <= N - m and 0 <= j - b <= N - m:
                    dx_dy[i - a, j - b, i, j] = omega[a, b]
jacobian = jax.jacobian(x_of, argnums=0)(y, omega)
verification.equal("F58", "dx_(i-a)(j-b)/dy_ij = omega_ab", dx_dy, jacobian, "jax.jacobian")

# %%
# The slide announces four quantities and prints three. The fourth that the next formulas need is
# the error signal, as in the networks before:
#
# .. math::
#    \delta_{ij} = \frac{\partial E}{\partial x_{ij}^{(l)}}
#    = \frac{\partial E}{\partial y_{ij}^{(l)}} \, \sigma'(x_{ij}^{(l)})

delta = dE_dy_next * sigma_prime  # (N - m + 1, N - m + 1)
truth = jax.grad(lambda x: jnp.sum((sigma(x) - t) ** 2) / 2)(x)
verification.equal("F56", "delta = dE/dy^(l) sigma'(x)", delta, truth, "jax.grad")

# %%
# Which windows touch a pixel
# ---------------------------
# Look at the orange pixel. Each cell with a kernel entry in it is the corner of a window that holds
# the pixel, and the entry is what the pixel was multiplied by there. In the middle there are nine
# such windows; read from top left, the entries of the kernel come in reverse order. In the corner
# there is one. The last panel counts them: border pixels have less say, and get less gradient.


def draw_windows(axis, i, j, title):
    """The corners of the windows that hold pixel (i, j), with the kernel entry that meets it."""
    for p in range(N):
        for q in range(N):
            axis.add_patch(Rectangle((q, p), 1, 1, facecolor="white", edgecolor="0.75"))
    axis.add_patch(Rectangle((j, i), 1, 1, facecolor=COLOURS[5], edgecolor="none"))
    axis.add_patch(Rectangle((0, 0), size, size, fill=False, edgecolor=COLOURS[0], linewidth=2.5))
    for p in range(size):
        for q in range(size):
            a, b = i - p, j - q
            if 0 <= a < m and 0 <= b < m:
                entry = rf"$\omega_{{{a}{b}}}$"
                axis.text(q + 0.5, p + 0.5, entry, ha="center", va="center", fontsize=14)
    axis.set_title(title, fontsize=11)
    finish(axis)


def finish(axis):
    axis.set(xlim=(-0.1, N + 0.1), ylim=(N + 0.1, -0.1), aspect="equal")
    axis.axis("off")


figure, axes = new_figure(1, 4, width=11.5, height=3.4)
draw_windows(axes[0], 3, 2, "pixel (3, 2): 9 windows")
draw_windows(axes[1], 5, 3, "pixel (5, 3), at the border: 3")
draw_windows(axes[2], 0, 0, "pixel (0, 0), in the corner: 1")
count = np.sum(dx_dy != 0, axis=(0, 1))  # (N, N)
for (i, j), windows in np.ndenumerate(count):
    shade = (COLOURS[0], windows / 12)
    axes[3].add_patch(Rectangle((j, i), 1, 1, facecolor=shade, edgecolor="0.75"))
    axes[3].text(j + 0.5, i + 0.5, windows, ha="center", va="center")
axes[3].set_title("how many windows hold a pixel", fontsize=11)
finish(axes[3])
save(figure, "step_08_windows")
print("The blue frame holds the corners that exist: rows and columns 0 to", N - m)

# %%
# The gradient by the image: a sum over a filter window
# -----------------------------------------------------
# By the chain rule the changes that a pixel makes are added up over the windows that hold it:
#
# .. math::
#    \frac{\partial E}{\partial y_{ij}^{(l-1)}}
#    = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1} \frac{\partial E}{\partial x_{(i-a)(j-b)}^{(l)}}
#    \frac{\partial x_{(i-a)(j-b)}^{(l)}}{\partial y_{ij}^{(l-1)}}

dE_dx = delta
dE_dy = np.zeros((N, N))
for i in range(N):
    for j in range(N):
        for a in range(m):
            for b in range(m):
                if 0 <= i - a <= N - m and 0 <= j - b <= N - m:
                    dE_dy[i, j] += dE_dx[i - a, j - b] * dx_dy[i - a, j - b, i, j]

truth = jax.grad(E_of, argnums=0)(y, omega)
verification.equal("F59", "dE/dy, sum over a filter window", dE_dy, truth, "jax.grad")

# %%
# Put in what the factors are. Both the error and :math:`\sigma'` belong to the window at
# :math:`(i-a)(j-b)`; the lecture prints the error with the index :math:`ij`, which is another
# number (``errata`` demonstrates it).
#
# .. math::
#    \frac{\partial E}{\partial y_{ij}^{(l-1)}}
#    = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1} \frac{\partial E}{\partial y_{(i-a)(j-b)}^{(l)}} \,
#    \sigma'(x_{(i-a)(j-b)}^{(l)}) \, \omega_{ab}

dE_dy = np.zeros((N, N))
for i in range(N):
    for j in range(N):
        for a in range(m):
            for b in range(m):
                p, q = i - a, j - b
                if 0 <= p <= N - m and 0 <= q <= N - m:
                    dE_dy[i, j] += dE_dy_next[p, q] * sigma_prime[p, q] * omega[a, b]

verification.equal("F60", "dE/dy, the factors put in", dE_dy, truth, "jax.grad")

# %%
# The index :math:`i - a` is that of a true convolution, with the flip. Where the forward pass
# slides the kernel as it is, the backward pass slides it turned round, and over every place where
# the two meet at all (*full*): :math:`\frac{\partial E}{\partial y^{(l-1)}} = \delta * \omega`.

found = scipy.signal.convolve2d(delta, omega, "full")
verification.equal("F60", "dE/dy = full convolution", found, truth, "jax.grad")
framed = np.pad(delta, m - 1)
found = scipy.signal.correlate2d(framed, omega[::-1, ::-1], "valid")
verification.equal("F60", "the kernel flipped, delta padded", found, truth, "jax.grad")

# %%
# The same by the matrix of step 7, :math:`x = T y`: an error goes back through a matrix by its
# transpose, as in the dense layers, :math:`\frac{\partial E}{\partial y} = T^\top \delta`.


def matrix_of_layer(omega, N):
    """T with T @ y.ravel() = x.ravel(): doubly blocked Toeplitz, as in step 7."""
    m = len(omega)
    zeros, nothing = np.zeros(N - m), np.zeros((N - m + 1, N))
    of_row = [
        scipy.linalg.toeplitz(np.append(row[:1], zeros), np.append(row, zeros)) for row in omega
    ]
    return np.block(
        [[of_row[i - p] if 0 <= i - p < m else nothing for i in range(N)] for p in range(N - m + 1)]
    )


T = matrix_of_layer(omega, N)
verification.equal("F58", "the Jacobian dx/dy is T", dx_dy.reshape(T.shape), T, "Toeplitz matrix")
found = (T.T @ delta.ravel()).reshape(N, N)
verification.equal("F59", "dE/dy = T^T delta", found, truth, "jax.grad")
verification.equal("F59", "T^T delta", found, dE_dy, "the lecture's sum")

# %%
# The gradient by the kernel: a sum over the whole image
# ------------------------------------------------------
# Each :math:`\omega_{ab}` is used in every window, so the sum goes over all of them. There are
# :math:`N - m + 1` in each direction, and counted from 0 the last has the index :math:`N - m`. The
# lecture sums to :math:`N - m + 1`, one row and one column too far, and names the left-hand side
# :math:`\frac{\partial E}{\partial y}` (``errata`` demonstrates both).
#
# .. math::
#    \frac{\partial E}{\partial \omega_{ab}} = \sum_{i=0}^{N-m} \sum_{j=0}^{N-m}
#    \frac{\partial E}{\partial x_{ij}^{(l)}} \frac{\partial x_{ij}^{(l)}}{\partial \omega_{ab}}

dE_domega = np.zeros((m, m))
for a in range(m):
    for b in range(m):
        for i in range(N - m + 1):
            for j in range(N - m + 1):
                dE_domega[a, b] += dE_dx[i, j] * dx_domega[i, j, a, b]

truth = jax.grad(E_of, argnums=1)(y, omega)
verification.equal("F61", "dE/domega, sum over the image", dE_domega, truth, "jax.grad")

# %%
# .. math::
#    \frac{\partial E}{\partial \omega_{ab}} = \sum_{i=0}^{N-m} \sum_{j=0}^{N-m}
#    \frac{\partial E}{\partial y_{ij}^{(l)}} \, \sigma'(x_{ij}^{(l)}) \, y_{(i+a)(j+b)}^{(l-1)}

dE_domega = np.zeros((m, m))
for a in range(m):
    for b in range(m):
        for i in range(N - m + 1):
            for j in range(N - m + 1):
                dE_domega[a, b] += dE_dy_next[i, j] * sigma_prime[i, j] * y[i + a, j + b]

verification.equal("F62", "dE/domega, the factors put in", dE_domega, truth, "jax.grad")

# %%
# With :math:`i + a` this is the forward formula once more, with :math:`\delta` in the place of the
# kernel: the valid cross-correlation of the image with the error signal. It is also one matrix
# product. Lay out the nine pixels of each window as a row of a matrix :math:`P`; then
# :math:`x = P \omega`, and :math:`\frac{\partial E}{\partial \omega} = P^\top \delta`.

found = scipy.signal.correlate2d(y, delta, "valid")
verification.equal("F62", "dE/domega = valid cross-correlation", found, truth, "jax.grad")
P = dx_domega.reshape(size * size, m * m)  # each row a window
verification.equal("F61", "x = P omega", P @ omega.ravel(), x.ravel(), "the layer")
found = (P.T @ delta.ravel()).reshape(m, m)
verification.equal("F61", "dE/domega = P^T delta", found, truth, "jax.grad")

# %%
# Pictures of both
# ----------------
# Look at three shapes. :math:`\delta` is as large as the output, 4 by 4. The gradient by the image
# is as large as the image, 6 by 6: :math:`\delta` spread out by the kernel. The gradient by the
# kernel is as large as the kernel, 3 by 3. Red is positive, blue negative.

figure, axes = new_figure(2, 4, width=10.5, height=5.4)
panels = {
    "image $y^{(l-1)}$": y,
    r"kernel $\omega$": omega,
    r"$x = W * y^{(l-1)}$": x,
    r"output $y^{(l)} = \sigma(x)$": y_next,
    r"$\partial E / \partial y^{(l-1)} = \delta * \omega$": dE_dy,
    r"$\partial E / \partial \omega$": dE_domega,
    r"$\delta = \partial E / \partial x$": delta,
    r"$\partial E / \partial y^{(l)}$": dE_dy_next,
}
for axis, (title, panel) in zip(axes.flat, panels.items(), strict=True):
    top = np.max(np.abs(panel))
    axis.imshow(panel, cmap="RdBu_r", vmin=-top, vmax=top)
    for (i, j), value in np.ndenumerate(panel):
        shade = "white" if abs(value) > 0.6 * top else "black"
        digits = 1 if axis in axes[0] else 2
        number = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 turns -0.0 into 0.0
        axis.text(j, i, number, ha="center", va="center", fontsize=9, color=shade)
    axis.set_title(title, fontsize=11)
    axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("forward: left to right")
axes[1, 0].set_ylabel("backward: right to left")
save(figure, "step_08_gradients")

# %%
# The rule in funcnn
# ------------------
# ``fnn.rules.conv`` carries these formulas as its backward pass. Its forward part keeps ``x`` and
# ``w``;
# its backward part takes the error signal and gives back both gradients. No automatic
# differentiation takes part.

image, window = y[None, :, :, None], omega[:, :, None, None]  # (1, N, N, 1), (m, m, 1, 1)
static = {"stride": 1, "padding": "VALID", "dilation": 1, "groups": 1}
_, residuals = fnn.rules.conv.forward(image, window, None, **static)
dx, dw, _ = fnn.rules.conv.backward(residuals, jnp.asarray(delta[None, :, :, None]), **static)
verification.equal("F60", "the rule's gradient by the image", dx[0, :, :, 0], dE_dy, "loops")
verification.equal("F62", "the rule's gradient by the kernel", dw[:, :, 0, 0], dE_domega, "loops")

# %%
# ``fnn.backprop`` goes through the whole layer, :math:`\sigma` included. It starts from
# :math:`\frac{\partial E}{\partial y^{(l)}}` and hands out each error signal on its way:
# :math:`\delta` is what arrives at the output of the convolution.

model = fnn.chain(fnn.conv(1, (m, m), padding="VALID", bias=False), fnn.sigmoid)
params = {"conv_0": {"w": jnp.asarray(window)}, "sigmoid_0": {}}
dparams, dx, deltas = fnn.backprop(model, params, image, dE_dy_next[None, :, :, None])
print("error signals, last layer first:", list(deltas))
found = deltas["conv_0"][0, :, :, 0]
verification.equal("F56", "delta of fnn.backprop", found, delta, "dE/dy^(l) sigma'(x)")
verification.equal("F60", "fnn.backprop, by the image", dx[0, :, :, 0], dE_dy, "loops")
found = dparams["conv_0"]["w"][:, :, 0, 0]
verification.equal("F62", "fnn.backprop, by the kernel", found, dE_domega, "loops")

# %%
# Many images, many channels
# --------------------------
# With input channels :math:`c` and output channels :math:`o` the kernel is :math:`\omega_{abco}`.
# The forward sum goes over :math:`c` as well, so the gradient by the image is a sum over all
# :math:`o`; the gradient by the kernel is a sum over all images :math:`n`:
#
# .. math::
#    \frac{\partial E}{\partial y_{nijc}} = \sum_o \sum_{a} \sum_{b} \delta_{n(i-a)(j-b)o} \,
#    \omega_{abco}
#    \qquad
#    \frac{\partial E}{\partial \omega_{abco}} = \sum_n \sum_{i} \sum_{j} \delta_{nijo} \,
#    y_{n(i+a)(j+b)c}

images, kernels = random.normal(size=(5, N, N, 2)), random.normal(size=(m, m, 2, 4))
deltas = random.normal(size=(5, size, size, 4))
dE_dimages, dE_dkernels = np.zeros_like(images), np.zeros_like(kernels)
for a in range(m):
    for b in range(m):
        rows, columns = slice(a, a + size), slice(b, b + size)  # i + a and j + b for all i, j
        dE_dimages[:, rows, columns] += deltas @ kernels[a, b].T
        dE_dkernels[a, b] = np.einsum("nijc,nijo->co", images[:, rows, columns], deltas)


def plain(images, kernels):
    """Plain jnp: the windows side by side, times the kernels."""
    places = jnp.arange(size)
    return sum(
        images[:, places + a][:, :, places + b] @ kernels[a, b] for a in range(m) for b in range(m)
    )


truth = jax.vjp(plain, images, kernels)[1](jnp.asarray(deltas))
verification.equal("F59", "channels: dE/dy, a sum over o", dE_dimages, truth[0], "jax.vjp, plain")
verification.equal(
    "F61", "channels: dE/domega, over images", dE_dkernels, truth[1], "jax.vjp, plain"
)
found = fnn.rules.conv.backward((images, kernels, None), jnp.asarray(deltas), **static)
verification.equal("F59", "channels: the rule, by the images", found[0], truth[0], "jax.vjp, plain")
verification.equal(
    "F61", "channels: the rule, by the kernels", found[1], truth[1], "jax.vjp, plain"
)

# %%
# Padding and stride
# ------------------
# Padding :math:`p` puts zeros round the image. Their gradient is computed and thrown away: take the
# inner part. Stride :math:`s` keeps every :math:`s`-th number of the output. Backwards, put
# :math:`s - 1` zeros between neighbours of :math:`\delta`, for the numbers that were not kept, and
# go on as with stride 1.

p, s = 1, 2
padded = np.pad(y, p)  # (N + 2 p, N + 2 p)
delta_strided = random.normal(size=((N + 2 * p - m) // s + 1,) * 2)
spread = np.zeros((N + 2 * p - m + 1,) * 2)
spread[::s, ::s] = delta_strided
by_padded = scipy.signal.convolve2d(spread, omega, "full")
by_image = by_padded[p : p + N, p : p + N]
by_kernel = scipy.signal.correlate2d(padded, spread, "valid")

_, pull_back = jax.vjp(lambda y, omega: x_of(jnp.pad(y, p), omega)[::s, ::s], y, omega)
truth = pull_back(jnp.asarray(delta_strided))
verification.equal("F60", "stride 2, padding 1: by the image", by_image, truth[0], "jax.vjp, plain")
verification.equal(
    "F62", "stride 2, padding 1: by the kernel", by_kernel, truth[1], "jax.vjp, plain"
)
static = {"stride": s, "padding": ((p, p), (p, p)), "dilation": 1, "groups": 1}
dy = jnp.asarray(delta_strided[None, :, :, None])
found = fnn.rules.conv.backward((image, window, None), dy, **static)
verification.equal("F60", "stride 2: the rule", found[0][0, :, :, 0], truth[0], "jax.vjp, plain")
verification.equal("F62", "stride 2: the rule", found[1][:, :, 0, 0], truth[1], "jax.vjp, plain")

# %%
# A kernel that is learnt
# -----------------------
# The sum over the image is all that is needed to learn. Somebody has run an unknown kernel over 100
# digits and shows the results. Start from a kernel of zeros and go down the gradient of the squared
# error, :math:`P^\top \delta`, here without :math:`\sigma`.

digits = fnn.data.digits(seed=0).train.x[:100, :, :, 0].astype(float)  # (100, 8, 8)
hidden = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
P = np.lib.stride_tricks.sliding_window_view(digits, (m, m), axis=(1, 2)).reshape(-1, m * m)
targets = P @ hidden.ravel()  # (100 windows 36,)

# A step of 1 / the largest curvature of the cost is as long as is safe.
eta = 1 / np.linalg.eigvalsh(P.T @ P / len(digits))[-1]
steps, learnt, costs, seen = 300, np.zeros((m, m)), [], {}
for step in range(steps + 1):
    if step in (0, 10, steps):
        seen[step] = learnt
    delta = P @ learnt.ravel() - targets
    costs.append(np.sum(delta**2) / 2 / len(digits))
    learnt = learnt - eta * (P.T @ delta).reshape(m, m) / len(digits)
distance = np.max(np.abs(learnt - hidden))
verification.measured("F62", "a hidden kernel is learnt", f"{distance:.1e} away, {steps} steps")

# %%
# Look from left to right: nothing, a first guess, and nearly the hidden kernel, whose columns are
# 1, 2, 1, then zeros, then -1, -2, -1. The cost falls by several powers of ten.

figure, axes = new_figure(1, 4, width=10.5, height=3, width_ratios=[1, 1, 1, 1.6])
for axis, (step, kernel) in zip(axes, seen.items(), strict=False):
    axis.imshow(kernel, cmap="RdBu_r", vmin=-2, vmax=2)
    for (i, j), value in np.ndenumerate(kernel):
        shade = "white" if abs(value) > 1.2 else "black"
        axis.text(j, i, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", color=shade)
    axis.set_title(f"after {step} steps", fontsize=11)
    axis.set(xticks=[], yticks=[])
axes[3].semilogy(costs, color=COLOURS[0])
axes[3].set(xlabel="step", title="cost of an image")
save(figure, "step_08_learnt")

# %%
# What was verified
# -----------------

verification.report()
