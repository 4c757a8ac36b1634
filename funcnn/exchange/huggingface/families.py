"""The families of models that go in and out, and which of them a config.json is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from funcnn import models
from funcnn.exchange.huggingface import bert, gpt2, llama
from funcnn.exchange.huggingface.rows import Row
from funcnn.exchange.huggingface.settings import Config, Options, Settings, Unlike
from funcnn.models.transformer import Transformer


class Family(NamedTuple):
    """A family: what transformers calls it, which model of ours it is, and its arrays.

    Attributes:
        model_type, architecture: the words of a config.json.
        prefix: what all names but the head's begin with, unless a file leaves it out.
        build: the model of ours, from its options.
        options_of, config_of: those options from a config.json, and back.
        rows: the arrays.
        buffers: patterns of names of what is no weight of the model, and is not read.
        copies: names of what older files hold twice where it is tied, and the first of the two.

    >>> FAMILIES["gpt"].architecture
    'GPT2LMHeadModel'
    """

    model_type: str
    architecture: str
    prefix: str
    build: Callable[..., Transformer]
    options_of: Callable[[Settings, float | None], Options]
    config_of: Callable[[Config], Options]
    rows: tuple[Row, ...]
    buffers: tuple[str, ...]
    copies: Mapping[str, str]


# By what a Transformer of ours calls its family.
FAMILIES = {
    "gpt": Family(
        *("gpt2", "GPT2LMHeadModel", "transformer.", models.gpt),
        *(gpt2.options_of, gpt2.config_of, gpt2.ROWS, gpt2.BUFFERS, gpt2.COPIES),
    ),
    "llama": Family(
        *("llama", "LlamaForCausalLM", "model.", models.llama),
        *(llama.options_of, llama.config_of, llama.ROWS, llama.BUFFERS, llama.COPIES),
    ),
    "bert": Family(
        *("bert", "BertForMaskedLM", "bert.", models.bert),
        *(bert.options_of, bert.config_of, bert.ROWS, bert.BUFFERS, bert.COPIES),
    ),
}


def family_of(settings: Settings) -> Family:
    """The family of a config.json.

    Raises:
        Unlike: it is of another, of another task, or quantized.

    >>> family_of(Settings({"model_type": "gpt2"})).prefix
    'transformer.'
    >>> family_of(Settings({"model_type": "t5"}))
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: model_type is 't5': 'gpt2', 'llama', 'bert' are ...
    """
    by_type = {family.model_type: family for family in FAMILIES.values()}
    if settings.get("model_type") is None:
        raise Unlike(f"model_type is missing: {', '.join(map(repr, by_type))} are supported")
    family = settings.choice("model_type", "", by_type)
    settings.require("architectures", [family.architecture])
    settings.require("quantization_config")
    return family
