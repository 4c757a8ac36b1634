"""One commented TOML file a run, checked before anything heavy is imported.

An unknown key, a wrong type, a value out of range or a combination that cannot work is an error
that names the file, the key and what would be right; all problems of a file are listed at once. No
JAX here: a typing mistake must not cost an import of JAX.

schema: the tables and their defaults; load: file and overrides to a checked config; text: what the
text means; toml: the way back to text.
"""

from funcnn.config.load import ConfigError, check_known, load_config
from funcnn.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    MetricsConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TaskConfig,
    TrainConfig,
    dump_config,
)

__all__ = [
    "AugmentConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "LossConfig",
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
