r"""
Errata
======

The lecture's slides hold small slips: a wrong index, a missing prime, a row printed twice. Each is
shown here with its number, its slide, what is printed, what is meant, and a few lines that compute
both. The printed form disagrees with the derivative, or cannot be computed at all. The corrected
form agrees to twelve digits. Looking for slips is a good way to learn a formula: try each first.
"""

# %%
# How a slip is judged
# --------------------
#
# Nothing is called a slip that a fair reading of the notation allows. So the printed form gets the
# reading that suits it best. Where a line has several slips, each is shown alone, with the others
# mended. All layers are equally wide, so that shapes fit as often as they can. The slides came
# through a scanner: where a misread letter is the likelier cause, the text says "printed (or
# scanned)", and the table "scanned".
#
# ``slip`` computes both forms and compares them with the truth: ``jax.grad`` of a plain function,
# or the definition. The error is the largest difference over the largest element of the truth.
# ``disagrees`` insists that the printed form is off by more than 0.001, or fails as announced.

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.signal
import scipy.special
from drawing import COLOURS, new_figure, save
from matplotlib.patches import Circle, Rectangle
from verified import Verification

import funcnn as fnn

jax.config.update("jax_enable_x64", True)
verification = Verification("Errata")


@dataclasses.dataclass
class Slip:
    """One slip: where it stands, both forms in words, and how far off each is."""

    kind: str  # "slip", "scanned", or "left out"
    formula: str
    slide: str
    printed: str
    meant: str
    printed_error: float | None  # None: it cannot be computed
    reason: str  # why it cannot be computed
    meant_error: float


slips: list[Slip] = []


def disagrees(formula, printed, as_printed, truth, fails):
    """(error, reason) of the printed form, which must be wrong, or fail with one of `fails`."""
    try:
        found, truth = np.asarray(as_printed()), np.asarray(truth)
        if found.shape != truth.shape:
            raise ValueError(f"shape {found.shape}, but {truth.shape} is needed")
    except fails as caught:
        error, reason = None, str(caught)
        print(f"printed:   {printed}: cannot be computed, {reason}")
    else:
        error, reason = float(np.max(np.abs(found - truth)) / np.max(np.abs(truth))), ""
        print(f"printed:   {printed}: off by {error:.1e}")
    verification.holds(formula, f"not {printed}", error is None or error > 1e-3)
    return error, reason


def slip(
    formula,
    slide,
    printed,
    meant,
    as_printed,
    as_meant,
    truth,
    against="jax.grad",
    fails=(),
    kind="slip",
):
    """Compute both forms, compare them with the truth, and keep the result for the table."""
    printed_error, reason = disagrees(formula, printed, as_printed, truth, fails)
    meant_error = verification.equal(formula, meant, as_meant(), truth, against)
    print(f"corrected: {meant}: off by {meant_error:.1e}")
    slips.append(Slip(kind, formula, slide, printed, meant, printed_error, reason, meant_error))


# %%
# Part one: high school mathematics
# ---------------------------------
#
# The first network has one layer and no activation: :math:`f(\mathbf{x}; \theta) =
# \mathbf{x}^\top \theta`. Five samples are the rows of :math:`X` (5, 3); :math:`\theta` is (3). The
# cost :math:`L_\theta` is the mean of the squared errors.

rng = np.random.default_rng(2019)
X, targets, theta, eta = rng.normal(size=(5, 3)), rng.normal(size=5), rng.normal(size=3), 0.1


def cost(theta):
    return jnp.mean((X @ theta - targets) ** 2)


# %%
# 1. The update rule differentiates the network
# ---------------------------------------------
#
# In many books :math:`f` is whatever is minimised. Here :math:`f` is the network: it is defined so
# on the same slide, and the cost is called :math:`L_\theta`. Printed (F5):
#
# .. math:: \theta_{t+1} = \theta_t - \eta \frac{\partial f}{\partial \theta}(\theta_t)
#
# Meant:
#
# .. math:: \theta_{t+1} = \theta_t - \eta \frac{\partial L}{\partial \theta}(\theta_t)
#
# The derivative of this network, averaged over the samples, is the mean of the rows of :math:`X`.


def step_as_printed(theta):
    return theta - eta * X.mean(axis=0)


def step_as_meant(theta):
    return theta - eta * 2 / 5 * X.T @ (X @ theta - targets)


slip(
    *("F5", "In a nutshell", "θ - η ∂f/∂θ", "θ - η ∂L/∂θ"),
    lambda: step_as_printed(theta),
    lambda: step_as_meant(theta),
    truth=theta - eta * jax.grad(cost)(theta),
)

# %%
# Both rules run from the same start. The printed one makes the network's output smaller and
# smaller, whatever the targets are. Look at where the two curves part.

figure, axes = new_figure()
for rule, colour, dashes, label in (
    (step_as_printed, COLOURS[1], "--", "printed: minus the network's derivative"),
    (step_as_meant, COLOURS[0], "-", "meant: minus the cost's derivative"),
):
    costs, point = [], theta
    for _ in range(41):
        costs.append(float(cost(point)))
        point = rule(point)
    axes.semilogy(costs, color=colour, linestyle=dashes, linewidth=2, label=label)
axes.set(xlabel="step t", ylabel="cost L", title="Only one of the two rules descends")
axes.legend()
save(figure, "errata_1_descent")

# %%
# 2. The product rule
# -------------------
#
# Printed (F6):
#
# .. math::
#
#    \frac{\partial}{\partial \theta}(f g)
#    = f \frac{\partial}{\partial \theta} g + \frac{\partial}{\partial \theta} g f
#
# The second term has :math:`g' f` where :math:`f' g` is meant. Read as :math:`(g f)'` it would say
# that the first term is zero. Meant:
#
# .. math::
#
#    \frac{\partial}{\partial \theta}(f g)
#    = f \frac{\partial g}{\partial \theta} + \frac{\partial f}{\partial \theta} g

t = 0.7  # f = sin, g = exp
slip(
    *("F6", "High school mathematics", "f g' + g' f", "f g' + f' g"),
    lambda: np.sin(t) * np.exp(t) + np.exp(t) * np.sin(t),
    lambda: np.sin(t) * np.exp(t) + np.cos(t) * np.exp(t),
    truth=jax.grad(lambda t: jnp.sin(t) * jnp.exp(t))(t),
)

# %%
# Part two: the scalar-score network
# ----------------------------------
#
# The network is :math:`\hat{y} = U^\top f(W x + b)` with :math:`f = \tanh`, :math:`W` (3, 3), and
# :math:`U`, :math:`b`, :math:`x` (3). ``score`` is the plain function that ``jax.grad``
# differentiates; the capital letters and :math:`z`, :math:`a`, :math:`\delta` are computed by hand.


def score(W, b, x):
    return U @ jnp.tanh(W @ x + b)


def f_prime(z):
    return 1 - np.tanh(z) ** 2


f = np.tanh
U, b, x = rng.normal(size=(3, 3))
W = 0.5 * rng.normal(size=(3, 3))  # small, so that no unit is saturated
z = W @ x + b
a = f(z)
y_hat = U @ a
delta = U * f_prime(z)
dW = jax.grad(score)(W, b, x)
dx = jax.grad(score, argnums=2)(W, b, x)

# %%
# 3. An entry of the matrix
# -------------------------
#
# The slides write out the first row of :math:`W` (F11) as
#
# .. math:: \begin{pmatrix} w_{11} & w_{11} & w_{13} \end{pmatrix}
#
# and once as :math:`w_1, w_{11}, w_{13}`. Meant:
#
# .. math:: \begin{pmatrix} w_{11} & w_{12} & w_{13} \end{pmatrix}

W_printed = W.copy()
W_printed[0, 1] = W[0, 0]
slip(
    *("F11", "Feed forward", "row (w11, w11, w13)", "row (w11, w12, w13)"),
    lambda: U @ f(W_printed @ x + b),
    lambda: sum(U[i] * f(sum(W[i, j] * x[j] for j in range(3)) + b[i]) for i in range(3)),
    truth=score(W, b, x),
    against="the plain network",
)

# %%
# 4. A quotient for a derivative
# ------------------------------
#
# Printed (F15), with a letter :math:`S` that no slide defines:
#
# .. math:: \frac{\partial S}{W_{i,j}}
#
# Meant:
#
# .. math:: \frac{\partial \hat{y}}{\partial W_{i,j}} = U_i f'(z_i) x_j
#
# Without the second :math:`\partial` it is a quotient. With :math:`\hat{y}` for :math:`S`:

slip(
    *("F15", "Backpropagation for W_ij", "∂S / W_ij, a quotient", "∂ŷ/∂W_ij = U_i f'(z_i) x_j"),
    lambda: y_hat / W,
    lambda: [[U[i] * f_prime(z[i]) * x[j] for j in range(3)] for i in range(3)],
    truth=dW,
)

# %%
# 5. A row of W, scanned as an element
# ------------------------------------
#
# Printed (or scanned) on the slide "Backpropagation for W" (F15):
#
# .. math:: U_i f'(W_{i,j}^\top X + b_i) X_j
#
# Meant, with the row :math:`W_{i,:}`:
#
# .. math:: U_i f'(W_{i,:}^\top X + b_i) X_j
#
# The colon was probably read as :math:`j`. In the best reading, :math:`W_{i,j}` meets :math:`X_j`.

slip(
    *("F15", "Backpropagation for W", "U_i f'(W_ij x + b_i) x_j", "U_i f'(W_i: x + b_i) x_j"),
    lambda: [[U[i] * f_prime(W[i, j] * x[j] + b[i]) * x[j] for j in range(3)] for i in range(3)],
    lambda: [[U[i] * f_prime(W[i, :] @ x + b[i]) * x[j] for j in range(3)] for i in range(3)],
    truth=dW,
    kind="scanned",
)

# %%
# 6. The third element of delta
# -----------------------------
#
# Printed, on two slides (F17), as the last element of :math:`\delta`:
#
# .. math:: U_2 f'(W_{3,:}^\top X + b_3)
#
# Meant:
#
# .. math:: U_3 f'(W_{3,:}^\top X + b_3)
#
# The truth is :math:`\partial \hat{y} / \partial z`, as the lecture defines :math:`\delta`.

slip(
    *("F17", "Something about δ", "δ_3 = U_2 f'(z_3)", "δ_3 = U_3 f'(z_3)"),
    lambda: [U[0] * f_prime(z[0]), U[1] * f_prime(z[1]), U[1] * f_prime(z[2])],
    lambda: [U[0] * f_prime(z[0]), U[1] * f_prime(z[1]), U[2] * f_prime(z[2])],
    truth=jax.grad(lambda z: U @ jnp.tanh(z))(z),
)

# %%
# 7. A prime and a comma, scanned
# -------------------------------
#
# Printed (or scanned; F18):
#
# .. math:: U_1 p'(w_1^\top, x + b_1)
#
# Meant, with :math:`f` for :math:`p` and the comma away:
#
# .. math:: U_1 f'(w_1^\top x + b_1)
#
# No slide has a function :math:`p`, and with the comma :math:`f'` gets two arguments, but it has
# one. The factor :math:`x^\top` is the next slip; both forms have it here.

slip(
    *("F18", "Backpropagation for W", "U_i p'(w_i, x + b_i)", "U_i f'(w_i x + b_i)"),
    lambda: [U[i] * f_prime(W[i], x + b[i]) * x for i in range(3)],  # pyright: ignore
    lambda: [U[i] * f_prime(W[i] @ x + b[i]) * x for i in range(3)],
    truth=dW,
    fails=TypeError,
    kind="scanned",
)

# %%
# 8. A matrix that is a column
# ----------------------------
#
# Printed (F18), with one column of three elements between two matrices of (3, 3):
#
# .. math::
#
#    \frac{\partial \hat{y}}{\partial W}
#    = \begin{pmatrix} U_1 f'(z_1) \\ U_2 f'(z_2) \\ U_3 f'(z_3) \end{pmatrix} = \delta x^\top
#
# Meant:
#
# .. math::
#
#    \frac{\partial \hat{y}}{\partial W}
#    = \begin{pmatrix} U_1 f'(z_1) \\ U_2 f'(z_2) \\ U_3 f'(z_3) \end{pmatrix} x^\top
#    = \delta x^\top

slip(
    *("F18", "Backpropagation for W", "∂ŷ/∂W = (U_i f'(z_i))", "∂ŷ/∂W = (U_i f'(z_i)) xᵀ"),
    lambda: U * f_prime(z),
    lambda: np.outer(U * f_prime(z), x),
    truth=dW,
    fails=ValueError,
)

# %%
# 9. The whole bias for one of its elements
# -----------------------------------------
#
# Printed, in :math:`\partial \hat{y} / \partial x_j` (F22):
#
# .. math:: \sum_{i=1}^3 U_i \frac{\partial f(W_{i,:} x + b)}{\partial x_j}
#
# Meant:
#
# .. math:: \sum_{i=1}^3 U_i \frac{\partial f(W_{i,:} x + b_i)}{\partial x_j}
#
# :math:`W_{i,:} x` is a number and :math:`b` a vector, so the printed term is a vector, and the
# derivative by the three :math:`x_j` a matrix.

slip(
    *("F22", "Backpropagation for x_i", "f(W_i x + b)", "f(W_i x + b_i)"),
    lambda: [sum(U[i] * f_prime(W[i] @ x + b) * W[i, j] for i in range(3)) for j in range(3)],
    lambda: [sum(U[i] * f_prime(W[i] @ x + b[i]) * W[i, j] for i in range(3)) for j in range(3)],
    truth=dx,
    fails=ValueError,
)

# %%
# 10. The score for the output weights
# ------------------------------------
#
# Printed (F22):
#
# .. math:: \frac{\partial\, \hat{y}^\top a}{\partial a_i} \frac{\partial a_i}{\partial x_j}
#
# Meant:
#
# .. math:: \frac{\partial\, U^\top a}{\partial a_i} \frac{\partial a_i}{\partial x_j}
#
# :math:`\hat{y}` is :math:`U^\top a` itself. In the best reading it is a constant before
# :math:`a_i`, and the first factor is :math:`\hat{y}`; meant is :math:`U_i`.

slip(
    *("F22", "Backpropagation for x_i", "∂(ŷᵀ a)/∂a_i", "∂(Uᵀ a)/∂a_i"),
    lambda: [sum(y_hat * f_prime(z[i]) * W[i, j] for i in range(3)) for j in range(3)],
    lambda: [sum(U[i] * f_prime(z[i]) * W[i, j] for i in range(3)) for j in range(3)],
    truth=dx,
)

# %%
# 11. One factor of the chain twice
# ---------------------------------
#
# Printed (F22):
#
# .. math::
#
#    U_i \frac{\partial f(z_i)}{\partial x_j} \frac{\partial W_{i,:} x}{\partial x_j}
#
# The first fraction holds the factor :math:`W_{i,j}` already, and the second brings it again.
# Meant:
#
# .. math::
#
#    U_i \frac{\partial f(z_i)}{\partial z_i} \frac{\partial W_{i,:} x}{\partial x_j}

slip(
    *("F22", "Backpropagation for x_i", "∂f(z_i)/∂x_j ∂z_i/∂x_j", "∂f(z_i)/∂z_i ∂z_i/∂x_j"),
    lambda: [sum(U[i] * (f_prime(z[i]) * W[i, j]) * W[i, j] for i in range(3)) for j in range(3)],
    lambda: [sum(U[i] * f_prime(z[i]) * W[i, j] for i in range(3)) for j in range(3)],
    truth=dx,
)

# %%
# Part three: two layers, and many
# --------------------------------
#
# :math:`z^{(1)} = W^{(1)} x + b^{(1)}`, :math:`a^{(1)} = f(z^{(1)})`, and so for the second layer;
# :math:`\hat{y} = U^\top a^{(2)}`. All matrices are (3, 3), so the printed products fit. With
# layers of unequal widths most of them would not even have a shape.


def two_layers(W1, W2):
    return U @ jnp.tanh(W2 @ jnp.tanh(W1 @ x + b1) + b2)


W1, W2 = 0.5 * rng.normal(size=(2, 3, 3))
b1, b2 = rng.normal(size=(2, 3))
a0 = x
z1 = W1 @ a0 + b1
a1 = f(z1)
z2 = W2 @ a1 + b2
a2 = f(z2)
delta2 = U * f_prime(z2)
delta1 = W2.T @ delta2 * f_prime(z1)
dW1, dW2 = jax.grad(two_layers, argnums=(0, 1))(W1, W2)
dz1 = jax.grad(lambda z1: U @ jnp.tanh(W2 @ jnp.tanh(z1) + b2))(z1)

# %%
# 12. The layer's output for its input
# ------------------------------------
#
# Printed (F26, and again in F27):
#
# .. math::
#
#    \frac{\partial \hat{y}}{\partial W_{i,j}^{(2)}} = \delta_i^{(2)} a_j^{(2)}
#
# Meant:
#
# .. math::
#
#    \frac{\partial \hat{y}}{\partial W_{i,j}^{(2)}} = \delta_i^{(2)} a_j^{(1)}
#
# In the one-layer case a weight's gradient is delta times the layer's *input*, and the input of
# the second layer is :math:`a^{(1)}`.

slip(
    *("F26", "Two layers, W(2)", "δ(2)_i a(2)_j", "δ(2)_i a(1)_j"),
    lambda: [[delta2[i] * a2[j] for j in range(3)] for i in range(3)],
    lambda: [[delta2[i] * a1[j] for j in range(3)] for i in range(3)],
    truth=dW2,
)

# %%
# 13. An index left over
# ----------------------
#
# Printed (F27), with :math:`a^{(1)}` already mended:
#
# .. math:: \frac{\partial \hat{y}}{\partial W^{(2)}} = \delta_i^{(2)} a^{(1)\top}
#
# Meant:
#
# .. math:: \frac{\partial \hat{y}}{\partial W^{(2)}} = \delta^{(2)} a^{(1)\top}
#
# With one :math:`\delta_i` the right side is one row of the matrix.

i = 1
slip(
    *("F27", "Two layers, W(2)", "∂ŷ/∂W(2) = δ(2)_i a(1)ᵀ", "∂ŷ/∂W(2) = δ(2) a(1)ᵀ"),
    lambda: delta2[i] * a1,
    lambda: np.outer(delta2, a1),
    truth=dW2,
    fails=ValueError,
)

# %%
# 14. The factors of the chain, first line
# ----------------------------------------
#
# Printed (F28):
#
# .. math::
#
#    \frac{\partial \hat{y}}{\partial a^{(2)}} \frac{\partial a^{(2)}}{\partial z^{(2)}}
#    \frac{\partial a^{(2)}}{\partial a^{(1)}} \frac{\partial z^{(1)}}{\partial z^{(1)}}
#    \frac{\partial z^{(1)}}{\partial z^{(1)}} \frac{\partial z^{(1)}}{\partial W^{(1)}}
#
# Meant: each denominator is the next numerator.
#
# .. math::
#
#    \frac{\partial \hat{y}}{\partial a^{(2)}} \frac{\partial a^{(2)}}{\partial z^{(2)}}
#    \frac{\partial z^{(2)}}{\partial a^{(1)}} \frac{\partial a^{(1)}}{\partial z^{(1)}}
#    \frac{\partial z^{(1)}}{\partial W^{(1)}}
#
# :math:`\partial z^{(1)} / \partial z^{(1)}` is the identity matrix and loses :math:`f'(z^{(1)})`;
# :math:`\partial a^{(2)} / \partial a^{(1)}` holds :math:`f'(z^{(2)})` a second time. Each factor
# is a Jacobian matrix; the last makes ``row`` into ``np.outer(row, x)``.

identity = np.eye(3)
da2_dz2, da1_dz1 = np.diag(f_prime(z2)), np.diag(f_prime(z1))
dz2_da1, da2_da1 = W2, da2_dz2 @ W2
slip(
    *("F28", "Two layers, W(1)", "∂a(2)/∂a(1) ∂z(1)/∂z(1)", "∂z(2)/∂a(1) ∂a(1)/∂z(1)"),
    lambda: np.outer(U @ da2_dz2 @ da2_da1 @ identity @ identity, x),
    lambda: np.outer(U @ da2_dz2 @ dz2_da1 @ da1_dz1, x),
    truth=dW1,
)

# %%
# 15. The factors of the chain, second line
# -----------------------------------------
#
# The next line mends one factor and doubles the last (F28):
#
# .. math::
#
#    \frac{\partial \hat{y}}{\partial a^{(2)}} \frac{\partial a^{(2)}}{\partial z^{(2)}}
#    \frac{\partial z^{(2)}}{\partial a^{(1)}} \frac{\partial z^{(1)}}{\partial z^{(1)}}
#    \frac{\partial z^{(1)}}{\partial W^{(1)}} \frac{\partial z^{(1)}}{\partial W^{(1)}}
#
# Meant is the same as before. In the best reading the last factor stands there once. Then
# :math:`\partial a^{(1)} / \partial z^{(1)}` is still missing.

slip(
    *("F28", "Two layers, W(1)", "∂z(2)/∂a(1) ∂z(1)/∂z(1)", "∂z(2)/∂a(1) ∂a(1)/∂z(1)"),
    lambda: np.outer(U @ da2_dz2 @ dz2_da1 @ identity, x),
    lambda: np.outer(U @ da2_dz2 @ dz2_da1 @ da1_dz1, x),
    truth=dW1,
)

# %%
# 16. The derivative at the wrong layer
# -------------------------------------
#
# Printed (F29):
#
# .. math:: \delta^{(1)} = \delta^{(2)} W^{(2)} f'(z^{(2)})
#
# Meant, already in the lecture's "correct form" of matrix operations:
#
# .. math:: \delta^{(1)} = W^{(2)\top} \delta^{(2)} \odot f'(z^{(1)})

slip(
    *("F29", "Two layers, W(1)", "δ(2) W(2) f'(z(2)) X", "δ(2) W(2) f'(z(1)) X"),
    lambda: np.outer(W2.T @ delta2 * f_prime(z2), x),
    lambda: np.outer(W2.T @ delta2 * f_prime(z1), x),
    truth=dW1,
)

# %%
# 17. A prime is missing
# ----------------------
#
# Printed (F30, and again in F31 and F32), with :math:`z^{(1)}` already mended:
#
# .. math:: \left(W^{(2)\top} \delta^{(2)}\right) \odot f(z^{(1)})\, x^\top
#
# Meant:
#
# .. math:: \left(W^{(2)\top} \delta^{(2)}\right) \odot f'(z^{(1)})\, x^\top

slip(
    *("F30", "Generalisation", "(W(2)ᵀ δ(2)) ⊙ f(z(1)) xᵀ", "(W(2)ᵀ δ(2)) ⊙ f'(z(1)) xᵀ"),
    lambda: np.outer(W2.T @ delta2 * f(z1), x),
    lambda: np.outer(W2.T @ delta2 * f_prime(z1), x),
    truth=dW1,
)

# %%
# 18. The wrong name on the left
# ------------------------------
#
# Printed (F31), with the right side already mended:
#
# .. math:: \delta^{(2)} = W^{(2)\top} \delta^{(2)} \odot f'(z^{(1)})
#
# Meant:
#
# .. math:: \delta^{(1)} = W^{(2)\top} \delta^{(2)} \odot f'(z^{(1)})
#
# The right side is :math:`\partial \hat{y} / \partial z^{(1)}`, which is the truth here. The
# printed left side is :math:`\delta^{(2)} = U \odot f'(z^{(2)})`.

slip(
    *("F31", "Generalisation", "δ(2) = W(2)ᵀ δ(2) ⊙ f'(z(1))", "δ(1) = W(2)ᵀ δ(2) ⊙ f'(z(1))"),
    lambda: delta2,
    lambda: W2.T @ delta2 * f_prime(z1),
    truth=dz1,
)

# %%
# 19. A recursion that goes nowhere
# ---------------------------------
#
# Printed (F34, and in F32):
#
# .. math:: \delta^{(l)} = W^{(l)\top} \delta^{(l)} \odot f'(z^{(l)})
#
# Meant:
#
# .. math:: \delta^{(l)} = W^{(l+1)\top} \delta^{(l+1)} \odot f'(z^{(l)})
#
# As an equation, the printed line has the unknown on both sides: with :math:`D` the diagonal
# matrix of :math:`f'(z^{(l)})` it says :math:`(I - D W^{(l)\top}) \delta^{(l)} = 0`. Unless that
# matrix happens to be singular, the only solution is zero, and nothing is learnt.

slip(
    *("F34", "Backpropagation in action", "δ(l) = W(l)ᵀ δ(l) ⊙ f'", "δ(l) = W(l+1)ᵀ δ(l+1) ⊙ f'"),
    lambda: np.linalg.solve(identity - np.diag(f_prime(z1)) @ W1.T, np.zeros(3)),
    lambda: W2.T @ delta2 * f_prime(z1),
    truth=dz1,
)

# %%
# 20. The same line as an assignment
# ----------------------------------
#
# In program text the right :math:`\delta` could be the last one computed, :math:`\delta^{(l+1)}`.
# The kindest reading of F34 is thus
#
# .. math:: \delta^{(l)} = W^{(l)\top} \delta^{(l+1)} \odot f'(z^{(l)})
#
# and still takes the wrong matrix: the forward pass on the same slide has
# :math:`z^{(2)} = W^{(2)} a^{(1)} + b^{(2)}`, so the way from :math:`\delta^{(2)}` back to
# :math:`\delta^{(1)}` is :math:`W^{(2)\top}`. Meant:
#
# .. math:: \delta^{(l)} = W^{(l+1)\top} \delta^{(l+1)} \odot f'(z^{(l)})

slip(
    *("F34", "Backpropagation in action", "W(l)ᵀ δ(l+1) ⊙ f'(z(l))", "W(l+1)ᵀ δ(l+1) ⊙ f'(z(l))"),
    lambda: W1.T @ delta2 * f_prime(z1),
    lambda: W2.T @ delta2 * f_prime(z1),
    truth=dz1,
)

# %%
# 21. The weight gradient, one layer off
# --------------------------------------
#
# Printed (F35, and the remark F36 with it):
#
# .. math:: \frac{\partial \hat{y}}{\partial W^{(l)}} = \delta^{(l+1)} a^{(l)\top}
#
# Meant:
#
# .. math:: \frac{\partial \hat{y}}{\partial W^{(l)}} = \delta^{(l)} a^{(l-1)\top}
#
# Here :math:`l = 1`. The printed product is the gradient of :math:`W^{(2)}`; for :math:`l = L` it
# would need a :math:`\delta^{(L+1)}` that does not exist.

slip(
    *("F35", "Backpropagation in action", "∂ŷ/∂W(l) = δ(l+1) a(l)ᵀ", "∂ŷ/∂W(l) = δ(l) a(l-1)ᵀ"),
    lambda: np.outer(delta2, a1),
    lambda: np.outer(delta1, a0),
    truth=dW1,
)

# %%
# In fairness: many books call the matrix from :math:`a^{(l)}` to :math:`z^{(l+1)}` by the number
# :math:`l`. Write :math:`V^{(l)} = W^{(l+1)}` for that numbering. Then the kind reading of F34 and
# F35 are both right; the slide mixes two numberings, and its forward pass has the other one.

V0, V1 = W1, W2
V_delta1 = V1.T @ delta2 * f_prime(z1)
verification.equal("F34", "in the other numbering: V(l)ᵀ δ(l+1) ⊙ f'", V_delta1, dz1, "jax.grad")
verification.equal(
    "F35", "in the other numbering: δ(l+1) a(l)ᵀ", np.outer(delta2, a1), dW2, "jax.grad"
)
verification.equal("F35", "and for V(0)", np.outer(V_delta1, a0), dW1, "jax.grad")
print("In the other numbering V(l) = W(l+1) both lines agree with jax.grad.")

# %%
# Part four: convolution
# ----------------------
#
# The image :math:`y^{(l-1)}` is (N, N) = (5, 5), the filter :math:`\omega` is (m, m) = (3, 3), and
# :math:`x^{(l)}` is (N - m + 1, N - m + 1) = (3, 3). ``correlate`` is the plain sum of the slides.

N, m = 5, 3
n = N - m + 1
y, omega = rng.normal(size=(N, N)), rng.normal(size=(m, m))


def correlate(omega, y):
    return sum(omega[a, b] * y[a : a + n, b : b + n] for a in range(m) for b in range(m))


x_l = np.asarray(correlate(omega, y))

# %%
# 22. Copies of the image
# -----------------------
#
# Printed (F44): with 128 kernels, "you create 64 copies of the image". Meant: 128 of them, one for
# each kernel. (They are not copies either, but 128 filtered images, called feature maps.)

kernels = rng.normal(size=(5, 5, 1, 128))
image = rng.normal(size=(1, 9, 9, 1))
maps = np.asarray(fnn.rules.conv(image, kernels, padding="VALID"))  # (1, 5, 5, 128)
one_by_one = [
    scipy.signal.correlate2d(image[0, :, :, 0], kernel, mode="valid")
    for kernel in np.moveaxis(kernels[:, :, 0, :], -1, 0)
]
verification.equal("F44", "each kernel makes a map", maps[0], np.stack(one_by_one, -1), "SciPy")
slip(
    *("F44", "Number of parameters", "64 images", "128 images"),
    lambda: 64,
    lambda: maps.shape[-1],
    truth=len(one_by_one),
    against="counting",
)

# %%
# 23. Convolution that is correlation
# -----------------------------------
#
# Printed (F50), where :math:`*` was defined (F41) with a minus, :math:`f(\tau) g(t - \tau)`:
#
# .. math:: x^{(l)} = W * y^{(l-1)}
#
# The sum that follows (F54) has a plus. It is a cross-correlation; as a convolution it has the
# filter turned by half a turn, :math:`\tilde{\omega}_{ab} = \omega_{(m-1-a)(m-1-b)}`. Meant:
#
# .. math::
#
#    x_{ij}^{(l)} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1} \omega_{ab}\, y_{(i+a)(j+b)}^{(l-1)}
#    = (\tilde{\omega} * y^{(l-1)})_{ij}
#
# Deep-learning texts and libraries call the sum with a plus a convolution, too, and for a filter
# that is learnt it makes no difference. It is a slip here since one star means two things.

slip(
    *("F50", "Convolution as a linear operator", "x = ω * y", "x = flipped ω * y"),
    lambda: scipy.signal.convolve2d(y, omega, mode="valid"),
    lambda: scipy.signal.convolve2d(y, omega[::-1, ::-1], mode="valid"),
    truth=x_l,
    against="the sum F54",
)

# %%
# 24. A row of the Toeplitz matrix, twice
# ---------------------------------------
#
# One-dimensional convolution is a matrix product (F51). The dots of the slide fit
# :math:`m = 6` weights and :math:`n = 5` inputs; the matrix must be
# :math:`(n + m - 1, n) = (10, 5)`, with the entries
#
# .. math:: T_{ij} = w_{i-j+1} \text{ for } 1 \le i - j + 1 \le m
#
# and 0 elsewhere.
# Printed (or scanned) with the fourth row, :math:`\vdots \; w_3 \cdots w_1 \; 0`, twice.
#
# In the code the indices begin at 0, so :math:`w_{i-j+1}` is ``w[i - j]``.

w, signal = rng.normal(size=6), rng.normal(size=5)
T = np.array([[w[i - j] if 0 <= i - j < 6 else 0.0 for j in range(5)] for i in range(10)])
toeplitz = scipy.linalg.toeplitz([*w, 0, 0, 0, 0], [w[0], 0, 0, 0, 0])
verification.equal("F51", "the corrected matrix T", T, toeplitz, "SciPy")
T_row_twice = np.insert(T, 4, T[3], axis=0)
slip(
    *("F51", "Convolution as a linear operator", "row 4 of T twice", "every row of T once"),
    lambda: T_row_twice @ signal,
    lambda: T @ signal,
    truth=np.convolve(w, signal),
    against="np.convolve",
    fails=ValueError,
    kind="scanned",
)

# %%
# 25. An entry of the Toeplitz matrix
# -----------------------------------
#
# Of the row :math:`\vdots \; w_m \; \vdots \; \ddots \; w_2 \; w_1` the second entry is printed (or
# scanned) as :math:`w_m`. A diagonal of :math:`T` holds one and the same weight. Meant:
#
# .. math:: \begin{pmatrix} w_5 & w_4 & w_3 & w_2 & w_1 \end{pmatrix}

T_entry = T.copy()
T_entry[4, 1] = w[6 - 1]
slip(
    *("F51", "Convolution as a linear operator", "w_m above w_(m-1)", "w_(m-2) above w_(m-1)"),
    lambda: T_entry @ signal,
    lambda: T @ signal,
    truth=np.convolve(w, signal),
    against="np.convolve",
    kind="scanned",
)

# %%
# The picture shows which weight stands where. In the corrected matrix every diagonal has one
# colour. In the printed one look at the two rows in the frame, and at the entry in the circle.

which = np.array([[i - j + 1 if 0 <= i - j < 6 else 0 for j in range(5)] for i in range(10)])
which_printed = np.insert(which, 4, which[3], axis=0)
which_printed[5, 1] = 6
figure, panels = new_figure(1, 2, width=7.0, height=4.8)
for panel, matrix, title in zip(
    panels, (which_printed, which), ("printed: 11 rows", "corrected: 10 rows"), strict=True
):
    panel.imshow(np.where(matrix == 0, np.nan, matrix), cmap="cividis", vmin=1, vmax=6)
    for (row, column), k in np.ndenumerate(matrix):
        text, colour = (f"$w_{k}$", "black" if k > 3 else "white") if k else ("0", "grey")
        panel.text(column, row, text, ha="center", va="center", color=colour)
    panel.set(title=title, xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
frame = {"fill": False, "edgecolor": COLOURS[1], "linewidth": 3}
panels[0].add_patch(Rectangle((-0.5, 2.5), 5, 2, **frame))
panels[0].add_patch(Circle((1, 5), 0.48, **frame))
save(figure, "errata_2_toeplitz")

# %%
# 26. Stride zero
# ---------------
#
# Printed (F52): "when stride 0 used", :math:`x^{(l)}` has :math:`N - m + 1` rows. Meant: stride 1
# (or perhaps padding 0). With a stride :math:`s` the number of rows is
#
# .. math:: \left\lfloor \frac{N - m}{s} \right\rfloor + 1
#
# A window that moves by zero stays where it is, and the formula divides by zero.


def rows(stride):
    return (N - m) // stride + 1


slip(
    *("F52", "One layer only", "stride 0", "stride 1"),
    lambda: rows(stride=0),
    lambda: rows(stride=1),
    truth=len(scipy.signal.correlate2d(y, omega, mode="valid")),
    against="SciPy",
    fails=ZeroDivisionError,
)

# %%
# 27. Delta for sigma
# -------------------
#
# Printed (F55):
#
# .. math:: y_{ij}^{(l)} = \delta(x_{ij}^{(l)})
#
# Meant, as on the slide before it:
#
# .. math:: y_{ij}^{(l)} = \sigma(x_{ij}^{(l)})
#
# :math:`\delta` is the error signal in this lecture. Here :math:`E` is half the squared distance
# of :math:`y^{(l)}` from some goal, :math:`\sigma` the sigmoid, and the error signal
# :math:`\partial E / \partial x^{(l)}` is read as the printed :math:`\delta`.


def sigma(x):
    return 1 / (1 + np.exp(-x))


def error_of(omega, y):
    return 0.5 * jnp.sum((1 / (1 + jnp.exp(-correlate(omega, y))) - goal) ** 2)


goal = rng.normal(size=(n, n))
y_l = sigma(x_l)
dE_dy_l = y_l - goal  # ∂E/∂y(l), (3, 3)
sigma_prime = y_l * (1 - y_l)
dE_dx = dE_dy_l * sigma_prime  # ∂E/∂x(l), (3, 3)
dE_domega, dE_dy = jax.grad(error_of, argnums=(0, 1))(omega, y)
slip(
    *("F55", "One layer only", "y = delta(x)", "y = sigma(x)"),
    lambda: dE_dx,
    lambda: sigma(x_l),
    truth=scipy.special.expit(x_l),
    against="SciPy",
)

# %%
# 28. A plus is missing
# ---------------------
#
# Printed (or scanned; F57):
#
# .. math:: \frac{\partial x_{ij}^{(l)}}{\partial w_{a,b}^{(l)}} = y_{ia,j+b}^{(l-1)}
#
# Meant:
#
# .. math:: \frac{\partial x_{ij}^{(l)}}{\partial \omega_{a,b}} = y_{i+a,j+b}^{(l-1)}
#
# Without the plus the row is the product of :math:`i` and :math:`a`.

every = [(i, j, a, b) for i in range(n) for j in range(n) for a in range(m) for b in range(m)]
slip(
    *("F57", "CNN back-propagation", "∂x_ij/∂ω_ab = y_(ia, j+b)", "∂x_ij/∂ω_ab = y_(i+a, j+b)"),
    lambda: np.reshape([y[i * a, j + b] for i, j, a, b in every], (n, n, m, m)),
    lambda: np.reshape([y[i + a, j + b] for i, j, a, b in every], (n, n, m, m)),
    truth=jax.jacobian(correlate)(omega, y),
    kind="scanned",
)

# %%
# 29. The error at the wrong pixel
# --------------------------------
#
# Printed (F60):
#
# .. math::
#
#    \frac{\partial E}{\partial y_{ij}^{(l-1)}} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1}
#    \frac{\partial E}{\partial y_{ij}^{(l)}}\, \sigma'(x_{(i-a)(j-b)}^{(l)})\, \omega_{a,b}
#
# Meant: the error of the same pixel whose :math:`\sigma'` it meets,
#
# .. math::
#
#    \frac{\partial E}{\partial y_{ij}^{(l-1)}} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1}
#    \frac{\partial E}{\partial y_{(i-a)(j-b)}^{(l)}}\, \sigma'(x_{(i-a)(j-b)}^{(l)})\, \omega_{a,b}
#
# In the best reading, terms whose pixel does not exist count as zero, in both forms.


def at(array, i, j):
    """The pixel (i, j), or 0 where there is none."""
    return array[i, j] if 0 <= i < len(array) and 0 <= j < len(array) else 0.0


window = [(a, b) for a in range(m) for b in range(m)]
pixels = [(i, j) for i in range(N) for j in range(N)]
as_printed = np.reshape(
    [
        sum(at(dE_dy_l, i, j) * at(sigma_prime, i - a, j - b) * omega[a, b] for a, b in window)
        for i, j in pixels
    ],
    (N, N),
)
as_meant = np.reshape(
    [
        sum(
            at(dE_dy_l, i - a, j - b) * at(sigma_prime, i - a, j - b) * omega[a, b]
            for a, b in window
        )
        for i, j in pixels
    ],
    (N, N),
)
slip(
    *("F60", "CNN back-propagation", "∂E/∂y(l)_ij in every term", "∂E/∂y(l)_(i-a)(j-b)"),
    lambda: as_printed,
    lambda: as_meant,
    truth=dE_dy,
)

# %%
# The gradient by the image, three times. The printed form is right only in the first pixel, where
# one term is left and :math:`a = b = 0`, and it is empty where :math:`y^{(l)}` has no pixel.

largest = np.max(np.abs([as_printed, as_meant]))
gradients = {"printed": as_printed, "corrected": as_meant, "jax.grad": np.asarray(dE_dy)}
figure, panels = new_figure(1, 3, width=8.0, height=3.2)
shown = [
    panel.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest)
    for panel, matrix in zip(panels, gradients.values(), strict=True)
]
for panel, title in zip(panels, gradients, strict=True):
    panel.set(title=title, xticks=range(N), yticks=range(N), xlabel="j")
panels[0].set_ylabel("i")
figure.colorbar(shown[0], ax=panels, label="∂E/∂y of the image", shrink=0.8)
save(figure, "errata_3_wrong_pixel")

# %%
# 30. The wrong derivative on the left
# ------------------------------------
#
# Printed (F61), under the words "find :math:`\partial E / \partial w_{a,b}`":
#
# .. math::
#
#    \frac{\partial E}{\partial y_{ij}^{(l-1)}} = \sum_i \sum_j
#    \frac{\partial E}{\partial x_{ij}^{(l)}} \frac{\partial x_{ij}^{(l)}}{\partial w_{a,b}}
#
# Meant:
#
# .. math::
#
#    \frac{\partial E}{\partial \omega_{a,b}} = \sum_i \sum_j
#    \frac{\partial E}{\partial x_{ij}^{(l)}} \frac{\partial x_{ij}^{(l)}}{\partial \omega_{a,b}}
#
# The left side is an image of (5, 5), the right side a filter of (3, 3).

places = [(i, j) for i in range(n) for j in range(n)]
slip(
    *("F61", "CNN back-propagation", "∂E/∂y(l-1) = Σ_ij ...", "∂E/∂ω = Σ_ij ..."),
    lambda: dE_dy,
    lambda: [
        [sum(dE_dx[i, j] * y[i + a, j + b] for i, j in places) for b in range(m)] for a in range(m)
    ],
    truth=dE_domega,
    fails=ValueError,
)

# %%
# 31. One term too many
# ---------------------
#
# Printed (F61 and F62):
#
# .. math:: \sum_{i=0}^{N-m+1} \sum_{j=0}^{N-m+1}
#
# Meant:
#
# .. math:: \sum_{i=0}^{N-m} \sum_{j=0}^{N-m}
#
# :math:`x^{(l)}` has :math:`N - m + 1` rows, with the numbers 0 to :math:`N - m`. To leave out what
# does not exist would mend the sum; but the limits of a sum are there to say what exists.


def filter_gradient(last, dE_dx, y):
    """Sum over i and j from 0 to `last`, the last one included."""
    places = [(i, j) for i in range(last + 1) for j in range(last + 1)]
    return [
        [sum(dE_dx[i, j] * y[i + a, j + b] for i, j in places) for b in range(m)] for a in range(m)
    ]


slip(
    *("F62", "CNN back-propagation", "sums to N - m + 1", "sums to N - m"),
    lambda: filter_gradient(N - m + 1, dE_dx, y),
    lambda: filter_gradient(N - m, dE_dx, y),
    truth=dE_domega,
    fails=IndexError,
)

# %%
# NumPy refuses the index. JAX does not: under ``jit`` there is no way to raise an error for one
# element, so an index beyond the end takes the last element. The same sum is then wrong in silence.

clamped = np.asarray(filter_gradient(N - m + 1, jnp.asarray(dE_dx), jnp.asarray(y)))
off = np.max(np.abs(clamped - dE_domega)) / np.max(np.abs(dE_domega))
verification.holds("F62", "JAX arrays: one term too many is wrong in silence", off > 1e-3)
print(f"with JAX arrays the printed sum is computed, and off by {off:.1e}")

# %%
# Part five: what is left out
# ---------------------------
#
# Two lines are right where they apply, but do not say where that is.
#
# 32. The borders
# ---------------
#
# Printed (F59), for every pixel :math:`(i, j)` of the image:
#
# .. math::
#
#    \frac{\partial E}{\partial y_{ij}^{(l-1)}} = \sum_{a=0}^{m-1} \sum_{b=0}^{m-1}
#    \frac{\partial E}{\partial x_{(i-a)(j-b)}^{(l)}}\, \omega_{a,b}
#
# To be added: the sum runs over those :math:`a`, :math:`b` for which
# :math:`0 \le i - a \le N - m` and :math:`0 \le j - b \le N - m`. Only pixels that lie at least
# :math:`m - 1` from every border have all terms. A reader will think of that; a program will not.

slip(
    *("F59", "CNN back-propagation", "every a, b at every pixel", "only a, b whose x(l) exists"),
    lambda: [sum(dE_dx[i - a, j - b] * omega[a, b] for a, b in window) for i, j in pixels],
    lambda: np.reshape(
        [sum(at(dE_dx, i - a, j - b) * omega[a, b] for a, b in window) for i, j in pixels], (N, N)
    ),
    truth=dE_dy,
    fails=IndexError,
    kind="left out",
)

# %%
# An index beyond the end is at least an error in NumPy. An index below 0 is none: it counts from
# the end. At the pixel (0, 0) only indices below 0 go wrong, and the result is a number.

wrapped = sum(dE_dx[-a, -b] * omega[a, b] for a, b in window)
off = abs(wrapped - dE_dy[0, 0]) / np.max(np.abs(dE_dy))
verification.holds("F59", "NumPy: indices below 0 are wrong in silence", off > 1e-3)
print(f"at the pixel (0, 0) NumPy computes the printed sum, and is off by {off:.1e}")

# %%
# 33. The rectifier at zero
# -------------------------
#
# Printed (F64): the derivative of :math:`f(x) = \max(0, x)` "can only be {0, 1}". That holds
# wherever there is a derivative. At :math:`x = 0` there is none: the slope is 0 on the left and 1
# on the right, and a program must choose. The choice is no small matter: with zeros in the image a
# convolution gives many :math:`x` that are exactly 0. To be added:
#
# .. math:: f'(x) = 1 \text{ for } x > 0, \qquad f'(x) = 0 \text{ for } x \le 0
#
# JAX, told no more than the printed formula, chooses 1/2.

at_points = jnp.array([-1.0, 0.0, 2.0])
slip(
    *("F64", "Rectified linear unit", "derivative of max(0, x) at 0", "f'(0) = 0 by convention"),
    lambda: jax.vmap(jax.grad(lambda x: jnp.maximum(0.0, x)))(at_points),
    lambda: jax.vmap(jax.grad(fnn.rules.relu))(at_points),
    truth=jax.vmap(jax.grad(jax.nn.relu))(at_points),
    against="jax.nn.relu",
    kind="left out",
)

# %%
# What is not a slip
# ------------------
#
# Some lines look odd, and are right when they are read fairly.
#
# - :math:`\sum_i W_{1,i}^\top X_i` (F12): the transpose of a number is the number.
# - :math:`W_{1,:}^\top X` (F12, F16): a row of :math:`W`, taken as a column and transposed back.
# - :math:`(U \odot f'(z)) \times x` (F14): the slide calls :math:`x` a row vector, so it is
#   :math:`x^\top`.
# - :math:`\partial f_L / \partial f_{L-1}^\top` (F9): the transpose below says which index of the
#   Jacobian matrix is the column.
# - :math:`\delta^{(2)} W^{(2)} f'(z) X` (F29): the next slide says itself that this is not yet the
#   "correct form" of matrix operations. As factors of a chain they are the right ones.
# - :math:`128 \times 5 \times 5 = 3200` (F45): the weights for one input channel, without biases.
# - The shift by :math:`(\frac{m}{2}, \frac{m}{2})` (F53): for odd :math:`m` its whole part.
# - "We need four derivative quantities" before a list of three (F56 to F58): the fourth is
#   :math:`\partial E / \partial y_{ij}^{(l)}`, which the slide then takes as known.
# - :math:`x_{(i-a)j-b}` (F60): two indices, as in the line above it.
# - A closing bracket too many, :math:`f_L(\ldots f_2(f_1(\mathbf{x}; \theta_1); \theta_2) \ldots),
#   \theta_L)` (F3): the dots on the left hide the one that opens.
# - A comma before :math:`\theta_L` (F3), :math:`B` for :math:`b`, :math:`w` for :math:`\omega`.

z_by_sum = [sum(W[i, j].T * x[j] for j in range(3)) + b[i] for i in range(3)]
verification.equal("F12", "sum of W_1i^T X_i, number by number", z_by_sum, W @ x + b, "NumPy")
verification.equal("F14", "a column times a row", delta[:, None] @ x[None, :], dW, "jax.grad")
last, first = jax.jacobian(jnp.tanh)(z), jax.jacobian(lambda x: W @ x + b)(x)
verification.equal("F9", "df2/df1^T times df1/dx", U @ last @ first, dx, "jax.grad")
verification.equal("F45", "weights of 128 kernels of 5x5", kernels.size, 128 * 5 * 5, "counting")
centred = scipy.signal.correlate2d(y, omega, mode="same")[m // 2 : -(m // 2), m // 2 : -(m // 2)]
verification.equal("F53", "shifted by the whole part of m/2", centred, x_l, "the sum F54")

# %%
# The table
# ---------
#
# All of them, with the error of the printed and of the corrected form; "none" where the printed
# form cannot be computed.

header = ("no", "", "kind", "slide", "printed", "corrected", "error", "corrected")
lines = [
    (
        *(str(number), s.formula, s.kind, s.slide, s.printed, s.meant),
        "none" if s.printed_error is None else f"{s.printed_error:.1e}",
        f"{s.meant_error:.1e}",
    )
    for number, s in enumerate(slips, 1)
]
widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
for line in (header, tuple("-" * width for width in widths), *lines):
    print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

# %%
# The picture is the table without words. Squares on the left are the corrected forms: rounding
# alone, far below the limit. Circles on the right are the printed ones. The crosses in the grey
# band are printed forms that cannot be computed. Nothing stands between the two lines.

figure, axes = new_figure(width=8.0, height=9.0)
axes.axvspan(1e5, 1e9, color="0.92")
rounding = [max(s.meant_error, 1e-17) for s in slips]
axes.scatter(rounding, range(len(slips)), color=COLOURS[0], marker="s", s=30, label="corrected")
computed = [(s.printed_error, k) for k, s in enumerate(slips) if s.printed_error is not None]
axes.scatter(*zip(*computed, strict=True), color=COLOURS[1], s=45, label="printed")
failed = [(1e7, k) for k, s in enumerate(slips) if s.printed_error is None]
axes.scatter(
    *zip(*failed, strict=True),
    color=COLOURS[1],
    marker="X",
    s=45,
    label="printed, cannot be computed",
)
for limit, label in ((1e-12, "limit of the corrected"), (1e-3, "limit of the printed")):
    axes.axvline(limit, color="grey", linestyle="--", linewidth=1)
    axes.text(limit, -1.1, label, ha="center", fontsize=9, color="dimgrey", backgroundcolor="white")
axes.set(xscale="log", xlim=(3e-18, 1e9), ylim=(len(slips) - 0.4, -1.8))
axes.set_yticks(range(len(slips)), [f"{k}. {s.formula}  {s.meant}" for k, s in enumerate(slips, 1)])
axes.tick_params(axis="y", labelsize=9)
axes.set_xticks([1e-17, 1e-12, 1e-6, 1e-3, 1.0], ["0", "1e-12", "1e-6", "1e-3", "1"])
axes.minorticks_off()
axes.set_xlabel("error, relative to the largest element")
figure.legend(loc="outside lower center", ncols=3)
save(figure, "errata_4_all")

# %%
# Verified
# --------

verification.report()
