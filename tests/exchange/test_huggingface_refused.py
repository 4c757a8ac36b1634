"""What goes neither in nor out: one line that says what is wrong, where, and what would do."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_formulas import GPT2, LLAMA, draw, write
from safetensors.numpy import save_file

import funcnn as fnn

BASES = {"gpt2": GPT2, "llama": LLAMA}


def line(caught, tool):
    text = str(caught.value)
    assert text.startswith(f"{tool}: ")
    assert "\n" not in text
    return text


@pytest.fixture
def fails():
    """The one line that loading ends with."""

    def said(folder, kind=ValueError, **options):
        with pytest.raises(kind) as caught:
            fnn.load_huggingface(folder, **options)
        return line(caught, "load_huggingface")

    return said


# Of which model, what its config says, and what the line must say.
CONFIGS = {
    "no type": ("gpt2", {"model_type": None}, "model_type is missing: 'gpt2', 'llama', 'bert' are"),
    "another type": ("llama", {"model_type": "mistral"}, "model_type is 'mistral': 'gpt2', 'll"),
    "another task": (
        "gpt2",
        {"architectures": ["GPT2ForSequenceClassification"]},
        "architectures is ['GPT2ForSequenceClassification']: supported is absent or null or ['GPT",
    ),
    "quantized": ("llama", {"quantization_config": {"bits": 4}}, "quantization_config is {'bit"),
    "no width": ("gpt2", {"n_embd": None}, "config.json: n_embd is missing"),
    "a depth of zero": ("gpt2", {"n_layer": 0}, "n_layer is a positive integer, found 0"),
    "a width of text": ("llama", {"hidden_size": "16"}, "positive integer, found '16'"),
    "an epsilon of text": ("llama", {"rms_norm_eps": "1e-6"}, "rms_norm_eps is a number"),
    "no epsilon at all": ("gpt2", {"layer_norm_epsilon": 0}, "epsilon is positive"),
    "heads that do not divide": ("gpt2", {"n_head": 5}, "heads divide width, found 5 and 12"),
    "tied by a word": ("llama", {"tie_word_embeddings": "no"}, "true or false, found 'no'"),
    "quick gelu": ("gpt2", {"activation_function": "quick_gelu"}, "'quick_gelu': 'gelu_fast', "),
    "gelu in llama": ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu': supported is"),
    "scaled by the layer": (
        "gpt2",
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx is True: supported is absent or null or False",
    ),
    "not scaled": ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights is False"),
    "attention to another": ("gpt2", {"add_cross_attention": True}, "add_cross_attention is True"),
    "dropouts of three kinds": (
        "gpt2",
        {"attn_pdrop": 0.0},
        "embd_pdrop, attn_pdrop, resid_pdrop are 0.1, 0.0, 0.1: one number for all is supported",
    ),
    "dropout of attention alone": ("llama", {"attention_dropout": 0.1}, "give dropout="),
    "scaled positions": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "rope_type of rope_scaling is 'linear': supported is 'default'",
    ),
    "positions of llama 3": (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}},
        "rope_type of rope_parameters is 'llama3'",
    ),
    "positions of a part": (
        "llama",
        {"rope_parameters": {"partial_rotary_factor": 0.5}},
        "partial_rotary_factor of rope_parameters",
    ),
    "positions by a number": ("llama", {"rope_scaling": 2.0}, "rope_scaling is a dict or null"),
    "narrow heads": ("llama", {"head_dim": 8}, "head_dim is 8: supported is absent or null or 4"),
    "a window": ("llama", {"sliding_window": 4096}, "sliding_window is 4096: supported is absent"),
    "windows by layer": (
        "llama",
        {"layer_types": ["full_attention", "sliding_attention"]},
        "layer_types are ['full_attention', 'sliding_attention']: 'full_attention' is supported",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_another_model(name, fails, tmp_path):
    family, keys, words = CONFIGS[name]
    config = BASES[family]
    folder = write(tmp_path / "net", {**config, **keys}, draw(config))
    said = fails(folder)
    assert f"{folder / 'config.json'}: " in said
    assert words in said


@pytest.mark.parametrize(
    "keys",
    [{"attn_pdrop": 0.0}, {"embd_pdrop": 0.5}],
)
def test_dropouts_that_differ_are_settled_by_one(keys, tmp_path):
    folder = write(tmp_path / "net", {**GPT2, **keys}, draw(GPT2))
    assert fnn.load_huggingface(folder, dropout=0.2).params


def test_arrays_that_do_not_fit_are_named_all_in_one_line(fails, tmp_path):
    state = draw(GPT2)
    del state["transformer.h.1.ln_2.bias"], state["transformer.ln_f.weight"]
    state["transformer.h.1.ln_2.beta"] = np.ones(12, np.float32)
    state["transformer.wpe.weight"] = np.ones((9, 12), np.float32)
    state["transformer.h.0.mlp.c_fc.weight"] = np.ones((48, 12), np.float32)
    said = fails(write(tmp_path / "net", GPT2, state))
    for words in (
        "has no transformer.h.1.ln_2.bias (did you mean transformer.h.1.ln_2.beta?), transformer.",
        "holds transformer.h.1.ln_2.beta, for which its config.json has no place",
        "transformer.wpe.weight [9, 12], by its config.json [8, 12]",
        "transformer.h.0.mlp.c_fc.weight [48, 12], by its config.json [12, 48]",
    ):
        assert words in said


def test_more_layers_than_the_config_says_are_not_left_out(fails, tmp_path):
    said = fails(write(tmp_path / "net", {**LLAMA, "num_hidden_layers": 2}, draw(LLAMA)))
    assert "holds model.layers.2." in said
    assert "and 6 more, for which" in said


def test_a_head_that_is_not_the_table_though_tied(fails, tmp_path):
    state = draw(LLAMA)
    folder = write(tmp_path / "net", {**LLAMA, "tie_word_embeddings": True}, state)
    words = "lm_head.weight is not model.embed_tokens.weight, though tie_word_embeddings is true"
    assert words in fails(folder)
    assert "has no lm_head.weight" in fails(
        write(tmp_path / "bare", LLAMA, {n: a for n, a in state.items() if n != "lm_head.weight"})
    )


def test_dtypes(fails, tmp_path):
    state = draw(GPT2)
    state["transformer.ln_f.bias"] = state["transformer.ln_f.bias"].astype("float16")
    folder = write(tmp_path / "mixed", GPT2, state)
    assert "float16 (transformer.ln_f.bias): give dtype=" in fails(folder)
    assert "found 'int8'" in fails(folder, dtype="int8")
    assert "found 'flaot32'" in fails(folder, dtype="flaot32")
    state["transformer.ln_f.bias"] = np.ones(12, np.int8)
    integers = write(tmp_path / "integers", GPT2, state)
    assert "I8 (transformer.ln_f.bias): float64, float32" in fails(integers)
    assert "I8 (transformer.ln_f.bias): float64, float32" in fails(integers, dtype="float32")
    wide = write(tmp_path / "wide", GPT2, draw(GPT2, "float64"))
    assert "jax_enable_x64" in fails(wide)
    assert fnn.load_huggingface(wide, dtype="float32").params["norm"]["bias"].dtype == "float32"


def test_files_that_are_none(fails, tmp_path):
    assert "there is no folder" in fails(tmp_path / "none", FileNotFoundError)
    folder = write(tmp_path / "net", GPT2, draw(GPT2))
    config, weights = folder / "config.json", folder / "model.safetensors"
    assert f"{config} is no folder" in fails(config, NotADirectoryError)
    weights.write_bytes(weights.read_bytes()[:-4])
    assert f"{weights} is no safetensors file, or a part of one" in fails(folder)
    weights.unlink()
    assert "has neither model.safetensors nor" in fails(folder, FileNotFoundError)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is a pickle" in fails(folder, FileNotFoundError)
    for text, words in (("{", "is no JSON"), ("[]", "holds no JSON object"), ("\xff", "is no J")):
        config.write_bytes(text.encode("latin1"))
        assert f"{config} {words}" in fails(folder)
    config.unlink()
    assert "has no config.json" in fails(folder, FileNotFoundError)


def test_shards_that_are_not_what_the_index_says(fails, tmp_path):
    folder = write(tmp_path / "net", GPT2, draw(GPT2), shards=2)
    index, (first, second) = folder / "model.safetensors.index.json", sorted(folder.glob("*.s*s"))
    right = index.read_text()
    index.write_text(right.replace(first.name, f"../{first.name}"))
    assert f"names ../{first.name}: no such file there" in fails(folder, FileNotFoundError)
    index.write_text(json.dumps({"weight_map": {}}))
    assert "has no weight_map" in fails(folder)
    index.write_text(right)
    twice = {"transformer.wte.weight": np.ones((11, 12), np.float32)}
    save_file(twice, second)
    assert "holds transformer.wte.weight, and so does another" in fails(folder)
    second.unlink()
    assert f"names {second.name}: no such file there" in fails(folder, FileNotFoundError)


@pytest.fixture
def small(key):
    model = fnn.gpt(11, length=8, width=6, depth=2, heads=3)
    return model, model.init(key, jnp.zeros((1, 2), "int32"))


@pytest.fixture
def refuses(tmp_path, small):
    """The one line that saving ends with; nothing is written then."""

    def said(model=None, params=None, kind=ValueError, folder=tmp_path / "net", **options):
        model, params = model or small[0], small[1] if params is None else params
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(kind) as caught:
            fnn.save_huggingface(folder, model, params, **options)
        assert sorted(tmp_path.rglob("*")) == before
        return line(caught, "save_huggingface")

    return said


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        ("gpt", {"window": 3, "soft_cap": 5.0}, "GPT-2 has no window=3, soft_cap=5.0"),
        ("gpt", {"key_heads": 1}, "GPT-2 has no key_heads=1"),
        ("gpt", {"activation": "swiglu"}, "GPT-2 has no activation='swiglu'"),
        ("gpt", {"bias": False}, "GPT-2 has no bias=False"),
        ("gpt", {"mlp_bias": False}, "GPT-2 has no mlp_bias=False"),
        ("gpt", {"norm": "rms"}, "GPT-2 has no norm='rms'"),
        ("llama", {"scale": 1.0}, "Llama has no scale=1.0"),
        ("llama", {"norm": "layer"}, "Llama has no norm='layer'"),
        ("llama", {"activation": "geglu"}, "Llama has no activation='geglu'"),
        ("llama", {"causal": False}, "Llama has no causal=False"),
        ("llama", {"window": 2}, "Llama has no window=2"),
    ],
)
def test_options_that_theirs_has_not(make, options, words, refuses, key):
    model = getattr(fnn, make)(11, width=6, depth=1, heads=3, **options)
    params = model.init(key, jnp.zeros((1, 2), "int32"))
    assert words in refuses(model, params)


def test_params_and_models_that_do_not_fit(refuses, small):
    _, params = small
    assert "model is what fnn.models.gpt," in refuses(fnn.dense(3), {}, kind=TypeError)
    assert "params lack norm/bias" in refuses(params={**params, "norm": {"scale": jnp.ones(6)}})
    said = refuses(params={**params, "head": {"w": jnp.ones((6, 11))}})
    assert "params hold head/w, for which the model has no place" in said
    wide = {**params, "norm": {**params["norm"], "bias": jnp.ones(7)}}
    assert "params hold norm/bias of shape [7], and the model has [6]" in refuses(params=wide)
    half = {**params, "norm": {**params["norm"], "bias": jnp.ones(6, "float16")}}
    assert "params are of one dtype" in refuses(params=half)
    whole = jax.tree.map(lambda a: a.astype("int32"), params)
    assert "float64 or float32 or float16 or bfloat16, found int32" in refuses(params=whole)
    shapes = jax.eval_shape(lambda: params)
    assert "params hold no array at blocks/" in refuses(params=shapes)
    assert "params lack" in refuses(params={})


def test_keys_of_a_config_that_ask_for_more(refuses, small, key):
    assert "config holds what no JSON does" in refuses(config={"eos_token_id": jnp.ones(1)})
    assert "scale_attn_by_inverse" in refuses(config={"scale_attn_by_inverse_layer_idx": True})
    llama = fnn.llama(11, width=8, depth=1, heads=4, hidden=12)
    params = llama.init(key, jnp.zeros((1, 2), "int32"))
    rope = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert "rope_type of rope_scaling is 'linear'" in refuses(llama, params, config=rope)


def test_a_folder_that_holds_something_else(refuses, small, tmp_path):
    assert "there is no folder" in refuses(folder=tmp_path / "no" / "net", kind=FileNotFoundError)
    (tmp_path / "file").write_text("")
    assert "is there, and no folder" in refuses(folder=tmp_path / "file", kind=NotADirectoryError)
    folder = tmp_path / "net"
    fnn.save_huggingface(folder, *small)
    before = (folder / "model.safetensors").read_bytes()
    (folder / "tokenizer.json").write_text("{}")
    said = refuses(kind=FileExistsError)
    assert f"{folder} holds tokenizer.json, which would be lost" in said
    (folder / "tokenizer.json").unlink()
    fnn.save_huggingface(folder, small[0], jax.tree.map(lambda a: a + 1, small[1]))
    assert (folder / "model.safetensors").read_bytes() != before
    assert sorted(os.listdir(tmp_path)) == ["file", "net"]


def test_a_save_that_fails_leaves_all_as_it_was(small, tmp_path, monkeypatch):
    folder, rename = tmp_path / "net", os.rename
    fnn.save_huggingface(folder, *small)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = jax.tree.map(lambda a: a + 1, small[1])

    def full(*args):
        raise OSError(28, "No space left on device")

    def busy(source, target):
        if str(source).endswith("unfinished"):
            full()
        rename(source, target)

    for where, fault in (("os.fsync", full), ("os.rename", full), ("os.rename", busy)):
        with monkeypatch.context() as broken:
            broken.setattr(where, fault)
            with pytest.raises(OSError, match=r"^save_huggingface: .*No space left"):
                fnn.save_huggingface(folder, small[0], other)
        assert os.listdir(tmp_path) == ["net"]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_killed_save_has_left_is_no_hindrance(small, tmp_path, monkeypatch):
    (tmp_path / "net.unfinished").mkdir()
    (tmp_path / "net.unfinished" / "config.json").write_text("half of it")
    fnn.save_huggingface(tmp_path / "net", *small)
    assert os.listdir(tmp_path) == ["net"]
    before = (tmp_path / "net" / "model.safetensors").read_bytes()
    (tmp_path / "net").rename(tmp_path / "net.before")  # between the two renames
    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fnn.save_huggingface(tmp_path / "net", *small)
    assert (tmp_path / "net" / "model.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["net"]


def interrupted(*args):
    raise KeyboardInterrupt
