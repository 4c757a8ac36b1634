"""What a check of some arguments takes in memory."""

from __future__ import annotations

import math

import jax

from funcnn.types import PyTree

MEGABYTES = 2048.0  # that a check may take, unless somebody says so
# It holds several pullbacks and cotangents in float64, and what their programs compute on the way.
_COPIES = 40


def megabytes_of_check(tree: PyTree) -> float:
    """About how many megabytes a check takes at these arguments: 40 times their own bytes.

    >>> import numpy as np
    >>> megabytes_of_check((np.ones((512, 512), np.float32), 3))
    40.0
    """
    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(tree)) * _COPIES / 2**20


def too_large(tree: PyTree, megabytes: float) -> str:
    """Why a check at these arguments is not begun, or "".

    >>> import numpy as np
    >>> too_large(np.ones((1024, 1024), np.float32), 100.0)
    'it takes about 160 MB, and 100 are allowed: give smaller arguments, or megabytes=160'
    >>> too_large(np.ones(3), 100.0)
    ''
    """
    needed = megabytes_of_check(tree)
    if needed <= megabytes:
        return ""
    more = f"give smaller arguments, or megabytes={math.ceil(needed)}"
    return f"it takes about {_short(needed)} MB, and {_short(megabytes)} are allowed: {more}"


def _short(megabytes: float) -> str:
    return f"{megabytes:,.0f}" if megabytes >= 1 else f"{megabytes:.2g}"
