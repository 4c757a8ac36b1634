"""BERT: the logits of its formulas in NumPy, and of transformers where that is installed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import funcnn as fnn

V, D, HIDDEN, DEPTH, HEADS, PLACES, TYPES = 13, 8, 12, 2, 2, 7, 2
EPSILON = 1e-3
TOKENS = np.random.default_rng(0).integers(0, V, (3, 6))
KINDS = np.random.default_rng(1).integers(0, TYPES, (3, 6))
LENGTHS = np.array([6, 2, 4])
THERE = np.arange(6) < LENGTHS[:, None]
OTHER: Any = "all"
SMALL: dict[str, Any] = {
    "vocabulary": V,
    "length": PLACES,
    "width": D,
    "depth": DEPTH,
    "heads": HEADS,
}


def bert(types=TYPES, **options):
    return fnn.bert(**SMALL, types=types, hidden=HIDDEN, epsilon=EPSILON, **options)


def shapes_of():
    """The shape of each array, by the names of Hugging Face's; weights are (out, in)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, rows in (("word", V), ("position", PLACES), ("token_type", TYPES)):
        shapes[f"bert.embeddings.{name}_embeddings.weight"] = (rows, D)
    products = {"cls.predictions.transform.dense": (D, D)}
    norms = ["bert.embeddings.LayerNorm", "cls.predictions.transform.LayerNorm"]
    for i in range(DEPTH):
        layer = f"bert.encoder.layer.{i}"
        products |= {f"{layer}.attention.self.{n}": (D, D) for n in ("query", "key", "value")}
        products |= {f"{layer}.attention.output.dense": (D, D)}
        products |= {f"{layer}.intermediate.dense": (HIDDEN, D)}
        products |= {f"{layer}.output.dense": (D, HIDDEN)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, shape in products.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
    return {**shapes, "cls.predictions.bias": (V,)}


def draw(seed=0):
    """Arrays by name, no two alike; scales are near 1."""
    noise = np.random.default_rng(seed)
    state = {name: 0.5 * noise.normal(size=shape) for name, shape in shapes_of().items()}
    return {name: a + name.endswith("LayerNorm.weight") for name, a in state.items()}


def params_of(state, types=True):
    """The params of `fnn.bert` with these arrays."""

    def dense(name):
        return {
            "w": jnp.asarray(state[f"{name}.weight"].T),
            "b": jnp.asarray(state[f"{name}.bias"]),
        }

    def norm(name):
        scale, bias = (jnp.asarray(state[f"{name}.{n}"]) for n in ("weight", "bias"))
        return {"scale": scale, "bias": bias}

    def table(name):
        return {"table": jnp.asarray(state[f"bert.embeddings.{name}_embeddings.weight"])}

    def block(layer):
        heads = {n[0]: dense(f"{layer}.attention.self.{n}") for n in ("query", "key", "value")}
        out = dense(f"{layer}.attention.output.dense")
        up, down = dense(f"{layer}.intermediate.dense"), dense(f"{layer}.output.dense")
        return {
            "attention": {"body": {"inputs": heads, "out": out}},
            "attention_norm": norm(f"{layer}.attention.output.LayerNorm"),
            "mlp": {"body": {"inputs": up, "out": {"dense": down}}},
            "mlp_norm": norm(f"{layer}.output.LayerNorm"),
        }

    blocks = [block(f"bert.encoder.layer.{i}") for i in range(DEPTH)]
    head = "cls.predictions.transform"
    return {
        "tokens": {**table("word"), "b": jnp.asarray(state["cls.predictions.bias"])},
        **({"types": table("token_type")} if types else {}),
        "places": table("position"),
        "norm": norm("bert.embeddings.LayerNorm"),
        "blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks),
        "transform": {"dense": dense(f"{head}.dense"), "norm": norm(f"{head}.LayerNorm")},
    }


def formula(state, tokens, there, kinds):
    """From the paper and the names of the arrays alone; padding is where `there` (B, T) is not."""

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def product(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def gelu(x):
        return x * (1 + erf(x / np.sqrt(2))) / 2

    def attention(x, name):
        q, k, v = (
            product(x, f"{name}.{n}").reshape(*x.shape[:2], HEADS, -1)
            for n in ("query", "key", "value")
        )
        scores = np.einsum("bthw,bshw->bhts", q, k) / np.sqrt(D // HEADS)
        weights = np.exp(scores) * there[:, None, None]
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("bhts,bshw->bthw", weights, v).reshape(x.shape)

    tables = [state[f"bert.embeddings.{n}_embeddings.weight"] for n in ("word", "token_type")]
    x = tables[0][tokens] + tables[1][kinds]
    x = x + state["bert.embeddings.position_embeddings.weight"][: tokens.shape[1]]
    x = norm(x, "bert.embeddings.LayerNorm")
    for i in range(DEPTH):
        layer = f"bert.encoder.layer.{i}"
        y = product(attention(x, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
        x = norm(x + y, f"{layer}.attention.output.LayerNorm")
        y = product(gelu(product(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        x = norm(x + y, f"{layer}.output.LayerNorm")
    head = "cls.predictions.transform"
    x = norm(gelu(product(x, f"{head}.dense")), f"{head}.LayerNorm")
    return x @ tables[0].T + state["cls.predictions.bias"]


WAYS = {
    "types": (TYPES, (TOKENS, LENGTHS, KINDS), THERE, KINDS),
    "types alone": (TYPES, (TOKENS, None, KINDS), THERE | True, KINDS),
    "a mask": (TYPES, (TOKENS, THERE[:, ::-1]), THERE[:, ::-1], 0 * KINDS),
    "tokens alone": (TYPES, TOKENS, THERE | True, 0 * KINDS),
    "no types": (0, (TOKENS, LENGTHS), THERE, None),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_logits_are_those_of_the_formulas_in_float64(name):
    types, x, there, kinds = WAYS[name]
    state = draw()
    if not types:
        state["bert.embeddings.token_type_embeddings.weight"] *= 0
        kinds = 0 * KINDS
    with jax.enable_x64(True):
        found = bert(types)(params_of(state, bool(types)), jax.tree.map(jnp.asarray, x))
        expected = formula(state, TOKENS, there, kinds)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
        assert np.abs(expected).max() > 1


def test_the_gradient_of_the_logits_of_real_tokens():
    """By rules, by the recursion and without rules; and no padding has a part in it."""
    model, x = bert(dropout=0.2), (jnp.asarray(TOKENS), jnp.asarray(LENGTHS))
    with jax.enable_x64(True):
        params, key = params_of(draw()), jax.random.key(3)
        dy = jnp.where(THERE[:, :, None], jnp.cos(jnp.arange(3.0 * 6 * V).reshape(3, 6, V)), 0)

        @jax.jit
        def three_ways(params, tokens):
            def of(params):
                return model(params, (tokens, x[1]), key=key)

            by_hand, dx, _ = fnn.backprop(model, params, (tokens, x[1]), dy, key)
            assert jax.tree.leaves(dx) == []
            return (
                jax.vjp(fnn.without_rules(of), params)[1](dy),
                jax.vjp(of, params)[1](dy),
                by_hand,
            )

        (expected,), (found,), by_hand = three_ways(params, x[0])
        near: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **near), found, expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **near), by_hand, expected)
        other = jnp.where(THERE, x[0], (x[0] + 1) % V)
        assert bool(jnp.any(other != x[0]))
        jax.tree.map(np.testing.assert_array_equal, three_ways(params, other)[2], by_hand)


def test_wrong_options_and_inputs_are_one_line():
    for make, said in (
        (lambda: fnn.bert(width=7, heads=2), "heads divide width"),
        (lambda: fnn.bert(types=-1), "bert: types is a positive integer"),
        (lambda: fnn.bert(depth=0), "bert: depth is a positive integer"),
        (lambda: fnn.bert(keep=OTHER), "keep is 'inputs' or 'residuals'"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
    x = jnp.asarray(TOKENS)
    with pytest.raises(TypeError, match=r"bert: x is tokens, or .*types= is 0, found 3 parts"):
        fnn.bert(**SMALL).init(jax.random.key(0), (x, None, x))
    with pytest.raises(ValueError, match=r"places: x has shape .* at most 7 places"):
        fnn.bert(**SMALL).init(jax.random.key(0), jnp.zeros((1, 8), "int32"))
    with pytest.raises(TypeError, match="expected a pair"):
        fnn.bert(**SMALL).init(jax.random.key(0), (x, jnp.ones(3)))


def test_it_writes_no_text():
    model = fnn.bert(**SMALL)
    params = model.init(jax.random.key(0), jnp.asarray(TOKENS))
    with pytest.raises(ValueError, match="sees what comes after"):
        fnn.start_cache(model, params, 1, 4)


def test_the_logits_are_those_of_transformers():
    reason = "transformers is not installed: pip install torch transformers"
    torch = pytest.importorskip("torch", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    config = transformers.BertConfig(
        vocab_size=V,
        hidden_size=D,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        max_position_embeddings=PLACES,
        type_vocab_size=TYPES,
        layer_norm_eps=EPSILON,
    )
    theirs = transformers.BertForMaskedLM(config).eval().double()
    state = {name: torch.from_numpy(a) for name, a in draw().items()}
    told = theirs.load_state_dict(state, strict=False)
    assert told.unexpected_keys == []
    assert all(name.startswith("cls.predictions.decoder") for name in told.missing_keys)
    with torch.no_grad():
        tokens, there, kinds = map(torch.from_numpy, (TOKENS, THERE.astype(int), KINDS))
        expected = theirs(tokens, attention_mask=there, token_type_ids=kinds).logits.numpy()
    with jax.enable_x64(True):
        x = tuple(map(jnp.asarray, (TOKENS, LENGTHS, KINDS)))
        found = np.asarray(bert()(params_of(draw()), x))
    np.testing.assert_allclose(found[THERE], expected[THERE], rtol=1e-5, atol=1e-5)
