"""funcnn: backprop that you can read, check and beat.

A model is a pure function `f(params, x)`; every operation carries two derivatives, the one derived
by hand and the one that JAX derives; the tools compare the two.

core, rules, layers and models are what a network is made of; data, train and pictures are for
training it; gradient compares, testing does so in your tests, bench measures. experiment makes all
of it from a config, foreign finds what a config names, commands and cli are the command line,
report prints. types has the words of signatures, spelling the question what was meant, version the
version.

The names are resolved when they are first used (PEP 562), so that `import funcnn`, and the command
line's help and errors, do not import jax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from funcnn.version import __version__ as __version__

if TYPE_CHECKING:
    from funcnn import data, models, rules, testing, train
    from funcnn.core.backprop import backprop, backprop_steps
    from funcnn.core.composition import chain, parallel, residual
    from funcnn.core.layer import Layer, as_layer, layer_from_rule
    from funcnn.core.registry import Case, Rule, rule
    from funcnn.core.stack import repeat
    from funcnn.core.summary import summary
    from funcnn.gradient.check import CheckReport, GradientError, check
    from funcnn.gradient.comparison.compare import Comparison, compare
    from funcnn.gradient.comparison.training import compare_training
    from funcnn.gradient.mutation.score import mutation_score
    from funcnn.gradient.program.without_rules import without_rules
    from funcnn.gradient.sites.census import Census, census
    from funcnn.layers import (
        average_pool,
        batch_norm,
        bidirectional,
        conv,
        conv_transposed,
        dense,
        dropout,
        elu,
        embedding,
        flatten,
        gelu,
        global_average_pool,
        global_max_pool,
        group_norm,
        gru,
        instance_norm,
        layer_norm,
        leaky_relu,
        log_softmax,
        lstm,
        max_pool,
        relu,
        rms_norm,
        rnn,
        sigmoid,
        silu,
        softmax,
        softplus,
        tanh,
    )
    from funcnn.models import lenet, mlp
    from funcnn.rules import registered_rules
    from funcnn.train.statistics import fold_statistics

# Where each public name is defined.
_HOME = {
    "funcnn.core.registry": ("Case", "Rule", "rule"),
    "funcnn.rules": ("registered_rules",),
    "funcnn.core.layer": ("Layer", "as_layer", "layer_from_rule"),
    "funcnn.core.composition": ("chain", "parallel", "residual"),
    "funcnn.core.stack": ("repeat",),
    "funcnn.core.summary": ("summary",),
    "funcnn.layers": (
        *("dense", "conv", "conv_transposed", "embedding", "dropout", "flatten"),
        *("max_pool", "average_pool", "global_max_pool", "global_average_pool"),
        *("sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu"),
        *("softmax", "log_softmax"),
        *("layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm"),
        *("rnn", "lstm", "gru", "bidirectional"),
    ),
    "funcnn.models": ("mlp", "lenet"),
    "funcnn.train.statistics": ("fold_statistics",),
    "funcnn.gradient.program.without_rules": ("without_rules",),
    "funcnn.core.backprop": ("backprop", "backprop_steps"),
    "funcnn.gradient.sites.census": ("census", "Census"),
    "funcnn.gradient.check": ("check", "CheckReport", "GradientError"),
    "funcnn.gradient.comparison.compare": ("compare", "Comparison"),
    "funcnn.gradient.comparison.training": ("compare_training",),
    "funcnn.gradient.mutation.score": ("mutation_score",),
}
_MODULES = ("rules", "models", "data", "train", "testing")
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Case",
    "Census",
    "CheckReport",
    "Comparison",
    "GradientError",
    "Layer",
    "Rule",
    "as_layer",
    "average_pool",
    "backprop",
    "backprop_steps",
    "batch_norm",
    "bidirectional",
    "census",
    "chain",
    "check",
    "compare",
    "compare_training",
    "conv",
    "conv_transposed",
    "data",
    "dense",
    "dropout",
    "elu",
    "embedding",
    "flatten",
    "fold_statistics",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "instance_norm",
    "layer_from_rule",
    "layer_norm",
    "leaky_relu",
    "lenet",
    "log_softmax",
    "lstm",
    "max_pool",
    "mlp",
    "models",
    "mutation_score",
    "parallel",
    "registered_rules",
    "relu",
    "repeat",
    "residual",
    "rms_norm",
    "rnn",
    "rule",
    "rules",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "summary",
    "tanh",
    "testing",
    "train",
    "without_rules",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"funcnn.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"funcnn has no {name!r}; its names are in dir(funcnn)")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
