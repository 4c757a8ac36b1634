"""What every check says of itself: its level, its place there, and the cases that it is for."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator

from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.verdict.results import Result
from funcnn.types import Level

Check = Callable[[Situation], Iterator[Result]]

_LEVELS: tuple[Level, ...] = typing.get_args(Level)
_LAST = 100


@dataclasses.dataclass(frozen=True)
class Traits:
    """When a check runs, and on which cases.

    Attributes:
        level: the lowest at which it runs.
        order: its place among those of its level; equal ones run in the order of their names.
        stops: where it fails, nothing after it runs: later numbers would mislead.
        only_derivatives: it is not for surrogates, which need not be linear in their cotangent, nor
            a derivative.
        needs_truth: of the surrogates it is for those with a function to follow.

    >>> Traits("full").stops
    False
    """

    level: Level = "release"
    order: int = _LAST
    stops: bool = False
    only_derivatives: bool = False
    needs_truth: bool = False


_registered: dict[Check, Traits] = {}


def registered(
    level: Level,
    *,
    order: int = _LAST,
    stops: bool = False,
    only_derivatives: bool = False,
    needs_truth: bool = False,
) -> Callable[[Check], Check]:
    """Decorate a check, so that `fnn.check` runs it; the arguments are those of `Traits`.

    Raises:
        ValueError: another check has the name.

    >>> from funcnn.gradient.checks import algebra
    >>> @registered("fast")
    ... def truth(situation): ...
    Traceback (most recent call last):
    ValueError: two checks named truth: in funcnn.gradient.checks.algebra and ...
    """

    def register(check: Check) -> Check:
        name = check.__name__
        for other in _registered:
            if other.__name__ == name and other.__module__ != check.__module__:
                where = f"in {other.__module__} and {check.__module__}"
                raise ValueError(f"two checks named {name}: {where}")
        _registered[check] = Traits(level, order, stops, only_derivatives, needs_truth)
        return check

    return register


def by_level() -> dict[Level, tuple[Check, ...]]:
    """The checks that run at each level, in their order: also those of the levels below.

    >>> from funcnn.gradient.checks import algebra, contract, primal
    >>> [check.__name__ for check in by_level()["fast"]][:3]
    ['contract', 'primal', 'truth']
    """

    def place(check: Check) -> tuple[int, int, str]:
        said = _registered[check]
        return _LEVELS.index(said.level), said.order, check.__name__

    checks = sorted(_registered, key=place)
    return {
        level: tuple(c for c in checks if place(c)[0] <= most) for most, level in enumerate(_LEVELS)
    }


def traits(check: Check) -> Traits:
    """What a check says of itself; one that is not registered says nothing.

    >>> traits(lambda situation: iter(())).only_derivatives
    False
    """
    return _registered.get(check, Traits())
