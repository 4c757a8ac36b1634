"""What the transformers are made of: epsilon, tied or not, the forms of gelu, biases by part."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 5)))
SMALL = {"width": 8, "depth": 2, "heads": 4}


def drawn(model):
    params = model.init(jax.random.key(0), TOKENS)
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda a: a + 0.3 * noise.normal(size=a.shape).astype(a.dtype), params)


def gpt(**options):
    return fnn.gpt(11, length=6, **SMALL, **options)


def llama(**options):
    return fnn.llama(11, hidden=12, **SMALL, **options)


def same(one, other):
    return bool(jnp.all(jnp.isclose(one, other, rtol=1e-4, atol=1e-5)))


def test_epsilon_stands_in_all_norms_of_gpt():
    params = drawn(gpt())
    y = gpt(epsilon=0.5)(params, TOKENS)
    assert not same(y, gpt()(params, TOKENS))
    # The last norm by hand, on what goes into it.
    stream = gpt(epsilon=0.5).parts["blocks"](
        params["blocks"],
        params["tokens"]["table"][TOKENS] + params["places"]["table"][None, :5],
    )
    normed = fnn.layer_norm(0.5)(params["norm"], stream)
    assert same(y, fnn.rules.linear(normed, params["tokens"]["table"].T))


def test_a_head_that_is_not_tied():
    params = drawn(gpt(tied=False))
    assert params["head"]["w"].shape == (8, 11)
    head = params.pop("head")
    tied = gpt()({**params, "tokens": params["tokens"]}, TOKENS)
    untied = gpt(tied=False)({**params, "head": {"w": params["tokens"]["table"].T}}, TOKENS)
    assert same(tied, untied)
    assert not same(tied, gpt(tied=False)({**params, "head": head}, TOKENS))


def test_the_erf_form_of_gelu_is_another_number():
    params = drawn(gpt())
    tanh, erf = (gpt(activation=a)(params, TOKENS) for a in ("gelu", "gelu_erf"))
    assert 1e-6 < float(jnp.abs(tanh - erf).max()) < 1e-2


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("mlp", [False, True])
def test_biases_of_attention_and_of_the_mlp_apart(attention, mlp):
    params = drawn(llama(bias=attention, mlp_bias=mlp))
    heads = params["blocks"]["attention"]["body"]
    up = params["blocks"]["mlp"]["body"]
    assert {"b" in heads["inputs"]["heads"]["k"], "b" in heads["out"]} == {attention}
    assert {"b" in up["inputs"]["up"]["gate"], "b" in up["out"]["dense"]} == {mlp}


@pytest.mark.parametrize("make", [gpt, llama])
def test_a_model_knows_what_it_was_made_of(make):
    model = make(dropout=0.25, window=3)
    assert model.options["window"] == 3
    assert model.options["dropout"] == 0.25
    again = getattr(fnn, model.family)(**model.options)
    assert again.options == model.options
    params = drawn(model)
    assert same(again(params, TOKENS), model(params, TOKENS))
    assert not same(make()(params, TOKENS), model(params, TOKENS))


@pytest.mark.parametrize("make", [gpt, llama])
def test_by_hand_and_by_autodiff(make):
    model = make(mlp_bias=True) if make is llama else make(tied=False, activation="gelu_erf")
    params = drawn(model)
    _, back = jax.vjp(lambda p: model(p, TOKENS), params)
    y, res = model.forward(params, TOKENS, None)
    (expected,) = back(jnp.cos(y))
    found, _ = model.backward(params, res, jnp.cos(y))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-5), found, expected)


def test_an_option_of_no_block_is_told_by_the_model_and_its_near_name():
    for make, option, near in (
        (fnn.llama, "kv_heads", "key_heads"),
        (fnn.gpt, "windows", "window"),
        (fnn.gpt, "last_initializer", "initializer"),  # gpt draws those itself
        (fnn.bert, "windows", "window"),
        (fnn.vit, "windows", "window"),
    ):
        options: dict[str, Any] = {option: 1}
        with pytest.raises(TypeError) as error:
            make(depth=1, **options)
        wanted = f"its blocks take no option '{option}' (did you mean {near}?)"
        assert str(error.value) == f"{make.__name__}: {wanted}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tied": "no"}, "tied is True or False, found 'no'"),
        ({"soft_cap": "3"}, "attention: soft_cap is a number, found '3'"),
        ({"scale": "3"}, "attention: scale is a number, found '3'"),
        ({"rotary": "3"}, "attend: rotary is a number, found '3'"),
        ({"rotary": 1}, "attend: rotary is a base above 1, or None, found 1"),
        ({"window": [1]}, r"attention: window is how many keys .*; found \(1,\)"),
    ],
)
@pytest.mark.parametrize("make", [fnn.gpt, fnn.llama])
def test_an_option_that_is_no_number_is_told_at_once(make, options, said):
    with pytest.raises(ValueError, match=said):
        make(depth=1, **options)


def test_a_window_may_be_a_list_as_configs_have_it():
    x = jnp.array([[0, 3, 1, 2]])
    one, other = (fnn.gpt(5, width=4, depth=1, heads=1, window=w) for w in ([1, 0], (1, 0)))
    params = one.init(jax.random.key(0), x)
    np.testing.assert_array_equal(one(params, x), other(params, x))


@pytest.mark.parametrize("make", [fnn.gpt, fnn.llama, fnn.bert])
def test_what_is_no_tokens_is_told_by_the_model(make):
    """Floats would go to the wrong end of the table that stands at both, and fail far from here."""
    model, tokens = make(11, width=8, depth=1, heads=2), jnp.array([[0, 3, 1]])
    params = model.init(jax.random.key(0), tokens)
    for x, error in ((tokens.astype(float), TypeError), (tokens[0], ValueError)):
        said = rf"{make.__name__}: x is tokens, integers \(B, T\), found {x.dtype}\["
        with pytest.raises(error, match=said):
            model(params, x)
        with pytest.raises(error, match=said):
            model.init(jax.random.key(0), x)
