"""The two families of models that go in and out, and which of them a config.json is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from funcnn.exchange.huggingface import gpt2, llama
from funcnn.exchange.huggingface.rows import Row
from funcnn.exchange.huggingface.settings import Config, Options, Settings, Unlike
from funcnn.models import transformer
from funcnn.models.transformer import Transformer


class Family(NamedTuple):
    """A family: what transformers calls it, which model of ours it is, and its arrays.

    Attributes:
        model_type, architecture: the words of a config.json.
        prefix: what all names but the head's begin with, unless a file leaves it out.
        build: the model of ours, from its options.
        options_of, config_of: those options from a config.json, and back.
        rows: the arrays.
        buffers: patterns of names of what is no weight, and is not read.

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


# By what a Transformer of ours calls its family.
FAMILIES = {
    "gpt": Family(
        *("gpt2", "GPT2LMHeadModel", "transformer.", transformer.gpt),
        *(gpt2.options_of, gpt2.config_of, gpt2.ROWS, gpt2.BUFFERS),
    ),
    "llama": Family(
        *("llama", "LlamaForCausalLM", "model.", transformer.llama),
        *(llama.options_of, llama.config_of, llama.ROWS, llama.BUFFERS),
    ),
}


def family_of(settings: Settings) -> Family:
    """The family of a config.json.

    Raises:
        Unlike: it is of another, of another task, or quantized.

    >>> family_of(Settings({"model_type": "gpt2"})).prefix
    'transformer.'
    >>> family_of(Settings({"model_type": "bert"}))
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: model_type is 'bert': 'gpt2', 'llama' are supported
    """
    by_type = {family.model_type: family for family in FAMILIES.values()}
    if settings.get("model_type") is None:
        raise Unlike(f"model_type is missing: {', '.join(map(repr, by_type))} are supported")
    family = settings.choice("model_type", "", by_type)
    settings.require("architectures", [family.architecture])
    settings.require("quantization_config")
    return family
