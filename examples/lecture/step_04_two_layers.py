r"""
Step 4: backprop through two layers
===================================

A second hidden layer adds one idea: the error signal of a layer is computed from that of the layer
above it. With it the gradients of both layers look alike. The layers have different sizes here, so
that a wrong index shows itself: the shapes do not fit.
"""

import jax
import jax.numpy as jnp
import matplotlib.patches
import numpy as np
from drawing import COLOURS, new_figure, save
from verified import Verification

import funcnn as fnn

jax.config.update("jax_enable_x64", True)  # derivatives are compared in double precision
verification = Verification("Step 4, two layers")

# %%
# Forward
# -------
# .. math:: \begin{aligned} a^{(0)} &= x \\
#           z^{(1)} &= W^{(1)} a^{(0)} + b^{(1)}, \quad a^{(1)} = f(z^{(1)}) \\
#           z^{(2)} &= W^{(2)} a^{(1)} + b^{(2)}, \quad a^{(2)} = f(z^{(2)}) \\
#           \hat{y} &= U^\top a^{(2)} \end{aligned}
#
# The input has 4 elements, the first layer 3 units, the second 2; so :math:`W^{(1)}` has the shape
# (3, 4), :math:`W^{(2)}` (2, 3), and :math:`U` (2). The activation :math:`f` is tanh in both
# layers.

W1 = np.array([[0.4, -0.6, 0.2, 0.5], [-0.3, 0.8, 0.7, -0.1], [0.9, 0.1, -0.5, 0.3]])
b1 = np.array([0.1, -0.2, 0.3])
W2 = np.array([[0.7, -0.4, 0.6], [-0.5, 0.9, 0.2]])
b2 = np.array([-0.1, 0.2])
U = np.array([1.2, -0.8])
x = np.array([0.5, -1.0, 0.8, 0.3])

a0 = x
z1 = W1 @ a0 + b1  # (3)
a1 = np.tanh(z1)
z2 = W2 @ a1 + b2  # (2)
a2 = np.tanh(z2)
y = U @ a2  # a number
print("z1 =", z1.round(3), " a1 =", a1.round(3))
print("z2 =", z2.round(3), " a2 =", a2.round(3), " y =", round(float(y), 4))

# %%
# The same in funcnn, where an example is a row and the weights of a layer are :math:`W^\top`, and
# in one line:
#
# .. math:: \hat{y} = U^\top f(W^{(2)} f(W^{(1)} x + b^{(1)}) + b^{(2)})

model = fnn.chain(fnn.dense(3), fnn.tanh, fnn.dense(2), fnn.tanh, fnn.dense(1, bias=False))
params = {
    "dense_0": {"w": W1.T, "b": b1},
    "dense_1": {"w": W2.T, "b": b2},
    "dense_2": {"w": U[:, None]},
}
verification.equal("F23", "fnn.chain, layer by layer", model(params, x[None])[0, 0], y, "NumPy")


def plain_score(W1, b1, W2, b2, U, x):  # for automatic differentiation alone
    return U @ jnp.tanh(W2 @ jnp.tanh(W1 @ x + b1) + b2)


everything = (W1, b1, W2, b2, U, x)
verification.equal("F24", "y in one line", plain_score(*everything), y, "NumPy")

names = ("W1", "b1", "W2", "b2", "U", "x")
truths = jax.jit(jax.grad(plain_score, argnums=tuple(range(6))))(*everything)
truth = {name: np.asarray(value) for name, value in zip(names, truths, strict=True)}

# %%
# The one-layer case again
# ------------------------
# Step 3, with a first layer alone and some :math:`U` of shape (3):
#
# .. math:: \frac{\partial \hat{y}}{\partial W_{i,j}} = U_i f'(z_i) x_j

U_one = np.array([0.5, -1.0, 2.0])
dW = np.zeros((3, 4))
for i in range(3):
    for j in range(4):
        dW[i, j] = U_one[i] * (1 - a1[i] ** 2) * x[j]
one_layer = jax.grad(lambda W: U_one @ jnp.tanh(W @ x + b1))(W1)
verification.equal("F25", "one layer: U_i f'(z_i) x_j", dW, one_layer, "jax.grad")

# %%
# The second layer
# ----------------
# The second layer *is* the one-layer case: its input is :math:`a^{(1)}` instead of :math:`x`.
#
# .. math:: \delta^{(2)} = U \odot f'(z^{(2)}), \qquad
#           \frac{\partial \hat{y}}{\partial W^{(2)}_{i,j}} = \delta^{(2)}_i a^{(1)}_j, \qquad
#           \frac{\partial \hat{y}}{\partial W^{(2)}} = \delta^{(2)} a^{(1)\top}
#
# (The slide prints :math:`a^{(2)}` for :math:`a^{(1)}`; see the end of this page.) Since tanh has
# the derivative :math:`1 - \tanh^2`, the :math:`f'(z^{(2)})` comes from the forward pass.

delta2 = U * (1 - a2**2)  # (2)
dW2_elements = [[delta2[i] * a1[j] for j in range(3)] for i in range(2)]
dW2 = np.outer(delta2, a1)  # (2, 3)
verification.equal("F26", "dy/dW2_ij = delta2_i a1_j", dW2_elements, truth["W2"], "jax.grad")
verification.equal("F27", "dy/dW2 = delta2 a1^T", dW2, truth["W2"], "jax.grad")

of_z2 = jax.grad(lambda z2: U @ jnp.tanh(z2))(z2)
verification.equal("F27", "delta2 = U * f'(z2)", delta2, of_z2, "jax.grad")
verification.equal("F27", "dy/db2 = delta2", delta2, truth["b2"], "jax.grad")
verification.equal("F27", "dy/dU = a2", a2, truth["U"], "jax.grad")

# %%
# The first layer: the chain of factors
# -------------------------------------
# From the score down to :math:`W^{(1)}`, through every quantity on the way, with none left out:
#
# .. math:: \frac{\partial \hat{y}}{\partial W^{(1)}}
#           = \frac{\partial \hat{y}}{\partial a^{(2)}} \frac{\partial a^{(2)}}{\partial z^{(2)}}
#           \frac{\partial z^{(2)}}{\partial a^{(1)}} \frac{\partial a^{(1)}}{\partial z^{(1)}}
#           \frac{\partial z^{(1)}}{\partial W^{(1)}}
#
# (The slide prints other factors in two of its lines, among them
# :math:`\partial z^{(1)} / \partial z^{(1)}`, which is the identity matrix; ``errata`` computes
# them.) Each factor is a Jacobian, by hand:
#
# .. math:: U^\top, \quad \mathrm{diag}(f'(z^{(2)})), \quad W^{(2)}, \quad
#           \mathrm{diag}(f'(z^{(1)}))
#
# and the last has three indices: :math:`\partial z^{(1)}_k / \partial W^{(1)}_{i,j}` is :math:`x_j`
# for :math:`k = i`, else 0.

dy_da2 = U[None]  # (1, 2)
da2_dz2 = np.diag(1 - a2**2)  # (2, 2)
dz2_da1 = W2  # (2, 3)
da1_dz1 = np.diag(1 - a1**2)  # (3, 3)
dz1_dW1 = np.einsum("ki,j->kij", np.eye(3), x)  # (3, 3, 4)

for name, factor, function, at in (
    ("dy/da2", dy_da2, lambda a: (U @ a)[None], a2),
    ("da2/dz2", da2_dz2, jnp.tanh, z2),
    ("dz2/da1", dz2_da1, lambda a: W2 @ a + b2, a1),
    ("da1/dz1", da1_dz1, jnp.tanh, z1),
    ("dz1/dW1", dz1_dW1, lambda W: W @ x + b1, W1),
):
    verification.equal("F28", name, factor, jax.jacobian(function)(at), "jax.jacobian")

row = dy_da2 @ da2_dz2 @ dz2_da1 @ da1_dz1  # (1, 3)
product = np.einsum("ok,kij->oij", row, dz1_dW1)[0]  # (3, 4)
verification.equal("F28", "dy/dW1, the product of all factors", product, truth["W1"], "jax.grad")

# %%
# The error signal of the first layer
# -----------------------------------
# The first four factors are the derivative by :math:`z^{(1)}`: the error signal of the first layer,
# as a row. And the first two of them are that of the second layer, which is known already:
#
# .. math:: \delta^{(1)\top} = \delta^{(2)\top} W^{(2)} \, \mathrm{diag}(f'(z^{(1)})), \qquad
#           \frac{\partial \hat{y}}{\partial W^{(1)}_{i,j}} = \delta^{(1)}_i x_j
#
# (The slide has :math:`z^{(2)}` in the place of :math:`z^{(1)}`.)

delta1_row = delta2[None] @ W2 @ np.diag(1 - a1**2)  # (1, 3)
verification.equal("F29", "delta1^T, the first four factors", delta1_row, row, "their product")

dW1_elements = [[delta1_row[0, i] * x[j] for j in range(4)] for i in range(3)]
verification.equal("F29", "dy/dW1_ij = delta1_i x_j", dW1_elements, truth["W1"], "jax.grad")

# %%
# The "correct" form
# ------------------
# As columns, which is what the slide calls the correct form of the matrix operations:
#
# .. math:: \delta^{(1)} = (W^{(2)\top} \delta^{(2)}) \odot f'(z^{(1)}), \qquad
#           \frac{\partial \hat{y}}{\partial W^{(1)}} = \delta^{(1)} x^\top, \qquad
#           \frac{\partial \hat{y}}{\partial b^{(1)}} = \delta^{(1)}
#
# The error signal goes back through the weights, :math:`W^{(2)\top}`, and then through the
# activation, :math:`\odot f'(z^{(1)})`. (The slide prints :math:`f(z^{(2)})` for
# :math:`f'(z^{(1)})`, and :math:`\delta^{(2)}` on both sides.)

delta1 = (W2.T @ delta2) * (1 - a1**2)  # (3)
dW1 = np.outer(delta1, x)  # (3, 4)
verification.equal("F30", "dy/dW1 = ((W2^T delta2) * f'(z1)) x^T", dW1, truth["W1"], "jax.grad")

of_z1 = jax.grad(lambda z1: U @ jnp.tanh(W2 @ jnp.tanh(z1) + b2))(z1)
verification.equal("F31", "delta1 = (W2^T delta2) * f'(z1)", delta1, of_z1, "jax.grad")
delta1_elements = [sum(W2[k, i] * delta2[k] for k in range(2)) * (1 - a1[i] ** 2) for i in range(3)]
verification.equal("F31", "delta1_i = sum_k W2_ki delta2_k f'(z1_i)", delta1_elements, of_z1, "jax")
verification.equal("F31", "dy/db1 = delta1", delta1, truth["b1"], "jax.grad")
dx = W1.T @ delta1  # (4)
verification.equal("F31", "dy/dx = W1^T delta1", dx, truth["x"], "jax.grad")

# %%
# Forward and backward
# --------------------
# What to look at: the upper row is computed from left to right, the lower from right to left. Below
# each quantity stands the derivative of the score by it, so it has the same size. The first layer's
# signal is made from the second's; no step is done twice.

figure, axis = new_figure(width=11, height=5.6)
values = [x, z1, a1, z2, a2, np.array([y])]
signals = [dx, delta1, W2.T @ delta2, delta2, U, np.ones(1)]
labels = ["$x$", "$z^{(1)}$", "$a^{(1)}$", "$z^{(2)}$", "$a^{(2)}$", "$\\hat{y}$"]
below = ["$W^{(1)T}\\delta^{(1)}$", "$\\delta^{(1)}$", "$W^{(2)T}\\delta^{(2)}$"]
below += ["$\\delta^{(2)}$", "$U$", "$\\partial\\hat{y}/\\partial\\hat{y}$"]
onward = ["$W^{(1)}, b^{(1)}$", "$f$", "$W^{(2)}, b^{(2)}$", "$f$", "$U$"]
back = ["$W^{(1)T}$", "$\\odot f'(z^{(1)})$", "$W^{(2)T}$", "$\\odot f'(z^{(2)})$", "$U$"]
for columns, names_of, middle, colour in (
    (values, labels, 3.0, COLOURS[0]),
    (signals, below, -3.4, COLOURS[1]),
):
    for place, (column, name) in enumerate(zip(columns, names_of, strict=True)):
        top = middle + len(column) / 2
        for k, number in enumerate(column):
            corner = (2.2 * place - 0.5, top - k - 1)
            box = matplotlib.patches.Rectangle(corner, 1, 1, facecolor=colour, alpha=0.15)
            axis.add_patch(box)
            axis.text(2.2 * place, top - k - 0.5, f"{number:.2f}", ha="center", va="center")
        axis.text(2.2 * place, top + 0.35, name, ha="center", fontsize=13)
for place in range(5):
    left, right = 2.2 * place + 0.6, 2.2 * place + 1.6
    for middle, start, end, text, colour in (
        (3.0, left, right, onward[place], COLOURS[0]),
        (-3.4, right, left, back[place], COLOURS[1]),
    ):
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2}
        axis.annotate("", (end, middle), (start, middle), arrowprops=arrow)
        axis.text(2.2 * place + 1.1, middle + 0.3, text, ha="center", fontsize=10, color=colour)
backward_title = "backward: the derivative of the score by each value"
axis.text(-0.5, 6.1, "forward: the values", fontsize=13, color=COLOURS[0])
axis.text(-0.5, 0.6, backward_title, fontsize=13, color=COLOURS[1])
axis.set(xlim=(-0.8, 11.8), ylim=(-5.7, 6.8))
axis.axis("off")
save(figure, "step_04_flow")

# %%
# Both weight gradients are outer products, an error signal times the input of the layer. What to
# look at: in each gradient the rows are multiples of one row, the layer's input.


def squares(axis, matrix, title, rows, columns):
    limit = np.abs(matrix).max()
    axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (i, j), number in np.ndenumerate(matrix):
        colour = "white" if abs(number) > 0.65 * limit else "black"
        axis.text(j, i, f"{number:.2f}", ha="center", va="center", color=colour)
    axis.set_xticks(range(matrix.shape[1]), columns)
    axis.set_yticks(range(matrix.shape[0]), rows)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title)


figure, axes = new_figure(1, 2, width=9, height=3.4, gridspec_kw={"width_ratios": [4, 3]})
signals_1 = [f"$\\delta^{{(1)}}_{i + 1} = {delta1[i]:.2f}$" for i in range(3)]
signals_2 = [f"$\\delta^{{(2)}}_{i + 1} = {delta2[i]:.2f}$" for i in range(2)]
inputs_1 = [f"$x_{j + 1}$\n{x[j]:.2f}" for j in range(4)]
inputs_2 = [f"$a^{{(1)}}_{j + 1}$\n{a1[j]:.2f}" for j in range(3)]
squares(axes[0], dW1, "first layer: $\\delta^{(1)} x^T$", signals_1, inputs_1)
squares(axes[1], dW2, "second layer: $\\delta^{(2)} a^{(1)T}$", signals_2, inputs_2)
save(figure, "step_04_gradients")

# %%
# Dimension by dimension
# ----------------------
# Write every vector as a column, with both of its sizes. A product of matrices needs equal inner
# sizes, :math:`\odot` needs equal shapes, and a gradient has the shape of what it is a gradient by.


def as_column(vector):
    return np.asarray(vector).reshape(-1, 1)


def line(result, name, *parts):
    print(f"{name:<8} {result.shape}   = " + "  ".join(f"{n} {p.shape}" for n, p in parts))


d2, d1 = as_column(delta2), as_column(delta1)
slope2, slope1 = as_column(1 - a2**2), as_column(1 - a1**2)
line(as_column(U) * slope2, "delta2", ("U", as_column(U)), ("* f'(z2)", slope2))
line(d2 @ as_column(a1).T, "dy/dW2", ("delta2", d2), ("@ a1^T", as_column(a1).T))
line(W2.T @ d2 * slope1, "delta1", ("W2^T", W2.T), ("@ delta2", d2), ("* f'(z1)", slope1))
line(d1 @ as_column(x).T, "dy/dW1", ("delta1", d1), ("@ x^T", as_column(x).T))
verification.equal("F30", "the same with columns", d1 @ as_column(x).T, truth["W1"], "jax.grad")

# %%
# The indices as printed do not pass this test. :math:`W^{(2)}` has the shape (2, 3), but
# :math:`\delta^{(2)} a^{(2)\top}` is (2, 2). And :math:`W^{(2)\top} \delta^{(2)}` has 3 elements,
# but :math:`z^{(2)}` only 2. If all layers have the same size, as on the slides, every shape fits,
# and nothing but a comparison with the true gradient shows the mistake: ``errata`` demonstrates
# that.

print("delta2 a2^T has the shape", (d2 @ as_column(a2).T).shape, "and W2 has", W2.shape)
try:
    print((W2.T @ d2) * np.tanh(as_column(z2)))
except ValueError as error:
    print("(W2^T delta2) * f(z2):", error)
try:
    print(d2 @ W2)
except ValueError:
    print("delta2 W2: the inner sizes differ,", d2.shape, "@", W2.shape)

# %%
# Other activations, and fnn.backprop
# -----------------------------------
# The recursion holds for any :math:`f` that acts on each element alone. ``fnn.backprop`` runs it
# over the layers of a chain; it returns the gradients by the parameters and by the input, and the
# error signal of each layer: ``dense_0`` has :math:`z^{(1)}` as its output, ``dense_1`` has
# :math:`z^{(2)}`.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


cases = {  # f, f', the same f for automatic differentiation, and funcnn's layer
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2, jnp.tanh, fnn.tanh),
    "sigmoid": (
        sigmoid,
        lambda z: sigmoid(z) * (1 - sigmoid(z)),
        lambda z: 1 / (1 + jnp.exp(-z)),
        fnn.sigmoid,
    ),
    "relu": (
        lambda z: np.where(z > 0, z, 0.0),
        lambda z: np.where(z > 0, 1.0, 0.0),
        lambda z: jnp.where(z > 0, z, 0.0),
        fnn.relu,
    ),
}
for name, (f, f_prime, f_plain, layer) in cases.items():
    u1 = W1 @ x + b1
    u2 = W2 @ f(u1) + b2
    signal2 = U * f_prime(u2)
    signal1 = (W2.T @ signal2) * f_prime(u1)

    def score(W1, W2, f=f_plain):
        return U @ f(W2 @ f(W1 @ x + b1) + b2)

    true_1, true_2 = jax.jit(jax.grad(score, argnums=(0, 1)))(W1, W2)
    verification.equal("F30", f"{name}: dy/dW1", np.outer(signal1, x), true_1, "jax.grad")
    verification.equal("F27", f"{name}: dy/dW2", np.outer(signal2, f(u1)), true_2, "jax.grad")

    network = fnn.chain(fnn.dense(3), layer, fnn.dense(2), layer, fnn.dense(1, bias=False))
    dparams, dx, deltas = fnn.backprop(network, params, x[None], jnp.ones((1, 1)))
    print("last layer first:", list(deltas))
    verification.equal(
        "F31", f"{name}: fnn.backprop's delta1", deltas["dense_0"][0], signal1, "above"
    )
    verification.equal(
        "F27", f"{name}: fnn.backprop's delta2", deltas["dense_1"][0], signal2, "above"
    )
    verification.equal(
        "F30", f"{name}: fnn.backprop's dw", dparams["dense_0"]["w"].T, true_1, "jax.grad"
    )


# %%
# What was verified
# -----------------
verification.report()
