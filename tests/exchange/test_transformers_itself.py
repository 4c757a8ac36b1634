"""Models of transformers beside ours, where it is installed; by its formulas: test_huggingface."""

import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

REASON = "transformers is not installed: pip install torch transformers"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
TOLERANCE = 1e-4  # of logits of size 1 and more, in float32
TOKENS = np.random.default_rng(0).integers(0, 61, (2, 9))
LLAMA = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-4,
}
BERT = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 12,
}
GPT2 = {"vocab_size": 61, "n_positions": 12, "n_embd": 24, "n_layer": 3, "n_head": 3}


def gpt2(**options):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**GPT2, **options}))


def llama(**options):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**LLAMA, **options}))


def bert(**options):
    return transformers.BertForMaskedLM(transformers.BertConfig(**{**BERT, **options}))


MODELS = {
    "gpt2": gpt2,
    "gpt2, untied": lambda: gpt2(tie_word_embeddings=False, layer_norm_epsilon=1e-3),
    "gpt2, erf": lambda: gpt2(activation_function="gelu", n_inner=40),
    "gpt2, relu": lambda: gpt2(activation_function="relu"),
    "gpt2, silu": lambda: gpt2(activation_function="silu"),
    "llama": llama,
    "llama, grouped": lambda: llama(num_key_value_heads=2),
    "llama, one head of keys": lambda: llama(num_key_value_heads=1, rope_theta=500.0),
    "llama, tied": lambda: llama(num_key_value_heads=2, tie_word_embeddings=True),
    "llama, biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "bert": bert,
    "bert, one type": lambda: bert(type_vocab_size=1, layer_norm_eps=1e-3),
}


def settled(name):
    """A model whose norms and biases are not those of its start, and whose logits are of size 1."""
    torch.manual_seed(len(name))
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model.eval()


def theirs(model):
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS)).logits.numpy()


def difference(found, expected):
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 1
    return np.abs(np.asarray(found) - expected).max()


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_those_of_transformers(name, tmp_path):
    model = settled(name)
    model.save_pretrained(tmp_path)
    ours, params, _ = fnn.load_huggingface(tmp_path)
    assert difference(ours(params, jnp.asarray(TOKENS)), theirs(model)) < TOLERANCE


def told_of(model):
    """Its config, less where it was read, and n_inner, which is null where we write 4 n_embd."""
    config = model.config.to_dict()
    return {k: v for k, v in config.items() if k not in ("_name_or_path", "n_inner")}


@pytest.mark.parametrize("name", ["gpt2, untied", "llama, grouped", "llama, tied", "bert"])
def test_transformers_loads_what_we_write(name, tmp_path):
    model = settled(name)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    ours, params, config = fnn.load_huggingface(tmp_path / "theirs")
    fnn.save_huggingface(tmp_path / "ours", ours, params, config=config)
    again, told = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    np.testing.assert_array_equal(theirs(again.eval()), theirs(model))
    assert told_of(model).items() <= told_of(again).items()


@pytest.mark.parametrize("make", ["gpt", "llama"])
def test_transformers_computes_what_was_trained_here(make, tmp_path, key):
    small = {"width": 24, "depth": 2, "heads": 4, "epsilon": 0.01}
    more = {"length": 12, "activation": "gelu_erf"} if make == "gpt" else {"rotary": 50.0}
    model = getattr(fnn, make)(61, **small, **more)
    params = model.init(key, TOKENS)
    fnn.save_huggingface(tmp_path / "net", model, params)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "net").eval()
    found, expected = np.asarray(model(params, jnp.asarray(TOKENS))), theirs(again)
    assert np.abs(found - expected).max() / np.abs(expected).max() < TOLERANCE
