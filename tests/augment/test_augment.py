"""Augmentation: each against NumPy with the numbers drawn, how often, as a layer, and mistakes."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal

import funcnn as fnn
from funcnn import augment
from funcnn.augment.augmentation import Augmentation
from funcnn.train import TrainState, fit, make_step

SHAPE = (6, 5, 7, 2)
IMAGES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32) + 3  # no pixel is 0
RANDOM = {
    "flip": (augment.flip, {}),
    "crop": (augment.crop, {"padding": 2}),
    "cutout": (augment.cutout, {"size": 3}),
}
ALL = {**RANDOM, "normalise": (augment.normalise, {"mean": (1.0, 2.0), "std": (0.5, 4.0)})}


def flipped(key, x, probability=0.5):
    flips = np.asarray(jax.random.bernoulli(key, probability, (len(x),)))
    return np.stack([np.fliplr(image) if f else image for f, image in zip(flips, x, strict=True)])


def cropped(key, x, padding=4, highest=None):
    highest = 2 * padding if highest is None else highest
    n, height, width, _ = x.shape
    offsets = np.asarray(jax.random.randint(key, (n, 2), 0, highest + 1))
    padded = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    return np.stack(
        [p[i : i + height, j : j + width] for p, (i, j) in zip(padded, offsets, strict=True)]
    )


def holed(key, x, size=8, clipped=True):
    n, height, width, _ = x.shape
    centres = np.asarray(jax.random.randint(key, (n, 2), 0, jnp.array([[height, width]])))
    y = x.copy()
    for image, (i, j) in zip(y, centres - size // 2, strict=True):
        i, j = (i, j) if clipped else (max(i, 0), max(j, 0))
        image[max(i, 0) : max(i + size, 0), max(j, 0) : max(j + size, 0)] = 0
    return y


REFERENCES = {"flip": flipped, "crop": cropped, "cutout": holed}
SIZES = [("flip", {}), ("flip", {"probability": 0.9}), ("crop", {}), ("crop", {"padding": 1}),
         ("cutout", {}), ("cutout", {"size": 1}), ("cutout", {"size": 4})]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_each_is_its_reference_with_the_numbers_drawn(name, options, seed):
    key = jax.random.key(seed)
    y = getattr(augment, name)(key, IMAGES, **options)
    np.testing.assert_array_equal(y, REFERENCES[name](key, IMAGES, **options))


def over_keys(name, images, options, count=800):
    """An augmentation of the same images by many keys, one image a key."""
    keys = jax.random.split(jax.random.key(7), count)
    function = getattr(augment, name)
    return np.asarray(jax.jit(jax.vmap(lambda k: function(k, images, **options)))(keys))


def test_half_of_the_images_are_flipped_and_each_on_its_own():
    y = over_keys("flip", IMAGES, {})  # (keys, N, H, W, C)
    flips = (y == IMAGES[:, :, ::-1]).all((2, 3, 4))  # (keys, N)
    assert np.all(flips | (y == IMAGES).all((2, 3, 4)))
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / np.sqrt(flips.size)
    both = np.corrcoef(flips.T) - np.eye(len(IMAGES))
    assert np.abs(both).max() < 5 / np.sqrt(len(flips))
    rare = over_keys("flip", IMAGES, {"probability": 0.1})
    assert abs((rare == IMAGES[:, :, ::-1]).all((2, 3, 4)).mean() - 0.1) < 0.03


def seen_offsets(cropper, padding, count=800):
    """How often a crop shows each place of the padded image first."""
    size = 2 * padding + 1
    image = np.arange(1, size * size + 1, dtype=np.float32).reshape(1, size, size, 1)
    centre = image[0, padding, padding, 0]
    seen = np.zeros((size, size), int)
    for key in jax.random.split(jax.random.key(3), count):
        rows, columns = np.nonzero(cropper(key, image)[0, :, :, 0] == centre)
        seen[2 * padding - rows[0], 2 * padding - columns[0]] += 1
    return seen


def test_every_window_of_a_crop_is_seen_as_often_and_one_off_by_one_is_found():
    crop = jax.jit(lambda key, x: augment.crop(key, x, padding=1))
    seen = seen_offsets(crop, 1)
    expected = seen.sum() / 9
    assert np.all(np.abs(seen - expected) < 5 * np.sqrt(expected))
    # A mistake: the last row and column of the padded image are never shown.
    missed = seen_offsets(lambda key, x: cropped(key, x, 1, highest=1), 1)
    assert missed[2].sum() + missed[:, 2].sum() == 0 < missed.sum()


def test_the_hole_is_as_likely_at_every_pixel_and_is_cut_off_at_the_border():
    x = np.ones((1, 4, 6, 1), np.float32)
    y = over_keys("cutout", x, {"size": 3}, 3000)[:, 0, :, :, 0]  # (keys, H, W)
    sizes = {int(n) for n in (y == 0).sum((1, 2))}
    assert sizes == {4, 6, 9}  # at a corner, at an edge, inside
    share = (y == 0).mean(0)
    rows, columns = np.minimum(3, [2, 3, 3, 2]), np.minimum(3, [2, 3, 3, 3, 3, 2])
    expected = np.outer(rows, columns) / 24
    np.testing.assert_allclose(share, expected, atol=5 * 0.5 / np.sqrt(3000))
    # A mistake: a hole pushed inside the image, which is whole at the border as well.
    wrong = np.mean(
        [holed(k, x, 3, clipped=False) == 0 for k in jax.random.split(jax.random.key(0), 400)], 0
    )
    assert np.abs(wrong[0, :, :, 0] - expected).max() > 0.1


def test_two_keys_differ_and_one_key_gives_the_same():
    for name, (function, options) in RANDOM.items():
        one, other = (function(jax.random.key(s), IMAGES, **options) for s in (0, 1))
        assert np.any(one != other), name
        np.testing.assert_array_equal(one, function(jax.random.key(0), IMAGES, **options))


@pytest.mark.parametrize("name", RANDOM)
def test_without_a_key_x_itself_comes_back(name):
    function, options = RANDOM[name]
    x = jnp.asarray(IMAGES)
    assert function(None, x, **options) is x
    assert function(**options)({}, x) is x


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bfloat16", "float16", "float32", "float64"])
def test_shape_and_dtype_stay(name, dtype):
    function, options = ALL[name]
    with jax.enable_x64() if dtype == "float64" else contextlib.nullcontext():
        x = jnp.asarray(IMAGES).astype(dtype)
        if name == "normalise" and dtype in ("uint8", "int32"):
            with pytest.raises(TypeError, match="normalise: x must be floating point, found "):
                function(jax.random.key(0), x, **options)
            return
        y = jax.jit(lambda key, x: function(key, x, **options))(jax.random.key(0), x)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("name", ALL)
def test_jit_and_vmap_are_the_function(name):
    function, options = ALL[name]
    keys = jax.random.split(jax.random.key(0), 3)
    stack = jnp.stack([IMAGES, IMAGES + 1, IMAGES + 2])
    expected = [function(k, x, **options) for k, x in zip(keys, stack, strict=True)]
    found = jax.jit(jax.vmap(lambda k, x: function(k, x, **options)))(keys, stack)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-6)
    old = jax.random.PRNGKey(0)
    assert function(old, IMAGES, **options).shape == SHAPE


def test_normalise_is_its_formula_with_and_without_a_key():
    options = ALL["normalise"][1]
    expected = (IMAGES.astype(np.float64) - [1.0, 2.0]) / [0.5, 4.0]
    for key in (None, jax.random.key(0)):
        y = augment.normalise(key, IMAGES, **options)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    layer = augment.normalise(**options)
    np.testing.assert_array_equal(layer({}, IMAGES), augment.normalise(None, IMAGES, **options))
    half = augment.normalise(None, jnp.asarray(IMAGES, jnp.bfloat16), mean=3.0, std=0.001)
    exact = (np.asarray(jnp.asarray(IMAGES, jnp.bfloat16), np.float64) - 3) / 0.001
    np.testing.assert_allclose(np.asarray(half, np.float64), exact, rtol=2**-8)


# Layers


def net():
    return fnn.chain(
        fnn.augment.normalise(mean=3.0, std=2.0),
        fnn.augment.flip(),
        fnn.augment.crop(padding=1),
        fnn.augment.cutout(size=2),
        fnn.conv(3, (3, 3)),
        fnn.flatten,
        fnn.dense(4),
    )


def test_a_chain_draws_in_training_alone_and_each_part_from_a_key_of_its_own(key):
    model, x = net(), jnp.asarray(IMAGES)
    params = model.init(key, x)
    assert list(params) == ["conv_0", "dense_0"]
    plain = fnn.chain(fnn.augment.normalise(mean=3.0, std=2.0), fnn.conv(3, (3, 3)), fnn.flatten,
                      fnn.dense(4))  # fmt: skip
    np.testing.assert_array_equal(model(params, x), plain(params, x))
    one, other = (model(params, x, key=jax.random.key(s)) for s in (0, 1))
    assert np.abs(one - other).max() > 0.1
    twice = fnn.chain(fnn.augment.flip(), fnn.augment.flip())
    ys = [twice({}, x, key=k) for k in jax.random.split(key, 20)]
    assert any(np.any(y != x) for y in ys)  # of the same key the second would undo the first


@pytest.mark.parametrize("training", [True, False])
def test_the_passes_by_hand_are_those_of_autodiff(key, training):
    model, x, used = net(), jnp.asarray(IMAGES), key if training else None
    params = model.init(key, x)
    dy = jax.random.normal(key, (6, 4))
    dparams, dx, _ = fnn.backprop(model, params, x, dy, key=used)
    expected = jax.grad(lambda p, x: jnp.vdot(dy, model(p, x, key=used)), (0, 1))(params, x)
    for a, b in zip(*map(jax.tree.leaves, ((dparams, dx), expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_each_backward_pass_is_the_transpose_and_another_is_found(name, key):
    """Σ dy (f(x + u) - f(x)) = Σ dx u, exactly, since f is linear but for a constant."""
    function, options = ALL[name]
    layer = function(**options)
    u, dy = jax.random.normal(key, (2, *SHAPE))
    x = jnp.asarray(IMAGES)

    def sides(dx):
        return jnp.vdot(dy, function(key, x + u, **options) - function(key, x, **options)), (
            jnp.vdot(dx, u)
        )

    _, dx = layer.backward({}, layer.forward({}, x, key)[1], dy)
    np.testing.assert_allclose(*sides(dx), rtol=1e-4, atol=1e-3)
    left, right = sides(dy)  # the mistake: as if nothing had been moved
    assert abs(left - right) > 0.1


def test_in_a_compiled_step_one_step_a_call_is_eight():
    model, optimizer = net(), optax.sgd(0.01)
    params = model.init(jax.random.key(0), jnp.asarray(IMAGES))

    def loss(params, batch, key):
        augmented, labels = augment.mixup(key, batch["x"], batch["y"])
        logits = model(params, augmented, key=key)
        return augment.mixed_losses(fnn.rules.softmax_cross_entropy, logits, labels).mean()

    def batches(step, count=None):
        if count is None:
            return {"x": IMAGES + np.float32(step), "y": np.arange(6, dtype=np.int32) % 4}
        parts = [batches(step + i) for i in range(count)]
        return jax.tree.map(lambda *rows: np.stack(rows), *parts)

    ends = []
    for k in (1, 8):
        state = TrainState.create(params, optimizer, 0)
        step = make_step(loss, optimizer, steps_per_call=k)
        ends.append(fit(step, state, batches, steps=11)[0])
    assert_bit_equal(*ends)


# Mixup


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_is_its_reference_with_the_numbers_drawn(key, alpha):
    y = np.arange(6, dtype=np.int32)
    mixed, labels = augment.mixup(key, IMAGES, y, alpha=alpha)
    pairs, weights = jax.random.split(key)
    order = np.asarray(jax.random.permutation(pairs, 6))
    w = np.asarray(jax.random.beta(weights, alpha, alpha, (6,)))
    np.testing.assert_array_equal(labels.y, y)
    np.testing.assert_array_equal(labels.other, y[order])
    np.testing.assert_array_equal(labels.weight, w)
    w = w[:, None, None, None]
    np.testing.assert_allclose(mixed, w * IMAGES + (1 - w) * IMAGES[order], rtol=1e-6)
    # The mistake: the labels of the batch in its order, beside images of another.
    assert np.any(np.asarray(labels.other) != y)


def test_the_losses_of_pairs_are_those_of_mixed_probabilities(key):
    logits = jax.random.normal(key, (6, 4))
    _, labels = augment.mixup(key, IMAGES, jnp.arange(6) % 4, alpha=1.0)
    found = augment.mixed_losses(fnn.rules.softmax_cross_entropy, logits, labels)
    w = np.asarray(labels.weight)[:, None]
    targets = w * np.eye(4)[np.asarray(labels.y)] + (1 - w) * np.eye(4)[np.asarray(labels.other)]
    expected = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    swapped = augment.MixedLabels(labels.other, labels.y, labels.weight)
    wrong = augment.mixed_losses(fnn.rules.softmax_cross_entropy, logits, swapped)
    assert np.abs(wrong - expected).max() > 0.05


def test_the_weights_follow_their_distribution():
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)); one for each image."""
    x, y = np.ones((4000, 1), np.float32), np.zeros(4000, np.int32)
    for alpha in (0.2, 1.0, 4.0):
        w = np.asarray(augment.mixup(jax.random.key(5), x, y, alpha=alpha)[1].weight)
        assert abs(w.mean() - 0.5) < 0.03
        assert abs(w.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


def test_mixup_without_a_key_mixes_nothing_and_keeps_dtypes(key):
    x, y = jnp.asarray(IMAGES, jnp.bfloat16), jnp.arange(6)
    same, labels = augment.mixup(None, x, y)
    assert same is x
    assert (np.asarray(labels.weight) == 1).all()
    np.testing.assert_array_equal(labels.other, y)
    mixed, labels = jax.jit(augment.mixup)(key, x, y)
    assert (mixed.dtype, labels.y.dtype, labels.weight.dtype) == (x.dtype, y.dtype, jnp.float32)
    keys = jax.random.split(key, 3)
    stacked, _ = jax.vmap(lambda k: augment.mixup(k, IMAGES, y))(keys)
    np.testing.assert_allclose(stacked[1], augment.mixup(keys[1], IMAGES, y)[0], rtol=1e-6)


# Wrong use


KEY = jax.random.key(0)
WRONG = {
    r"flip takes a key and images, flip\(key, x\), or options alone, by name, for a layer; f": (
        lambda: augment.flip(IMAGES)  # pyright: ignore
    ),
    r"flip: x must have shape \(N, H, W, C\), found float32\[5, 7, 2\]": (
        lambda: augment.flip(KEY, IMAGES[0])
    ),
    r"crop: key is jax.random.key\(seed\) or None, found int": lambda: augment.crop(3, IMAGES),  # pyright: ignore
    "flip: probability is from 0 to 1, found 1.5": (
        lambda: augment.flip(KEY, IMAGES, probability=1.5)
    ),
    "crop: padding is a positive integer, found 0": lambda: augment.crop(KEY, IMAGES, padding=0),
    "cutout: size is a positive integer, found 2.5": lambda: augment.cutout(KEY, IMAGES, size=2.5),  # pyright: ignore
    "cutout: as a layer it has got an unexpected keyword argument 'sise'": (
        lambda: augment.cutout(sise=2)  # pyright: ignore
    ),
    "normalise: as a layer it has missing a required argument: 'std'": (
        lambda: augment.normalise(mean=0.0)  # pyright: ignore
    ),
    "normalise: std is positive, found 0.0": (
        lambda: augment.normalise(None, IMAGES, mean=0.0, std=0.0)
    ),
    r"normalise: mean is one number or one for each of 2 channels, found \(1.0, 2.0, 3.0\)": (
        lambda: augment.normalise(None, IMAGES, mean=(1.0, 2.0, 3.0), std=1.0)
    ),
    "mixup: alpha is positive, found 0": lambda: augment.mixup(KEY, IMAGES, np.zeros(6), alpha=0),
    r"mixup: x and y must have as many rows, found \(6, 5, 7, 2\) and \(5,\)": (
        lambda: augment.mixup(KEY, IMAGES, np.zeros(5))
    ),
    r"mixup: x must be floating point, found uint8\[6, 2\]": (
        lambda: augment.mixup(KEY, np.zeros((6, 2), np.uint8), np.zeros(6))
    ),
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_use_is_one_line(line):
    with pytest.raises((TypeError, ValueError), match="^" + line) as raised:
        WRONG[line]()
    assert "\n" not in str(raised.value)


def test_your_own_augmentation_is_a_layer_without_a_pass_by_hand(key):
    @Augmentation
    def brighten(key, x, *, most=0.5):
        return x + most * jax.random.uniform(key, (x.shape[0], 1, 1, 1))

    x = jnp.asarray(IMAGES)
    layer = brighten(most=0.25)
    assert layer({}, x) is x
    assert 0 < float((layer({}, x, key=key) - x).max()) <= 0.25
    with pytest.raises(TypeError, match="brighten"):
        fnn.backprop(fnn.chain(layer), {}, x, x, key=key)
