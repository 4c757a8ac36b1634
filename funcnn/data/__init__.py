"""Data as NumPy arrays with a row for each example, in splits that share none.

dataset: what a source returns, and its checks; the first file to read. sets: the sources, a file
each; digits is the default, 1,797 real images that come with scikit-learn. loading: one of them by
name. own: what a user's function returned, as one of them. batches: which rows a step sees.
streams: the same where rows go on from batch to batch. cutting: a test or validation split out of
one piece. files, optional, idx_format: what is read, packages that are not always there, one
format. windows, vocabularies: rows of text, and what its tokens stand for.
"""

from funcnn.data.batches import make_batches as make_batches
from funcnn.data.dataset import DataError as DataError
from funcnn.data.dataset import Dataset as Dataset
from funcnn.data.dataset import Split as Split
from funcnn.data.dataset import check_finite as check_finite
from funcnn.data.idx_format import read_idx as read_idx
from funcnn.data.loading import load as load
from funcnn.data.sets.digits import digits as digits
from funcnn.data.sets.idx import idx as idx
from funcnn.data.sets.text import text as text
from funcnn.data.sets.tokens import tokens as tokens
from funcnn.data.streams import make_streams as make_streams
from funcnn.names import reexported as _reexported

__all__ = _reexported(__file__)
