"""BERT: `fnn.models.bert` by the keys of its config.json, and back; the names of its arrays."""

from __future__ import annotations

from funcnn.exchange.huggingface.rows import Row
from funcnn.exchange.huggingface.settings import Config, Options, Settings, Unlike, refuse

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
# What options of ours BERT has no key for must be.
_ALWAYS = {
    "activation": ("gelu_erf",),
    "post_norm": (True,),
    "norm": ("layer",),
    "bias": (True,),
    "mlp_bias": (None, True),
    "causal": (False,),
    "window": (None,),
    "scale": (None,),
    "soft_cap": (None,),
    "rotary": (None,),
    "alibi": (False,),
}
_EMBEDDINGS, _LAYER = "bert.embeddings", "bert.encoder.layer.{}"
_TRANSFORM = "cls.predictions.transform"
# Linear's weights are (out, in).
_PRODUCTS = {
    f"{_LAYER}.attention.self.query": "blocks/attention/body/inputs/q",
    f"{_LAYER}.attention.self.key": "blocks/attention/body/inputs/k",
    f"{_LAYER}.attention.self.value": "blocks/attention/body/inputs/v",
    f"{_LAYER}.attention.output.dense": "blocks/attention/body/out",
    f"{_LAYER}.intermediate.dense": "blocks/mlp/body/inputs",
    f"{_LAYER}.output.dense": "blocks/mlp/body/out/dense",
    f"{_TRANSFORM}.dense": "transform/dense",
}
_NORMS = {
    f"{_EMBEDDINGS}.LayerNorm": "norm",
    f"{_LAYER}.attention.output.LayerNorm": "blocks/attention_norm",
    f"{_LAYER}.output.LayerNorm": "blocks/mlp_norm",
    f"{_TRANSFORM}.LayerNorm": "transform/norm",
}

ROWS = (
    Row(f"{_EMBEDDINGS}.word_embeddings.weight", ("tokens/table",)),
    Row(f"{_EMBEDDINGS}.position_embeddings.weight", ("places/table",)),
    Row(f"{_EMBEDDINGS}.token_type_embeddings.weight", ("types/table",)),
    *(Row(f"{n}.weight", (f"{path}/w",), turned=True) for n, path in _PRODUCTS.items()),
    *(Row(f"{n}.bias", (f"{path}/b",)) for n, path in _PRODUCTS.items()),
    *(Row(f"{n}.weight", (f"{path}/scale",)) for n, path in _NORMS.items()),
    *(Row(f"{n}.bias", (f"{path}/bias",)) for n, path in _NORMS.items()),
    Row("cls.predictions.bias", ("tokens/b",)),
)
# What the logits of hidden tokens do not ask for, and files hold all the same.
BUFFERS = ("*.position_ids", "bert.pooler.*", "cls.seq_relationship.*")
# The same numbers again, in older files.
COPIES = {
    "cls.predictions.decoder.weight": f"{_EMBEDDINGS}.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def options_of(settings: Settings, dropout: float | None = None) -> Options:
    """What `fnn.models.bert` is made with, in place of the config's dropout perhaps another.

    Raises:
        Unlike: the config asks for what `bert` is not.

    >>> sizes = {"vocab_size": 11, "hidden_size": 6, "intermediate_size": 12}
    >>> sizes |= {"num_hidden_layers": 2, "num_attention_heads": 3, "max_position_embeddings": 8}
    >>> options_of(Settings(sizes))["types"], options_of(Settings(sizes))["epsilon"]
    (2, 1e-12)
    """
    for key, supported in {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }.items():
        settings.require(key, supported)
    return {
        "vocabulary": settings.count("vocab_size"),
        "length": settings.count("max_position_embeddings"),
        "width": settings.count("hidden_size"),
        "depth": settings.count("num_hidden_layers"),
        "heads": settings.count("num_attention_heads"),
        "types": settings.count("type_vocab_size", 2),
        "hidden": settings.count("intermediate_size"),
        "epsilon": settings.number("layer_norm_eps", 1e-12),
        "dropout": _dropout(settings) if dropout is None else dropout,
    }


def _dropout(settings: Settings) -> float:
    found = {settings.number(key, 0.1) for key in _DROPOUTS}
    if len(found) > 1:
        raise Unlike(
            f"{' and '.join(_DROPOUTS)} are "
            f"{' and '.join(str(settings.get(k, 0.1)) for k in _DROPOUTS)}: one number for both is "
            "supported; give dropout="
        )
    return found.pop()


def config_of(options: Config) -> Options:
    """The keys of the config.json of a `fnn.models.bert` that was made with these options.

    Raises:
        Unlike: it is no BERT.

    >>> from funcnn.models import bert
    >>> config_of(bert(11, length=8, width=6, heads=3, types=2).options)["intermediate_size"]
    24
    >>> config_of(bert(11, width=6, heads=3).options)
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: BERT has no types=0
    """
    width, types = options["width"], options["types"]
    assert isinstance(width, int)
    # The table of types is there, of one type at least.
    here = {"key_heads": (None, options["heads"]), "types": (types or None,)}
    refuse("BERT", options, {**_ALWAYS, **here})
    return {
        "vocab_size": options["vocabulary"],
        "hidden_size": width,
        "num_hidden_layers": options["depth"],
        "num_attention_heads": options["heads"],
        "intermediate_size": options.get("hidden") or 4 * width,
        "hidden_act": "gelu",
        "max_position_embeddings": options["length"],
        "type_vocab_size": types,
        "layer_norm_eps": options["epsilon"],
        "tie_word_embeddings": True,
        **dict.fromkeys(_DROPOUTS, options["dropout"]),
    }
