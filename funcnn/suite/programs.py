"""The operands inside compiled programs, of which a call of a rule sees no number.

A rule that is called while a program is traced has its operands named (as `checkpoint_name` does,
which is no operation of the compiled program). When the program is first run, it is kept with its
arguments; after the suite it runs once more, and hands out what has those names.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnn.gradient.program.calls import Calls, each_of, one_call
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.jaxprs import closed, subprograms
from funcnn.gradient.program.operands import Visit, Walk
from funcnn.gradient.program.sites import Site, site_of, wrapped
from funcnn.suite.operands import behind, is_array, kept
from funcnn.suite.running import Running
from funcnn.types import ClosedJaxpr, Equation

_PREFIX = "funcnn rule"


def tapped(number: int, leaf: int, of: int) -> str:
    """The name of an operand of a call, one of so many that have a name.

    >>> tapped(3, 0, 2)
    'funcnn rule 3 0 2'
    """
    return f"{_PREFIX} {number} {leaf} {of}"


class _Tap(NamedTuple):
    """What such a name says."""

    number: int
    leaf: int
    of: int


def _tap_of(eqn: Equation) -> _Tap | None:
    name = str(eqn.params.get("name", "")) if eqn.primitive.name == "name" else ""
    if not name.startswith(_PREFIX):
        return None
    return _Tap(*map(int, name.removeprefix(_PREFIX).split()))


def taps_in(program: ClosedJaxpr) -> set[int]:
    """The calls whose operands have names in a program.

    >>> from jax.ad_checkpoint import checkpoint_name
    >>> f = jax.jit(lambda x: checkpoint_name(x, tapped(3, 0, 1)))
    >>> taps_in(jax.make_jaxpr(f)(1.0))
    {3}
    """
    found: set[int] = set()
    for eqn in program.jaxpr.eqns:
        tap = _tap_of(eqn)
        if tap:
            found.add(tap.number)
        for inner in subprograms(eqn):
            found |= taps_in(inner)
    return found


@dataclasses.dataclass(frozen=True)
class _Kept:
    program: ClosedJaxpr
    leaves: list[Any]
    x64: bool


class Programs:
    """The programs in which calls are looked for, while they are seen `running`.

    Args:
        missing: whether a call is still looked for.
        found: what to do when the program of a call is kept.
        most_bytes: of arguments that are kept.

    Attributes:
        running: says when a program is first run.
        expecting: whether there is any call to look for.
    """

    def __init__(
        self, missing: Callable[[int], bool], found: Callable[[int], None], most_bytes: float
    ):
        self._missing, self._found = missing, found
        self._bytes_left = most_bytes
        self._kept: list[_Kept] = []
        self.running = Running(self._look)
        self.expecting = False

    def _look(self, program: ClosedJaxpr, leaves: list[Any]) -> None:
        new = {tap for tap in taps_in(program) if self._missing(tap)} if self.expecting else set()
        if not new:
            return
        seen = [behind(x) for x in leaves]
        if any(one.value is None for one in seen):  # it stands in another one, which comes later
            return
        rows = [one.row(0) for one in seen]
        size = sum(np.asarray(x).nbytes if is_array(x) else 8 for x in rows)
        if size > self._bytes_left:
            return
        self._bytes_left -= size
        for tap in new:
            self._found(tap)
        x64 = bool(jax.numpy.result_type(float) == jax.numpy.float64)
        self._kept.append(_Kept(program, [kept(x) for x in rows], x64))

    def fetched(self, seconds: float) -> Iterator[tuple[int, list[dict[int, Any]]]]:
        """Each call that was found, and its operands by their numbers, of a few times it was run.

        What is not reached within so many seconds is left out.
        """
        end = time.monotonic() + seconds
        for one in self._kept:
            if time.monotonic() > end:
                return
            try:
                with jax.enable_x64(one.x64):
                    yield from _handed_out(one)
            except Exception:  # a mesh that is gone, a loop that does not end: they are drawn
                continue


def _handed_out(one: _Kept) -> list[tuple[int, list[dict[int, Any]]]]:
    taps: list[tuple[int, ...]] = []

    def flows(leaves: list[Any]) -> list[Calls | None]:
        walk = _Taps([], [])
        walk(one.program, leaves)
        taps[:] = [visit.site.position for visit in walk.visits]  # pyright: ignore
        return walk.flows

    values = compiled(flows)(one.leaves)
    return [
        (number, [dict(zip(leaves, map(kept, call), strict=True)) for call in each_of(calls)])
        for (number, *leaves), calls in zip(taps, values, strict=True)
        if calls is not None and calls.number
    ]


@dataclasses.dataclass(frozen=True)
class _Taps(Walk):
    """An evaluation of a program that notes what has those names; rules run as what they wrap.

    A call is noted with the last of its operands, which stand beside each other.
    """

    waiting: dict[int, dict[int, Any]] = dataclasses.field(default_factory=dict)

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        tap = _tap_of(eqn)
        if tap is not None:
            self._wait(tap, eqn, x[0])
            return x
        if site_of(eqn) is not None:
            return self.inside("call")(closed(wrapped(eqn)), x)
        return super().equation(eqn, x)

    def _wait(self, tap: _Tap, eqn: Equation, x: Any) -> None:
        there = self.waiting.setdefault(tap.number, {})
        there[tap.leaf] = x
        if len(there) == tap.of:
            del self.waiting[tap.number]
            which = (tap.number, *there)
            self.visits.append(Visit(Site(which, "", "", "", ""), eqn, 1, ""))
            self.flows.append(one_call(self.place.reached, list(there.values())))

    def note_all(self, program: ClosedJaxpr) -> None:
        """What is not run hands out nothing."""
