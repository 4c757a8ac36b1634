"""What is off, in figures: as many digits as it takes to see it."""

from __future__ import annotations

import math

import numpy as np

from funcnn.types import ArrayLike

_INFORMATIVE = 6  # significant digits that are always shown, where they are not zeros
_ALL = 17  # tell any two numbers in float64 apart
_UNEXPLAINED = 1e-3  # of the error, where a factor is said to explain it
_EXACT = 1e-5  # and of the gradient


def figures(value: float, *others: float) -> list[str]:
    """The numbers to the digit in which the first differs from each of the others.

    At least 6 significant digits, and more only where the first would look like another number.

    >>> figures(0.4199743, 0.4199739)
    ['0.4199743', '0.4199739']
    >>> figures(2.0, 1.0), figures(1 / 3)
    (['2', '1'], ['0.333333'])
    """
    texts: list[str] = []
    for digits in range(_INFORMATIVE, _ALL + 1):
        texts = [f"{v:.{digits}g}" for v in (value, *others)]
        if all(t != texts[0] for t, v in zip(texts[1:], others, strict=True) if v != value):
            break
    return texts


def factor_figure(c: float, within: float = 0.0) -> str:
    """A factor, to the digit in which it differs from a whole number and from the inverse of one.

    Args:
        c: the factor.
        within: as close as this, relatively, it is that number.

    >>> factor_figure(1.000001), factor_figure(2.0), factor_figure(1 / 3), factor_figure(-0.1250001)
    ('1.000001', '2', '0.333333', '-0.1250001')
    >>> factor_figure(2 + 1e-15, within=1e-9)
    '2'
    """
    if not math.isfinite(c) or c == 0:
        return f"{c:.6g}"
    whole = [float(round(c))] if abs(c) >= 1 else [1 / round(1 / c)]
    return figures(c, *(v for v in whole if abs(c - v) > within * abs(v)))[0]


def describe_error(manual: ArrayLike, automatic: ArrayLike | None, truth: ArrayLike) -> str:
    """The factor between a gradient and its truth, where there is one, and the worst element.

    >>> describe_error(np.array([-2.0, -4.0]), None, np.array([1.0, 2.0]))
    'manual = -2 x truth; worst at [1]: manual -4, truth 2'
    >>> describe_error(np.array([0.4199743, 1.0]), None, np.array([0.4199739, 1.0]))
    'worst at [0]: manual 0.4199743, truth 0.4199739'
    """
    manual, truth = np.asarray(manual, np.float64), np.asarray(truth, np.float64)
    off = np.nan_to_num(np.abs(manual - truth), nan=np.inf)
    worst = np.unravel_index(np.argmax(off), truth.shape)
    values = {"manual": manual, "truth": truth}
    if automatic is not None:
        values = {"manual": manual, "automatic": np.asarray(automatic, np.float64), "truth": truth}
    at = {name: float(v[worst]) for name, v in values.items()}
    # The automatic one may be as good as the truth: it must not cost a digit.
    digits = next(
        (n for n in range(_INFORMATIVE, _ALL) if _apart(at["manual"], at["truth"], n)), _ALL
    )
    each = ", ".join(f"{name} {v:.{digits}g}" for name, v in at.items())
    text = f"worst at {[int(i) for i in worst]}: {each}"
    factor = _factor(manual, truth)
    return f"manual = {factor} x truth; {text}" if factor else text


def _apart(a: float, b: float, digits: int) -> bool:
    return f"{a:.{digits}g}" != f"{b:.{digits}g}"


def _factor(manual: np.ndarray, truth: np.ndarray) -> str:
    """The factor that explains the error, "" where none does."""
    size = float(np.vdot(truth, truth))
    c = float(np.vdot(truth, manual)) / size if size else math.nan
    if not math.isfinite(c) or c == 0:
        return ""
    remainder = float(np.linalg.norm(manual / c - truth)) / math.sqrt(size)
    explained = remainder <= min(_EXACT, _UNEXPLAINED * abs(c - 1))
    # Beside 1 every digit counts; beside another number they are those of a low precision.
    within = max(remainder, 1e-12) if round(abs(c)) == 1 else 1e-6
    return factor_figure(c, within) if explained else ""
