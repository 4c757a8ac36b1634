r"""
Step 5: the recursion, for any number of layers
===============================================

The lecture now goes from two layers to :math:`L`. Backprop is three steps: the error signal
:math:`\delta` of the last layer, then that of each layer before it, and from each :math:`\delta`
the gradient of that layer's parameters. Here the three steps run as a loop of a few lines and as
``fnn.backprop``, both checked against ``jax.grad``. At the end stands a layer for which the
lecture's formula is not enough.
"""

# %%
import jax
import jax.numpy as jnp
import numpy as np
from drawing import COLOURS, new_figure, save
from verified import Verification

import funcnn as fnn
from funcnn.pictures.style import SIGNED

jax.config.update("jax_enable_x64", True)
verification = Verification("Step 5, the recursion")
random = np.random.default_rng(5)

# %%
# The network
# -----------
# An :math:`(L+1)`-layer perceptron has :math:`D` inputs, :math:`C` outputs, and :math:`L` hidden
# layers; hidden layer :math:`l` has :math:`m^{(l)}` units. With :math:`a^{(0)} = x`,
#
# .. math::
#    z^{(l)} = W^{(l)} a^{(l-1)} + b^{(l)}, \qquad a^{(l)} = f_l(z^{(l)}), \qquad
#    \hat{y} = U^\top a^{(L)} .
#
# :math:`W^{(l)}` has the shape :math:`m^{(l)} \times m^{(l-1)}`, where :math:`m^{(0)} = D`;
# :math:`b^{(l)}`, :math:`z^{(l)}` and :math:`a^{(l)}` have :math:`m^{(l)}` elements; :math:`U` is
# :math:`m^{(L)} \times C`. Each layer has its own activation :math:`f_l` and its own parameters.
# (In the code :math:`l` is spelt ``ell``.)

D, C = 6, 3
m = [D, 12, 10, 8, 8, 6]  # m[0] = D, then the hidden layers
L = len(m) - 1
kinds = [None, "tanh", "sigmoid", "softplus", "relu", "tanh"]  # f_1 ... f_L

W, b = {}, {}
for ell in range(1, L + 1):
    W[ell] = 1.5 * random.normal(size=(m[ell], m[ell - 1])) / m[ell - 1] ** 0.5
    b[ell] = 0.3 * random.normal(size=m[ell])
    print(f"layer {ell}: W {W[ell].shape}, b {b[ell].shape}, f = {kinds[ell]}")
U = random.normal(size=(m[L], C))
x = random.normal(size=D)
print(f"output:  U {U.shape}")

# %%
# Every activation comes with its derivative.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


f = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "relu": lambda z: np.where(z > 0, z, 0.0),
}
f_prime = {
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sigmoid": lambda z: sigmoid(z) * (1 - sigmoid(z)),
    "softplus": sigmoid,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
}

# %%
# The feedforward pass keeps every :math:`z^{(l)}` and :math:`a^{(l)}`, because the backward pass
# needs them.

z, a = {}, {0: x}
for ell in range(1, L + 1):
    z[ell] = W[ell] @ a[ell - 1] + b[ell]
    a[ell] = f[kinds[ell]](z[ell])
y = U.T @ a[L]

# %%
# What we check against is the same network in plain ``jax.numpy``. Its argument ``nudge`` is added
# to each :math:`z^{(l)}`. It is zero and changes nothing, but the gradient by ``nudge[l]`` is
# :math:`\partial \hat{y} / \partial z^{(l)}`, which is what :math:`\delta^{(l)}` must be.

PLAIN = {
    "tanh": jnp.tanh,
    "sigmoid": lambda z: 1 / (1 + jnp.exp(-z)),
    "softplus": lambda z: jnp.log(1 + jnp.exp(z)),
    "relu": lambda z: jnp.where(z > 0, z, 0.0),
    "softmax": lambda z: jnp.exp(z) / jnp.sum(jnp.exp(z)),
}


def plain(W, b, U, x, nudge, kinds):
    a = x
    for ell in range(1, L + 1):
        a = PLAIN[kinds[ell]](W[ell] @ a + b[ell] + nudge[ell])
    return U.T @ a


nudge = {ell: np.zeros(m[ell]) for ell in range(1, L + 1)}
forward = plain(W, b, U, x, nudge, kinds)
verification.equal("F37", "the forward pass of 5 + 1 layers", y, forward, "plain jax.numpy")

# %%
# The three steps
# ---------------
# **Step 1.** The :math:`\delta` of the last layer. The lecture has a scalar output, and
# :math:`\delta^{(L)} = U \odot f'(z^{(L)})`. With :math:`C` outputs we ask for the derivative of a
# weighted sum :math:`s = \sum_c dy_c \, \hat{y}_c`, where :math:`dy` holds the derivatives of the
# loss by the outputs; then :math:`U` becomes the column :math:`U \, dy`. For one output and
# :math:`dy = 1` that is the lecture's :math:`U`.
#
# **Step 2.** All the others, from the last to the first:
#
# .. math:: \delta^{(l)} = W^{(l+1)\top} \delta^{(l+1)} \odot f'(z^{(l)}) .
#
# **Step 3.** The gradients:
#
# .. math::
#    \frac{\partial s}{\partial W^{(l)}} = \delta^{(l)} a^{(l-1)\top}, \qquad
#    \frac{\partial s}{\partial b^{(l)}} = \delta^{(l)} .
#
# The lecture prints :math:`\delta^{(l)} = W^{(l)\top} \delta^{(l)} \odot f(z^{(l)})` on one slide
# (:math:`f` for :math:`f'`), :math:`\delta^{(l)}` on both sides on the next, and
# :math:`\delta^{(l+1)} a^{(l)\top}` as the gradient of :math:`W^{(l)}`. With the lecture's own
# :math:`z^{(l)} = W^{(l)} a^{(l-1)} + b^{(l)}` the indices are those above; ``errata`` shows what
# the printed ones give.

dy = random.normal(size=C)

delta, dW, db = {}, {}, {}
delta[L] = (U @ dy) * f_prime[kinds[L]](z[L])  # step 1
for ell in range(L - 1, 0, -1):  # step 2
    delta[ell] = W[ell + 1].T @ delta[ell + 1] * f_prime[kinds[ell]](z[ell])
for ell in range(1, L + 1):  # step 3
    dW[ell] = np.outer(delta[ell], a[ell - 1])
    db[ell] = delta[ell]
dU = np.outer(a[L], dy)
dx = W[1].T @ delta[1]

# %%
# That is all of backprop. Each piece is compared with ``jax.grad`` of the plain network, element by
# element; the last cell of this page lists the largest differences.


def s(W, b, U, x, nudge):
    return dy @ plain(W, b, U, x, nudge, kinds)


true_dW, true_db, true_dU, true_dx, true_delta = jax.grad(s, (0, 1, 2, 3, 4))(W, b, U, x, nudge)

verification.equal(
    "F33", "step 1: delta(L) = (U dy) * f'(z(L))", delta[L], true_delta[L], "jax.grad"
)
for ell in range(L - 1, 0, -1):
    what = f"step 2: delta({ell}) = W({ell + 1})^T delta({ell + 1}) * f'"
    verification.equal("F34", what, delta[ell], true_delta[ell], "jax.grad")
for ell in range(L, 0, -1):
    what = f"step 3: dW({ell}) = delta({ell}) a({ell - 1})^T"
    verification.equal("F35", what, dW[ell], true_dW[ell], "jax.grad")
    verification.equal(
        "F35", f"step 3: db({ell}) = delta({ell})", db[ell], true_db[ell], "jax.grad"
    )
verification.equal("F35", "dU = a(L) dy^T", dU, true_dU, "jax.grad")
verification.equal("F35", "dx = W(1)^T delta(1)", dx, true_dx, "jax.grad")

# %%
# The recursion is one formula for all layers, so that :math:`\delta^{(1)}` is also one long product
# of matrices, :math:`W^\top` and the diagonal :math:`F' = \mathrm{diag}(f'(z))` in turn:
# :math:`\delta^{(1)} = F'_1 W^{(2)\top} F'_2 W^{(3)\top} \cdots F'_L \, U dy`.

product = U @ dy
for ell in range(L, 0, -1):
    product = np.diag(f_prime[kinds[ell]](z[ell])) @ product
    product = W[ell].T @ product if ell > 1 else product
verification.equal("F32", "delta(1) as one product of matrices", product, true_delta[1], "jax.grad")

# With one output and dy = 1, step 1 is as the lecture prints it.
scalar = U[:, 0] * f_prime[kinds[L]](z[L])
true_scalar = jax.grad(lambda nudge: plain(W, b, U, x, nudge, kinds)[0])(nudge)[L]
verification.equal("F33", "step 1 for one output: U * f'(z(L))", scalar, true_scalar, "jax.grad")

# %%
# The same with fnn.backprop
# --------------------------
# In funcnn the network is a ``chain`` of layers. ``fnn.dense`` works on rows, :math:`x W^\top + b`,
# so its parameter ``w`` is our :math:`W^\top`. ``fnn.backprop`` runs the same three steps and
# returns every error signal: ``deltas[path]`` is the derivative by the *output* of that layer. The
# output of a dense layer is :math:`z`, so that ``deltas["dense_0"]`` is :math:`\delta^{(1)}`.

layer = {"tanh": fnn.tanh, "sigmoid": fnn.sigmoid, "softplus": fnn.softplus, "relu": fnn.relu}


def network(kinds):
    parts = [part for ell in range(1, L + 1) for part in (fnn.dense(m[ell]), layer[kinds[ell]])]
    return fnn.chain(*parts, score=fnn.dense(C, bias=False))


model = network(kinds)
params = {f"dense_{ell - 1}": {"w": W[ell].T, "b": b[ell]} for ell in range(1, L + 1)}
params["score"] = {"w": U}
params = jax.tree.map(jnp.asarray, params)

dparams, dx_fnn, deltas = fnn.backprop(model, params, jnp.asarray(x[None]), jnp.asarray(dy[None]))
for path, found in deltas.items():
    print(f"{path:<11} delta {found.shape!s:<8} norm {np.linalg.norm(found):.4f}")

# %%
for ell in range(L, 0, -1):
    path = f"dense_{ell - 1}"
    verification.equal(
        "F34", f"fnn.backprop: delta({ell})", deltas[path][0], true_delta[ell], "jax.grad"
    )
    verification.equal(
        "F35", f"fnn.backprop: dW({ell})", dparams[path]["w"].T, true_dW[ell], "jax.grad"
    )
verification.equal("F35", "fnn.backprop: dU", dparams["score"]["w"], true_dU, "jax.grad")
verification.equal("F35", "fnn.backprop: dx", dx_fnn[0], true_dx, "jax.grad")

# %%
# A batch is many rows at once. Each row has its own :math:`\delta`; the gradient of a parameter is
# the sum over the rows, because every row uses the same parameter.

X = random.normal(size=(32, D))
dY = random.normal(size=(32, C))
batch_dparams, _, batch_deltas = fnn.backprop(model, params, jnp.asarray(X), jnp.asarray(dY))


def batch_s(W):
    Y = jax.vmap(lambda x: plain(W, b, U, x, nudge, kinds))(X)
    return jnp.sum(dY * Y)


true_batch = jax.grad(batch_s)(W)
for ell in (1, L):
    found = batch_dparams[f"dense_{ell - 1}"]["w"].T
    verification.equal(
        "F35", f"32 rows: dW({ell}) is a sum over rows", found, true_batch[ell], "jax.grad"
    )

# %%
# **The picture.** On the left each row is one layer, last layer on top, and each square one unit:
# red is a positive :math:`\delta`, blue a negative one, and each row is divided by its own largest
# element. Six of the eight units of layer 4 are exactly zero: there ReLU had :math:`z \leq 0`, so
# :math:`f'` is 0, and nothing below hears of those units. On the right is the size of each
# :math:`\delta`. It falls most on the way into layer 4, where most units are off, and into layer 2,
# whose sigmoid has a slope of at most 1/4. Step 11 looks at this for many layers.

figure, (left, right) = new_figure(1, 2, width=8.6, height=3.6, width_ratios=[2.2, 1])
picture = np.full((L, max(m)), np.nan)
for ell in range(1, L + 1):
    picture[L - ell, : m[ell]] = delta[ell] / np.abs(delta[ell]).max()
image = left.imshow(picture, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto")
left.set_yticks(range(L), [f"layer {ell}, {kinds[ell]}" for ell in range(L, 0, -1)])
left.set_xticks(range(max(m)), range(1, max(m) + 1))
left.set_xlabel("unit")
left.set_title("δ of each unit, over the largest in its layer")
left.set_xticks(np.arange(-0.5, max(m)), minor=True)
left.set_yticks(np.arange(-0.5, L), minor=True)
left.grid(which="minor", color="white", linewidth=2)
left.tick_params(which="both", length=0)
left.spines[:].set_visible(False)
figure.colorbar(image, ax=left, shrink=0.8)

norms = [np.linalg.norm(delta[ell]) for ell in range(L, 0, -1)]
right.barh(range(L), norms, color=COLOURS[0])
right.set_yticks(range(L), range(L, 0, -1))
right.invert_yaxis()
right.set_ylabel("layer")
right.set_xlabel("norm of δ")
right.set_title("size of δ")
save(figure, "step_05_deltas")

# %%
# As soon as its delta is there
# -----------------------------
# The lecture notes that a gradient can be obtained as soon as its :math:`\delta` is available: no
# need to wait for the layers before it. ``fnn.backprop_steps`` is the same recursion as a
# generator. Each ``next`` takes one layer back and yields ``(path, gradients, delta)``, last layer
# first. To see it, we put a layer into a small chain that does nothing but write down when its
# backward pass runs.

log = []


def witness(name):
    def recursion(params, res, dy):
        log.append(f"the backward pass enters {name}")
        return {}, dy, {}

    return fnn.Layer(
        kind="witness",
        init=lambda key, x: {},
        apply=lambda params, x, key: x,
        forward=lambda params, x, key: (x, None),
        recursion=recursion,
    )


watched = fnn.chain(
    *(fnn.dense(4), fnn.tanh, witness("layer 1")),
    *(fnn.dense(4), fnn.tanh, witness("layer 2")),
    *(fnn.dense(2), witness("layer 3")),
)
rows = jnp.asarray(X)
watched_params = watched.init(jax.random.key(5), rows)
for path, gradients, _ in fnn.backprop_steps(watched, watched_params, rows, jnp.ones((32, 2))):
    if gradients:
        log.append(f"gradient of {path} is here")
print("\n".join(log))

# %%
# ``dense_2`` is the dense layer of layer 3. Its gradient is here before the backward pass enters
# layer 2. A training loop may update layer 3 and forget that gradient at once; a machine with
# several devices may already send it away.

expected = []
for ell in (3, 2, 1):
    expected += [f"the backward pass enters layer {ell}", f"gradient of dense_{ell - 1} is here"]
verification.holds("F36", "each gradient before the layer below begins", log == expected)

steps = fnn.backprop_steps(model, params, jnp.asarray(x[None]), jnp.asarray(dy[None]))
for path, gradients, found in steps:
    if path.startswith("dense"):
        ell = int(path[-1]) + 1
        what = f"dW({ell}) at the moment it is yielded"
        verification.equal(
            "F36", what, gradients["w"].T, np.outer(found[0], a[ell - 1]), "delta a^T"
        )

# %%
# A layer for which f' is not enough
# ----------------------------------
# The lecture says that a layer may be "linear, softmax, ReLU or any other". The product
# :math:`\odot f'(z)` holds where each :math:`a_i` depends on its own :math:`z_i` alone. **Softmax**
# is different: every output depends on every input, because they share one sum,
#
# .. math::
#    a_i = \frac{e^{z_i}}{\sum_k e^{z_k}}, \qquad
#    \frac{\partial a_i}{\partial z_j} = a_i ([i = j] - a_j), \qquad
#    J = \mathrm{diag}(a) - a a^\top .
#
# The general step 2 is the product with the transposed Jacobian,
# :math:`\delta = J^\top (W^{(l+1)\top} \delta^{(l+1)})`. For tanh, ReLU and the like :math:`J` is
# diagonal, and the product is :math:`\odot f'(z)`. For softmax that keeps the diagonal
# :math:`a_i (1 - a_i)` and drops the rest. We replace the activation of layer 3 and do both.

kinds[3] = "softmax"
for ell in range(3, L + 1):
    z[ell] = W[ell] @ a[ell - 1] + b[ell]
    if ell == 3:
        a[ell] = np.exp(z[ell]) / np.sum(np.exp(z[ell]))
    else:
        a[ell] = f[kinds[ell]](z[ell])

back = U @ dy
for ell in range(L, 3, -1):
    delta[ell] = back * f_prime[kinds[ell]](z[ell])
    back = W[ell].T @ delta[ell]  # in the end W(4)^T delta(4)

J = np.diag(a[3]) - np.outer(a[3], a[3])
right_delta = J.T @ back
wrong_delta = np.diag(J) * back  # only a_i (1 - a_i): wrong
shortcut = a[3] * (back - a[3] @ back)  # J^T back without making the matrix J

true_delta = jax.grad(s, 4)(W, b, U, x, nudge)[3]  # s looks at kinds, which has changed
wrong_by = np.linalg.norm(wrong_delta - true_delta) / np.linalg.norm(true_delta)
print(f"the elementwise product is off by {100 * wrong_by:.0f} % of the norm of delta(3)")

# %%
# What libraries compute, ``fnn.rules.softmax`` included, is the third form: :math:`a \odot (v -
# a^\top v)` with :math:`v = W^{(l+1)\top} \delta^{(l+1)}`. It needs no matrix.

true_J = jax.jacobian(PLAIN["softmax"])(z[3])
verification.equal("F38", "softmax: J = diag(a) - a a^T", J, true_J, "jax.jacobian")
verification.equal(
    "F38", "softmax: delta(3) = J^T W(4)^T delta(4)", right_delta, true_delta, "jax.grad"
)
verification.equal("F38", "softmax: a * (v - a^T v), no matrix", shortcut, true_delta, "jax.grad")
verification.holds("F38", "softmax: the product with f' is wrong", wrong_by > 0.1)
verification.measured(
    "F38", "softmax: error of the product with f'", f"{100 * wrong_by:.0f} % of the norm"
)

layer["softmax"] = fnn.softmax()
model = network(kinds)
dparams, _, deltas = fnn.backprop(model, params, jnp.asarray(x[None]), jnp.asarray(dy[None]))
true_dW = jax.grad(s)(W, b, U, x, nudge)
verification.equal(
    "F38", "fnn.backprop through softmax: delta(3)", deltas["dense_2"][0], true_delta, "jax.grad"
)
for ell in range(L, 0, -1):
    what = f"fnn.backprop through softmax: dW({ell})"
    verification.equal("F38", what, dparams[f"dense_{ell - 1}"]["w"].T, true_dW[ell], "jax.grad")

# %%
# **The picture.** Left, the Jacobian of tanh: only the diagonal, so one number for each unit is
# enough. Middle, the Jacobian of softmax: no square is zero, and each column sums to zero (raising
# one :math:`z_j` lifts :math:`a_j` and lowers all others). Right, :math:`\delta^{(3)}` from
# ``jax.grad`` (bars), with the whole :math:`J^\top` (circles, right) and with its diagonal alone
# (crosses, wrong).

figure, axes = new_figure(1, 3, width=9.6, height=3.4, width_ratios=[1, 1, 1.5])
jacobians = {"Jacobian of tanh": np.diag(f_prime["tanh"](z[3])), "Jacobian of softmax": J}
for ax, (title, matrix) in zip(axes, jacobians.items(), strict=False):
    limit = np.abs(matrix).max()
    ax.imshow(matrix, cmap=SIGNED, vmin=-limit, vmax=limit)
    ax.set_xticks(range(m[3]), range(1, m[3] + 1))
    ax.set_yticks(range(m[3]), range(1, m[3] + 1))
    ax.set_xlabel("z, unit j")
    ax.set_title(title)
axes[0].set_ylabel("a, unit i")

unit = np.arange(1, m[3] + 1)
axes[2].bar(unit, true_delta, color="0.8", label="jax.grad")
axes[2].plot(unit, right_delta, "o", color=COLOURS[0], fillstyle="none", label="with all of J")
axes[2].plot(unit, wrong_delta, "x", color=COLOURS[1], label="with its diagonal alone")
axes[2].axhline(0, color="0.4", linewidth=0.8)
axes[2].set_xticks(unit)
axes[2].set_xlabel("unit")
axes[2].set_title("δ of the softmax layer")
axes[2].legend(fontsize=9)
save(figure, "step_05_softmax")

# %%
# What was verified
# -----------------

verification.report()
