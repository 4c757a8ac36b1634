r"""
Step 9: a convolutional network classifies images
=================================================

Convolutions, activations and pooling are put together and trained on real handwritten digits, end
to end: pixels in, class out. Then the lecture's question is answered: how are the different
convolved images combined?
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.signal
from drawing import COLOURS, new_figure, save
from verified import Verification

import funcnn as fnn

# Training is in float32, as everywhere; the derivatives are verified in float64 further down.
jax.config.update("jax_enable_x64", False)
verification = Verification("Step 9, image classification")

# %%
# The images
# ----------
# scikit-learn's digits: 1,797 grey images of 8 by 8 pixels, between 0 and 1. 360 of them are set
# aside to test the network on images that it has not seen.

digits = fnn.data.digits(seed=0)
print("train", digits.train.x.shape, "test", digits.test.x.shape)
figure, axes = new_figure(1, 10, width=9, height=1.3)
for label, axis in enumerate(axes):
    axis.imshow(digits.train.x[digits.train.y == label][0, :, :, 0], cmap="gray")
    axis.set(xticks=[], yticks=[], title=str(label))
save(figure, "step_09_digits")

# %%
# The network
# -----------
# Two layers as in step 7, each followed by the maximum over squares of 2 by 2, and a dense layer
# that weighs what was found. The classes' scores are logits :math:`z_k`; softmax makes them
# probabilities. For one image of class :math:`y`, and for the :math:`n` images of a batch:
#
# .. math::
#    l = -\log \frac{e^{z_y}}{\sum_k e^{z_k}} \qquad
#    L_\theta = \frac{1}{n} \sum_{i=1}^{n} l_i

model = fnn.chain(
    fnn.conv(16, (3, 3)),  # (n, 8, 8, 1) -> (n, 8, 8, 16)
    fnn.relu,
    fnn.max_pool((2, 2)),  # (n, 4, 4, 16)
    fnn.conv(32, (3, 3)),  # (n, 4, 4, 32)
    fnn.relu,
    fnn.max_pool((2, 2)),  # (n, 2, 2, 32)
    fnn.flatten,  # (n, 128)
    fnn.dense(10),  # (n, 10)
)
print(fnn.summary(model, model.init(jax.random.key(0), digits.train.x[:1]), digits.train.x[:1]))

# %%
# The gradient of the whole network
# ---------------------------------
# Before it is trained: is the gradient right? The same network is written once more in plain JAX,
# and ``jax.grad`` differentiates that. ``fnn.backprop`` goes back through the layers by the
# hand-derived rules, from :math:`\frac{\partial L}{\partial z} = \frac{1}{n} (p -
# \text{onehot}(y))`, where :math:`p` are the probabilities. Everything is in float64.


def plain_convolution(params, y):
    layout = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(y, params["w"], (1, 1), "SAME", dimension_numbers=layout)
    return x + params["b"]


def plain_relu(x):
    return jnp.where(x > 0, x, 0.0)


def plain_pool(y):
    squares = (1, 2, 2, 1)
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, squares, squares, "VALID")


def plain_loss(params, x, y):
    a = plain_pool(plain_relu(plain_convolution(params["conv_0"], x)))
    a = plain_pool(plain_relu(plain_convolution(params["conv_1"], a)))
    z = a.reshape(len(a), -1) @ params["dense_0"]["w"] + params["dense_0"]["b"]
    chosen = z[jnp.arange(len(y)), y]
    return jnp.mean(jax.scipy.special.logsumexp(z, axis=-1) - chosen)


def loss(params, batch, key):
    logits = model(params, batch["x"], key=key)
    return fnn.rules.softmax_cross_entropy(logits, batch["y"]).mean()


@jax.jit
def by_recursion(params, x, y):
    p = jax.nn.softmax(model(params, x))
    dL_dz = (p - jax.nn.one_hot(y, 10)) / len(x)  # (n, 10)
    dparams, dx, _ = fnn.backprop(model, params, x, dL_dz)
    return dparams, dx


by_rules = jax.jit(jax.value_and_grad(loss))  # what the training step computes
by_plain = jax.jit(jax.value_and_grad(plain_loss, argnums=(0, 1)))


def verify_gradient(params, when):
    """All gradients at the same params, on 64 images, in float64."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        x, y = digits.train.x[:64].astype(np.float64), digits.train.y[:64]
        true_value, (truth, true_dx) = by_plain(params, x, y)
        value, in_training = by_rules(params, {"x": x, "y": y}, None)
        recursion, dx = by_recursion(params, x, y)
    verification.equal("F47", f"the loss, {when}", value, true_value, "plain JAX")
    verification.equal("F47", f"dL/dx, {when}", dx, true_dx, "jax.grad, plain")
    for path in ("conv_0", "conv_1", "dense_0"):
        for leaf in ("w", "b"):
            true = truth[path][leaf]
            what = f"dL/d{path}.{leaf}, {when}"
            verification.equal("F47", what, recursion[path][leaf], true, "jax.grad, plain")
            what = f"{what}, in training"
            verification.equal("F47", what, in_training[path][leaf], true, "jax.grad, plain")


params = model.init(jax.random.key(0), digits.train.x[:1])
verify_gradient(params, "before")

# %%
# Training
# --------
# 20 passes over the training images in batches of 32, by Adam. One call of the compiled step makes
# 45 updates, about one pass. After each call the accuracy is measured on both splits.

PASSES, UPDATES = 20, 45


def train(model, seeds, evaluate=None):
    """For each seed the trained state and its history; the step is compiled once."""

    def loss(params, batch, key):
        logits = model(params, batch["x"], key=key)
        return fnn.rules.softmax_cross_entropy(logits, batch["y"]).mean()

    optimizer = optax.adam(3e-3)
    step = fnn.train.make_step(loss, optimizer, steps_per_call=UPDATES)
    for seed in seeds:
        params = model.init(jax.random.key(seed), digits.train.x[:1])
        yield fnn.train.fit(
            step,
            fnn.train.TrainState.create(params, optimizer, seed=seed),
            fnn.data.make_batches(digits.train, batch_size=32, seed=seed),
            steps=PASSES * UPDATES,
            log_every=UPDATES,
            evaluate=evaluate,
            evaluate_every=UPDATES,
        )


def right(params, batch):
    """1 for each image that is recognised, 0 for the others."""
    return {"accuracy": (model(params, batch["x"]).argmax(-1) == batch["y"]).astype(float)}


splits = {"train": digits.train, "test": digits.test}
evaluations = {
    name: fnn.train.make_evaluation(right, {"x": split.x, "y": split.y}, batch_size=360)
    for name, split in splits.items()
}


def evaluate(params):
    return {name: evaluation(params)["accuracy"] for name, evaluation in evaluations.items()}


[(state, history)] = train(model, seeds=[0], evaluate=evaluate)
params = state.params
test_accuracy = evaluate(params)["test"]
print(f"test accuracy {test_accuracy:.4f}")
verification.holds("F47", "test accuracy of at least 0.97", test_accuracy >= 0.97)
verification.measured("F47", "test accuracy", f"{test_accuracy:.4f} on {len(digits.test.y)} images")

# %%
# The gradient once more, at the trained weights.

verify_gradient(params, "after")

# %%
# Look at the two curves on the right: the network fits its training images, and is nearly as good
# on images that it has not seen. The gap between the two is what it has learnt by heart.

steps = [record["step"] for record in history]
figure, axes = new_figure(1, 2, width=8.6, height=3.2)
axes[0].semilogy(steps, [record["loss"] for record in history], color=COLOURS[0])
axes[0].set(xlabel="updates", title="loss of the last batch")
for split, dashes, colour in (("train", "-", COLOURS[0]), ("test", "--", COLOURS[1])):
    values = [record[f"evaluation_{split}"] for record in history]
    axes[1].plot(steps, values, dashes, color=colour, label=split)
axes[1].set(xlabel="updates", title="accuracy", ylim=(0.85, 1.005))
axes[1].legend(loc="lower right")
save(figure, "step_09_training")

# %%
# Look at the diagonal: images that were recognised. Beside it are all mistakes. Would you have read
# them rightly?

predicted = np.asarray(model(params, digits.test.x).argmax(-1))
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (digits.test.y, predicted), 1)
wrong = np.flatnonzero(predicted != digits.test.y)
figure, axes = new_figure(1, 2, width=9, height=4.2)
axes[0].imshow(np.sqrt(confusion), cmap="Blues")
for (i, j), count in np.ndenumerate(confusion):
    shade = "white" if count > 9 else "black" if count else "0.75"
    axes[0].text(j, i, count, ha="center", va="center", fontsize=9, color=shade)
axes[0].set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="is")
axes[0].set_title(f"{len(digits.test.y)} test images")
for position, index in enumerate(wrong[:6]):
    row, column = divmod(position, 2)
    place = axes[1].inset_axes((0.1 + 0.45 * column, 0.72 - 0.36 * row, 0.4, 0.26))
    place.imshow(digits.test.x[index, :, :, 0], cmap="gray")
    place.set(xticks=[], yticks=[])
    place.set_title(f"{digits.test.y[index]}, read as {predicted[index]}", fontsize=10)
axes[1].axis("off")
axes[1].set_title(f"mistakes: {len(wrong)} in all", pad=14)
save(figure, "step_09_mistakes")

# %%
# How to combine the convolved images
# -----------------------------------
# The first layer makes 16 images out of one. A kernel of the second layer sees all of them. It is
# not one square of numbers but 16, one for each image, and the 16 results are added up. With
# :math:`y_c` for the image of channel :math:`c`, and :math:`x_o` for output channel :math:`o`:
#
# .. math::
#    x_o = \sum_{c=1}^{16} \omega_{co} * y_c + b_o \qquad y_o = \max(0, x_o)
#
# This is the lecture's answer, "a linear + activation function": a weighted sum, whose weights are
# kernels, and then a function that is not linear. The code below takes the trained network apart.

network = {path: jax.tree.map(np.float64, leaves) for path, leaves in params.items()}
omega, b = network["conv_1"]["w"], network["conv_1"]["b"]  # (3, 3, 16, 32), (32,)
shown = int(np.flatnonzero(digits.test.y == 3)[0])
with jax.enable_x64(True):
    image = digits.test.x[shown : shown + 1].astype(np.float64)  # (1, 8, 8, 1)
    first = fnn.rules.relu(fnn.rules.conv(image, network["conv_0"]["w"], network["conv_0"]["b"]))
    y = fnn.rules.max_pool(first, window=(2, 2), stride=2, padding="VALID")  # (1, 4, 4, 16)
    x = np.asarray(fnn.rules.conv(y, omega, b))  # (1, 4, 4, 32)
    singles = [fnn.rules.conv(y[..., c : c + 1], omega[:, :, c : c + 1]) for c in range(16)]
first, y = np.asarray(first), np.asarray(y)
singles = np.asarray(singles)  # (16, 1, 4, 4, 32)

verification.equal("F48", "sum of 16 convolutions of one channel", sum(singles) + b, x, "conv")
truth = np.zeros((4, 4, 32))
for o in range(32):
    for c in range(16):
        truth[:, :, o] += scipy.signal.correlate2d(y[0, :, :, c], omega[:, :, c, o], "same")
    truth[:, :, o] += b[o]
verification.equal("F48", "the same, each by SciPy", x[0], truth, "scipy.signal.correlate2d")

# %%
# Look from top to bottom. The first row shows the 16 images that the first layer makes of the
# digit, the second row the same after pooling: :math:`y_c`. Each has found something else: an edge,
# a bow, the background. (In these two rows each image has its own scale.) The third row is each
# :math:`y_c` after its own kernel, for one output channel :math:`o`. Red is positive, blue
# negative.

balance = np.minimum(x.clip(0).max(axis=(0, 1, 2)), -x.clip(None, 0).min(axis=(0, 1, 2)))
o = int(np.argmax(balance))  # an output with both signs
figure, axes = new_figure(3, 16, width=11, height=2.9)
largest = np.abs(singles[..., o]).max()
for c in range(16):
    for axis, panel in ((axes[0, c], first[0, :, :, c]), (axes[1, c], y[0, :, :, c])):
        axis.imshow(panel, cmap="gray", vmin=0)
    axes[2, c].imshow(singles[c, 0, :, :, o], cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes[0, c].set_title(f"{c + 1}", fontsize=10)
axes[0, 0].set_ylabel("8 x 8")
axes[1, 0].set_ylabel("$y_c$")
axes[2, 0].set_ylabel(r"$\omega_{co} * y_c$")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)
save(figure, "step_09_before")

# %%
# All 16 of the third row are added up, number by number. The bias is added, and the activation
# keeps what is positive.

figure, axes = new_figure(1, 4, width=9, height=2.8)
panels = {
    "the digit": image[0, :, :, 0],
    r"the sum of $\omega_{co} * y_c$": x[0, :, :, o] - b[o],
    rf"$x_o$: plus the bias, {b[o]:.2f}": x[0, :, :, o],
    r"$y_o = \max(0, x_o)$": x[0, :, :, o].clip(0),
}
largest = np.abs(x[..., o]).max()
for axis, (title, panel) in zip(axes, panels.items(), strict=True):
    axis.set_title(title, fontsize=11)
    axis.set(xticks=[], yticks=[])
    if title == "the digit":
        axis.imshow(panel, cmap="gray")
        continue
    axis.imshow(panel, cmap="RdBu_r", vmin=-largest, vmax=largest)
    for (i, j), value in np.ndenumerate(panel):
        shade = "white" if abs(value) > 0.6 * largest else "black"
        axis.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=9, color=shade)
save(figure, "step_09_after")

# %%
# With kernels of 1 by 1 nothing is left but the combination: at each pixel the channels are
# multiplied by one matrix. Combining the images is a dense layer across channels, the same for all
# pixels.

with jax.enable_x64(True):
    mixing = np.random.default_rng(9).normal(size=(1, 1, 16, 5))
    found = fnn.rules.conv(y, mixing)
verification.equal("F48", "1x1 convolution", found, y @ mixing[0, 0], "matrix product")

# %%
# Other ways, and what they lose
# ------------------------------
# *Add first.* With one kernel for all channels, :math:`\sum_c \omega * y_c = \omega * \sum_c y_c`:
# the images are added before anybody has looked at them, and nobody knows any more which of them
# had found what. Exchange two channels, and the result is the same.

with jax.enable_x64(True):
    same_kernel = np.broadcast_to(omega[:, :, :1], omega.shape)
    found = fnn.rules.conv(y, same_kernel)
    added = fnn.rules.conv(y.sum(-1, keepdims=True), omega[:, :, :1])
    exchanged = fnn.rules.conv(y[..., ::-1], same_kernel)
    distinct = np.asarray(fnn.rules.conv(y[..., ::-1], omega, b))
verification.equal("F48", "one kernel for all = add first", added, found, "conv")
verification.equal("F48", "one kernel: channels exchanged", exchanged, found, "not exchanged")
verification.holds("F48", "own kernels: the order matters", np.max(np.abs(distinct - x)) > 0.1)

# %%
# *Leave out the activation.* Two convolutions without a function between them are one convolution.
# Its kernel is the convolution of the two kernels, 5 by 5, added up over the channels between:
# :math:`\kappa_o = \sum_k \alpha_k * \beta_{ko}`.

random = np.random.default_rng(9)
alpha, beta = random.normal(size=(3, 3, 1, 16)), random.normal(size=(3, 3, 16, 4))
kappa = np.zeros((5, 5, 1, 4))
for o in range(4):
    for k in range(16):
        kappa[:, :, 0, o] += scipy.signal.convolve2d(alpha[:, :, 0, k], beta[:, :, k, o])
with jax.enable_x64(True):
    between = fnn.rules.conv(image, alpha, padding="VALID")
    twice = fnn.rules.conv(between, beta, padding="VALID")
    once = fnn.rules.conv(image, kappa, padding="VALID")
verification.equal("F48", "two linear layers are one", twice, once, "one 5x5 convolution")

# %%
# *Never combine.* With ``groups=16`` each image is convolved by itself, and only the dense layer at
# the end sees all of them.
#
# What does each cost? Four networks, alike but for this, are trained twice from different starts.
# Without activations the maximum goes too, as it is not linear: the mean takes its place. "Add
# first" and "never combine" have the same number of parameters.


def add_channels(params, y):
    return y.sum(axis=-1, keepdims=True)


def ending():
    return fnn.relu, fnn.max_pool((2, 2)), fnn.flatten, fnn.dense(10)


def beginning():
    return fnn.conv(16, (3, 3)), fnn.relu, fnn.max_pool((2, 2))


networks = {
    "combined, as above": fnn.chain(*beginning(), fnn.conv(32, (3, 3)), *ending()),
    "never combined": fnn.chain(*beginning(), fnn.conv(32, (3, 3), groups=16), *ending()),
    "added first": fnn.chain(*beginning(), add_channels, fnn.conv(32, (3, 3)), *ending()),
    "no activation": fnn.chain(
        fnn.conv(16, (3, 3)),
        fnn.average_pool((2, 2)),
        fnn.conv(32, (3, 3)),
        fnn.average_pool((2, 2)),
        fnn.flatten,
        fnn.dense(10),
    ),
}
mistakes = {}
for name, other in networks.items():
    mistakes[name] = []
    for trained, _ in train(other, seeds=(0, 1)):
        read = np.asarray(other(trained.params, digits.test.x).argmax(-1))
        mistakes[name].append(int(np.sum(read != digits.test.y)))
    leaves = jax.tree.leaves(other.init(jax.random.key(0), digits.test.x[:1]))
    print(f"{name:<18} {sum(leaf.size for leaf in leaves):>5} parameters")
    verification.measured("F48", name, f"mistakes {mistakes[name]} of {len(digits.test.y)}")
worse = min(mistakes["added first"] + mistakes["no activation"])
verification.holds(
    "F48", "adding first, or no activation, costs", worse > max(mistakes["combined, as above"])
)

# %%
# Look at the dots: one for each start. Adding first and leaving out the activation cost several
# times as many mistakes. Images that were never combined lose little here, because the dense layer
# combines what is left of them. How much each mistake costs depends on the network and the task:
# these are the numbers of this one.

figure, axes = new_figure(width=7.5, height=2.6)
for line, counts in enumerate(mistakes.values()):
    axes.plot(counts, [line] * len(counts), "o", color=COLOURS[line], markersize=10, alpha=0.8)
axes.set(yticks=range(4), yticklabels=list(mistakes), ylim=(3.5, -0.5), xlim=(0, None))
axes.xaxis.get_major_locator().set_params(integer=True)
axes.set(xlabel=f"mistakes on {len(digits.test.y)} test images")
axes.grid(axis="x", color="0.9")
save(figure, "step_09_wrong_ways")

# %%
# What was verified
# -----------------

verification.report()
