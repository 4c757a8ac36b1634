r"""
Step 3: backprop in a network with a scalar score
=================================================

One hidden layer, and a single number as output. This is the smallest network in which backprop can
be seen whole: the error signal :math:`\delta`, and from it the gradients by the weights, the bias
and the input, each as a matrix equation and element by element.
"""

import jax
import jax.numpy as jnp
import numpy as np
from drawing import COLOURS, new_figure, save
from verified import Verification

import funcnn as fnn

jax.config.update("jax_enable_x64", True)  # derivatives are compared in double precision
verification = Verification("Step 3, the scalar-score network")

# %%
# The network
# -----------
# .. math:: z = W x + b, \qquad a = f(z), \qquad \hat{y} = U^\top f(W x + b) = U^\top a
#
# :math:`x`, :math:`z`, :math:`a`, :math:`b` and :math:`U` are columns of shape (3), :math:`W` has
# the shape (3, 3), and :math:`f` is applied to each element alone; here it is tanh. The output
# :math:`\hat{y}` is a *score*, one number; there is no softmax on top.

W = np.array([[0.5, -0.2, 0.8], [-0.7, 0.9, 0.1], [0.3, 0.4, -0.6]])
x = np.array([1.0, -0.5, 2.0])
b = np.array([0.1, -0.3, 0.2])
U = np.array([1.5, -1.0, 0.5])

z = W @ x + b  # (3)
a = np.tanh(z)  # (3)
y = U @ a  # a number
print("z =", z.round(3), " a =", a.round(3), " y =", round(float(y), 4))

# %%
# In funcnn this is a chain of three layers. There an example is a row, :math:`x^\top`, and a dense
# layer computes :math:`x^\top w + b`; so its ``w`` is :math:`W^\top`.

model = fnn.chain(fnn.dense(3), fnn.tanh, fnn.dense(1, bias=False))
params = {"dense_0": {"w": W.T, "b": b}, "dense_1": {"w": U[:, None]}}
verification.equal(
    "F10", "fnn.chain gives U^T f(W x + b)", model(params, x[None])[0, 0], y, "NumPy"
)

# %%
# Written out
# -----------
# .. math:: \hat{y} = U^\top f \left( \begin{pmatrix} w_{11} & w_{12} & w_{13} \\
#           w_{21} & w_{22} & w_{23} \\ w_{31} & w_{32} & w_{33} \end{pmatrix}
#           \begin{pmatrix} x_1 \\ x_2 \\ x_3 \end{pmatrix}
#           + \begin{pmatrix} b_1 \\ b_2 \\ b_3 \end{pmatrix} \right)
#
# The slide prints the first row as :math:`w_{11} \; w_{11} \; w_{13}`; ``errata`` shows that this
# is another network. Each row of :math:`W` gives one element of :math:`z`:
#
# .. math:: z_1 = W_{1,:} x + b_1 = \sum_j W_{1,j} x_j + b_1
#
# and so for :math:`z_2` and :math:`z_3`. (The slide calls the index of the sum :math:`i`, and
# writes :math:`W_{1,:}^\top` because it takes the row as a column vector.)

(w11, w12, w13), (w21, w22, w23), (w31, w32, w33) = W
x1, x2, x3 = x
z1 = w11 * x1 + w12 * x2 + w13 * x3 + b[0]
z2 = w21 * x1 + w22 * x2 + w23 * x3 + b[1]
z3 = w31 * x1 + w32 * x2 + w33 * x3 + b[2]
written_out = U[0] * np.tanh(z1) + U[1] * np.tanh(z2) + U[2] * np.tanh(z3)
verification.equal("F11", "y with W written out", written_out, y, "NumPy")

sums = [sum(W[i, j] * x[j] for j in range(3)) + b[i] for i in range(3)]
verification.equal("F12", "z_i = sum_j W_ij x_j + b_i", sums, z, "NumPy")
verification.equal("F16", "z_i = W_i,: x + b_i = (W x + b)_i", [z1, z2, z3], z, "NumPy")

# %%
# Which index is which
# --------------------
# :math:`W_{i,j}`: the first index says *to* which unit (the index of :math:`a`), the second *from*
# which input (the index of :math:`x`). So :math:`W_{i,j}` takes part in :math:`z_i` alone, where it
# multiplies :math:`x_j`:
#
# .. math:: \frac{\partial z_k}{\partial W_{i,j}} = x_j \quad \text{for } k = i, \qquad
#           0 \quad \text{for } k \neq i

dz_dW = np.zeros((3, 3, 3))  # k, i, j
for i in range(3):
    for j in range(3):
        dz_dW[i, i, j] = x[j]
truth = jax.jacobian(lambda W: W @ x + b)(W)
verification.equal("F13", "dz_k/dW_ij = x_j for k = i, else 0", dz_dW, truth, "jax.jacobian")

# %%
# What to look at: the thick line is :math:`W_{1,3}`, from :math:`x_3` to :math:`z_1`. Solid lines
# are positive weights, dashed ones negative.

figure, axis = new_figure(width=8, height=3.9)
heights = [2.0, 1.0, 0.0]
for i in range(3):
    lines = [((0, heights[j]), (1, heights[i]), W[i, j], i == 0 and j == 2) for j in range(3)]
    lines += [
        ((1, heights[i]), (2, heights[i]), 1.0, False),
        ((2, heights[i]), (3, 1.0), U[i], False),
    ]
    for (x_from, y_from), (x_to, y_to), weight, marked in lines:
        style = {"color": COLOURS[1] if marked else "0.55", "linewidth": 4 if marked else 1.5}
        dashes = "-" if weight > 0 else "--"
        axis.plot([x_from, x_to], [y_from, y_to], dashes, zorder=1, **style)
nodes = [(0, h, f"$x_{i}$\n{x[i - 1]:.2f}") for i, h in enumerate(heights, 1)]
nodes += [(1, h, f"$z_{i}$\n{z[i - 1]:.2f}") for i, h in enumerate(heights, 1)]
nodes += [(2, h, f"$a_{i}$\n{a[i - 1]:.2f}") for i, h in enumerate(heights, 1)]
for place, height, text in [*nodes, (3, 1.0, f"$\\hat{{y}}$\n{y:.2f}")]:
    axis.scatter(place, height, s=1700, color="white", edgecolor="black", zorder=2)
    axis.text(place, height, text, ha="center", va="center", zorder=3)
marked_weight = f"W;  thick: $W_{{1,3}} = {W[0, 2]}$"
for place, text in ((0.5, marked_weight), (1.5, "f = tanh"), (2.5, "U")):
    axis.text(place, 2.5, text, ha="center", va="center", fontsize=12)
axis.set(xlim=(-0.3, 3.3), ylim=(-0.45, 2.7))
axis.axis("off")
save(figure, "step_03_network")

# %%
# The error signal
# ----------------
# Everything below needs the derivative of the score by :math:`z`. The chain rule has two factors:
# :math:`\partial \hat{y} / \partial a_i = U_i`, and :math:`\partial a_i / \partial z_i = f'(z_i)`,
# since each unit has its own :math:`z_i`. Their product is the *error signal*:
#
# .. math:: \delta = \frac{\partial \hat{y}}{\partial z} = U \odot f'(W x + b), \qquad
#           \delta_i = U_i f'(W_{i,:} x + b_i)
#
# :math:`\odot` multiplies element by element; :math:`\delta` has the shape of :math:`z`. (The slide
# prints :math:`U_2` for :math:`U_3` in the third element.)

delta = U * (1 - np.tanh(z) ** 2)  # (3)
one_by_one = [U[i] * (1 - np.tanh(W[i] @ x + b[i]) ** 2) for i in range(3)]
verification.equal("F17", "delta_i = U_i f'(W_i,: x + b_i)", one_by_one, delta, "U * f'(W x + b)")

truth = jax.grad(lambda z: U @ jnp.tanh(z))(z)
verification.equal("F17", "delta = U * f'(W x + b)", delta, truth, "jax.grad")
verification.equal("F19", "delta is dy/dz", delta, truth, "jax.grad")
print("delta =", delta.round(4))

# %%
# What to look at: nudge one :math:`z_i` and keep the others. The score follows the curve, and
# :math:`\delta_i` is its slope at the place where we are. In the first panel the curve is nearly
# flat there: tanh is saturated, and the error signal is small although :math:`U_1` is the largest.

figure, axes = new_figure(1, 3, width=10, height=3.4, sharey=True)
for i, axis in enumerate(axes):
    nudged = np.linspace(-3, 3, 121)
    scores = y - U[i] * a[i] + U[i] * np.tanh(nudged)
    axis.plot(nudged, scores, color=COLOURS[0], linewidth=2, label="score")
    near = z[i] + np.array([-0.7, 0.7])
    axis.plot(
        near, y + delta[i] * (near - z[i]), "--", color=COLOURS[1], linewidth=3, label="tangent"
    )
    axis.plot(z[i], y, "o", color="black", label="here")
    axis.set(title=f"unit {i + 1}: delta = {delta[i]:.3f}", xlabel=f"$z_{i + 1}$")
axes[0].set_ylabel("score")
axes[0].legend(loc="upper left")
save(figure, "step_03_delta_is_a_slope")

# %%
# The gradient by W: a column times a row
# ---------------------------------------
# "Careful of their dimensions", says the slide. :math:`\delta` is a column of shape (3, 1),
# :math:`x^\top` a row of shape (1, 3), and their product has the shape of :math:`W`:
#
# .. math:: \frac{\partial \hat{y}}{\partial W} = \frac{\partial \hat{y}}{\partial a}
#           \frac{\partial a}{\partial z} \frac{\partial z}{\partial W}
#           = (U \odot f'(z)) \, x^\top = \delta x^\top
#
# This is verified for four activations. Each :math:`f'` is written by hand; the truth is the
# automatic derivative of a plain formula.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


derivatives = {  # f' by hand
    "sigmoid": lambda z: sigmoid(z) * (1 - sigmoid(z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "softplus": sigmoid,
}
plain = {  # f as plain formulas, for automatic differentiation alone
    "sigmoid": lambda z: 1 / (1 + jnp.exp(-z)),
    "tanh": jnp.tanh,
    "relu": lambda z: jnp.where(z > 0, z, 0.0),
    "softplus": lambda z: jnp.log(1 + jnp.exp(z)),
}


def score(name, W, b, x, U):
    return U @ plain[name](W @ x + b)


gradient_of_score = jax.jit(jax.grad(score, argnums=(1, 2, 3, 4)), static_argnums=0)
true_gradients = {name: gradient_of_score(name, W, b, x, U) for name in plain}

for name, derivative in derivatives.items():
    column = (U * derivative(z))[:, None]  # (3, 1)
    row = x[None, :]  # (1, 3)
    truth = true_gradients[name][0]  # (3, 3)
    verification.equal(
        "F14", f"dy/dW, a column times a row: {name}", column @ row, truth, "jax.grad"
    )

verification.equal(
    "F18", "dy/dW = delta x^T", np.outer(delta, x), true_gradients["tanh"][0], "jax.grad"
)

# %%
# One element at a time
# ---------------------
# "If dimensionality of derivative of W is too hard to see, then we perform derivative one element
# at the time":
#
# .. math:: \frac{\partial \hat{y}}{\partial W_{i,j}} = \frac{\partial \hat{y}}{\partial a_i}
#           \frac{\partial a_i}{\partial z_i} \frac{\partial z_i}{\partial W_{i,j}}
#           = U_i f'(z_i) \, x_j = \delta_i x_j
#
# Only unit :math:`i` has a part in it, because :math:`W_{i,j}` occurs in :math:`z_i` alone.

for name, derivative in derivatives.items():
    dW = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            z_i = W[i] @ x + b[i]
            dW[i, j] = U[i] * derivative(z_i) * x[j]
    truth = true_gradients[name][0]
    verification.equal("F15", f"dy/dW_ij = U_i f'(z_i) x_j: {name}", dW, truth, "jax.grad")

# %%
# What to look at: every square is the product of the number at its left and the number above it.
# The rows are multiples of :math:`x^\top`, the columns multiples of :math:`\delta`. A unit with a
# small :math:`\delta_i` has a small gradient in its whole row.


def squares(axis, matrix, title, rows, columns):
    limit = np.abs(matrix).max()
    axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (i, j), number in np.ndenumerate(matrix):
        colour = "white" if abs(number) > 0.65 * limit else "black"
        axis.text(j, i, f"{number + 0:.3f}", ha="center", va="center", color=colour)
    axis.set_xticks(range(matrix.shape[1]), columns)
    axis.set_yticks(range(matrix.shape[0]), rows)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title)


units, inputs = ["unit 1", "unit 2", "unit 3"], ["x 1", "x 2", "x 3"]
figure, axes = new_figure(
    2, 2, width=6.4, height=5.6, gridspec_kw={"width_ratios": [1, 3], "height_ratios": [1, 3]}
)
axes[0, 0].axis("off")
squares(axes[0, 1], x[None], "the row $x^T$, (1, 3)", [""], inputs)
squares(axes[1, 0], delta[:, None], "the column $\\delta$, (3, 1)", units, [""])
squares(axes[1, 1], np.outer(delta, x), "the gradient $\\delta x^T$, (3, 3)", units, inputs)
save(figure, "step_03_outer_product")

# %%
# The gradient by b
# -----------------
# :math:`b_i` is added to :math:`z_i`, so :math:`\partial z_i / \partial b_i = 1`:
#
# .. math:: \frac{\partial \hat{y}}{\partial b_i} = \delta_i \cdot 1 = \delta_i, \qquad
#           \frac{\partial \hat{y}}{\partial b} = \delta
#
# The gradient by :math:`U` is not on the slides. It is shorter still, as
# :math:`\hat{y} = \sum_i U_i a_i`:
#
# .. math:: \frac{\partial \hat{y}}{\partial U} = a

db = delta * 1
verification.equal("F21", "dy/db = delta", db, true_gradients["tanh"][1], "jax.grad")
verification.equal("F10", "dy/dU = a", a, true_gradients["tanh"][3], "jax.grad")

# %%
# The gradient by x
# -----------------
# "Note each x_i is contributed by all a_i": an input goes to every unit, so the score depends on it
# along three paths, and the derivatives of the paths are added.
#
# .. math:: \frac{\partial \hat{y}}{\partial x_j}
#           = \sum_{i=1}^3 \frac{\partial \hat{y}}{\partial a_i} \frac{\partial a_i}{\partial x_j}
#           = \sum_{i=1}^3 U_i \frac{\partial f(W_{i,:} x + b_i)}{\partial x_j}
#           = \sum_{i=1}^3 U_i f'(z_i) W_{i,j} = \sum_{i=1}^3 \delta_i W_{i,j}
#           = \delta^\top W_{:,j}
#
# All :math:`j` together: :math:`\partial \hat{y} / \partial x = W^\top \delta`. (The slide prints
# :math:`b` for :math:`b_i`.)

da_dx = [[(1 - a[i] ** 2) * W[i, j] for j in range(3)] for i in range(3)]
over_paths = [sum(U[i] * da_dx[i][j] for i in range(3)) for j in range(3)]
by_columns = [delta @ W[:, j] for j in range(3)]
truth = true_gradients["tanh"][2]
verification.equal("F22", "dy/dx_j = sum_i U_i da_i/dx_j", over_paths, truth, "jax.grad")
verification.equal("F22", "dy/dx_j = delta^T W_:,j", by_columns, truth, "jax.grad")
verification.equal("F22", "dy/dx = W^T delta", W.T @ delta, truth, "jax.grad")

# %%
# What to look at: each of the nine squares is one path, :math:`\delta_i W_{i,j}`. The sum of a
# column is the derivative by that input.

figure, axes = new_figure(2, 1, width=5.0, height=5.6, gridspec_kw={"height_ratios": [3, 1]})
squares(axes[0], delta[:, None] * W, "the paths, $\\delta_i W_{i,j}$", units, inputs)
squares(axes[1], (W.T @ delta)[None], "their sums, $W^T \\delta$", ["sum"], inputs)
save(figure, "step_03_paths_to_x")

# %%
# Every unit has its own f'
# -------------------------
# ":math:`\delta` involves the derivatives of all the activation functions": :math:`\delta_i`
# contains :math:`f'(z_i)` of its own unit, and no other. To see it, give the three units three
# different functions: tanh, sigmoid and relu.

mixed = ["tanh", "sigmoid", "relu"]
delta_mixed = [U[i] * derivatives[name](z[i]) for i, name in enumerate(mixed)]


def mixed_score(z):
    return sum(U[i] * plain[name](z[i]) for i, name in enumerate(mixed))


truth = jax.grad(mixed_score)(z)
verification.equal("F20", "delta_i = U_i f_i'(z_i), three f", delta_mixed, truth, "jax.grad")

# %%
# In funcnn the rule of an activation does this product: its backward pass takes the derivative by
# its output, :math:`U`, and returns the derivative by its input, :math:`U \odot f'(z)`.

rules = {
    "sigmoid": fnn.rules.sigmoid,
    "tanh": fnn.rules.tanh,
    "relu": fnn.rules.relu,
    "softplus": fnn.rules.softplus,
}
for name, rule in rules.items():
    _, res = rule.forward(jnp.asarray(z))  # what the forward pass keeps
    (found,) = rule.backward(res, jnp.asarray(U))
    by_hand = U * derivatives[name](z)
    verification.equal("F20", f"fnn.rules.{name}: its backward pass", found, by_hand, "U * f'(z)")

# %%
# What to look at: :math:`z_2` and :math:`z_3` are negative, so with relu two of the three units
# send nothing back, and the first sends all of :math:`U_1`. With the sigmoid, whose derivative is
# never above 1/4, no signal is above a quarter of
# :math:`|U_i|`.

table = np.array([U * derivative(z) for derivative in derivatives.values()])
figure, axis = new_figure(width=6.0, height=4.0)
columns = [f"$z_{i + 1} = {z[i]:.2f}$\n$U_{i + 1} = {U[i]:.1f}$" for i in range(3)]
squares(axis, table, "$\\delta$ for four activations", list(derivatives), columns)
axis.set_aspect("auto")
save(figure, "step_03_deltas")

# %%
# All of it by fnn.backprop
# -------------------------
# ``fnn.backprop`` takes the model, the input as a row, and the derivative by the output, which is 1
# for the score itself. It returns the gradients by the parameters and by the input, and the error
# signal of each layer. Its ``w`` is :math:`W^\top`, and so is the gradient by it.

dparams, dx, deltas = fnn.backprop(model, params, x[None], jnp.ones((1, 1)))
verification.equal("F19", "fnn.backprop's delta", deltas["dense_0"][0], delta, "U * f'(z)")
verification.equal(
    "F18", "fnn.backprop's dw", dparams["dense_0"]["w"], np.outer(x, delta), "x delta^T"
)
verification.equal("F21", "fnn.backprop's db", dparams["dense_0"]["b"], delta, "delta")
verification.equal("F22", "fnn.backprop's dx", dx[0], W.T @ delta, "W^T delta")
verification.equal("F10", "fnn.backprop's dU", dparams["dense_1"]["w"][:, 0], a, "a")

# %%
# What was verified
# -----------------
verification.report()
