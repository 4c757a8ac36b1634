"""What a model is trained for: a task, its loss, its metrics.

task: of a batch, the inputs of a model and the targets of its outputs; the first file to read.
metric: a figure of a whole split. augmenting: what is done to a batch first. measured: a model at a
task, as what a step minimises and what an evaluation looks at; scored: its head and its loss in
one. kinds, losses, metrics: those that a
config chooses by name, a file each.
"""

from funcnn.names import reexported as _reexported
from funcnn.task.metric import Metric as Metric
from funcnn.task.metric import mean_of as mean_of
from funcnn.task.task import Task as Task

__all__ = _reexported(__file__)
