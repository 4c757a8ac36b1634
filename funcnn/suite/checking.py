"""Which calls are checked first, for how long, and what was found."""

from __future__ import annotations

import dataclasses
import re
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.memory import MEGABYTES, megabytes_of_check
from funcnn.gradient.check import check
from funcnn.gradient.program.answering import NoAnswer, answer
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import filled
from funcnn.gradient.verdict.results import CheckReport, Result
from funcnn.suite.calls import Called, Sample
from funcnn.suite.identity import is_named, is_of_jax
from funcnn.suite.operands import is_array, is_key
from funcnn.suite.table import Row
from funcnn.types import Function, Intent, Level


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the checks of a suite may take.

    Attributes:
        seconds: all of them.
        seconds_each: one, before it is stopped.
        megabytes: the arrays of one, estimated from its operands.
        level: of `fnn.check`.
        surrogates: the names of rules that are no derivatives, on purpose.
    """

    seconds: float = 120.0
    seconds_each: float = 30.0
    megabytes: float = MEGABYTES
    level: Level = "fast"
    surrogates: Collection[str] = ()


class Step(NamedTuple):
    """One check to do: a call, and numbers for it."""

    called: Called
    sample: Sample


def in_order(called: Sequence[Called], own: Callable[[str], bool]) -> Iterator[Step]:
    """The largest risk first.

    The project's own rules stand before those of others, and those before JAX's; then one kind of
    operands of each rule before the second of any; a rule that nobody differentiates before one
    that somebody does; numbers that were seen before those that are drawn; and the small before the
    large. What is left are other integers or masks, the largest and the smallest numbers of each.
    """

    def place(one: Called) -> tuple[Any, ...]:
        how = [sample.how == "drawn" for sample in one.samples.values()]
        return group(one, own), one.differentiated > 0, all(how), one.elements, one.operands

    by_rule: dict[Any, list[Called]] = defaultdict(list)
    for one in sorted(called, key=place):
        by_rule[one.identity].append(one)
    turns = [
        (group(one, own), turn, k)
        for k, calls in enumerate(by_rule.values())
        for turn, one in enumerate(calls)
    ]
    rules = list(by_rule.values())
    chosen = [rules[k][turn] for _, turn, k in sorted(turns)]
    for name in ("first", "other", "largest", "smallest"):
        yield from (Step(one, one.samples[name]) for one in chosen if name in one.samples)


def group(one: Called, own: Callable[[str], bool]) -> int:
    """0 for a rule of the project itself, 1 for one of others, 2 for one of JAX."""
    if own(one.identity.file):
        return 0
    return 2 if is_of_jax(one.identity.file) else 1


class Checking:
    """The checks of a suite.

    >>> import jax.numpy as jnp
    >>> from funcnn.suite.recording import Recorder
    >>> recorder = Recorder(lambda name: True)
    >>> recorder.start()
    >>> _ = jax.nn.relu(jnp.arange(-2.0, 3.0))
    >>> recorder.stop()
    >>> rows = Checking(Limits()).rows(list(recorder.called.values()), lambda file: False)
    >>> [(row.name, row.operands, row.how, row.verdict) for row in rows]
    [('relu', 'float32[5]', 'called', 'right')]
    """

    def __init__(self, limits: Limits, claim: Callable[[str], bool] = lambda name: True):
        self.limits, self._claim = limits, claim

    def rows(self, called: Sequence[Called], own: Callable[[str], bool]) -> list[Row]:
        """A row for each kind of call, checked in the time that there is."""
        called = [one for one in called if one.has_floats]
        rows = {id(one): _unchecked(one, group(one, own)) for one in called}
        claims: dict[int, bool] = {}
        end = time.monotonic() + self.limits.seconds
        for step in in_order(called, own):
            which = id(step.called)
            if time.monotonic() > end:
                if rows[which].verdict == "right":  # at some of its numbers, and who knows
                    rows[which] = dataclasses.replace(rows[which], verdict="not settled", note=LATE)
                continue
            if which not in claims:
                claims[which] = self._claim(rows[which].key)
                if not claims[which]:
                    rows[which] = dataclasses.replace(rows[which], note=ELSEWHERE)
            if not claims[which] or rows[which].is_finding:
                continue
            start = time.perf_counter()
            found = self._checked(step, rows[which])
            seconds = rows[which].seconds + time.perf_counter() - start
            best = found if found.outranks(rows[which]) else rows[which]
            rows[which] = dataclasses.replace(best, seconds=round(seconds, 2))
        return list(rows.values())

    def _checked(self, step: Step, row: Row) -> Row:
        sample = step.sample
        row = dataclasses.replace(row, how=sample.how)
        needed = megabytes_of_check(sample.leaves)
        if needed > self.limits.megabytes:
            note = f"a check of it takes about {needed:,.0f} MB"
            return dataclasses.replace(row, verdict="not checked", note=note)
        try:
            return answer(lambda: self._verdict(step, row), self.limits.seconds_each)
        except NoAnswer as error:
            return dataclasses.replace(row, verdict="no answer", note=str(error))
        except Exception as error:
            note = f"{type(error).__name__}: {first_line(error)}"
            return dataclasses.replace(row, verdict="not checked", note=note)

    def _verdict(self, step: Step, row: Row) -> Row:
        name = step.called.identity.name
        function, operands = step.sample.stated(name)
        given = {"level": self.limits.level, "megabytes": self.limits.megabytes}
        intent: Intent = "surrogate" if is_named(name, self.limits.surrogates) else "derivative"
        with warnings.catch_warnings(), jax.enable_x64(step.called.x64):
            warnings.simplefilter("ignore")
            operands = jax.tree.map(_as_array, operands)
            _call_again(function, operands, forward=isinstance(step.sample.rule, jax.custom_jvp))
            report = check(function, *operands, intent=intent, **given)
        return _said(report, row, intent)


ELSEWHERE = "another process checks it"
LATE = "no time was left for all of its numbers"


def _as_array(x: Any) -> Any:
    """A number of Python with a fraction as JAX takes it."""
    return np.asarray(x, jnp.result_type(x)) if isinstance(x, (float, complex)) else x


def _call_again(function: Function, operands: list[Any], forward: bool) -> None:
    """Raise what a call of a rule raises now that the test is over, and its derivative."""
    leaves, tree = jax.tree.flatten(operands)
    chosen = [
        i for i, x in enumerate(leaves) if is_array(x) and jnp.issubdtype(x.dtype, jnp.inexact)
    ]

    def of_floats(*floats: Any) -> list[Any]:
        y = function(*jax.tree.unflatten(tree, filled(leaves, chosen, floats)))
        return [v for v in jax.tree.leaves(y) if is_float(v)]

    def differentiated(*floats: Any) -> Any:
        if forward:
            return jax.jvp(of_floats, floats, floats)[1]
        y, pull = jax.vjp(of_floats, *floats)
        return pull(y)

    floats = [leaves[i] for i in chosen]
    jax.eval_shape(differentiated, *floats)
    if _as_text(of_floats, floats) != _as_text(of_floats, floats):
        raise ValueError("each time it is called it is another function")


def _as_text(function: Function, floats: list[Any]) -> tuple[str, list[bytes]]:
    """A function as it is traced: what draws from a hidden state is another one each time."""
    program = jax.make_jaxpr(function)(*floats)
    held = [np.asarray(x).tobytes() for x in program.consts if not is_key(x)]
    return re.sub(r"0x[0-9a-f]+", "", str(program)), held


def _unchecked(one: Called, of: int) -> Row:
    who = one.identity
    return Row(
        name=who.name,
        kind=who.kind,
        source=who.source,
        values=who.values,
        operands=one.operands,
        x64=one.x64,
        group=of,
        calls=one.calls,
        differentiated=one.differentiated,
        test=one.test,
        note="no time was left",
    )


def _said(report: CheckReport, row: Row, intent: Intent) -> Row:
    if report.failures:
        first = report.failures[0]
        diagnosis = next((r.diagnosis for r in report.failures if r.diagnosis), first.note)
        details = [_line(r) for r in _first_of_each_check(report.failures)]
        return dataclasses.replace(
            row, verdict="WRONG", diagnosis=diagnosis, note="", details=tuple(details)
        )
    if report.ok:
        note = "declared a surrogate" if intent == "surrogate" else ""
        return dataclasses.replace(row, verdict="right", note=note)
    note = report.why_not_ok()[0].partition("\n")[0].partition(": ")[2]
    return dataclasses.replace(row, verdict="not settled", note=note)


def _line(result: Result) -> str:
    where = f"{result.leaf} " if result.leaf else ""
    return f"{result.check}: {where}{result.note}".strip()


def _first_of_each_check(results: Sequence[Result]) -> list[Result]:
    return list({r.check: r for r in reversed(results)}.values())[::-1]
