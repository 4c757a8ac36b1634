"""Data as NumPy arrays: splits of named arrays with a row for each example, and their batches.

sets: the data sets, a file each. loading: one of them by its name; own: what a user's function
returned, as one. dataset: what all return, and its checks. batches: which rows a step sees;
streams: the same where a state is carried from batch to batch; iterables: batches that are made
elsewhere; known: what a run keeps of its data; contents: whether they are still the same. What the
sets stand on: files and idx_format, image_files, columns read a file; cutting, windows and tables
make splits; vocabularies make tokens of text, codecs text of tokens again; optional has the
packages that not every machine has.
"""

from funcnn.data.batches import make_batches as make_batches
from funcnn.data.dataset import DataError as DataError
from funcnn.data.dataset import Dataset as Dataset
from funcnn.data.dataset import Split as Split
from funcnn.data.dataset import check_finite as check_finite
from funcnn.data.idx_format import read_idx as read_idx
from funcnn.data.iterables import batches_of as batches_of
from funcnn.data.loading import load as load
from funcnn.data.sets.breast_cancer import breast_cancer as breast_cancer
from funcnn.data.sets.cifar10 import cifar10 as cifar10
from funcnn.data.sets.csv import csv as csv
from funcnn.data.sets.diabetes import diabetes as diabetes
from funcnn.data.sets.digits import digits as digits
from funcnn.data.sets.idx import idx as idx
from funcnn.data.sets.images import images as images
from funcnn.data.sets.iris import iris as iris
from funcnn.data.sets.npz import npz as npz
from funcnn.data.sets.text import text as text
from funcnn.data.sets.tokens import tokens as tokens
from funcnn.data.sets.wine import wine as wine
from funcnn.data.streams import make_streams as make_streams
from funcnn.names import reexported as _reexported

__all__ = _reexported(__file__)
