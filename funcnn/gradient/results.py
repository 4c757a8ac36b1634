"""What `check` found: results, counts, and an error to raise."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

_SHOWN = 3  # failures of each check that are printed in full


class GradientError(AssertionError):
    """A hand-derived gradient is wrong, or was not compared; the message is the report.

    >>> CheckReport("f", (), (), 0).raise_if_failed()
    Traceback (most recent call last):
    funcnn.gradient.results.GradientError: NOT COMPARED f: ...
    """


@dataclasses.dataclass(frozen=True)
class Result:
    """One comparison.

    Attributes:
        rule: the rule or function.
        check: "truth", "primal", "contract", "zero", "homogeneity", "dot", "rounding", ...
        case: the case's name.
        leaf: the argument's leaf, or "" where the check is about the whole.
        verdict: "pass", "fail", "inconclusive" or "skip".
        note: the error, or why.
        seed: of the cotangents.
        dtype: where the check runs in several.
        diagnosis: the usual mistake that explains the error, or "".
    """

    rule: str
    check: str
    case: str
    leaf: str
    verdict: str
    note: str = ""
    seed: int = 0
    dtype: str = ""
    diagnosis: str = ""

    def __str__(self) -> str:
        named = {"leaf": self.leaf, "case": self.case, "": self.dtype, "seed": self.seed or ""}
        where = " ".join(f"{name} {value}".strip() for name, value in named.items() if value)
        text = f"{self.verdict.upper()} {self.rule} {self.check}: {where}: {self.note}"
        return f"{text}\n  diagnosis: {self.diagnosis}" if self.diagnosis else text


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """All results of a check; `str()` is the report.

    Attributes:
        target: what was checked.
        results: every comparison, passed or not.
        leaves: the leaves each of which needs a truth that is not zero.
        rules: how many hand-written rules the target calls; with none, it is JAX's own derivative
            that was held against the truth.
        source: file and line of the backward pass, or of the function.
        registered: whether `funcnn check` knows the target by its name.

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
    registered: bool = False

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(r for r in self.results if r.verdict == "fail")

    @property
    def uncovered(self) -> tuple[str, ...]:
        """The differentiable leaves that were never compared with a truth that is not zero."""
        judged = {
            r.leaf for r in self.results if r.check == "truth" and r.verdict in {"pass", "fail"}
        }
        return tuple(leaf for leaf in self.leaves if leaf not in judged)

    @property
    def counts(self) -> dict[str, int]:
        """How many results there are of each verdict."""
        found = Counter(r.verdict for r in self.results)
        return {v: found[v] for v in ("pass", "fail", "inconclusive", "skip")}

    @property
    def ok(self) -> bool:
        """Nothing failed, and each differentiable leaf was really compared with a truth."""
        return self._compared and not self.failures and not self.uncovered

    @property
    def _compared(self) -> bool:
        """Whether numbers were compared at all; a surrogate may have no truth to meet."""
        return any(r.verdict == "pass" and r.check != "contract" for r in self.results)

    def __str__(self) -> str:
        n = self.counts
        plural = "" if n["pass"] == 1 else "s"
        head = "OK" if self.ok else "FAILED"
        rules = f"{self.rules} hand-written rule" + ("" if self.rules == 1 else "s")
        summary = (
            f"{head} {self.target}: {n['pass']} comparison{plural} passed, {n['fail']} failed, "
            f"{n['inconclusive']} inconclusive, {n['skip']} skipped; {rules}"
        )
        lines = list(self._shown_failures())
        if lines and self.source:
            lines.append(f"  backward: {self.source}")
        lines += [f"NOT COMPARED {self.target}: leaf {leaf}" for leaf in self.uncovered]
        if not self._compared and not self.failures and not self.uncovered:
            lines.append(f"NOT COMPARED {self.target}: no case with a floating-point argument")
        return "\n".join([*lines, summary])

    def _shown_failures(self) -> Iterable[str]:
        """The first failures of each check; one mistake shows up at many inputs."""
        for check, n in Counter(r.check for r in self.failures).items():
            of_check = [r for r in self.failures if r.check == check]
            yield from (f"{r}{self._reproduce(r)}" for r in of_check[:_SHOWN])
            if n > _SHOWN:
                yield f"  and {n - _SHOWN} more failures of {check}"

    def _reproduce(self, result: Result) -> str:
        if not self.registered:
            return ""
        return f'\n  again: funcnn check {self.target} --case "{result.case}" --seed {result.seed}'

    def skipped(self) -> Iterable[Result]:
        """What was skipped or is inconclusive, with the reasons."""
        return (r for r in self.results if r.verdict in {"skip", "inconclusive"})

    def raise_if_failed(self) -> None:
        """Raise `GradientError` unless `ok`."""
        if not self.ok:
            raise GradientError(str(self))
