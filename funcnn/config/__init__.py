"""One commented TOML file a run, checked before anything heavy is imported.

An unknown key, a wrong type, a value out of range or a combination that cannot work is an error
that names the file, the key and what would be right; all problems of a file are listed at once. No
JAX here: a typing mistake must not cost an import of JAX.

schema, training: the tables and their defaults; table: what every table is; load: file and
overrides to a checked config; text: what the text means; toml: the way back to text.
"""

from funcnn.config.load import ConfigError, check_known, load_config
from funcnn.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    MeshConfig,
    MetricsConfig,
    ModelConfig,
    RunConfig,
    TaskConfig,
    dump_config,
)
from funcnn.config.training import OptimizerConfig, ScheduleConfig, TrainConfig

__all__ = [
    "AugmentConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "LossConfig",
    "MeshConfig",
    "MetricsConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "TaskConfig",
    "TrainConfig",
    "check_known",
    "dump_config",
    "load_config",
]
