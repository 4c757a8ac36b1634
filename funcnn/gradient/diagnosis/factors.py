"""What a constant factor means: the lengths, scales and numbers of which it may be one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from funcnn.gradient.diagnosis.evidence import Evidence, Hypotheses
from funcnn.gradient.verdict.figures import factor_figure

_MOST_REASONS = 4


def factor(e: Evidence) -> Hypotheses:
    """A constant factor; with a name where it is -1, a length of an axis, or its inverse."""
    c = e.factor()
    if math.isfinite(c):
        text = name_of_factor(c, lengths(e), constants(e), within(e))
        if math.prod(e.shape) == 1:
            text += "; at one number alone other mistakes look the same"
        yield text, lambda draw: c * draw.truth[e.leaf]


def within(e: Evidence) -> float:
    """How far a factor may be from what it is taken for: what rounding does to the fit.

    >>> import numpy as np
    >>> from funcnn.gradient.diagnosis.evidence import Draw
    >>> x = np.ones(3)
    >>> within(Evidence(0, ("x",), (x,), [], (Draw("ones", [], [x], [x]),)))
    1e-09
    """
    return 1e-9 if e.unit < 1e-10 else 2 * e.unit


def lengths(e: Evidence) -> list[tuple[int, str]]:
    """The lengths of all axes, and the sizes, of the outputs, the leaf and the other arguments.

    >>> import numpy as np
    >>> from funcnn.gradient.diagnosis.evidence import Draw
    >>> x = np.ones((2, 3))
    >>> lengths(Evidence(0, ("x",), (x,), [], (Draw("ones", [], [x], [x]),)))
    [(2, 'axis 0 of x'), (3, 'axis 1 of x'), (6, 'all of x')]
    """
    arrays = [(e.output(i), y) for i, y in enumerate(e.y)]
    order = [e.leaf, *(i for i in range(len(e.x)) if i != e.leaf)]
    arrays += [(e.names[i], e.x[i]) for i in order]
    of_axes = [(n, f"axis {a} of {name}") for name, x in arrays for a, n in enumerate(x.shape)]
    return of_axes + [(x.size, f"all of {name}") for name, x in arrays if x.ndim > 1]


def constants(e: Evidence) -> list[tuple[float, str]]:
    """The numbers by which the function multiplies, and what it means to leave one out.

    >>> import numpy as np
    >>> from funcnn.gradient.diagnosis.evidence import Draw
    >>> x, s = np.ones(3), np.array(0.5)
    >>> constants(Evidence(0, ("x", "s"), (x, s), [], (Draw("ones", [], [x, s], [x, s]),)))
    [(0.5, 'not multiplied by s'), (2.0, 'not divided by s')]
    """
    scalars = [(n, float(a)) for n, a in zip(e.names, e.x, strict=True) if a.ndim == 0]
    numbers = list(e.constants)
    for name, value in scalars:
        if value and math.isfinite(value):
            numbers += [(value, f"not multiplied by {name}"), (1 / value, f"not divided by {name}")]
    return numbers


def name_of_factor(
    c: float,
    lengths: list[tuple[int, str]],
    constants: Sequence[tuple[float, str]] = (),
    within: float = 1e-9,
) -> str:
    """What a constant factor may mean; where several mistakes give the same one, each of them.

    Args:
        c: the factor.
        lengths: the lengths of axes, and what they are lengths of.
        constants: numbers by which the function multiplies, and what to say if one is left out.
        within: as close as this, relatively, it is the number that it is taken for.

    >>> name_of_factor(8.0, [(8, "axis 0 of x")])
    'sum for mean over axis 0 of x, or a scale of 1/8 left out (x 8)'
    >>> name_of_factor(-1.0, []), name_of_factor(1.000001, [])
    ('the sign is wrong (x -1)', 'a constant factor (x 1.000001)')
    """

    def near(value: float) -> bool:
        return abs(abs(c) - value) <= within * value

    figure = factor_figure(c, within)
    if c < 0 and near(1):
        return f"the sign is wrong (x {figure})"
    reasons, fraction = _reasons(near, lengths)
    known = dict.fromkeys(text for v, text in constants if v and near(abs(1 / v)) and not near(1))
    if not known and not reasons:
        return f"a constant factor (x {figure})"
    reasons = [*known, *(reasons or ["another constant factor"])][:_MOST_REASONS]
    sign = ", and the sign is wrong" if c < 0 else ""
    equal = f" = {'-' if c < 0 else ''}{fraction}" if fraction else ""
    return f"{_or(reasons)} (x {figure}{equal}){sign}"


def _reasons(
    near: Callable[[float], bool], lengths: list[tuple[int, str]]
) -> tuple[list[str], str]:
    """The mistakes that give this factor, and it as a fraction where it is one."""
    known = [(n, where) for n, where in lengths if n > 1]
    for n in sorted({2, *(n for n, _ in known)}):
        over = [where for m, where in known if m == n]
        if near(n):
            twice = ["counted twice"] if n == 2 else []
            mean = [f"sum for mean over {_or_others(over)}"] if over else []
            return [*mean, *twice, f"a scale of 1/{n} left out"], ""
        if near(1 / n):
            mean = [f"mean for sum over {_or_others(over)}"] if over else []
            return [*mean, f"a factor {n} left out"], f"1/{n}" if n > 2 else ""
    for n in sorted({n for n, _ in known if n > 2}):
        over = [where for m, where in known if m == n]
        if near(math.sqrt(n)) or near(1 / math.sqrt(n)):
            return [f"scaled by the square root of {_or_others(over)}"], ""
    for (n, a), (m, b) in itertools.permutations(known, 2):
        if near(n / m):
            mean = f"a mean over {b} in place of {a}, or the reverse"
            return [mean, "a scale left out"], f"{n}/{m}"
    return [], ""


def _or(texts: list[str]) -> str:
    """All of them, with "or" before the last.

    >>> _or(["a"]), _or(["a", "b"]), _or(["a", "b", "c"])
    ('a', 'a, or b', 'a, b, or c')
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])}, or {texts[-1]}"


def _or_others(places: list[str]) -> str:
    """At most three of several places of one length."""
    return " or ".join(places[:3]) + (" or others as long" if len(places) > 3 else "")
