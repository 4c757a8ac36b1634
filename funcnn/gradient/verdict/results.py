"""What `check` found: results, counts, and an error to raise."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from funcnn.gradient.verdict.sections import check_sections
from funcnn.report import Report, Section, counted, plain
from funcnn.types import Verdict

_SHOWN = 3  # failures of each check that are printed in full
_REASON = 100  # characters of why a check was not done


class GradientError(AssertionError):
    """A hand-derived gradient is wrong, or was not compared; the message is the report.

    >>> CheckReport("f", (), (), 0).raise_if_failed()
    Traceback (most recent call last):
    funcnn.gradient.verdict.results.GradientError: NOT COMPARED f: ...
    """


@dataclasses.dataclass(frozen=True)
class Result:
    """One comparison.

    Attributes:
        rule: the rule or function.
        check: "truth", "primal", "contract", "zero", "homogeneity", "dot", "rounding", ...
        case: the case's name.
        leaf: the argument's leaf, or "" where the check is about the whole.
        verdict: "pass", "fail", "note", "inconclusive" or "skip". A note is what would be a
            failure in another setting than that which was asked for.
        note: the error, or why.
        seed: of the cotangents.
        dtype: where the check runs in several.
        diagnosis: the usual mistake that explains the error, or "".
        setting: the other setting that it concerns: "matmul precision", "bfloat16", "a NaN", ...
        zero: whether what was compared is zero on both sides, which is right and proves little.
    """

    rule: str
    check: str
    case: str
    leaf: str
    verdict: Verdict
    note: str = ""
    seed: int = 0
    dtype: str = ""
    diagnosis: str = ""
    setting: str = ""
    zero: bool = False

    def __str__(self) -> str:
        named = {"leaf": self.leaf, "case": self.case, "": self.dtype, "seed": self.seed or ""}
        where = " ".join(f"{name} {value}".strip() for name, value in named.items() if value)
        text = ": ".join(
            filter(None, [f"{self.verdict.upper()} {self.rule} {self.check}", where, self.note])
        )
        return f"{text}\n  diagnosis: {self.diagnosis}" if self.diagnosis else text


@dataclasses.dataclass(frozen=True)
class CheckReport(Report):
    """All results of a check; `str()` is the report.

    Attributes:
        target: what was checked.
        results: every comparison, passed or not.
        leaves: the leaves each of which needs a truth.
        rules: how many hand-written rules the target calls; with none, it is JAX's own derivative
            that was held against the truth.
        source: file and line of the backward pass, or of the function.
        command: what checks the target again on the command line, or "".
        own: whether these are the cases of a rule, some of which must show each leaf a truth that
            is not zero; of arguments that somebody gives a leaf may have the gradient zero.
        rules_not_compared: the names of the rules that no comparison goes through, and why.
        run: how many different rules the others are.
        laws: the names of the results that are laws, declared by the cases.
        source_of: what stands at `source`: "backward" or "function".

    >>> report = CheckReport("f", (Result("f", "truth", "normal", "x", "pass"),), ("x",), 1)
    >>> report.ok
    True
    >>> print(report)
    OK f: 1 comparison passed, 0 failed, 0 inconclusive, 0 skipped; 1 hand-written rule
    """

    target: str
    results: tuple[Result, ...]
    leaves: tuple[str, ...]
    rules: int
    source: str = ""
    command: str = ""
    own: bool = False
    rules_not_compared: tuple[tuple[str, str], ...] = ()
    run: int = 1
    laws: tuple[str, ...] = ()
    source_of: str = "backward"

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(r for r in self.results if r.verdict == "fail")

    @property
    def notes(self) -> tuple[Result, ...]:
        """What would be a failure in another setting than that which was asked for."""
        return tuple(r for r in self.results if r.verdict == "note")

    @property
    def uncovered(self) -> tuple[str, ...]:
        """The differentiable leaves that were never compared with a truth."""
        judged = {
            r.leaf
            for r in self.results
            if r.check == "truth" and r.verdict in {"pass", "fail"} and not (r.zero and self.own)
        }
        return tuple(leaf for leaf in self.leaves if leaf not in judged)

    @property
    def counts(self) -> dict[str, int]:
        """How many results there are of each verdict."""
        of_verdict = Counter(r.verdict for r in self.results)
        return {v: of_verdict[v] for v in ("pass", "fail", "inconclusive", "skip", "note")}

    @property
    def ok(self) -> bool:
        """Nothing failed, and each differentiable leaf was really compared with a truth."""
        return not (self.failures or self.uncovered or self._nothing)

    @property
    def _nothing(self) -> str:
        """Why no number was compared that could have been wrong, or ""."""
        if self.own and not self.results:
            name = self.target.rpartition(".")[2]
            return f"it has no cases: add some with @{name}.defcases, or give arguments"
        passed = [r for r in self.results if r.verdict == "pass" and r.check != "contract"]
        if not passed:
            return "no case with a floating-point argument"
        if self.rules and not self.run:
            return "no rule was compared"
        if self.rules and self.leaves and all(r.zero for r in passed if r.check == "truth"):
            return "every true gradient is zero at these arguments"
        return ""

    def rows(self) -> list[dict[str, Any]]:
        """The key "kind" says what a row is.

        - "result": the attributes of `Result`;
        - "report", once, last: target, ok, how many results there are of each verdict, not_compared
          (leaves), rules_not_compared (their names), rules, source.
        """
        last = {
            "kind": "report",
            "target": self.target,
            "ok": self.ok,
            **self.counts,
            "not_compared": self.uncovered,
            "rules_not_compared": [name for name, _ in self.rules_not_compared],
            "rules": self.rules,
            "source": self.source,
        }
        results = [{"kind": "result", **dataclasses.asdict(result)} for result in self.results]
        return [plain(row) for row in (*results, last)]

    def sections(self) -> Sequence[Section]:
        """Its checks in a line, its failures in full, and what was not settled."""
        return check_sections([self])

    def _details(self, notes: bool = True) -> list[str]:
        lines = self._first(self.failures)
        if lines and self.source:
            lines.append(f"  {self.source_of}: {self.source}")
        lines += self._first(self.notes) if notes else []
        lines += [f"NOT COMPARED {self.target}: {what}" for what in self._not_compared()]
        return lines

    def why_not_ok(self) -> tuple[str, list[str]]:
        """The first failures of each check with what was not compared, and the other failures.

        >>> CheckReport("f", (), (), 0).why_not_ok()
        ('NOT COMPARED f: no case with a floating-point argument', [])
        """
        others = [r for same in _by_check(self.failures).values() for r in same[_SHOWN:]]
        return "\n".join(self._details(notes=False)), list(map(self._in_full, others))

    def _not_compared(self) -> Iterable[str]:
        why = {r.leaf: r.note for r in self.results if r.check == "truth"}
        for leaf in self.uncovered:
            yield f"leaf {leaf}" + (f": {why[leaf]}" if why.get(leaf) else "")
        for name, reason in self.rules_not_compared:
            yield f"rule {name}: {reason}"
        if self._nothing and not self.failures and not self.uncovered:
            yield self._nothing

    def conclusion(self) -> str:
        """OK, FAILED or INCONCLUSIVE, and how many comparisons there were."""
        n = self.counts
        head = "OK" if self.ok else "FAILED" if self.failures else "INCONCLUSIVE"
        notes = f", {counted(n['note'], 'note')}" if n["note"] else ""
        line = (
            f"{head} {self.target}: {counted(n['pass'], 'comparison')} passed, "
            f"{n['fail']} failed, {n['inconclusive']} inconclusive, {n['skip']} skipped{notes}; "
            f"{counted(self.rules, 'hand-written rule')}"
        )
        rules = ", ".join(dict.fromkeys(f"rule {name}" for name, _ in self.rules_not_compared))
        undone = f"; not done: {', '.join(self._undone())}" if self._undone() else ""
        return line + undone + (f"; not compared: {rules}" if rules else "")

    def _undone(self) -> list[str]:
        """The checks of which nothing came to a verdict, those that share a reason before it."""
        done = {r.check for r in self.results if r.verdict in {"pass", "fail", "note"}}
        reasons: dict[str, str] = {}
        for r in self.results:
            if r.check not in done:
                reasons.setdefault(r.check, _in_short(r.note))
        undone: list[str] = []
        for reason in dict.fromkeys(reasons.values()):
            checks = ", ".join(check for check, why in reasons.items() if why == reason)
            undone.append(f"{checks} ({reason})" if reason else checks)
        return undone

    def _first(self, results: Sequence[Result]) -> list[str]:
        """The first of each check; one mistake shows up at many inputs."""
        lines: list[str] = []
        for check, same in _by_check(results).items():
            lines += map(self._in_full, same[:_SHOWN])
            if len(same) > _SHOWN:
                kind = "note" if same[0].verdict == "note" else "failure"
                lines.append(f"  and {counted(len(same) - _SHOWN, f'more {kind}')} of {check}")
        return lines

    def _in_full(self, result: Result) -> str:
        if not self.command or result.verdict != "fail":
            return str(result)
        again = f'{self.command} --case "{result.case}" --seed {result.seed}'
        return f"{result}\n  again: {again}"

    def __str__(self) -> str:
        return self.text("report.skipped()")

    def text(self, reasons: str = "") -> str:
        """The report; `reasons` is what lists the reasons why something was skipped, "" for none.

        >>> skipped = Result("f", "edge", "normal", "", "skip", "no edge value")
        >>> report = CheckReport("f", (skipped,), (), 1)
        >>> print(report.text("--json").splitlines()[1])
        0 inconclusive, 1 skipped: --json lists them, with the reasons
        """
        lines, n = list(self._details()), self.counts
        if reasons and (n["inconclusive"] or n["skip"]):
            how = f"{reasons} lists them, with the reasons"
            lines.append(f"{n['inconclusive']} inconclusive, {n['skip']} skipped: {how}")
        return "\n".join([*lines, self.conclusion()])

    def skipped(self) -> tuple[Result, ...]:
        """What was skipped or is inconclusive, with the reasons."""
        return tuple(r for r in self.results if r.verdict in {"skip", "inconclusive"})

    def raise_if_failed(self) -> None:
        """Raise `GradientError` unless `ok`."""
        if not self.ok:
            raise GradientError(str(self))


def _in_short(reason: str) -> str:
    """Its sentences, as many as fit a line; a first one that is too long ends after a word."""
    sentences = re.split(r"(?<=[.;:]) ", reason)
    for n in range(len(sentences), 0, -1):
        text = " ".join(sentences[:n])
        if len(text) <= _REASON and not text.endswith(":"):
            return text if n == len(sentences) else f"{text} ..."
    return textwrap.shorten(reason, _REASON, placeholder=" ...")


def _by_check(results: Sequence[Result]) -> dict[str, list[Result]]:
    checks = dict.fromkeys(r.check for r in results)
    return {check: [r for r in results if r.check == check] for check in checks}
