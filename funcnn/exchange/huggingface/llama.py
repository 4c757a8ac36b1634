"""Llama: `fnn.models.llama` by the keys of its config.json, and back; the names of its arrays."""

from __future__ import annotations

from collections.abc import Mapping

from funcnn.exchange.huggingface.rows import Row
from funcnn.exchange.huggingface.settings import Config, Options, Settings, Unlike, refuse

_BASE = 10000.0
# What options of ours Llama has no key for must be.
_ALWAYS = {
    "norm": ("rms",),
    "activation": ("swiglu",),
    "causal": (True,),
    "window": (None,),
    "scale": (None,),
    "soft_cap": (None,),
    "alibi": (False,),
}
_ATTENTION, _MLP = "blocks/attention/body", "blocks/mlp/body"
_LAYER = "model.layers.{}"
# Linear's weights are (out, in).
_PRODUCTS = {
    "self_attn.q_proj": f"{_ATTENTION}/inputs/heads/q",
    "self_attn.k_proj": f"{_ATTENTION}/inputs/heads/k",
    "self_attn.v_proj": f"{_ATTENTION}/inputs/heads/v",
    "self_attn.o_proj": f"{_ATTENTION}/out",
    "mlp.gate_proj": f"{_MLP}/inputs/up/gate",
    "mlp.up_proj": f"{_MLP}/inputs/up/up",
    "mlp.down_proj": f"{_MLP}/out/dense",
}

ROWS = (
    Row("model.embed_tokens.weight", ("tokens/table",)),
    Row(f"{_LAYER}.input_layernorm.weight", (f"{_ATTENTION}/inputs/norm/scale",)),
    Row(f"{_LAYER}.post_attention_layernorm.weight", (f"{_MLP}/inputs/norm/scale",)),
    *(Row(f"{_LAYER}.{n}.weight", (f"{path}/w",), turned=True) for n, path in _PRODUCTS.items()),
    *(Row(f"{_LAYER}.{n}.bias", (f"{path}/b",)) for n, path in _PRODUCTS.items()),
    Row("model.norm.weight", ("norm/scale",)),
    Row("lm_head.weight", ("head/w",), turned=True),
)
# The frequencies of the positions, which older files hold beside the weights.
BUFFERS = ("*rotary_emb.inv_freq",)
COPIES = {"lm_head.weight": "model.embed_tokens.weight"}


def options_of(settings: Settings, dropout: float | None = None) -> Options:
    """What `fnn.models.llama` is made with, in place of the config's dropout perhaps another.

    Raises:
        Unlike: the config asks for what `llama` is not.

    >>> sizes = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12}
    >>> sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4}
    >>> options_of(Settings(sizes))["key_heads"]
    4
    >>> options_of(Settings({**sizes, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}))
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: rope_type of rope_scaling is 'linear': ...
    """
    width, heads = settings.count("hidden_size"), settings.count("num_attention_heads")
    settings.require("hidden_act", "silu", "swish")
    settings.require("sliding_window")
    settings.require("use_sliding_window", False)
    settings.require("head_dim", width // heads)
    _require_full_attention(settings)
    if dropout is None and settings.number("attention_dropout", 0.0):
        raise Unlike(
            f"attention_dropout is {settings.get('attention_dropout')!r}, of attention alone: one "
            "number for attention and for what is added is supported; give dropout="
        )
    return {
        "vocabulary": settings.count("vocab_size"),
        "width": width,
        "depth": settings.count("num_hidden_layers"),
        "heads": heads,
        "key_heads": settings.count("num_key_value_heads", heads),
        "hidden": settings.count("intermediate_size"),
        "rotary": _base(settings),
        "tied": settings.flag("tie_word_embeddings", False),
        "epsilon": settings.number("rms_norm_eps", 1e-6),
        "bias": settings.flag("attention_bias", False),
        "mlp_bias": settings.flag("mlp_bias", False),
        "dropout": dropout or 0.0,
    }


def _require_full_attention(settings: Settings) -> None:
    kinds = settings.get("layer_types", [])
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise Unlike(f"layer_types are {kinds!r}: 'full_attention' is supported, in every layer")


def _base(settings: Settings) -> float:
    """The base of the rotary positions; newer files have it in a dict, `rope_parameters`."""
    base = settings.number("rope_theta", _BASE)
    for key in ("rope_scaling", "rope_parameters"):
        inside = settings.get(key, {})
        if not isinstance(inside, Mapping):
            raise Unlike(f"{key} is a dict or null, found {inside!r}")
        kind = inside.get("rope_type", inside.get("type", "default"))
        if kind != "default":
            raise Unlike(f"rope_type of {key} is {kind!r}: supported is 'default'")
        if inside.get("partial_rotary_factor", 1.0) != 1.0:
            raise Unlike(f"partial_rotary_factor of {key}: the whole of each head is turned here")
        base = Settings(inside).number("rope_theta", base)
    return base


def config_of(options: Config) -> Options:
    """The keys of the config.json of a `fnn.models.llama` that was made with these options.

    The base of the positions stands in it twice, for newer and for older readers. A dropout has no
    key that says the same, and does not change predictions.

    Raises:
        Unlike: it is no Llama.

    >>> from funcnn.models import llama
    >>> config_of(llama(11, width=8, heads=4, key_heads=2).options)["num_key_value_heads"]
    2
    >>> config_of(llama(11, width=8, heads=4, activation="geglu").options)
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: Llama has no activation='geglu'
    """
    refuse("Llama", options, _ALWAYS)
    bias, base = options["bias"], options["rotary"]
    mlp_bias = options.get("mlp_bias")
    return {
        "vocab_size": options["vocabulary"],
        "hidden_size": options["width"],
        "intermediate_size": options["hidden"],
        "num_hidden_layers": options["depth"],
        "num_attention_heads": options["heads"],
        "num_key_value_heads": options["key_heads"] or options["heads"],
        "hidden_act": "silu",
        "rms_norm_eps": options["epsilon"],
        "rope_theta": base,
        "rope_parameters": {"rope_theta": base, "rope_type": "default"},
        "tie_word_embeddings": options["tied"],
        "attention_bias": bias,
        "mlp_bias": bias if mlp_bias is None else mlp_bias,
        "attention_dropout": 0.0,
    }
