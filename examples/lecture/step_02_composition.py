r"""
Step 2: a network is a composition
==================================

A feedforward network is a function of a function of a function. This step writes it so, takes the
mean of the losses as its cost, and follows the cost downhill. The three rules of high school
mathematics, for products, sums and compositions, give the gradient; and the order in which the
chain rule is multiplied out decides what it costs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from drawing import COLOURS, new_figure, save
from verified import Verification

import funcnn as fnn

jax.config.update("jax_enable_x64", True)  # derivatives are compared in double precision
verification = Verification("Step 2, a network is a composition")

# %%
# Feedforward
# -----------
# Layer :math:`l` is a function :math:`f_l` of its input and of its own parameters
# :math:`\theta_l`. The network applies the first to the input :math:`\mathbf{x}`, the second to the
# result, and so on:
#
# .. math:: f(\mathbf{x}; \theta)
#           = f_L(\ldots f_2(f_1(\mathbf{x}; \theta_1); \theta_2) \ldots; \theta_L)
#
# Here :math:`L = 5`, with images of digits as inputs,
# :math:`64 \to 32 \to 32 \to 10` numbers, and a tanh after each dense layer but the last. A tanh is
# a layer whose :math:`\theta_l` is empty.

digits = fnn.data.digits()
X = digits.train.x.reshape(-1, 64).astype(np.float64)  # (n, 64), one image a row
labels = digits.train.y  # (n), the classes 0 to 9

model = fnn.chain(fnn.dense(32), fnn.tanh, fnn.dense(32), fnn.tanh, fnn.dense(10))
params = jax.tree.map(np.asarray, model.init(jax.random.key(0), X))
print(
    {name: {symbol: array.shape for symbol, array in own.items()} for name, own in params.items()}
)

# %%
# ``fnn.chain`` is this composition and nothing else. By hand:


def dense(a, theta):
    return a @ theta["w"] + theta["b"]


def tanh(a, theta):
    return jnp.tanh(a)


f1, f2, f3, f4, f5 = layers = [dense, tanh, dense, tanh, dense]
t1, t2, t3, t4, t5 = thetas = [params["dense_0"], {}, params["dense_1"], {}, params["dense_2"]]

composed = f5(f4(f3(f2(f1(X, t1), t2), t3), t4), t5)  # (n, 10)
hidden = np.tanh(np.tanh(X @ t1["w"] + t1["b"]) @ t3["w"] + t3["b"])
written_out = hidden @ t5["w"] + t5["b"]
verification.equal("F3", "f_5(... f_1(x) ...), by hand", composed, written_out, "NumPy")
verification.equal("F3", "fnn.chain is the composition", model(params, X), written_out, "NumPy")

# %%
# The cost: the mean of the losses
# --------------------------------
# A loss :math:`l` compares one output with its label, and the cost is the mean over the :math:`n`
# examples:
#
# .. math:: L_\theta = \frac{1}{n} \sum_{i=1}^n l(\mathbf{y}_i, f(\mathbf{x}_i; \theta))
#
# For classes the loss is the cross entropy of step 1, :math:`l = \log \sum_j e^{f_j} - f_y`.
# funcnn's losses return one value for each row, and we take the mean.


def cost(params):
    return fnn.rules.softmax_cross_entropy(model(params, X), labels).mean()


def plain_cost(params):  # without any rule of funcnn, for automatic differentiation alone
    theta_1, theta_3, theta_5 = (params[name] for name in ("dense_0", "dense_1", "dense_2"))
    scores = dense(tanh(dense(tanh(dense(X, theta_1), {}), theta_3), {}), theta_5)
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - scores[jnp.arange(len(X)), labels])


total = 0.0
for scores, label in zip(written_out, labels, strict=True):
    total += scipy.special.logsumexp(scores) - scores[label]
verification.equal(
    "F4", "the cost is the mean of the losses", cost(params), total / len(X), "SciPy"
)

# %%
# Gradient descent
# ----------------
# One step goes against the gradient, by the learning rate :math:`\eta`:
#
# .. math:: \theta_{t+1} = \theta_t - \eta \frac{\partial L}{\partial \theta}(\theta_t)
#
# The slide prints :math:`\partial f / \partial \theta`, the derivative of the network and not of
# its cost (``errata`` demonstrates it). That one does not even have the shape of :math:`\theta`:
# there is a derivative for each of the 10 outputs.

gradient = jax.jit(jax.grad(cost))(params)  # the hand-derived rules of funcnn
true_gradient = jax.jit(jax.grad(plain_cost))(params)
of_f = jax.eval_shape(jax.jacobian(lambda p: model(p, X[0])), params)
print("theta_1:    ", params["dense_0"]["w"].shape)
print("dL/dtheta_1:", gradient["dense_0"]["w"].shape)
print("df/dtheta_1:", of_f["dense_0"]["w"].shape)

eta = 0.5
for name in ("dense_0", "dense_1", "dense_2"):
    found, truth = gradient[name]["w"], true_gradient[name]["w"]
    verification.equal("F5", f"dL/dtheta, w of {name}", found, truth, "jax.grad")

# %%
# A step of training, ``fnn.train.make_step`` with optax's plain gradient descent, is this update:

updated = jax.tree.map(lambda theta, g: theta - eta * g, params, true_gradient)

step = fnn.train.make_step(lambda params, batch, key: cost(params), optax.sgd(eta))
# A step donates its state, so it gets a copy.
start = jax.tree.map(jnp.array, params)
state = fnn.train.TrainState.create(start, optax.sgd(eta), seed=0)
state, metrics = step(state, X)
for name in ("dense_0", "dense_1", "dense_2"):
    found, truth = state.params[name]["w"], updated[name]["w"]
    verification.equal("F5", f"theta - eta dL/dtheta, w of {name}", found, truth, "the update")

curve = [float(metrics["loss"])]
for _ in range(99):
    state, metrics = step(state, X)
    curve.append(float(metrics["loss"]))
verification.holds("F5", "100 steps lower the cost", curve[-1] < 0.2 * curve[0])
print(f"the cost falls from {curve[0]:.3f} to {curve[-1]:.3f} in 100 steps")

# %%
# Two pictures of descent
# -----------------------
# On the left the cost of the network above. On the right a cost of two parameters alone, so that
# the way can be drawn: one linear unit, :math:`\hat{y} = \theta_1 x + \theta_2`, with half the
# squared error as its loss. What to look at: each step begins at a right angle to the contour line
# through its point. A small :math:`\eta` creeps; a large one jumps across the valley and back.

points = np.linspace(0, 2, 21)
targets = 1.2 * points - 0.2


def small_gradient(theta):
    error = theta[0] * points + theta[1] - targets
    return np.array([np.mean(error * points), np.mean(error)])


axis_1, axis_2 = np.meshgrid(np.linspace(-1, 3, 81), np.linspace(-2, 2, 81))
errors = axis_1[..., None] * points + axis_2[..., None] - targets  # (81, 81, 21)
heights = 0.5 * np.mean(errors**2, axis=-1)

figure, axes = new_figure(1, 2, width=10, height=4.2)
axes[0].plot(curve, color=COLOURS[0], linewidth=2)
axes[0].set(
    title="the digits: cost, step by step", xlabel="step t", ylabel="cost L", ylim=(0, None)
)
levels = np.geomspace(0.003, 10, 14)
axes[1].contour(axis_1, axis_2, heights, levels=levels, colors="0.75", linewidths=1)
for rate, colour, marker, dashes in (
    (0.05, 2, "s", "--"),
    (0.45, 0, "o", "-"),
    (0.88, 1, "^", ":"),
):
    path = [np.array([-0.6, 0.3])]
    for _ in range(15):
        path.append(path[-1] - rate * small_gradient(path[-1]))
    style = {"color": COLOURS[colour], "marker": marker, "linestyle": dashes, "markersize": 4}
    axes[1].plot(*np.array(path).T, label=f"eta = {rate:g}", **style)
axes[1].plot(1.2, -0.2, "k*", markersize=12, label="least cost")
axes[1].set(title="two parameters: 15 steps", xlabel="theta 1", ylabel="theta 2")
axes[1].set(xlim=(-1, 3), ylim=(-2, 2), aspect="equal")
axes[1].legend(loc="lower left", frameon=True)
save(figure, "step_02_descent")

# %%
# Product rule
# ------------
# .. math:: \frac{\partial}{\partial \theta} (f(\theta) g(\theta))
#           = f(\theta) \frac{\partial g(\theta)}{\partial \theta}
#           + g(\theta) \frac{\partial f(\theta)}{\partial \theta}
#
# The slide prints the second term as :math:`\frac{\partial}{\partial \theta} g(\theta) f(\theta)`:
# the derivative of :math:`g` twice and that of :math:`f` never (see ``errata``). An example with
# :math:`\theta` of shape (5): :math:`f = \theta^\top \theta` and :math:`g = \sum_i \sin \theta_i`.

theta = np.array([0.3, -1.2, 0.8, 2.0, -0.5])
f, df = theta @ theta, 2 * theta
g, dg = np.sum(np.sin(theta)), np.cos(theta)

truth = jax.grad(lambda t: jnp.sum(t**2) * jnp.sum(jnp.sin(t)))(theta)
verification.equal("F6", "d(f g) = f dg + g df", f * dg + g * df, truth, "jax.grad")

# %%
# A layer that needs it is silu, :math:`z \sigma(z)`, a product of two functions of :math:`z`:
#
# .. math:: \frac{\partial}{\partial z} (z \sigma(z)) = z \, \sigma(z) (1 - \sigma(z)) + \sigma(z)

z = np.linspace(-4, 4, 81)
s = scipy.special.expit(z)
by_hand = z * s * (1 - s) + s
truth = jax.jit(jax.vmap(jax.grad(lambda z: z / (1 + jnp.exp(-z)))))(z)
verification.equal("F6", "silu' by the product rule", by_hand, truth, "jax.grad")
found = jax.jit(jax.vmap(jax.grad(fnn.rules.silu)))(z)
verification.equal("F6", "the gradient of fnn.rules.silu", found, by_hand, "the product rule")

# %%
# Derivative of sums
# ------------------
# .. math:: \frac{\partial}{\partial \theta} (f(\theta) + g(\theta))
#           = \frac{\partial f(\theta)}{\partial \theta}
#           + \frac{\partial g(\theta)}{\partial \theta}
#
# It is why a batch can be taken apart. The cost is a mean, so its gradient is the mean of the
# gradients of the single losses:
#
# .. math:: \frac{\partial L}{\partial \theta}
#           = \frac{1}{n} \sum_{i=1}^n \frac{\partial l_i}{\partial \theta}

truth = jax.grad(lambda t: jnp.sum(t**2) + jnp.sum(jnp.sin(t)))(theta)
verification.equal("F7", "d(f + g) = df + dg", df + dg, truth, "jax.grad")


def loss_of_one(params, x, label):
    return fnn.rules.softmax_cross_entropy(model(params, x[None]), label[None])[0]


each = jax.jit(jax.vmap(jax.grad(loss_of_one), in_axes=(None, 0, 0)))(params, X, labels)
mean_of_gradients = each["dense_0"]["w"].mean(axis=0)
truth = true_gradient["dense_0"]["w"]
verification.equal("F7", "the mean of 1,437 gradients", mean_of_gradients, truth, "jax.grad")

# %%
# Chain rule: what is constant
# ----------------------------
# Let :math:`a_0 = \mathbf{x}` and :math:`a_l = f_l(a_{l-1}; \theta_l)`, one image, so that
# :math:`a_L = f(\mathbf{x}; \theta)`. The slide's first line is
#
# .. math:: \frac{\partial f}{\partial \theta_l} = \frac{\partial}{\partial \theta_l}
#           f_L(\ldots f_2(f_1(\mathbf{x}; \theta_1); \theta_2) \ldots; \theta_L)
#
# (it leaves out :math:`f` on the left). The layers below :math:`l` do not depend on
# :math:`\theta_l`: their result :math:`a_{l-1}` is a constant, and only the layers from :math:`l`
# up need to be differentiated.

x, label = X[0], labels[0]
a = [x]  # a[l] is the output of layer l
for layer, theta_l in zip(layers, thetas, strict=True):
    a.append(np.asarray(layer(a[-1], theta_l)))


def network(w, number):  # the whole network, with w in the place of the weights of one layer
    activation = x
    for k, (layer, theta_l) in enumerate(zip(layers, thetas, strict=True), 1):
        activation = layer(activation, {**theta_l, "w": w} if k == number else theta_l)
    return activation


def upper_part(w, number):  # the same from that layer up, on its constant input
    activation = layers[number - 1](a[number - 1], {**thetas[number - 1], "w": w})
    for layer, theta_l in zip(layers[number:], thetas[number:], strict=True):
        activation = layer(activation, theta_l)
    return activation


df_dw = {}  # the truth for what follows: (10, inputs, units), for layers 1, 3 and 5
for number in (1, 3, 5):
    w = thetas[number - 1]["w"]
    df_dw[number] = jax.jit(jax.jacobian(network), static_argnums=1)(w, number)
    found = jax.jit(jax.jacobian(upper_part), static_argnums=1)(w, number)
    verification.equal(
        "F8", f"df/dw_{number}: a_{number - 1} is constant", found, df_dw[number], "jax"
    )

# %%
# Chain rule: a product of Jacobians
# ----------------------------------
# .. math:: \frac{\partial f}{\partial \theta_l} = \frac{\partial f_L}{\partial f_{L-1}^\top}
#           \frac{\partial f_{L-1}}{\partial f_{L-2}^\top} \cdots
#           \frac{\partial f_{l+1}}{\partial f_l^\top} \frac{\partial f_l}{\partial \theta_l}
#
# Each factor :math:`J_k = \partial f_k / \partial f_{k-1}^\top` is a matrix, the Jacobian of one
# layer: a row for each output, a column for each input. By hand, for rows times
# :math:`w`, as funcnn has it, and for tanh:
#
# .. math:: J_{\text{dense}} = w^\top, \qquad J_{\tanh} = \mathrm{diag}(1 - a^2)

J = {
    1: t1["w"].T,  # (32, 64)
    2: np.diag(1 - a[2] ** 2),  # (32, 32)
    3: t3["w"].T,  # (32, 32)
    4: np.diag(1 - a[4] ** 2),  # (32, 32)
    5: t5["w"].T,  # (10, 32)
}
for k, layer, theta_l in zip(J, layers, thetas, strict=True):
    truth = jax.jacobian(layer)(a[k - 1], theta_l)
    verification.equal("F9", f"J_{k}, the Jacobian of layer {k}", J[k], truth, "jax.jacobian")

# %%
# The last factor is the derivative of a dense layer by its own weights. Output :math:`i` meets only
# column :math:`i` of :math:`w`, and there weight :math:`d` meets input :math:`a_d`:
#
# .. math:: \frac{\partial f_{l,i}}{\partial w_{d,j}} = a_{l-1,d} \quad \text{for } i = j, \qquad
#           0 \quad \text{for } i \neq j


def jacobian_of_weights(a, units):
    return np.einsum("d,ij->idj", a, np.eye(units))  # (units, inputs, units)


products = {
    5: jacobian_of_weights(a[4], 10),
    3: np.tensordot(J[5] @ J[4], jacobian_of_weights(a[2], 32), axes=1),
    1: np.tensordot(J[5] @ J[4] @ J[3] @ J[2], jacobian_of_weights(a[0], 32), axes=1),
}
for number, product in products.items():
    what = f"df/dw_{number} = product of Jacobians"
    verification.equal("F9", what, product, df_dw[number], "jax.jacobian")

# %%
# The transposes are a convention
# -------------------------------
# In :math:`\partial f_k / \partial f_{k-1}^\top` a column of outputs is differentiated by a row of
# inputs, so outputs go down and inputs go across. Some books lay out the transpose. Then every
# factor is turned round, and so is their order:
#
# .. math:: (J_5 J_4 J_3)^\top = J_3^\top J_4^\top J_5^\top
#
# Both are right; a mixture of both is not. The backward pass of the next steps,
# :math:`\delta_{k-1} = J_k^\top \delta_k` for a column :math:`\delta`, is the second layout.

turned = J[3].T @ J[4].T @ J[5].T
verification.equal(
    "F9", "the other layout, transposed", turned.T, J[5] @ J[4] @ J[3], "the product"
)

# %%
# Which end to begin at
# ---------------------
# The loss is a single number, so its derivative by the scores is a row of shape (1, 10):
# :math:`r = (p - t)^\top` from step 1. The derivative by the input is a product of six matrices,
#
# .. math:: \frac{\partial l}{\partial \mathbf{x}^\top} = r J_5 J_4 J_3 J_2 J_1
#
# which may be multiplied out from either end, with the same result. From the left, where the loss
# is, there is always one row: this is *reverse mode*, or backprop. From the right, where the input
# is, there is always a matrix of 64 columns: *forward mode*.

p = scipy.special.softmax(a[5])
r = (p - np.eye(10)[label])[None]  # (1, 10)
factors = [r, J[5], J[4], J[3], J[2], J[1]]


def multiply(factors, from_left):
    """The product, and how many multiplications of two numbers each step took."""
    chain = factors if from_left else factors[::-1]
    result, counts = chain[0], []
    for factor in chain[1:]:
        left, right = (result, factor) if from_left else (factor, result)
        counts.append(left.shape[0] * left.shape[1] * right.shape[1])
        result = left @ right
    return result, counts


reverse, reverse_counts = multiply(factors, from_left=True)
forward, forward_counts = multiply(factors, from_left=False)


def plain_loss(x):
    for layer, theta_l in zip(layers, thetas, strict=True):
        x = layer(x, theta_l)
    return jax.nn.logsumexp(x) - x[label]


truth = jax.jit(jax.grad(plain_loss))(x)[None]  # (1, 64)
verification.equal("F9", "dl/dx from the left, reverse mode", reverse, truth, "jax.grad")
verification.equal("F9", "dl/dx from the right, forward mode", forward, truth, "jax.grad")
verification.holds("F9", "reverse needs fewer", sum(reverse_counts) < sum(forward_counts))
print("from the left: ", reverse_counts, "in all", sum(reverse_counts))
print("from the right:", forward_counts, "in all", sum(forward_counts))
print(f"the right-hand end costs {sum(forward_counts) / sum(reverse_counts):.0f} times as much")

# %%
# What to look at: the row on the left is thin, and stays thin. The Jacobians of tanh are diagonal,
# so a product with them is a product element by element, the :math:`\odot f'(z)` of step 3.

names = ["r", "J5 dense", "J4 tanh", "J3 dense", "J2 tanh", "J1 dense"]
# The row and J5 have few columns; they get some more width for their titles.
widths = [max(matrix.shape[1], 18) for matrix in factors]
figure, axes = new_figure(1, 6, width=11, height=2.8, gridspec_kw={"width_ratios": widths})
for axis, name, matrix in zip(axes, names, factors, strict=True):
    limit = np.abs(matrix).max()
    axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set(title=f"{name}\n{matrix.shape[0]} x {matrix.shape[1]}", xticks=[], yticks=[])
figure.suptitle(
    "the loss (left) ... the input (right); red is positive, blue is negative", fontsize=11
)
save(figure, "step_02_jacobians")

# %%
# Reverse mode is not always better. Count for a network with :math:`C` outputs and no loss on top:
# from the left there are now :math:`C` rows. What to look at: the orders cost the same where there
# are as many outputs as inputs. Training has one output, the cost, and millions of inputs, the
# parameters: that is why backprop goes from the loss back.

outputs = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
both = {True: [], False: []}
for count in outputs:
    matrices = [np.zeros((count, 32)), J[4], J[3], J[2], J[1]]
    for from_left, counts in both.items():
        counts.append(sum(multiply(matrices, from_left)[1]))

figure, axes = new_figure(1, 2, width=10, height=3.8)
places = np.arange(5)
bars = (
    (reverse_counts, -0.2, 0, "", "from the left"),
    (forward_counts, 0.2, 1, "//", "from the right"),
)
for counts, shift, colour, hatch, name in bars:
    style = {"color": COLOURS[colour], "hatch": hatch, "edgecolor": "white", "label": name}
    axes[0].bar(places + shift, np.cumsum(counts), 0.38, **style)
axes[0].set(
    title="dl/dx: multiplications so far", xlabel="product", ylabel="multiplications", yscale="log"
)
axes[0].set_xticks(places, [f"{k + 1}" for k in places])
axes[0].set_ylim(100, 2e6)
axes[0].legend(loc="upper left")
axes[1].plot(outputs, both[True], "o-", color=COLOURS[0], label="from the left (reverse)")
axes[1].plot(outputs, both[False], "^--", color=COLOURS[1], label="from the right (forward)")
axes[1].axvline(64, color="0.6", linestyle=":")
axes[1].text(70, 6e3, "as many outputs\nas inputs", color="0.3")
axes[1].set(title="64 inputs, C outputs", xlabel="outputs C", ylabel="multiplications")
axes[1].set(xscale="log", yscale="log")
axes[1].set_xticks([1, 8, 64, 512], ["1", "8", "64", "512"])
axes[1].legend(loc="upper left")
axes[1].set_ylim(3e3, 2e7)
save(figure, "step_02_orders")

# %%
# The rows are backprop
# ---------------------
# On the way from the left every row :math:`r J_5 \cdots J_{k+1}` is the derivative of the loss by
# the output of layer :math:`k`. Each :math:`\partial l / \partial \theta_k` needs just that row, so
# one walk serves all layers. From the right each :math:`\theta_k` would need a walk of its own. The
# rows are the deltas that ``fnn.backprop`` returns; no automatic differentiation is in it.

dparams, dx, deltas = fnn.backprop(model, params, x[None], r)
print("deltas, last layer first:", list(deltas))

row = r
for k, name in ((5, "dense_2"), (4, "tanh_1"), (3, "dense_1"), (2, "tanh_0"), (1, "dense_0")):
    verification.equal("F9", f"fnn.backprop's delta of {name}", deltas[name], row, "the Jacobians")
    row = row @ J[k]
verification.equal("F9", "fnn.backprop's dx", dx, truth, "jax.grad")

# %%
# What was verified
# -----------------
verification.report()
