r"""
Step 10: what does the learnt feature represent?
================================================

The lecture shows the filters and the features of a trained network and asks what they represent.
This step trains a small convolutional network on handwritten digits and puts the question in four
ways: what do the filters look like, what do they make of an image, which pixels does a decision
hang on, and which image would a class, or a single channel, like best.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import scipy.signal
from drawing import COLOURS, new_figure, save
from verified import Verification

import funcnn as fnn
from funcnn.pictures.activations import convolution_outputs, draw_activations
from funcnn.pictures.filters import draw_filters
from funcnn.pictures.maximization import channel_score, class_score, draw_maximized, maximize
from funcnn.pictures.network import probabilities
from funcnn.pictures.occlusion import draw_occlusion, occlusion_maps
from funcnn.pictures.saliency import draw_saliency, gradient_times_input, image_gradient
from funcnn.pictures.style import DASHES

jax.config.update("jax_enable_x64", False)  # training is in float32
verification = Verification("Step 10, what the learnt features represent")

# %%
# A network to look at
# --------------------
# Images :math:`x` of 8 x 8 pixels, 0 is black and 1 is white. Two layers of convolution, each
# followed by the rectified linear unit and by max pooling, then one dense layer that returns a
# score :math:`s_c` for each of the ten classes.

model = fnn.chain(
    *(fnn.conv(16, (3, 3)), fnn.relu, fnn.max_pool((2, 2))),
    *(fnn.conv(32, (3, 3)), fnn.relu, fnn.max_pool((2, 2))),
    *(fnn.flatten, fnn.dense(10)),
)
digits = fnn.data.digits(seed=0)


def loss(params, batch, key):
    s = model(params, batch["x"], key=key)
    return fnn.rules.softmax_cross_entropy(s, batch["y"]).mean(), {}


optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, 1200))
batches = fnn.data.make_batches(digits.train, batch_size=64, seed=0)
params = model.init(jax.random.key(0), digits.train.x[:1])
state = fnn.train.TrainState.create(params, optimizer, seed=0)
step = fnn.train.make_step(loss, optimizer, steps_per_call=100)
for first in range(0, 1200, 100):
    state, metrics = step(state, batches(first, 100))
params = state.params

p = np.asarray(probabilities(model, params, digits.test.x))  # (360, 10)
predicted = p.argmax(-1)
accuracy = (predicted == digits.test.y).mean()
print(f"{int((predicted == digits.test.y).sum())} of {len(p)} test images are classified correctly")
verification.holds("F49", "at least 95 % of the test images are right", accuracy >= 0.95)

# %%
# The filters
# -----------
# A filter of the first layer is the 3 x 3 weights :math:`w_k`, of which there are 16. Red weights
# ask for light, blue ones for dark. Look for filters that are red on one side and blue on the
# other: these answer to an edge. Others are red along a line and answer to a stroke. Nobody drew
# them: before training all were random numbers.

w = params["conv_0"]["w"]  # (3, 3, 1, 16)
figure = draw_filters(w, title="The filters of conv_0", figure=plt.figure())
save(figure, "step_10_filters")

# %%
# What they make of an image
# --------------------------
# Channel :math:`k` of the first layer is the image correlated with filter :math:`k`, step 7's
#
# .. math:: z_{ijk} = b_k + \sum_{a=0}^{2} \sum_{b=0}^{2} w_{abk} \, x_{(i+a-1)(j+b-1)}
#
# where the image is framed by one row of zeros on each side. The relu behind it passes what is
# positive, red in the picture, and cuts off what is negative.

wrong = np.flatnonzero(predicted != digits.test.y)[:1]
chosen = [*(int(np.flatnonzero(digits.test.y == c)[0]) for c in (0, 3, 4, 7)), *map(int, wrong)]
x, truth = digits.test.x[chosen], digits.test.y[chosen]
labels = [f"true {truth[n]}\npredicted {predicted[i]}" for n, i in enumerate(chosen)]
z = convolution_outputs(model, params, x)
for path in z:
    title = f"What {path} returns"
    figure = draw_activations(x, z[path], labels=labels, title=title, figure=plt.figure())
    save(figure, f"step_10_{path}")

# %%
# With SciPy's correlation, in float64, for every filter and every image:

with jax.enable_x64(True):
    exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    images = np.asarray(x, np.float64)
    found = convolution_outputs(model, exact, images)["conv_0"]
w, b = (np.asarray(exact["conv_0"][name]) for name in ("w", "b"))
by_scipy = [
    [scipy.signal.correlate2d(image[..., 0], w[..., 0, k], "same") + b[k] for k in range(16)]
    for image in images
]
by_scipy = np.moveaxis(np.array(by_scipy), 1, -1)  # (N, 8, 8, 16)
verification.equal("F49", "z of the first layer", found, by_scipy, "scipy.signal")

# %%
# Which pixels move the score
# ---------------------------
# Near an image :math:`x` the score of a class is nearly linear in the pixels,
#
# .. math:: s_c(x + \epsilon) \approx s_c(x) + g^\top \epsilon \qquad
#    g = \frac{\partial s_c}{\partial x}
#
# and :math:`g` comes out of the same backward pass as the gradient of the weights: it is
# :math:`\delta`, carried on to layer 0. Its absolute value is the *saliency map* (Simonyan et al.
# 2013): bright pixels move the score most. The product :math:`g \odot x` tells which of the white
# pixels speak for the class (red) and which against it (blue).

g = image_gradient(model, params, x)
title = "Saliency: which pixels move the score of the predicted class"
figure = draw_saliency(x, g, labels=labels, title=title, figure=plt.figure())
save(figure, "step_10_saliency")

# %%
# The truth is the same network in plain JAX, without a rule of funcnn, differentiated by
# ``jax.grad``. Where several pixels of a pooling window share the largest value, both take the
# first.


def plain_score(params, image, c):
    """s_c of one image (8, 8, 1), by sums and products alone."""
    a = image
    for name in ("conv_0", "conv_1"):
        w, b = params[name]["w"], params[name]["b"]
        height, width = a.shape[:2]
        framed = jnp.pad(a, ((1, 1), (1, 1), (0, 0)))
        z = b
        for i in range(3):
            for j in range(3):
                z = z + framed[i : i + height, j : j + width] @ w[i, j]
        a = jnp.where(z > 0, z, 0.0)
        windows = a.reshape(height // 2, 2, width // 2, 2, -1).transpose(0, 2, 4, 1, 3)
        windows = windows.reshape(height // 2, width // 2, -1, 4)
        largest = jax.lax.stop_gradient(windows).argmax(-1, keepdims=True)
        a = jnp.take_along_axis(windows, largest, -1)[..., 0]
    return (a.reshape(-1) @ params["dense_0"]["w"] + params["dense_0"]["b"])[c]


with jax.enable_x64(True):
    g = image_gradient(model, exact, images, predicted[chosen])
    differentiated = jax.jit(jax.value_and_grad(plain_score, (0, 1)))
    plain = [
        differentiated(exact, jnp.asarray(image), c)
        for image, c in zip(images, predicted[chosen], strict=True)
    ]
    product = gradient_times_input(g, images)
s_plain = np.array([s for s, _ in plain])
g_plain = np.array([gradient[1] for _, gradient in plain])
verification.equal("F49", "saliency, g = ds/dx", g, g_plain, "jax.grad of plain JAX")

# %%
# A network of relu and max pooling is made of linear pieces, and so the score falls apart without
# rest into what the pixels give and what the biases give:
#
# .. math:: s_c(x) = \sum_{ij} g_{ij} x_{ij} + \sum_{l} b^{(l)\top}
#    \frac{\partial s_c}{\partial b^{(l)}}

of_pixels = np.asarray(product).sum((1, 2))
of_biases = [
    sum(
        np.sum(np.asarray(ds["b"]) * np.asarray(exact[name]["b"])) for name, ds in of_params.items()
    )
    for _, (of_params, _) in plain
]
verification.equal("F49", "s = sum g x + sum b ds/db", of_pixels + of_biases, s_plain, "the score")

# %%
# Which pixels a decision hangs on
# --------------------------------
# A gradient speaks of small changes. A blunt question is: what if this part of the image were not
# there? A square of 3 x 3 pixels round each pixel :math:`(i, j)` is blackened, and the map shows
# how far the probability of the predicted class falls (Zeiler and Fergus 2014),
#
# .. math:: d_{ij} = p_c(x) - p_c(x \text{ covered at } (i, j)) \qquad
#    p_c = \frac{e^{s_c}}{\sum_k e^{s_k}}
#
# Red squares hide what the decision hangs on. Where a square is blue, hiding it makes the network
# surer: what stood there spoke against the class. Look at the last image, which is classified
# wrongly.

drops = occlusion_maps(model, params, x, square=3, fill=0.0)
title = "Occlusion: what a square of 3x3 pixels hides from the predicted class"
figure = draw_occlusion(
    x, drops, square=3, fill=0.0, labels=labels, title=title, figure=plt.figure()
)
save(figure, "step_10_occlusion")

# %%
# The same by a plain loop over the squares, with the plain network, in float64:

with jax.enable_x64(True):
    drops = occlusion_maps(
        model, exact, images[:2], square=3, fill=0.0, classes=predicted[chosen[:2]]
    )
    looped = np.zeros_like(drops)
    all_scores = jax.jit(jax.vmap(plain_score, (None, None, 0)))
    for n, (image, c) in enumerate(zip(images[:2], predicted[chosen[:2]], strict=True)):
        for i in range(8):
            for j in range(8):
                covered = image.copy()
                covered[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = 0.0
                s, s_covered = (all_scores(exact, y, jnp.arange(10)) for y in (image, covered))
                p_c, p_covered = (np.exp(t[c]) / np.exp(t).sum() for t in (s, s_covered))
                looped[n, i, j] = p_c - p_covered
verification.equal("F49", "occlusion map, d", drops, looped, "a loop over the squares")

# %%
# The image that a class likes best
# ---------------------------------
# Instead of the weights the image is learnt now, with the weights held fast (activation
# maximisation, Simonyan et al. 2013): gradient *ascent* on
#
# .. math:: s_c(x) - \lambda \sum_{ij} x_{ij}^2 - \mu \sum_{ij}
#    \left( (x_{(i+1)j} - x_{ij})^2 + (x_{i(j+1)} - x_{ij})^2 \right)
#
# The start is the mean of all training images. The first penalty darkens what the score does not
# need, the second smooths; without them the image drowns in noise. After each step the pixels are
# cut off at 0 and 1.

start = digits.train.x.mean(0)  # (8, 8, 1)


def ascend(c):
    return maximize(class_score(model, params, c), start, penalty=0.3, roughness=0.3)


liked = jax.vmap(ascend)(jnp.arange(10))  # all classes at once
p_liked = np.asarray(probabilities(model, params, liked.image))
labels_liked = [f"class {c}\np = {p_liked[c, c]:.2f}" for c in range(10)]
title = "The image that each class likes best"
figure = draw_maximized(liked.image, labels_liked, title=title, figure=plt.figure())
save(figure, "step_10_maximised_classes")

# %%
# Nobody wrote these digits. They show the strokes that tell a class from the other nine, and little
# else. The scores climb fast: how many of the ten end above the score of every training image is
# counted at the end.

best = np.asarray(model(params, digits.train.x)).max(0)  # (10,)
figure, axes = new_figure(1, 1, 7.0, 3.6)
for c in (0, 3, 4, 7):
    style = {"color": COLOURS[c % 6], "linestyle": DASHES[c % 6]}
    axes.plot(liked.scores[c], label=f"class {c}", **style)
axes.set(xlabel="step of the ascent", ylabel="score $s_c(x)$", title="The score climbs")
axes.legend()
save(figure, "step_10_scores")

climbed = liked.scores[:, -1] > liked.scores[:, 0]
verification.holds("F49", "ascent raises the score of each class", climbed.all())
verification.holds("F49", "each image is of its class", (p_liked.argmax(-1) == range(10)).all())
above = int((np.asarray(liked.scores[:, -1]) > best).sum())
verification.measured("F49", "score above that of all training images", f"{above} of 10 classes")

# %%
# One step of the ascent, in float64 and with the plain network: :math:`x` moves along the gradient
# of all three terms, scaled so that the steepest pixel moves by 0.1.

with jax.enable_x64(True):
    x_0 = jnp.asarray(start, jnp.float64)
    found = maximize(class_score(model, exact, 3), x_0, steps=1, penalty=0.3, roughness=0.3)

    def objective(x):
        down, across = x[1:] - x[:-1], x[:, 1:] - x[:, :-1]
        rough = jnp.sum(down**2) + jnp.sum(across**2)
        return plain_score(exact, x, 3) - 0.3 * jnp.sum(x**2) - 0.3 * rough

    g = np.asarray(jax.grad(objective)(x_0))
by_hand = np.clip(np.asarray(x_0) + 0.1 * g / np.abs(g).max(), 0, 1)
verification.equal("F49", "one step of the ascent", found.image, by_hand, "plain JAX")

# %%
# What a single channel stands for
# --------------------------------
# The same ascent for one channel of the second layer, at the place (2, 2) of its 4 x 4 outputs, and
# beside the image that it found the three training images with the highest output there. Look for
# the bright and the dark patches that the four have in common: this is the feature that the channel
# has learnt. The image that was found need not be a whole digit. It shows the part of a digit that
# the channel looks for; the training images show in which digits this part occurs.

place = (2, 2)
outputs = np.asarray(convolution_outputs(model, params, digits.train.x)["conv_1"])[:, *place]
channels = [int(k) for k in np.argsort(-outputs.max(0))[:4]]  # outputs is (N, 32)
rows, titles, rises = [], [], []
for k in channels:
    score = channel_score(model, params, "conv_1", k, place)
    found = maximize(score, start, penalty=0.1, roughness=0.1)
    top = np.argsort(-outputs[:, k])[:3]
    rows += [found.image, *digits.train.x[top]]
    titles += [f"channel {k}: {found.scores[-1]:.1f}"]
    titles += [f"a {digits.train.y[i]}: {outputs[i, k]:.1f}" for i in top]
    rises.append(bool(found.scores[-1] > found.scores[0]))
    verification.measured(
        "F49",
        f"output of channel {k}",
        f"{found.scores[-1]:.2f} maximised, {outputs[top[0], k]:.2f} at the best training image",
    )
title = "Four channels of conv_1: maximised, and the training images with the highest output"
figure = draw_maximized(rows, titles, title=title, columns=4, figure=plt.figure())
save(figure, "step_10_channels")
verification.holds("F49", "ascent raises the output of each channel", all(rises))

# %%
# What has been verified
# ----------------------

verification.report()
