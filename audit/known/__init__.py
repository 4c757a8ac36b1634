"""The wrong derivatives that are known, each with a program that shows it and the formula proposed.

formulas, special: the formula is wrong, or says zero of what it does not know; special has those of
jax.scipy.special. digits: the formula is right, and floating point loses the derivative, which
another form of it keeps. without: no rule, and automatic differentiation goes wrong. `findings.py`
writes the pages from them.
"""

from __future__ import annotations

from known import digits, formulas, special, without
from known.finding import Finding, Line, lines_of

__all__ = ["ALL", "Finding", "Line", "lines_of"]

ALL = (*formulas.FINDINGS, *special.FINDINGS, *without.FINDINGS, *digits.FINDINGS)
