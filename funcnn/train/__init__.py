"""Training: a pure compiled step, the loop round it, evaluation, checkpoints, metrics and curves.

Nothing here knows of layers or rules: any pure JAX loss `loss(params, batch, key)` can be trained.

step: one update, compiled; the first file to read. loop: `fit`, round it. state, signature,
statistics: what the next step depends on, as arrays, shapes and running means. evaluation: a whole
split. optimizer: optax by name. guard: what must not go unnoticed. checkpoint, manifest, quiet: a
state on the disk, its digests, and what orbax says. metrics_log, progress, curves: what a run
tells. memory: freed memory is kept.
"""

from funcnn.train.checkpoint import Checkpoints
from funcnn.train.curves import learning_curves
from funcnn.train.evaluation import make_evaluation
from funcnn.train.guard import TrainingError
from funcnn.train.loop import fit
from funcnn.train.manifest import CheckpointError, DamagedCheckpoint
from funcnn.train.memory import keep_freed_memory
from funcnn.train.metrics_log import MetricsError, MetricsLog, read_metrics
from funcnn.train.optimizer import make_optimizer, make_schedule
from funcnn.train.progress import make_progress
from funcnn.train.state import TrainState
from funcnn.train.statistics import fold_statistics, merge_statistics
from funcnn.train.step import make_step

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DamagedCheckpoint",
    "MetricsError",
    "MetricsLog",
    "TrainState",
    "TrainingError",
    "fit",
    "fold_statistics",
    "keep_freed_memory",
    "learning_curves",
    "make_evaluation",
    "make_optimizer",
    "make_progress",
    "make_schedule",
    "make_step",
    "merge_statistics",
    "read_metrics",
]
