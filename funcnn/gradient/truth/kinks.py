"""Whether a gradient that differs from the truth takes another side of a kink or tie.

At a kink any slope between those of the two sides is right; where both sides agree there is none,
whatever the reference says at the point itself. The sides are looked for close to the point: what
the function does still closer is not seen, and then nothing is proved.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from funcnn.gradient.truth.contested import TINY, Contested
from funcnn.gradient.truth.hull import is_of_the_points_beside
from funcnn.gradient.truth.ties import misses_a_tie
from funcnn.gradient.verdict.judge import UNCERTAIN
from funcnn.types import Verdict

SIDES = (1e-8, 1e-10)  # how far to either side of a point its slopes are looked for, relative
_WORST = 8  # elements that are looked at one by one, before the others are in groups
_GROUPS = 16
_ALONE = 64  # of those, where the group says nothing
_STEADY = 1e-3  # relative


def at_kinks(one: Contested) -> tuple[Verdict, str] | None:
    """("pass" or "inconclusive", why) where kinks explain all that differs, else None.

    >>> import jax
    >>> from funcnn.gradient.case.pullbacks import Subject
    >>> x, at_zero = np.array([0.0, 2.0]), np.array([0.3, 1.0])
    >>> f = lambda x: [jax.numpy.maximum(x, 0.0)]
    >>> with jax.enable_x64(True):
    ...     given = Subject(("x",), (x,), f, f, False), (x,), [np.ones(2)], 0
    ...     right, wrong = (
    ...         at_kinks(Contested(*given, m, np.array([0.5, 1.0]), np.full(2, 1e-9)))
    ...         for m in (at_zero, 7 * at_zero)
    ...     )
    >>> right[0], wrong
    ('pass', None)
    """
    kinds = _kinds_of_all(one)
    if not all(kinds) and _is_of_a_point_beside(one):
        kinds = ["kink"]
    missed = misses_a_tie(one) if all(kinds) else True
    if missed is not False:
        if is_of_the_points_beside(one):
            kinds = ["kink"]
        elif missed:
            return None
        else:
            return "inconclusive", f"{UNCERTAIN}: no gradients beside the point make up this one"
    if "hidden" in kinds:
        return "inconclusive", f"{UNCERTAIN}: beside the point the function does more than is seen"
    smooth = kinds.count("smooth")
    others = np.delete(np.ravel(one.truth), one.off)
    what = (
        f"{smooth} elements are what both sides agree on, and the reference is not"
        if smooth
        else f"{len(one.off)} elements stand on a kink or tie, where rule and reference take "
        "other sides"
    )
    return ("pass" if smooth or np.any(others) else "inconclusive"), what


def _kinds_of_all(one: Contested) -> list[str]:
    """What explains the elements that differ; "" among them where nothing explains one."""
    kinds = [str(_kinds(one, np.array([c]))[0]) for c in one.off[:_WORST]]
    if not all(kinds):
        return kinds
    rest, hidden = _open_in_groups(one, one.off[_WORST:])
    kinds += ["hidden"] if hidden else []
    if len(rest) > _ALONE:
        return [""]
    return kinds + [str(_kinds(one, np.array([c]))[0]) for c in rest]


def _is_of_a_point_beside(one: Contested) -> bool:
    """Whether the gradient is that of one point beside: its first or last elements are larger.

    An element of several ties may lie outside its own two slopes: each tie is broken another way.
    """
    x = one.x[one.leaf]
    size = SIDES[1] * (float(np.median(np.abs(x[x != 0]))) if np.any(x) else 1.0)
    everywhere = np.arange(x.size)
    for sign in (-1, 1):
        for ramp in (np.linspace(0.5, 1.0, x.size), np.linspace(1.0, 0.5, x.size)):
            steps = sign * size * ramp
            value, pulled = one.pulled(one.moved(everywhere, steps))
            beside = np.ravel(pulled[one.leaf])
            near = np.abs(np.ravel(one.manual) - beside) <= np.ravel(one.allowed)
            gap = abs(value - one.value - float(beside @ steps))
            if np.all(near) and gap <= one.value_noise + 1e-2 * float(
                np.abs(beside) @ np.abs(steps)
            ):
                return True
    return False


def _open_in_groups(one: Contested, indices: np.ndarray) -> tuple[np.ndarray, bool]:
    """Those of many elements that do not lie on a kink, many at a time; and whether one is hidden.

    A group is moved at once: few of those that tie with each other are in one group.
    """
    if not len(indices):
        return indices, False
    order, left_open = np.random.default_rng(0).permutation(indices), []
    hidden = False
    for group in np.array_split(order, min(_GROUPS, len(order))):
        kinds = _kinds(one, group)
        hidden |= bool(np.any(kinds == "hidden"))
        left_open.append(group[(kinds != "kink") & (kinds != "hidden")])
    return np.concatenate(left_open), hidden


def _kinds(one: Contested, group: np.ndarray) -> np.ndarray:
    """What explains each of some elements that are moved together: "kink", "smooth", "hidden", "".

    "hidden": the slopes of the sides would, and the function does something else between them.
    """
    m, allowed, truth = (np.ravel(d)[group] for d in (one.manual, one.allowed, one.truth))
    sides = _Sides.of(one, group)
    low, high = np.minimum(*sides.close), np.maximum(*sides.close)
    # What is only steep changes less when one looks closer.
    kink = high - low > 0.5 * np.abs(sides.wide[1] - sides.wide[0]) + allowed
    between = (low - allowed <= m) & (m <= high + allowed)
    drift = np.abs(np.mean(sides.wide, 0) - np.mean(sides.close, 0))
    near = allowed + drift
    smooth = (low - near <= m) & (m <= high + near) & (drift + high - low <= _STEADY * np.abs(m))
    kinds = np.select([kink & between, ~kink & smooth], ["kink", "smooth"], "")
    changed = np.max(np.abs(sides.wide - sides.close), 0) > 0.5 * (high - low)
    outside = (truth < low - near) | (truth > high + near)
    hidden = (kink & changed) | (outside & sides.jumps(np.abs(m)))
    return np.where((kinds != "") & hidden, "hidden", kinds)


@dataclasses.dataclass(frozen=True)
class _Sides:
    """The truth of some elements where all of them are moved a little to either side.

    Attributes:
        wide, close: that, (2, n), at the two sizes of `SIDES`.
        steps: how far each is moved at the closer one.
        gaps: what those slopes leave open of the change of the value, at each size and side.
        noise: of the value.
    """

    wide: np.ndarray
    close: np.ndarray
    steps: np.ndarray
    gaps: np.ndarray
    noise: float

    @classmethod
    def of(cls, one: Contested, group: np.ndarray) -> _Sides:
        size = np.abs(one.x[one.leaf].flat[group])
        size = np.where(size > TINY, size, 1.0)
        slopes, gaps = np.empty((2, 2, len(group))), np.empty((2, 2))
        for i, relative in enumerate(SIDES):
            for j, sign in enumerate((-1, 1)):
                steps = sign * relative * size
                value, pulled = one.pulled(one.moved(group, steps))
                slopes[i, j] = np.ravel(pulled[one.leaf])[group]
                gaps[i, j] = abs(value - one.value - float(np.sum(slopes[i, j] * steps)))
        return cls(slopes[0], slopes[1], SIDES[1] * size, gaps, one.value_noise)

    def jumps(self, sizes: np.ndarray) -> bool:
        """Whether the value changes by more, on its way from the point, than slopes account for.

        Both steps must show it: the rounding of a value is another one at each.
        """
        known = np.max(np.abs(self.close), 0) + sizes
        return bool(np.max(np.min(self.gaps, 0)) > self.noise + 0.5 * float(known @ self.steps))
