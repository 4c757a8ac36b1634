"""Networks of PyTorch: the same outputs by its formulas in NumPy and, where it is there, by it."""

import zlib

import jax.numpy as jnp
import numpy as np
import pytest
import torch_formulas as formulas

import funcnn as fnn

TOLERANCE = 2e-6  # of the largest number: a few roundings in float32


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def drawn(**shapes):
    """Arrays by name, no two alike."""
    return {name: draw(*shape, seed=zlib.crc32(name.encode())) for name, shape in shapes.items()}


def to_torch(x):
    """(N, *size, C) -> (N, C, *size)."""
    return np.moveaxis(x, -1, 1)


def difference(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def in_float64(formula, x, arrays, **options):
    return formula(
        x.astype(np.float64) if x.dtype.kind == "f" else x,
        **{name: a.astype(np.float64) for name, a in arrays.items()},
        **options,
    )


def bias(n):
    return {"bias": (n,)}


def gates(n, width, hidden):
    return {
        "weight_ih": (n * hidden, width),
        "weight_hh": (n * hidden, hidden),
        "bias_ih": (n * hidden,),
        "bias_hh": (n * hidden,),
    }


def pad(p, axes):
    return ((p, p),) * axes


# Our layer, an input of ours, the shapes of torch's arrays, torch's options, whether of images.
LAYERS = {
    "linear": (fnn.dense(3), (4, 5), {"weight": (3, 5), **bias(3)}, {}),
    "embedding": (fnn.embedding(6, 3), "integers", {"weight": (6, 3)}, {}),
    "layer_norm": (fnn.layer_norm(), (2, 3, 5), {"weight": (5,), **bias(5)}, {}),
    "batch_norm": (
        fnn.batch_norm(),
        (2, 3, 4, 5),
        {"weight": (5,), **bias(5), "running_mean": (5,), "running_var": (5,)},
        {},
    ),
    "rnn": (fnn.rnn(4), (2, 5, 3), gates(1, 3, 4), {}),
    "lstm": (fnn.lstm(4), (2, 5, 3), gates(4, 3, 4), {}),
    "gru": (fnn.gru(4), (2, 5, 3), gates(3, 3, 4), {}),
    "gru, reverse": (fnn.gru(4, reverse=True), (2, 5, 3), gates(3, 3, 4), {"reverse": True}),
    **{
        f"conv, {axes} axes": (
            fnn.conv(6, (3, 2, 2)[:axes], stride=2, padding=pad(1, axes), dilation=2, groups=2),
            (2, *(9, 8, 7)[:axes], 4),
            {"weight": (6, 2, *(3, 2, 2)[:axes]), **bias(6)},
            {"stride": 2, "padding": 1, "dilation": 2, "groups": 2},
        )
        for axes in (1, 2, 3)
    },
    **{
        f"conv_transposed, {axes} axes": (
            fnn.conv_transposed(
                *(4, (3, 2, 4)[:axes], 2),
                padding=tuple((2 * (k - 1) - 1,) * 2 for k in (3, 2, 4)[:axes]),
                dilation=2,
            ),
            (2, *(3, 4, 2)[:axes], 3),
            {"weight": (3, 4, *(3, 2, 4)[:axes]), **bias(4)},
            {"stride": 2, "padding": 1, "dilation": 2},
        )
        for axes in (1, 2, 3)
    },
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_by_the_formula_of_torch(name):
    layer, shape, shapes, options = LAYERS[name]
    arrays = drawn(**shapes)
    if "running_var" in arrays:
        arrays["running_var"] = np.abs(arrays["running_var"])
    x = np.array([[5, 0, 2], [2, 2, 4]], np.int32) if shape == "integers" else draw(*shape)
    suffix = "_l0" if "weight_ih" in arrays else ""
    state = {f"net.{own}{suffix}": a for own, a in arrays.items()}
    params = fnn.import_torch({**state, "net.num_batches_tracked": np.array(7)}, layer, x)
    formula = getattr(formulas, name.split(",")[0])
    images = name.startswith(("conv", "batch"))
    expected = in_float64(formula, to_torch(x) if images else x, arrays, **options)
    y = layer(params, jnp.asarray(x))
    assert difference(to_torch(y) if images else y, expected) < TOLERANCE


def convolutional():
    """A state dict of a network with every turn that features take, and ours of the same form."""
    state = drawn(
        **{"features.0.weight": (4, 3, 3, 3), "features.0.bias": (4,)},
        **{"features.1.weight": (4,), "features.1.bias": (4,)},
        **{"features.1.running_mean": (4,), "features.1.running_var": (4,)},
        **{"norm.weight": (24,), "norm.bias": (24,)},
        **{"fc.weight": (5, 24), "fc.bias": (5,)},
    )
    state["features.1.running_var"] = np.abs(state["features.1.running_var"])
    ours = fnn.chain(
        *(fnn.conv(4, (3, 3), padding=pad(1, 2)), fnn.batch_norm(), fnn.relu, fnn.max_pool((2, 2))),
        *(fnn.flatten, fnn.dropout(0.5), fnn.layer_norm(), fnn.dense(5)),
    )
    return state, ours


def convolutional_by_formulas(state, x):
    state = {name: a.astype(np.float64) for name, a in state.items()}
    of = lambda m: {n.rpartition(".")[2]: a for n, a in state.items() if n.startswith(m + ".")}  # noqa: E731
    y = formulas.conv(to_torch(x), **of("features.0"), stride=1, padding=1, dilation=1, groups=1)
    y = np.maximum(formulas.batch_norm(y, **of("features.1")), 0)
    n, c, h, w = y.shape
    y = y.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5)).reshape(n, -1)
    return formulas.linear(formulas.layer_norm(y, **of("norm")), **of("fc"))


def test_features_of_a_flattened_image_get_our_order():
    state, model = convolutional()
    x = draw(2, 4, 6, 3)
    params = fnn.import_torch(state, model, x)
    y = model(params, jnp.asarray(x))
    assert difference(y, convolutional_by_formulas(state, x)) < TOLERANCE
    # The order of torch would have been another network.
    plain = {**params, "dense_0": {**params["dense_0"], "w": jnp.asarray(state["fc.weight"].T)}}
    assert difference(model(plain, jnp.asarray(x)), y) > 0.1


def test_the_params_train_and_hold_the_statistics_where_they_are_frozen(key):
    state, model = convolutional()
    x = jnp.asarray(draw(2, 4, 6, 3))
    params = fnn.import_torch(state, model, x)
    assert list(params["batch_norm_0"]) == ["scale", "bias", "mean", "variance"]
    assert model(params, x, key=key).shape == (2, 5)
    frozen = fnn.import_torch(
        {name[11:]: a for name, a in state.items() if name.startswith("features.1.")},
        fnn.batch_norm(frozen=True),
        jnp.ones((1, 4)),
    )
    np.testing.assert_array_equal(frozen["mean"], state["features.1.running_mean"])


def test_a_flattened_sequence_keeps_its_order():
    state = drawn(**{"embed.weight": (6, 3), "fc.weight": (2, 12), "fc.bias": (2,)})
    model = fnn.chain(fnn.embedding(6, 3), fnn.flatten, fnn.dense(2))
    x = np.array([[0, 5, 2, 2]], np.int32)
    y = model(fnn.import_torch(state, model, x), jnp.asarray(x))
    rows = formulas.embedding(x, state["embed.weight"]).reshape(1, -1)
    assert difference(y, formulas.linear(rows, state["fc.weight"], state["fc.bias"])) < TOLERANCE


def layers_of_gru(x, state):
    for n in range(2):
        both = []
        for direction in ("", "_reverse"):
            end = f"_l{n}{direction}"
            own = {k[4:].removesuffix(end): a for k, a in state.items() if k.endswith(end)}
            both.append(in_float64(formulas.gru, x, own, reverse=bool(direction)))
        x = np.concatenate(both, axis=-1)
    return x


def test_two_layers_of_two_directions():
    shapes = {}
    for n, width in enumerate((3, 8)):
        for direction in ("", "_reverse"):
            own = gates(3, width, 4)
            shapes |= {f"gru.{k}_l{n}{direction}": shape for k, shape in own.items()}
    state, x = drawn(**shapes), draw(2, 5, 3)
    model = fnn.chain(fnn.bidirectional(fnn.gru(4)), fnn.bidirectional(fnn.gru(4)))
    y = model(fnn.import_torch(state, model, x), jnp.asarray(x))
    assert difference(y, layers_of_gru(x, state)) < TOLERANCE
    no_bias = {name: a for name, a in state.items() if "bias" not in name}
    params = fnn.import_torch(no_bias, model, x)
    assert not params["bidirectional_1"]["backward"]["b"].any()


def test_a_stack_and_branches_and_names():
    names = ["body.0", "body.1", "body.2", "out", "side"]
    state = drawn(
        **{f"{n}.{k}": s for n in names for k, s in {"weight": (5, 5), "bias": (5,)}.items()}
    )
    branches = fnn.residual(fnn.dense(5), fnn.dense(5))
    model = fnn.chain(branches, fnn.repeat(fnn.chain(fnn.dense(5), fnn.tanh), 3))
    rename = {
        "body.*": "repeat_0/*/dense_0",
        "side": "residual_0/shortcut",
        "out": "residual_0/body",
    }
    x = draw(2, 5)
    params = fnn.import_torch(state, model, x, rename=rename)
    assert params["repeat_0"]["dense_0"]["w"].shape == (3, 5, 5)
    of = lambda x, n: formulas.linear(x, state[f"{n}.weight"], state[f"{n}.bias"])  # noqa: E731
    expected = of(x, "side") + of(x, "out")
    for n in range(3):
        expected = np.tanh(of(expected, f"body.{n}"))
    assert difference(model(params, jnp.asarray(x)), expected) < 1e-5
    # What rename does not name goes in order.
    rename = {"out": "residual_0/body", "side": "residual_0/shortcut"}
    again = fnn.import_torch(state, model, x, rename=rename)
    np.testing.assert_array_equal(
        again["repeat_0"]["dense_0"]["w"], params["repeat_0"]["dense_0"]["w"]
    )


FC = drawn(**{"fc1.weight": (4, 3), "fc1.bias": (4,), "fc2.weight": (2, 4), "fc2.bias": (2,)})
TWO = fnn.chain(fnn.dense(4), fnn.relu, fnn.dense(2))


def rows_of(*layers):
    return fnn.chain(*layers)


UNLIKE = {
    "2 modules of torch's for 1 layer with params: leave out": (FC, rows_of(fnn.dense(2)), None),
    "0 modules of torch's for 1 layer with params": ({}, rows_of(fnn.dense(2)), None),
    "fc2 (weight [2, 4], bias [2]) does not fit dense_1 (b [3], w [4, 3]): as params its arrays "
    "are w [4, 2], b [2]": (FC, rows_of(fnn.dense(4), fnn.dense(3)), None),
    "does not fit dense_0 (w [3, 4]): as params its arrays are w [3, 4], b [4]": (
        *(FC, rows_of(fnn.dense(4, bias=False), fnn.dense(2)), None),
    ),
    "does not fit layer_norm_0": (FC, rows_of(fnn.dense(4), fnn.layer_norm()), None),
    "does not fit conv_0 (b [4], w [1, 2, 4]): axes don't match array": (
        *({"a.weight": draw(4), "a.bias": draw(4)}, rows_of(fnn.conv(4, (1,))), None),
    ),
    "(weight [4, 3], bias [4]) is float64 and dense_0 (b [4], w [3, 4]) float32: cast": (
        *({name: a.astype(float) for name, a in FC.items()}, TWO, None),
    ),
    "no layer of the model is called dense_3 (did you mean dense_": (FC, TWO, {"fc1": "dense_3"}),
    "the pattern fc3 (did you mean fc": (FC, TWO, {"fc3": "dense_0"}),
    "fc2 (weight [2, 4], bias [2]) does not fit dense_0": (FC, TWO, {"fc1": "dense_1"}),
    "a (in_proj_weight [4, 3]) does not fit dense_0 (b [4], w [3, 4]): it has no weight": (
        *({"a.in_proj_weight": draw(4, 3), **FC}, rows_of(*(fnn.dense(4),) * 3), None),
    ),
    "it has surplus, which no layer": ({**FC, "fc2.surplus": draw(2)}, TWO, None),
    "an LSTM with proj_size has no counterpart": (
        *({f"a.{n}_l0": draw(4, 4) for n in ("weight_ih", "weight_hh", "weight_hr")}, None, None),
    ),
}


@pytest.mark.parametrize("line", UNLIKE)
def test_what_does_not_fit_is_said_with_both_sides(line):
    state, model, rename = UNLIKE[line]
    x = draw(2, 3, 2) if model is None or "conv_0" in model.parts else draw(2, 3)
    with pytest.raises(ValueError, match=r"^import_torch: [^\n]*$") as caught:
        fnn.import_torch(state, model or rows_of(fnn.lstm(1)), x, rename=rename)
    assert line in str(caught.value)
    if "pattern" not in line:
        assert "; torch has " in str(caught.value)
        assert "; the model has " in str(caught.value)


def test_an_order_that_is_not_known_is_not_guessed():
    state, _ = convolutional()
    state = {name: a for name, a in state.items() if not name.startswith(("norm", "features.1"))}
    x = draw(2, 2, 3, 3)
    turned = fnn.chain(
        *(fnn.conv(4, (3, 3)), fnn.flatten, lambda params, x: x.reshape(len(x), 2, 12)),
        *(fnn.flatten, fnn.dense(5)),
    )
    with pytest.raises(ValueError, match=r"gets features of a flattened image in an order"):
        fnn.import_torch(state, turned, x)
    own = fnn.as_layer(lambda params, x: x * params["a"], init=lambda key, x: {"a": jnp.ones(())})
    with pytest.raises(ValueError, match=r"has params that no module of torch's is known to have"):
        fnn.import_torch({"a.weight": np.ones((), np.float32)}, own, x)


def test_a_state_that_is_none():
    wrong = [({"fc.weight": "text"}, TWO), ("fc", TWO), ({1: np.ones(2)}, TWO), (FC, max)]
    for state, model in wrong:
        with pytest.raises(TypeError, match=r"^import_torch: [^\n]*$"):
            fnn.import_torch(state, model, draw(2, 3))
