"""Training: a pure compiled step, the loop round it, evaluation, checkpoints, metrics and curves.

Nothing here knows of layers or rules: any pure JAX loss `loss(params, batch, key)` can be trained.

step: one update, compiled; the first file to read. loop: `fit`, round it. state, signature,
statistics, extra, averages: what the next step depends on, as arrays, shapes and running means,
what a loss carries along, and means of the params. evaluation: a whole split. optimizer, groups:
optax by name, and params that are trained otherwise than the rest. guard: what must not go
unnoticed. hooks, early_stopping: what a caller has done at the loop's events, and when that ends a
run. checkpoint, best, storage, manifest, quiet: states on the disk, which of them is the best,
their arrays, their digests, and what orbax says. metrics_log,
progress, curves: what a run tells. memory: freed memory is kept.
"""

from funcnn.names import reexported as _reexported
from funcnn.train.averages import average_params as average_params
from funcnn.train.checkpoint import Checkpoints as Checkpoints
from funcnn.train.curves import learning_curves as learning_curves
from funcnn.train.early_stopping import early_stopping as early_stopping
from funcnn.train.evaluation import make_evaluation as make_evaluation
from funcnn.train.guard import TrainingError as TrainingError
from funcnn.train.loop import fit as fit
from funcnn.train.manifest import CheckpointError as CheckpointError
from funcnn.train.manifest import DamagedCheckpoint as DamagedCheckpoint
from funcnn.train.memory import keep_freed_memory as keep_freed_memory
from funcnn.train.metrics_log import MetricsError as MetricsError
from funcnn.train.metrics_log import MetricsLog as MetricsLog
from funcnn.train.metrics_log import read_metrics as read_metrics
from funcnn.train.optimizer import make_optimizer as make_optimizer
from funcnn.train.optimizer import make_schedule as make_schedule
from funcnn.train.progress import make_progress as make_progress
from funcnn.train.state import TrainState as TrainState
from funcnn.train.statistics import fold_statistics as fold_statistics
from funcnn.train.statistics import merge_statistics as merge_statistics
from funcnn.train.step import make_step as make_step

__all__ = _reexported(__file__)
