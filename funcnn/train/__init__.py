"""Training: a pure compiled step, the loop round it, evaluation, checkpoints, metrics and curves.

Nothing here knows of layers or rules: any pure JAX loss `loss(params, batch, key)` can be trained.

step: one update, compiled; the first file to read. loss, accumulation, update, health: what a loss
returns, its gradient, also part by part of a batch, the new params, and which updates are not made.
mesh, mesh_check, processes: many devices, and many processes. loop: `fit`, round the step. state,
signature, statistics, extra, averages: what the next step depends on, as arrays, shapes and running
means, what a loss carries along, and means of the params. evaluation: a whole split. optimizer,
schedules, by_name, ranges: optax by name, with learning rates that change and warm up, and what its
options may be. groups: params that are trained otherwise than the rest. schedule_free: optimizers
that evaluate other params than they train. guard, diagnosis: what must not go unnoticed, and why a
run halted. hooks, early_stopping: what a caller has done at the loop's events, and when that ends a
run. saves: which states of a run are written, and when. checkpoint: states on the disk; best: which
of them is; step_folders: where each lies; background: a save beside the training; reading: one of
them read back. storage, manifest, digests, damage, quiet: arrays, digests of files and of leaves,
what has changed, and what orbax says. writers, metrics_log, tensorboard: where records go.
progress, curves: what a person sees. speed, profile: how fast the calls are, and what is in them.
telling: all that one run tells. memory: freed memory is kept.
"""

from funcnn.names import reexported as _reexported
from funcnn.train.averages import average_params as average_params
from funcnn.train.checkpoint import Checkpoints as Checkpoints
from funcnn.train.curves import learning_curves as learning_curves
from funcnn.train.early_stopping import early_stopping as early_stopping
from funcnn.train.evaluation import make_evaluation as make_evaluation
from funcnn.train.guard import TrainingError as TrainingError
from funcnn.train.health import Guard as Guard
from funcnn.train.loop import fit as fit
from funcnn.train.manifest import CheckpointError as CheckpointError
from funcnn.train.manifest import DamagedCheckpoint as DamagedCheckpoint
from funcnn.train.memory import keep_freed_memory as keep_freed_memory
from funcnn.train.mesh import Placement as Placement
from funcnn.train.mesh import make_mesh as make_mesh
from funcnn.train.mesh_check import check_mesh as check_mesh
from funcnn.train.metrics_log import MetricsError as MetricsError
from funcnn.train.metrics_log import MetricsLog as MetricsLog
from funcnn.train.metrics_log import read_metrics as read_metrics
from funcnn.train.optimizer import make_optimizer as make_optimizer
from funcnn.train.profile import Profile as Profile
from funcnn.train.progress import make_progress as make_progress
from funcnn.train.schedules import make_schedule as make_schedule
from funcnn.train.speed import Speed as Speed
from funcnn.train.state import TrainState as TrainState
from funcnn.train.statistics import fold_statistics as fold_statistics
from funcnn.train.statistics import merge_statistics as merge_statistics
from funcnn.train.step import make_step as make_step
from funcnn.train.tensorboard import TensorBoardLog as TensorBoardLog
from funcnn.train.writers import MetricsWriter as MetricsWriter

__all__ = _reexported(__file__)
