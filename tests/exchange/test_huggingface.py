"""Folders of Hugging Face's: the logits by the formulas, the same bits in and out.

Beside the real transformers: test_transformers_itself. What is refused: test_huggingface_refused.
"""

import json

import huggingface_formulas as formulas
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from huggingface_formulas import GPT2, LLAMA, draw, write
from safetensors import safe_open
from safetensors.numpy import load_file

import funcnn as fnn

TOLERANCE = 1e-5  # of the largest logit: roundings of three blocks in float32
TOKENS = np.random.default_rng(0).integers(0, 11, (2, 7))
CONFIGS = {
    "gpt2": GPT2,
    "gpt2, untied": {**GPT2, "tie_word_embeddings": False, "n_inner": 20},
    "llama": LLAMA,
    "llama, tied": {**LLAMA, "tie_word_embeddings": True},
    "llama, biases": {**LLAMA, "attention_bias": True, "mlp_bias": True},
    "llama, biases of attention": {**LLAMA, "attention_bias": True, "num_key_value_heads": 4},
}


def difference(config, state, model, params):
    """Between our logits and those of the formulas, of the largest."""
    expected = formulas.logits(config, state, TOKENS)
    found = model(params, jnp.asarray(TOKENS))
    assert found.shape == expected.shape
    return np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_logits_are_those_of_the_formulas(name, tmp_path):
    config, state = CONFIGS[name], draw(CONFIGS[name])
    model, params, found = fnn.load_huggingface(write(tmp_path / "net", config, state))
    assert found == config
    assert difference(config, state, model, params) < TOLERANCE


def heads(params):
    return params["blocks"]["attention"]["body"]["inputs"]["heads"]


def swapped(one, other):
    def swap(tree):
        tree[one], tree[other] = tree[other], tree[one]

    return swap


def q_transposed(params):
    heads(params)["q"]["w"] = heads(params)["q"]["w"].transpose(0, 2, 1)


def last_transposed(params):
    out = params["blocks"]["attention"]["body"]["out"]
    out["w"] = out["w"].transpose(0, 2, 1)


def blocks_reversed(params):
    params["blocks"] = jax.tree.map(lambda a: a[::-1], params["blocks"])


def heads_by_themselves(params):
    """As if each head had its q, k and v side by side."""
    for leaf in ("w", "b"):
        whole = jnp.concatenate([heads(params)[n][leaf] for n in "qkv"], -1)
        apart = whole.reshape(*whole.shape[:-1], 3, 3, 4)  # head, which of the three, number
        for i, name in enumerate("qkv"):
            heads(params)[name][leaf] = apart[..., i, :].reshape(*whole.shape[:-1], 12)


def interleaved(params):
    """As if the pairs of the positions were neighbours, as in the first files of Llama."""
    for name in "qk":
        w = heads(params)[name]["w"]
        pairs = w.reshape(*w.shape[:2], -1, 2, 2).swapaxes(-1, -2)  # (blocks, D, heads, 2, W/2)
        heads(params)[name]["w"] = pairs.reshape(w.shape)


# A mapping of params, or other keys of config.json, that would be another network.
WRONG = {
    "q transposed": ("gpt2", q_transposed),
    "k and v swapped": ("gpt2", lambda p: swapped("k", "v")(heads(p))),
    "heads by themselves": ("gpt2", heads_by_themselves),
    "the last product transposed": ("gpt2", last_transposed),
    "the blocks in reverse": ("gpt2", blocks_reversed),
    "the epsilon of everybody": ("gpt2", {"layer_norm_epsilon": 1e-5}),
    "the other gelu": ("gpt2", {"activation_function": "gelu"}),
    "q of llama transposed": ("llama", q_transposed),
    "k and v of llama swapped": ("llama", lambda p: swapped("k", "v")(heads(p))),
    "up and gate swapped": (
        "llama",
        lambda p: swapped("up", "gate")(p["blocks"]["mlp"]["body"]["inputs"]["up"]),
    ),
    "pairs of neighbours": ("llama", interleaved),
    "the last product of llama transposed": ("llama", last_transposed),
    "the epsilon of Llama's paper": ("llama", {"rms_norm_eps": 1e-6}),
    "another base": ("llama", {"rope_theta": 10000.0}),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_mapping_is_noticed(mistake, tmp_path):
    name, wrong = WRONG[mistake]
    config, state = CONFIGS[name], draw(CONFIGS[name])
    asked = {**config, **wrong} if isinstance(wrong, dict) else config
    model, params, _ = fnn.load_huggingface(write(tmp_path / "net", asked, state))
    if not isinstance(wrong, dict):
        wrong(params)
    assert difference(config, state, model, params) > 10 * TOLERANCE


def bits(state):
    return {name: (a.shape, str(a.dtype), a.tobytes()) for name, a in state.items()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", ["float32", ml_dtypes.bfloat16, "float16"])
def test_in_and_out_are_the_same_bits(name, dtype, tmp_path):
    config, state = CONFIGS[name], draw(CONFIGS[name], dtype)
    model, params, read = fnn.load_huggingface(write(tmp_path / "net", config, state))
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    fnn.save_huggingface(tmp_path / "out", model, params, config=read)
    assert bits(load_file(tmp_path / "out" / "model.safetensors")) == bits(state)
    with safe_open(tmp_path / "out" / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    read.pop("n_inner", None)  # null where it is 4 n_embd
    assert read.items() <= written.items()
    again = fnn.load_huggingface(tmp_path / "out")
    assert again.model.options == model.options
    jax.tree.map(np.testing.assert_array_equal, again.params, params)


@pytest.mark.parametrize("make", ["gpt", "llama"])
def test_out_and_in_is_the_same_model(make, tmp_path, key):
    small = {"width": 8, "depth": 2, "heads": 4, "hidden": 12, "epsilon": 0.25}
    more = {"length": 7, "activation": "gelu_erf"} if make == "gpt" else {"rotary": 50.0}
    model = getattr(fnn, make)(11, **small, **more)
    params = model.init(key, TOKENS)
    fnn.save_huggingface(tmp_path / "net", model, params)
    again, found, config = fnn.load_huggingface(tmp_path / "net")
    assert jax.tree.structure(found) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    np.testing.assert_array_equal(again(found, TOKENS), model(params, TOKENS))
    assert config["eos_token_id"] is None  # theirs by default are of another vocabulary


def test_shards_names_without_a_prefix_and_buffers(tmp_path):
    state = draw(GPT2)
    whole = fnn.load_huggingface(write(tmp_path / "one", GPT2, state)).params
    bare = {name.removeprefix("transformer."): a for name, a in state.items()}
    bare |= {f"h.{i}.attn.bias": np.tril(np.ones((1, 1, 8, 8), np.uint8)) for i in range(3)}
    bare |= {"lm_head.weight": state["transformer.wte.weight"]}
    for n, arrays in enumerate((state, bare)):
        folder = write(tmp_path / f"three {n}", GPT2, arrays, shards=3)
        assert not (folder / "model.safetensors").exists()
        found = fnn.load_huggingface(folder).params
        assert jax.tree.structure(found) == jax.tree.structure(whole)
        jax.tree.map(np.testing.assert_array_equal, found, whole)


def test_newer_files_have_the_base_in_a_dict(tmp_path):
    config = {k: v for k, v in LLAMA.items() if k not in ("rope_theta", "rope_scaling")}
    config["rope_parameters"] = {"rope_theta": 100.0, "rope_type": "default"}
    model, params, _ = fnn.load_huggingface(write(tmp_path / "net", config, draw(LLAMA)))
    assert difference(LLAMA, draw(LLAMA), model, params) < TOLERANCE


def test_in_another_dtype(tmp_path):
    state = draw(LLAMA)
    mixed = {n: a.astype("float16") if "norm" in n else a for n, a in state.items()}
    folder = write(tmp_path / "net", LLAMA, mixed)
    model, params, config = fnn.load_huggingface(folder, dtype="bfloat16")
    assert {str(a.dtype) for a in jax.tree.leaves(params)} == {"bfloat16"}
    expected = mixed["model.norm.weight"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(np.asarray(params["norm"]["scale"]), expected)
    assert model(params, jnp.asarray(TOKENS)).dtype == jnp.bfloat16
    config["dtype"] = "float32"  # of what was read
    fnn.save_huggingface(tmp_path / "out", model, params, config=config)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "dtype" not in written
    assert written["torch_dtype"] == "bfloat16"


def test_dropout_is_that_of_the_config_or_the_one_given(tmp_path, key):
    folder = write(tmp_path / "net", GPT2, draw(GPT2))
    model, params, _ = fnn.load_huggingface(folder)
    assert not jnp.allclose(model(params, TOKENS, key=key), model(params, TOKENS))
    calm = fnn.load_huggingface(folder, dropout=0.0).model
    np.testing.assert_array_equal(calm(params, TOKENS, key=key), model(params, TOKENS))


def test_a_loaded_model_trains_by_hand(tmp_path):
    model, params, _ = fnn.load_huggingface(write(tmp_path / "net", LLAMA, draw(LLAMA)))

    def loss(params):
        return jnp.mean(model(params, jnp.asarray(TOKENS)) ** 2)

    gradients = jax.grad(loss)(params)
    assert all(bool(jnp.any(g != 0)) for g in jax.tree.leaves(gradients))
