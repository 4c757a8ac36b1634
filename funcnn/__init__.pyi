"""The public names of funcnn with their types, for type checkers and for names.py."""

from funcnn import augment as augment
from funcnn import data as data
from funcnn import models as models
from funcnn import rules as rules
from funcnn import task as task
from funcnn import testing as testing
from funcnn import train as train
from funcnn.core.backprop import backprop as backprop
from funcnn.core.backprop import backprop_steps as backprop_steps
from funcnn.core.beside import pass_beside as pass_beside
from funcnn.core.caching import Cache as Cache
from funcnn.core.caching import apply_cached as apply_cached
from funcnn.core.caching import start_cache as start_cache
from funcnn.core.composite import composite as composite
from funcnn.core.composition import chain as chain
from funcnn.core.composition import parallel as parallel
from funcnn.core.composition import residual as residual
from funcnn.core.layer import Layer as Layer
from funcnn.core.layer import as_layer as as_layer
from funcnn.core.layer import layer_from_rule as layer_from_rule
from funcnn.core.precision import compute_in as compute_in
from funcnn.core.registry import Case as Case
from funcnn.core.registry import Rule as Rule
from funcnn.core.registry import rule as rule
from funcnn.core.remat import remat as remat
from funcnn.core.stack import repeat as repeat
from funcnn.core.summary import summary as summary
from funcnn.exchange.huggingface.load import Pretrained as Pretrained
from funcnn.exchange.huggingface.load import load_huggingface as load_huggingface
from funcnn.exchange.huggingface.save import save_huggingface as save_huggingface
from funcnn.exchange.onnx.export import export_onnx as export_onnx
from funcnn.exchange.stablehlo import export_stablehlo as export_stablehlo
from funcnn.exchange.torch.state_dict import import_torch as import_torch
from funcnn.exchange.weights import load_weights as load_weights
from funcnn.exchange.weights import save_weights as save_weights
from funcnn.generation.writing import generate as generate
from funcnn.generation.writing import generate_stream as generate_stream
from funcnn.gradient.check import CheckReport as CheckReport
from funcnn.gradient.check import GradientError as GradientError
from funcnn.gradient.check import check as check
from funcnn.gradient.comparison.compare import Comparison as Comparison
from funcnn.gradient.comparison.compare import compare as compare
from funcnn.gradient.comparison.training import compare_training as compare_training
from funcnn.gradient.hunt.hunt import HuntReport as HuntReport
from funcnn.gradient.hunt.hunt import hunt as hunt
from funcnn.gradient.mutation.score import mutation_score as mutation_score
from funcnn.gradient.program.without_rules import without_rules as without_rules
from funcnn.gradient.sites.census import Census as Census
from funcnn.gradient.sites.census import census as census
from funcnn.layers import *
from funcnn.models import *
from funcnn.rules import registered_rules as registered_rules
from funcnn.runs.loaded import LoadedRun as LoadedRun
from funcnn.runs.loaded import load_run as load_run
from funcnn.task import *
from funcnn.train.statistics import fold_statistics as fold_statistics
from funcnn.version import __version__ as __version__

__all__: list[str]
