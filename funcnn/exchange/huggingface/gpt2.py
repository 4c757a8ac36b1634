"""GPT-2: `fnn.models.gpt` by the keys of its config.json, and back; the names of its arrays."""

from __future__ import annotations

from funcnn.exchange.huggingface.rows import Row
from funcnn.exchange.huggingface.settings import Config, Options, Settings, Unlike, refuse

# Their names of an activation; of several for one, the last is what we write.
_ACTIVATIONS = {
    "gelu_fast": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
    "gelu": "gelu_erf",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
}
_DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
# What options of ours GPT-2 has no key for must be.
_ALWAYS = {
    "norm": ("layer",),
    "bias": (True,),
    "mlp_bias": (None, True),
    "causal": (True,),
    "window": (None,),
    "scale": (None,),
    "soft_cap": (None,),
    "rotary": (None,),
    "alibi": (False,),
}
_ATTENTION, _MLP = "blocks/attention/body", "blocks/mlp/body"
_HEADS = [f"{_ATTENTION}/inputs/heads/{name}" for name in "qkv"]

# Conv1D's weights are (in, out), as ours are; the queries, keys and values are one product.
ROWS = (
    Row("transformer.wte.weight", ("tokens/table",)),
    Row("transformer.wpe.weight", ("places/table",)),
    Row("transformer.h.{}.ln_1.weight", (f"{_ATTENTION}/inputs/norm/scale",)),
    Row("transformer.h.{}.ln_1.bias", (f"{_ATTENTION}/inputs/norm/bias",)),
    Row("transformer.h.{}.attn.c_attn.weight", tuple(f"{head}/w" for head in _HEADS)),
    Row("transformer.h.{}.attn.c_attn.bias", tuple(f"{head}/b" for head in _HEADS)),
    Row("transformer.h.{}.attn.c_proj.weight", (f"{_ATTENTION}/out/w",)),
    Row("transformer.h.{}.attn.c_proj.bias", (f"{_ATTENTION}/out/b",)),
    Row("transformer.h.{}.ln_2.weight", (f"{_MLP}/inputs/norm/scale",)),
    Row("transformer.h.{}.ln_2.bias", (f"{_MLP}/inputs/norm/bias",)),
    Row("transformer.h.{}.mlp.c_fc.weight", (f"{_MLP}/inputs/up/w",)),
    Row("transformer.h.{}.mlp.c_fc.bias", (f"{_MLP}/inputs/up/b",)),
    Row("transformer.h.{}.mlp.c_proj.weight", (f"{_MLP}/out/dense/w",)),
    Row("transformer.h.{}.mlp.c_proj.bias", (f"{_MLP}/out/dense/b",)),
    Row("transformer.ln_f.weight", ("norm/scale",)),
    Row("transformer.ln_f.bias", ("norm/bias",)),
    Row("lm_head.weight", ("head/w",), turned=True),
)
# Masks, which older files hold beside the weights.
BUFFERS = ("*.attn.bias", "*.attn.masked_bias")
COPIES = {"lm_head.weight": "transformer.wte.weight"}


def options_of(settings: Settings, dropout: float | None = None) -> Options:
    """What `fnn.models.gpt` is made with, in place of the config's dropout perhaps another.

    Raises:
        Unlike: the config asks for what `gpt` is not.

    >>> sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 6, "n_layer": 2, "n_head": 3}
    >>> options_of(Settings(sizes))["activation"], options_of(Settings(sizes))["dropout"]
    ('gelu', 0.1)
    """
    for key, supported in {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }.items():
        settings.require(key, supported)
    width = settings.count("n_embd")
    return {
        "vocabulary": settings.count("vocab_size"),
        "length": settings.count("n_positions"),
        "width": width,
        "depth": settings.count("n_layer"),
        "heads": settings.count("n_head"),
        "hidden": settings.count("n_inner", 4 * width),
        "activation": settings.choice("activation_function", "gelu_new", _ACTIVATIONS),
        "epsilon": settings.number("layer_norm_epsilon", 1e-5),
        "tied": settings.flag("tie_word_embeddings", True),
        "dropout": _dropout(settings) if dropout is None else dropout,
    }


def _dropout(settings: Settings) -> float:
    found = {settings.number(key, 0.1) for key in _DROPOUTS}
    if len(found) > 1:
        raise Unlike(
            f"{', '.join(_DROPOUTS)} are {', '.join(str(settings.get(k, 0.1)) for k in _DROPOUTS)}"
            ": one number for all is supported; give dropout="
        )
    return found.pop()


def config_of(options: Config) -> Options:
    """The keys of the config.json of a `fnn.models.gpt` that was made with these options.

    Raises:
        Unlike: it is no GPT-2.

    >>> from funcnn.models import gpt
    >>> config_of(gpt(11, length=8, width=6, depth=2, heads=3).options)["n_inner"]
    24
    >>> config_of(gpt(11, width=6, heads=3, window=5).options)
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: GPT-2 has no window=5
    """
    names = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    here = {"key_heads": (None, options["heads"]), "activation": tuple(names)}
    refuse("GPT-2", {"activation": "gelu", **options}, {**_ALWAYS, **here})
    width = options["width"]
    assert isinstance(width, int)
    return {
        "vocab_size": options["vocabulary"],
        "n_positions": options["length"],
        "n_embd": width,
        "n_layer": options["depth"],
        "n_head": options["heads"],
        "n_inner": options.get("hidden") or 4 * width,
        "activation_function": names[str(options.get("activation", "gelu"))],
        "layer_norm_epsilon": options["epsilon"],
        "tie_word_embeddings": options["tied"],
        **dict.fromkeys(_DROPOUTS, options["dropout"]),
    }
