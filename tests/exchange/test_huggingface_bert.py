"""BERT's folders: the logits by the formulas of test_bert, the same bits in and out."""

import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_formulas import write
from models.test_bert import (
    DEPTH,
    EPSILON,
    HEADS,
    HIDDEN,
    KINDS,
    LENGTHS,
    PLACES,
    THERE,
    TOKENS,
    TYPES,
    D,
    V,
    draw,
    formula,
)
from safetensors.numpy import load_file

import funcnn as fnn

CONFIG = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN,
    "max_position_embeddings": PLACES,
    "type_vocab_size": TYPES,
    "layer_norm_eps": EPSILON,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
}
NARROW = {name: a.astype(np.float32) for name, a in draw().items()}
TABLE = "bert.embeddings.word_embeddings.weight"


def difference(model, params):
    """Between the logits of real tokens and those of the formulas, of the largest."""
    found = np.asarray(model(params, tuple(map(jnp.asarray, (TOKENS, LENGTHS, KINDS)))))
    expected = formula(NARROW, TOKENS, THERE, KINDS)
    return np.abs(found - expected)[THERE].max() / np.abs(expected[THERE]).max()


def test_the_logits_are_those_of_the_formulas(tmp_path):
    model, params, config = fnn.load_huggingface(write(tmp_path / "net", CONFIG, NARROW))
    assert (config, model.family, model.options["dropout"]) == (CONFIG, "bert", 0.1)
    assert difference(model, params) < 1e-5
    params["blocks"]["attention"]["body"]["inputs"]["q"]["b"] *= 1.01  # which would be noticed
    assert difference(model, params) > 1e-5


def test_a_file_as_they_are_found(tmp_path):
    """Norms by their old names, tied weights twice, a pooler and the head of next sentences."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = NARROW
    for new, name in old.items():
        state = {n.replace(new, name): a for n, a in state.items()}
    state |= {
        "cls.predictions.decoder.weight": NARROW[TABLE],
        "cls.predictions.decoder.bias": NARROW["cls.predictions.bias"],
        "cls.seq_relationship.weight": np.ones((2, D), np.float32),
        "bert.pooler.dense.weight": np.ones((D, D), np.float32),
        "bert.embeddings.position_ids": np.arange(PLACES)[None],
    }
    model, params, _ = fnn.load_huggingface(write(tmp_path / "net", CONFIG, state))
    assert difference(model, params) < 1e-5
    state["cls.predictions.decoder.weight"] = NARROW[TABLE] + 1
    said = f"cls.predictions.decoder.weight is not {TABLE}, though tie_word_embeddings is true"
    with pytest.raises(ValueError, match=said):
        fnn.load_huggingface(write(tmp_path / "untied", CONFIG, state))


def test_what_was_loaded_goes_out_with_the_same_bits(tmp_path):
    model, params, config = fnn.load_huggingface(write(tmp_path / "net", CONFIG, NARROW))
    fnn.save_huggingface(tmp_path / "out", model, params, config=config)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == NARROW.keys()
    for name, a in NARROW.items():
        np.testing.assert_array_equal(found[name], a)
    again, params, config = fnn.load_huggingface(tmp_path / "out")
    assert CONFIG.items() <= config.items()
    assert again.options == model.options


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"architectures": ["BertModel"]}, r"architectures is \['BertModel'\]: supported is"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu': supported is absent or null or 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_dropout_prob": 0.2}, "are 0.2 and 0.1: one number for both .*; give dropout="),
    ],
)
def test_what_is_another_model_is_refused(keys, said, tmp_path):
    with pytest.raises(ValueError, match=f"^load_huggingface: .*{said}"):
        fnn.load_huggingface(write(tmp_path / "net", CONFIG | keys, NARROW))


@pytest.mark.parametrize("options", [{"types": 0}, {"activation": "gelu"}, {"post_norm": False}])
def test_what_bert_has_not_does_not_go_out(options, tmp_path):
    ((name, value),) = options.items()
    model = fnn.bert(V, length=4, width=4, depth=1, heads=2, **{"types": 1, **options})
    with pytest.raises(ValueError, match=f"save_huggingface: BERT has no {name}={value!r}"):
        fnn.save_huggingface(tmp_path / "net", model, {})
