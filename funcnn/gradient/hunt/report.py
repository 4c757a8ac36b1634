"""What a hunt found: an example, the program that repeats it, and what was tried."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from funcnn.gradient.verdict.results import GradientError
from funcnn.report import Report, Section, counted, plain


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Arguments at which a hand-written gradient is wrong.

    Attributes:
        arguments: those, in the tree and the dtypes that were given.
        cotangents: of the float outputs, one after the other.
        leaf: the argument whose cotangent is wrong.
        dtype: in which the rule is wrong: "float64", its algebra, or the dtype that was given.
        error, allowed: of the worst element; infinite where it is not finite or the rule raises.
        note: what `check` says of it.
        program: a program that repeats it.
        elements: how many numbers the arguments hold.
    """

    arguments: tuple[Any, ...]
    cotangents: tuple[Any, ...]
    leaf: str
    dtype: str
    error: float
    allowed: float
    note: str
    program: str
    elements: int


@dataclasses.dataclass(frozen=True)
class HuntReport(Report):
    """What was tried, and what was found; `str()` is the report.

    Attributes:
        target: what was hunted.
        found: the example, or None.
        trials: how many arguments and cotangents were tried.
        compared: at how many of them a gradient was held against the truth.
        not_compared: how many of the others, by the reason.
        excused: what looked wrong and is not by `check`'s verdict: kinks, lost digits.
        sizes: how many sizes of the arguments were tried.
        refused: how many the function does not take.
        large: how many would take too much memory.
        seconds: how long it took.
        seed: repeats it.
        rules: how many hand-written rules the target calls.
        why: why nothing was tried, or "".

    >>> print(HuntReport("f", trials=10, compared=9, sizes=2, seconds=1.5, rules=1))
    NOT TRIED f: the value, other dtypes, vmap and other transformations, second derivatives
    NOTHING FOUND f: 9 of 10 trials compared, at 2 sizes, in 1.5 s (seed 0)
    >>> HuntReport("f").ok
    False
    """

    target: str
    found: Found | None = None
    trials: int = 0
    compared: int = 0
    not_compared: dict[str, int] = dataclasses.field(default_factory=dict)
    excused: dict[str, int] = dataclasses.field(default_factory=dict)
    sizes: int = 0
    refused: int = 0
    large: int = 0
    seconds: float = 0.0
    seed: int = 0
    rules: int = 0
    why: str = ""

    @property
    def ok(self) -> bool:
        """Something was compared, and nothing was found."""
        return self.found is None and self.compared > 0

    def raise_if_failed(self) -> None:
        """Raise `GradientError` unless `ok`.

        >>> HuntReport("f", why="it calls no hand-written rule").raise_if_failed()
        Traceback (most recent call last):
        funcnn.gradient.verdict.results.GradientError: NOTHING COMPARED f: it calls no ...
        """
        if not self.ok:
            raise GradientError(str(self))

    def rows(self) -> list[dict[str, Any]]:
        """One row, the key "kind" is "hunt": the attributes, those of `found` under "found"."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found = self.found and {
            f.name: getattr(self.found, f.name)
            for f in dataclasses.fields(self.found)
            if f.name not in ("arguments", "cotangents")
        }
        return [plain({"kind": "hunt", **own, "ok": self.ok, "found": found})]

    def sections(self) -> Sequence[Section]:
        """The text, as it is printed."""
        text = f"<pre>{html.escape(str(self))}</pre>"
        return [Section(f"Hunt: {self.target}", "The example, and what was tried.", text)]

    def _details(self) -> Iterable[str]:
        if self.found is not None:
            f = self.found
            where = f"the cotangent of {f.leaf}, in {f.dtype}"
            yield f"FOUND {self.target}: {where}, {_size(f)}: {f.note}"
            yield from (f"  {line}" for line in f.program.splitlines())
            return
        for why, n in self.not_compared.items():
            yield f"NOT COMPARED {self.target}: {counted(n, 'trial')}: {why}"
        for verdict, n in self.excused.items():
            yield f"NOT WRONG {self.target}: {counted(n, 'trial')} apart, by check: {verdict}"
        if self.refused:
            yield f"NOT TRIED {self.target}: {counted(self.refused, 'size')} that it refuses"
        if self.large:
            size = counted(self.large, "size")
            yield f"NOT TRIED {self.target}: {size} beyond the memory allowed (megabytes)"
        if self.compared:
            others = "the value, other dtypes, vmap and other transformations, second derivatives"
            yield f"NOT TRIED {self.target}: {others}"

    def conclusion(self) -> str:
        """WRONG, NOTHING FOUND or NOTHING COMPARED, and how much was tried."""
        head = "WRONG" if self.found is not None else "NOTHING FOUND"
        if self.found is None and not self.compared:
            head = "NOTHING COMPARED"
        if self.why:
            return f"{head} {self.target}: {self.why}"
        return (
            f"{head} {self.target}: {self.compared:,} of {counted(self.trials, 'trial')} compared, "
            f"at {counted(self.sizes, 'size')}, in {self.seconds:.1f} s (seed {self.seed})"
        )


def _size(f: Found) -> str:
    if np.isinf(f.error):
        return f"{counted(f.elements, 'number')}"
    return f"off by {f.error:.3g} where {f.allowed:.2g} is allowed, {counted(f.elements, 'number')}"
