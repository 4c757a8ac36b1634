"""What these steps take from the lecture's folder: how it draws, and how it verifies."""

import sys
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parents[1] / "lecture"))

from drawing import COLOURS, new_figure, save
from verified import Verification

__all__ = ["COLOURS", "Verification", "new_figure", "save"]

# The programs are small, and run once: to compile them is what takes time.
jax.config.update("jax_disable_most_optimizations", True)
