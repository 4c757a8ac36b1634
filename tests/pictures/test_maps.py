"""Maps against slow plain references in float64, and planted mistakes that these must reject."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.pictures.activations import convolution_outputs
from funcnn.pictures.filters import first_filters
from funcnn.pictures.maximization import channel_score, class_score, maximize
from funcnn.pictures.network import chosen_classes, convolutions, fitting, probabilities, winners
from funcnn.pictures.occlusion import background, cover, occlusion_maps
from funcnn.pictures.saliency import gradient_times_input, image_gradient, saliency_map

LIMIT = 1e-12
HEIGHT, WIDTH = 6, 8  # not square, so that a transposed map has another shape
MODEL = fnn.chain(
    fnn.conv(3, (3, 3)),
    fnn.tanh,
    fnn.conv(4, (3, 3), stride=2),
    fnn.relu,
    fnn.flatten,
    fnn.dense(5),
)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def network(model=MODEL):
    """Params with biases, and two images of two channels, as NumPy arrays."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(2, HEIGHT, WIDTH, 2))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes), images


def plain_conv(x, w, b, stride, lib=np):
    """Sums and products alone, of NumPy or of jax.numpy; x (H, W, C), padding SAME."""
    h, w_ = x.shape[:2]
    m = w.shape[0]
    out = -(-h // stride), -(-w_ // stride)
    short = [max((o - 1) * stride + m - n, 0) for o, n in zip(out, (h, w_), strict=True)]
    x = lib.pad(x, [*((s // 2, s - s // 2) for s in short), (0, 0)])
    rows, columns = (stride * np.arange(o) for o in out)
    z = lib.broadcast_to(b, (*out, len(b)))
    for i in range(m):
        for j in range(m):
            z = z + lib.einsum("hwc,ck->hwk", x[np.ix_(rows + i, columns + j)], w[i, j])
    return z


def plain_layers(params, image, lib=np):
    z_0 = plain_conv(image, params["conv_0"]["w"], params["conv_0"]["b"], 1, lib)
    z_1 = plain_conv(lib.tanh(z_0), params["conv_1"]["w"], params["conv_1"]["b"], 2, lib)
    a = lib.where(z_1 > 0, z_1, 0.0)
    return z_0, z_1, a.reshape(-1) @ params["dense_0"]["w"] + params["dense_0"]["b"]


@jax.jit
def one_gradient(params, image, c):
    return jax.grad(lambda image: plain_layers(params, image, jnp)[2][c])(image)


def plain_gradient(params, images, classes):
    return np.stack([one_gradient(params, x, int(c)) for x, c in zip(images, classes, strict=True)])


def plain_occlusion(params, image, c, square, stride, fill):
    def probability(image):
        s = plain_layers(params, image)[2]
        return np.exp(s[c]) / np.exp(s).sum()

    half, rows = square // 2, []
    for i in range(0, HEIGHT, stride):
        row = []
        for j in range(0, WIDTH, stride):
            covered = np.array(image)
            covered[max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1] = fill
            row.append(probability(image) - probability(covered))
        rows.append(row)
    return np.array(rows)


def agree(found, truth):
    found, truth = np.asarray(found), np.asarray(truth)
    return found.shape == truth.shape and np.abs(found - truth).max() <= LIMIT


def test_the_outputs_of_the_convolutions():
    params, images = network()
    found = convolution_outputs(MODEL, params, images)
    assert list(found) == ["conv_0", "conv_1"]
    truth = [plain_layers(params, image) for image in images]
    assert agree(found["conv_0"], np.stack([t[0] for t in truth]))
    assert agree(found["conv_1"], np.stack([t[1] for t in truth]))
    # planted: the output behind the relu, and the channels reversed
    assert not agree(jax.nn.relu(found["conv_1"]), np.stack([t[1] for t in truth]))
    assert not agree(found["conv_0"][..., ::-1], np.stack([t[0] for t in truth]))


def test_the_gradient_by_the_image():
    params, images = network()
    predicted = winners(MODEL, params, images)
    truth = plain_gradient(params, images, predicted)
    found = image_gradient(MODEL, params, images)
    assert agree(found, truth)
    other = image_gradient(MODEL, params, images, (predicted + 1) % 5)
    assert agree(other, plain_gradient(params, images, (predicted + 1) % 5))
    # planted: the wrong class, the wrong sign, rows and columns in the other order, images swapped
    for wrong in (other, -found, found.swapaxes(1, 2), found[::-1], found[:, ::-1]):
        assert not agree(wrong, truth)


def test_the_maps_made_of_the_gradient():
    params, images = network()
    g = np.asarray(image_gradient(MODEL, params, images))
    largest, product = np.zeros(g.shape[:3]), np.zeros(g.shape[:3])
    for place in np.ndindex(*g.shape[:3]):
        largest[place] = max(abs(v) for v in g[place])
        product[place] = sum(
            v * x for v, x in zip(g[place], np.asarray(images)[place], strict=True)
        )
    assert agree(saliency_map(g), largest)
    assert agree(gradient_times_input(g, images), product)
    # planted: no absolute value, the mean of the channels, the product without its sign
    for wrong in (g.max(-1), np.abs(g).mean(-1), saliency_map(-abs(g)) * -1):
        assert not agree(wrong, largest)
    assert not agree(abs(product), product)


@pytest.mark.parametrize(("square", "stride", "fill", "rows"), [(3, 1, 0.0, 10), (5, 2, None, 256)])
def test_occlusion(square, stride, fill, rows, monkeypatch):
    monkeypatch.setattr("funcnn.pictures.occlusion.ROWS", rows)  # 10: the last batch is filled up
    params, images = network()
    classes = [1, 4]

    def looped(classes):
        fills = [background(image) if fill is None else fill for image in images]
        cases = zip(images, classes, fills, strict=True)
        return np.stack([plain_occlusion(params, x, c, square, stride, f) for x, c, f in cases])

    found = occlusion_maps(
        MODEL, params, images, square=square, stride=stride, fill=fill, classes=classes
    )
    truth = looped(classes)
    assert agree(found, truth)
    # planted: the sign, rows and columns in the other order, the maps of the other image, a shift
    planted = (-found, found.swapaxes(1, 2), found[::-1], jnp.roll(found, 1, 1))
    assert not any(agree(wrong, truth) for wrong in planted)
    assert not agree(found, looped([4, 1]))  # planted: the other class


def test_covering_and_the_background():
    image = jnp.zeros((3, 4, 2)).at[1, 1:3].set(1.0)
    assert background(image).tolist() == [0.0, 0.0]
    assert cover(image, (1, 3), 3)[1].tolist() == [[0, 0], [1, 1], [0, 0], [0, 0]]
    assert cover(image, (0, 0), 1, jnp.array([0.5, 1.0]))[0, 0].tolist() == [0.5, 1.0]


def test_one_step_of_the_ascent_is_that_of_the_plain_gradient():
    params, images = network()

    def objective(x):
        rough = sum((jnp.diff(x, axis=axis) ** 2).sum() for axis in (0, 1))
        return plain_layers(params, x, jnp)[2][2] - 0.5 * (x**2).sum() - 0.25 * rough

    g = np.asarray(jax.jit(jax.grad(objective))(images[0]))
    truth = np.clip(images[0] + 0.1 * g / abs(g).max(), 0, 1)
    score = class_score(MODEL, params, 2)
    found = maximize(score, images[0], steps=1, penalty=0.5, roughness=0.25)
    assert agree(found.image, truth)
    assert agree(found.scores, [plain_layers(params, x)[2][2] for x in (images[0], truth)])
    # planted: descent, and an ascent without the penalties
    assert not agree(np.clip(images[0] - 0.1 * g / abs(g).max(), 0, 1), found.image)
    assert not agree(maximize(score, images[0], steps=1).image, truth)


def test_the_ascent_raises_the_score_and_stays_an_image():
    params, images = network()
    score = channel_score(MODEL, params, "conv_1", 2)
    found = maximize(score, images[0], steps=50)
    assert found.scores.shape == (51,)
    assert found.scores[-1] > found.scores[0]
    assert agree(found.scores[-1], plain_layers(params, np.asarray(found.image))[1][..., 2].mean())
    assert 0 <= found.image.min() < found.image.max() <= 1


def test_a_channel_at_a_place_and_its_mean():
    params, images = network()
    z = plain_layers(params, images[0])[1]  # (3, 4, 4)
    assert agree(channel_score(MODEL, params, "conv_1", 2)(images[0]), z[..., 2].mean())
    assert agree(channel_score(MODEL, params, "conv_1", 2, (2, 3))(images[0]), z[2, 3, 2])
    assert not agree(channel_score(MODEL, params, "conv_1", 2, (2, 2))(images[0]), z[2, 3, 2])


def test_probabilities_in_several_batches(monkeypatch):
    params, images = network()
    monkeypatch.setattr("funcnn.pictures.network.ROWS", 2)
    many = jnp.concatenate([images, images[:1]])
    s = np.stack([plain_layers(params, image)[2] for image in many])
    truth = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    assert agree(probabilities(MODEL, params, many), truth)
    assert winners(MODEL, params, many).tolist() == truth.argmax(-1).tolist()


def test_convolutions_inside_compositions():
    block = fnn.residual(fnn.chain(fnn.conv(2, (3, 3)), fnn.relu))
    model = fnn.chain(fnn.repeat(block, 3), fnn.flatten, fnn.dense(2))
    params, images = network(model)
    (found,) = convolutions(model, params)
    assert (found.path, found.repeats) == ("repeat_0/residual/body/conv_0", 1)
    assert found.params["w"].shape == (3, 3, 2, 2)
    z = convolution_outputs(model, params, images)[found.path]
    truth = [plain_conv(x, found.params["w"], found.params["b"], 1) for x in images]
    assert agree(z, np.stack(truth))
    first = first_filters(model, params)
    assert first is not None
    assert first[0] == found.path
    mlp = fnn.mlp(hidden=[4], classes=3)
    assert first_filters(mlp, network(mlp)[0]) is None


def test_a_plain_function_has_gradients_and_maps():
    _, images = network()
    w = jnp.asarray(np.random.default_rng(1).normal(size=(HEIGHT * WIDTH * 2, 3)))

    def model(params, x):
        return x.reshape(len(x), -1) @ params

    g = image_gradient(model, w, images, [0, 2])
    assert agree(g[1], w[:, 2].reshape(HEIGHT, WIDTH, 2))
    assert occlusion_maps(model, w, images, square=3).shape == (2, HEIGHT, WIDTH)


WRONG_IMAGES = {
    "too small": (np.zeros((1, 5, 5, 2)), r"images of shape \(5, 5, 2\) do not fit the model"),
    "one channel": (np.zeros((1, HEIGHT, WIDTH, 1)), "do not fit the model: conv"),
    "no batch": (np.zeros((HEIGHT, WIDTH, 2)), r"shape \(N, H, W, C\), N at least 1, found \(6, 8"),
    "none": (np.zeros((0, HEIGHT, WIDTH, 2)), "N at least 1"),
    "integers": (np.zeros((1, HEIGHT, WIDTH, 2), int), "images are floating point, found int"),
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_images_that_do_not_fit_are_one_line(name):
    params, _ = network()
    images, message = WRONG_IMAGES[name]
    for look in (
        image_gradient,
        convolution_outputs,
        probabilities,
        lambda *network: occlusion_maps(*network, square=3),
    ):
        with pytest.raises(ValueError, match=message) as error:
            look(MODEL, params, images)
        assert "\n" not in str(error.value)


def test_what_else_is_wrong_is_one_line():
    params, images = network()
    with pytest.raises(ValueError, match=r"the model returns \(2, 96, 1\) for 2 images"):
        fitting(lambda params, x: x.reshape(2, -1, 1), {}, images)
    with pytest.raises(ValueError, match="class 5 is none of the 5 of the model"):
        image_gradient(MODEL, params, images, [0, 5])
    with pytest.raises(ValueError, match="one class for each of the 2 images"):
        chosen_classes(MODEL, params, images, [0])
    for square in (0, 2, 7, 3.0):
        with pytest.raises(ValueError, match="odd number of pixels from 1 to 6"):
            occlusion_maps(MODEL, params, images, square=square)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="stride is a number of pixels"):
        occlusion_maps(MODEL, params, images, square=3, stride=0)
    with pytest.raises(ValueError, match="differ in shape"):
        gradient_times_input(images, images[:1])
    with pytest.raises(ValueError, match="has no layer 'conv_7'; it has conv_0"):
        channel_score(MODEL, params, "conv_7", 0)(images[0])
    with pytest.raises(ValueError, match="conv_0 has the channels 0 to 2, not 3"):
        channel_score(MODEL, params, "conv_0", 3)(images[0])
    with pytest.raises(ValueError, match=r"have no place \(6, 0\)"):
        channel_score(MODEL, params, "conv_0", 0, (6, 0))(images[0])
    with pytest.raises(ValueError, match=r"of shape \(H, W, C\)"):
        maximize(jnp.sum, images)
    with pytest.raises(ValueError, match="steps=0"):
        maximize(jnp.sum, images[0], steps=0)
