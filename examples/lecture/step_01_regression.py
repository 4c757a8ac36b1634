r"""
Step 1: regression revisited
============================

The lecture begins with "check the regression notes". This step is those notes: the functions
:math:`\sigma` and :math:`\tanh` with their derivatives, and logistic and softmax regression, which
are neural networks of one layer. Their gradients are derived by hand, verified against automatic
differentiation, and used to train on real data.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from drawing import COLOURS, new_figure, save
from sklearn.datasets import load_breast_cancer
from verified import Verification

import funcnn as fnn

jax.config.update("jax_enable_x64", True)  # derivatives are compared in double precision
verification = Verification("Step 1, regression revisited")

# %%
# Sigmoid
# -------
# The sigmoid takes any number :math:`z` and returns a number between 0 and 1:
#
# .. math:: \sigma(z) = \frac{1}{1 + e^{-z}}
#
# For the derivative write :math:`u = 1 + e^{-z}`. Then :math:`\sigma = 1 / u`, and
#
# .. math:: \sigma'(z) = \frac{e^{-z}}{u^2} = \frac{1}{u} \cdot \frac{u - 1}{u}
#           = \sigma(z) (1 - \sigma(z))
#
# The derivative needs no new exponential: it is made of the value.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


z = np.linspace(-6, 6, 241)
sigma = sigmoid(z)
sigma_derivative = sigma * (1 - sigma)

automatic = jax.jit(jax.vmap(jax.grad(lambda z: 1 / (1 + jnp.exp(-z)))))(z)
verification.equal("F1", "sigmoid", sigma, scipy.special.expit(z), "scipy.special.expit")
verification.equal("F1", "sigmoid' = s (1 - s)", sigma_derivative, automatic, "jax.grad")

# %%
# Tanh
# ----
# The hyperbolic tangent returns a number between -1 and 1:
#
# .. math:: \tanh(z) = \frac{e^z - e^{-z}}{e^z + e^{-z}} = 2 \sigma(2 z) - 1
#
# The right-hand form and the derivative of the sigmoid, with :math:`s = \sigma(2 z)`, give
#
# .. math:: \tanh'(z) = 4 s (1 - s) = 1 - (2 s - 1)^2 = 1 - \tanh(z)^2

tanh = np.tanh(z)
tanh_derivative = 1 - tanh**2

quotient = jax.grad(lambda z: (jnp.exp(z) - jnp.exp(-z)) / (jnp.exp(z) + jnp.exp(-z)))
automatic = jax.jit(jax.vmap(quotient))(z)
verification.equal("F1", "tanh = 2 sigmoid(2 z) - 1", 2 * sigmoid(2 * z) - 1, tanh, "numpy.tanh")
verification.equal("F1", "tanh' = 1 - tanh^2", tanh_derivative, automatic, "jax.grad")

# %%
# What to look at: the sigmoid's derivative is never above 1/4, that of tanh never above 1. Both are
# nearly 0 where the curve is flat. There the unit is *saturated*: a change of :math:`z` hardly
# changes the output, so hardly any gradient gets through.

figure, axes = new_figure(1, 2, width=8.5)
for axis, title, of_sigmoid, of_tanh in (
    (axes[0], "the functions", sigma, tanh),
    (axes[1], "their derivatives", sigma_derivative, tanh_derivative),
):
    axis.plot(z, of_sigmoid, color=COLOURS[0], label="sigmoid", linewidth=2)
    axis.plot(z, of_tanh, color=COLOURS[1], linestyle="--", label="tanh", linewidth=2)
    axis.set(title=title, xlabel="z")
    axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
axes[1].axhline(0.25, color=COLOURS[0], linestyle=":", linewidth=1)
axes[1].text(6, 0.27, "1/4", color=COLOURS[0], ha="right")
axes[0].legend(loc="upper left")
save(figure, "step_01_sigmoid_tanh")

# %%
# The same two derivatives are rules of funcnn. The derivative by hand also works where the
# automatic derivative of the written formula fails: at :math:`z = -1000` the exponential is
# infinite, and automatic differentiation multiplies 0 by infinity.

for name, rule, by_hand in (
    ("sigmoid", fnn.rules.sigmoid, sigma_derivative),
    ("tanh", fnn.rules.tanh, tanh_derivative),
):
    found = jax.jit(jax.vmap(jax.grad(rule)))(z)
    verification.equal("F1", f"gradient of fnn.rules.{name}", found, by_hand, "the formula")

far = jnp.array(-1000.0)
print("automatic, of the formula: ", jax.grad(lambda z: 1 / (1 + jnp.exp(-z)))(far))
print("by hand, fnn.rules.sigmoid:", jax.grad(fnn.rules.sigmoid)(far))

# %%
# Logistic regression: one unit
# -----------------------------
# Each row :math:`x` of the data holds :math:`D` numbers, and its label :math:`y` is 0 or 1. The
# model has a weight vector :math:`w` of shape :math:`(D)` and a number :math:`b`:
#
# .. math:: z = w^\top x + b, \qquad p = \sigma(z)
#
# :math:`p` is read as the probability of label 1. The data are real: 569 tumours, each described by
# :math:`D = 30` measurements of cell nuclei; label 1 means benign. 400 rows are for training. Each
# measurement is shifted and scaled to mean 0 and standard deviation 1 over those.

measurements, benign = load_breast_cancer(return_X_y=True)
order = np.random.default_rng(0).permutation(len(benign))
measurements, benign = np.asarray(measurements)[order], np.asarray(benign)[order]
mean, deviation = measurements[:400].mean(axis=0), measurements[:400].std(axis=0)
X_all = (measurements - mean) / deviation  # (569, 30)
X, y = X_all[:400], benign[:400]
X_test, y_test = X_all[400:], benign[400:]
print("X", X.shape, " y", y.shape, " benign in training:", y.sum())

# %%
# The loss of a row is minus the logarithm of the probability that the model gives to the true
# label, and the cost :math:`L` is its mean over the :math:`n` rows:
#
# .. math:: l = -y \log p - (1 - y) \log(1 - p) = \log(1 + e^z) - y z
#
# The right-hand form is the better one to compute with: no logarithm of 0 can occur.


def logistic_cost(w, b, X, y):
    z = X @ w + b  # (n)
    return np.mean(np.logaddexp(0, z) - y * z)


rng = np.random.default_rng(1)
w, b = 0.3 * rng.standard_normal(30), 0.1
log_p, log_q = scipy.special.log_expit(X @ w + b), scipy.special.log_expit(-(X @ w + b))
mean_of_logs = np.mean(-y * log_p - (1 - y) * log_q)
verification.equal("F2", "logistic cost", logistic_cost(w, b, X, y), mean_of_logs, "SciPy")

# %%
# The gradient of logistic regression
# -----------------------------------
# The chain rule in two factors, and the derivative of the sigmoid from above:
#
# .. math:: \frac{\partial l}{\partial z}
#           = \frac{\partial l}{\partial p} \frac{\partial p}{\partial z}
#           = \frac{p - y}{p (1 - p)} \cdot p (1 - p) = p - y
#
# The denominators cancel. Since :math:`\partial z / \partial w = x`, the mean over all rows is
#
# .. math:: \frac{\partial L}{\partial w} = \frac{1}{n} X^\top (p - y), \qquad
#           \frac{\partial L}{\partial b} = \frac{1}{n} \sum_{i=1}^n (p_i - y_i)
#
# with :math:`X` of shape :math:`(n, D)`, one example a row.


def logistic_gradient(w, b, X, y):
    p = sigmoid(X @ w + b)  # (n)
    return X.T @ (p - y) / len(y), np.mean(p - y)


def plain_logistic_cost(w, b):  # the formula with p, for automatic differentiation alone
    p = 1 / (1 + jnp.exp(-(X @ w + b)))
    return jnp.mean(-y * jnp.log(p) - (1 - y) * jnp.log(1 - p))


dw, db = logistic_gradient(w, b, X, y)
dw_true, db_true = jax.jit(jax.grad(plain_logistic_cost, argnums=(0, 1)))(w, b)
verification.equal("F2", "logistic dL/dw = X^T (p - y) / n", dw, dw_true, "jax.grad")
verification.equal("F2", "logistic dL/db = mean(p - y)", db, db_true, "jax.grad")

# %%
# Training by gradient descent
# ----------------------------
# Start at zero, and go a step of :math:`\eta` against the gradient, again and again:
#
# .. math:: w \leftarrow w - \eta \frac{\partial L}{\partial w}, \qquad
#           b \leftarrow b - \eta \frac{\partial L}{\partial b}


def descend(X, y, eta, steps, watch):
    w, b = np.zeros(X.shape[1]), 0.0
    seen = []
    for _ in range(steps):
        seen.append(watch(w, b))
        dw, db = logistic_gradient(w, b, X, y)
        w, b = w - eta * dw, b - eta * db
    return w, b, np.array(seen)


w, b, costs = descend(
    X,
    y,
    eta=0.5,
    steps=300,
    watch=lambda w, b: (logistic_cost(w, b, X, y), logistic_cost(w, b, X_test, y_test)),
)
accuracy = np.mean((X_test @ w + b > 0) == y_test)
verification.holds("F2", "logistic: test accuracy above 0.95", accuracy > 0.95)
print(f"cost at the start {costs[0, 0]:.4f}, which is log 2, and at the end {costs[-1, 0]:.4f}")
print(f"accuracy on the {len(y_test)} test rows: {accuracy:.3f}")

# %%
# To draw the decision in the plane, train once more on two of the measurements. What to look at:
# the line :math:`p = 0.5` is straight, because it is where :math:`w^\top x + b = 0`; the lines of
# other :math:`p` are parallel to it. The marks are the test rows.

two = [0, 1]  # mean radius, mean texture
w_two, b_two, _ = descend(X[:, two], y, eta=0.5, steps=300, watch=lambda w, b: 0)
radius, texture = np.meshgrid(np.linspace(6, 24, 150), np.linspace(9, 40, 150))
grid = (np.stack([radius, texture], axis=-1) - mean[two]) / deviation[two]  # (150, 150, 2)

figure, axes = new_figure(1, 2, width=10, height=4.0)
axes[0].plot(costs[:, 0], color=COLOURS[0], label="training", linewidth=2)
axes[0].plot(costs[:, 1], color=COLOURS[1], linestyle="--", label="test", linewidth=2)
axes[0].set(title="30 measurements: the cost", xlabel="step", ylabel="cost L", ylim=(0, None))
axes[0].legend()
styles = {"levels": [0.1, 0.5, 0.9], "linestyles": ["--", "-", ":"], "colors": "black"}
lines = axes[1].contour(radius, texture, sigmoid(grid @ w_two + b_two), **styles)
axes[1].clabel(lines, fmt="p = %.1f", fontsize=10, manual=[(11, 30), (12, 33), (15, 33)])
for label, name, marker, colour in ((1, "benign", "o", 0), (0, "malignant", "^", 1)):
    rows = benign[400:] == label
    axes[1].scatter(
        *measurements[400:, two][rows].T, s=18, marker=marker, color=COLOURS[colour], label=name
    )
axes[1].set(title="two measurements: the decision", xlabel="mean radius", ylabel="mean texture")
axes[1].set(xlim=(6, 24), ylim=(9, 40))
axes[1].legend(loc="upper right", frameon=True)
save(figure, "step_01_logistic")

# %%
# Softmax regression: one layer
# -----------------------------
# With :math:`C` classes the model has a weight matrix :math:`W` of shape :math:`(D, C)`, one column
# a class, and a vector :math:`b` of shape :math:`(C)`. For a row :math:`x`:
#
# .. math:: z = W^\top x + b, \qquad p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}
#
# The :math:`p_k` are positive and sum to 1. Only :math:`e^{z_k}` depends on :math:`z_k` above the
# line, but all of them are below it, so each :math:`p_k` depends on every :math:`z_j`:
#
# .. math:: \frac{\partial p_k}{\partial z_j} = p_k (\delta_{kj} - p_j), \qquad
#           \frac{\partial p}{\partial z} = \mathrm{diag}(p) - p p^\top
#
# Here :math:`\delta_{kj}` is 1 where :math:`k = j` and 0 elsewhere; it is no error signal.


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))  # the largest exponent is 0
    return e / e.sum(axis=-1, keepdims=True)


scores = rng.standard_normal(10)
p = softmax(scores)
jacobian = jax.jit(jax.jacobian(lambda z: jnp.exp(z) / jnp.sum(jnp.exp(z))))(scores)
verification.equal("F2", "softmax", p, scipy.special.softmax(scores), "scipy.special.softmax")
verification.equal("F2", "dp/dz = diag(p) - p p^T", np.diag(p) - np.outer(p, p), jacobian, "jax")

# %%
# The gradient of softmax regression
# ----------------------------------
# The loss of a row with label :math:`y` is :math:`l = -\log p_y = \log \sum_j e^{z_j} - z_y`. The
# derivative of the first term is :math:`p_k`, that of the second is 1 for :math:`k = y`:
#
# .. math:: \frac{\partial l}{\partial z_k} = p_k - t_k
#
# where :math:`t` is the label as a vector, 1 at the place :math:`y` and 0 elsewhere. All :math:`n`
# rows together, with :math:`P` and :math:`T` of shape :math:`(n, C)`:
#
# .. math:: \frac{\partial L}{\partial W} = \frac{1}{n} X^\top (P - T), \qquad
#           \frac{\partial L}{\partial b} = \frac{1}{n} \sum_{i=1}^n (P_i - T_i)
#
# It is the gradient of logistic regression, with a column for each class. The data are 1,797 real
# images of digits, :math:`D = 8 \times 8 = 64` pixels, :math:`C = 10` classes.

digits = fnn.data.digits()
X = digits.train.x.reshape(-1, 64).astype(np.float64)  # (1437, 64)
X_test = digits.test.x.reshape(-1, 64).astype(np.float64)  # (360, 64)
labels, labels_test = digits.train.y, digits.test.y
T = np.eye(10)[labels]  # (1437, 10)


def softmax_cost(W, b, X, labels):
    z = X @ W + b  # (n, C)
    return np.mean(scipy.special.logsumexp(z, axis=1) - z[np.arange(len(labels)), labels])


def softmax_gradient(W, b):
    P = softmax(X @ W + b)  # (n, C)
    return X.T @ (P - T) / len(X), np.mean(P - T, axis=0)


def plain_softmax_cost(W, b):  # for automatic differentiation alone
    e = jnp.exp(X @ W + b)
    return -jnp.mean(jnp.sum(T * jnp.log(e / jnp.sum(e, axis=1, keepdims=True)), axis=1))


W, b = 0.3 * rng.standard_normal((64, 10)), 0.1 * rng.standard_normal(10)
dW, db = softmax_gradient(W, b)
dW_true, db_true = jax.jit(jax.grad(plain_softmax_cost, argnums=(0, 1)))(W, b)
verification.equal("F2", "softmax dL/dW = X^T (P - T) / n", dW, dW_true, "jax.grad")
verification.equal("F2", "softmax dL/db = mean(P - T)", db, db_true, "jax.grad")

# %%
# With two classes softmax regression *is* logistic regression: only the difference of the two
# scores counts.
#
# .. math:: \frac{e^{z_1}}{e^{z_0} + e^{z_1}} = \sigma(z_1 - z_0)

pairs = rng.standard_normal((7, 2))
two_classes = softmax(pairs)[:, 1]
one_unit = sigmoid(pairs[:, 1] - pairs[:, 0])
verification.equal("F2", "softmax of two = sigmoid", two_classes, one_unit, "the sigmoid above")

# %%
# Training on the digits
# ----------------------
# What to look at: the cost begins at :math:`\log 10`, since ten classes that are equally likely
# have :math:`p = 1/10` each, and falls quickly at first.


def share_right(W, b, X, labels):
    return np.mean(np.argmax(X @ W + b, axis=1) == labels)


eta, steps = 0.8, 150
W, b = np.zeros((64, 10)), np.zeros(10)
costs, accuracies = [], []
for _ in range(steps):
    costs.append((softmax_cost(W, b, X, labels), softmax_cost(W, b, X_test, labels_test)))
    accuracies.append((share_right(W, b, X, labels), share_right(W, b, X_test, labels_test)))
    dW, db = softmax_gradient(W, b)
    W, b = W - eta * dW, b - eta * db

accuracy = share_right(W, b, X_test, labels_test)
verification.holds("F2", "softmax: test accuracy above 0.93", accuracy > 0.93)
print(f"cost at the start {costs[0][0]:.4f}, which is log 10, and at the end {costs[-1][0]:.4f}")
print(f"accuracy on the {len(X_test)} test images: {accuracy:.3f}")

# %%
# The curves of both parts of the data:

figure, axes = new_figure(1, 2, width=8.5)
for axis, curves, name in ((axes[0], costs, "cost L"), (axes[1], accuracies, "accuracy")):
    for part, (label, dashes) in enumerate((("training", "-"), ("test", "--"))):
        curve = np.array(curves)[:, part]
        axis.plot(curve, color=COLOURS[part], linestyle=dashes, label=label, linewidth=2)
    axis.set(title=f"softmax regression: {name}", xlabel="step", ylabel=name)
    axis.legend()
save(figure, "step_01_softmax_training")

# %%
# Each column of :math:`W` has one weight a pixel, so it is an image. What to look at: where a pixel
# is red, ink speaks *for* the class, and where it is blue, *against* it. The 0 wants a ring with an
# empty middle.

limit = np.abs(W).max()
figure, axes = new_figure(2, 5, width=8.5, height=4.0)
pictures = []
for k, axis in enumerate(axes.flat):
    image = W[:, k].reshape(8, 8)
    pictures.append(axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit))
    axis.set(title=f"class {k}", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
figure.colorbar(pictures[0], ax=axes, label="weight", shrink=0.8)
save(figure, "step_01_softmax_weights")

# %%
# The same networks in funcnn
# ---------------------------
# A dense layer with a loss on top is a regression: ``fnn.rules.logistic`` for one unit,
# ``fnn.rules.softmax_cross_entropy`` for :math:`C` classes. funcnn gives the loss of each row; the
# mean is ours to take. Its hand-derived rules give the gradients of this page.

layer = fnn.dense(10)


def cost(params):
    return fnn.rules.softmax_cross_entropy(layer(params, X), labels).mean()


found = jax.jit(jax.grad(cost))({"w": W, "b": b})
dW, db = softmax_gradient(W, b)
verification.equal("F2", "dense + softmax_cross_entropy: dL/dW", found["w"], dW, "X^T (P - T) / n")
verification.equal("F2", "dense + softmax_cross_entropy: dL/db", found["b"], db, "mean(P - T)")

unit, is_one = fnn.dense(1), (labels == 1).astype(int)


def one_against_the_rest(params):
    return fnn.rules.logistic(unit(params, X)[:, 0], is_one).mean()


found = jax.jit(jax.grad(one_against_the_rest))({"w": W[:, 1:2], "b": b[1:2]})
dw, db = logistic_gradient(W[:, 1], b[1], X, is_one)
verification.equal("F2", "dense + logistic: dL/dw", found["w"][:, 0], dw, "X^T (p - y) / n")
verification.equal("F2", "dense + logistic: dL/db", found["b"][0], db, "mean(p - y)")

# %%
# What was verified
# -----------------
verification.report()
