"""What a step of the lecture has verified: for each formula, how far two ways of getting it differ.

The numbers beside a formula, F12, are those of formulas.py and of the table in the documentation.
"""

from __future__ import annotations

import dataclasses

import numpy as np

LIMIT = 1e-12  # for what is computed in float64


@dataclasses.dataclass(frozen=True)
class Line:
    """One thing that was verified, or measured where there is nothing to agree with."""

    formula: str
    what: str
    against: str
    error: float | None
    limit: float | None

    @property
    def ok(self) -> bool:
        """Whether the error is within its limit; NaN is not."""
        return self.error is None or self.limit is None or self.error <= self.limit

    def __str__(self) -> str:
        measured = self.against if self.error is None else f"{self.error:.1e} from {self.against}"
        verdict = "" if self.ok else f"  WRONG, the limit is {self.limit:.0e}"
        return f"  {self.formula:<4} {self.what:<44} {measured}{verdict}"


class Verification:
    """Collects what a script compares, prints it, and stops the script where something is off.

    >>> verification = Verification("Squares")
    >>> _ = verification.equal("F1", "(a + b)^2", np.array([9.0]), np.array([9.0]), "expansion")
    >>> verification.report()
    Squares: 1 verified, the largest error is 0.0e+00
      F1   (a + b)^2                                    0.0e+00 from expansion
    """

    def __init__(self, title: str):
        self.title = title
        self.lines: list[Line] = []

    def equal(
        self, formula: str, what: str, found, truth, against: str, limit: float = LIMIT
    ) -> float:
        """Compare two arrays: the largest difference over the largest element of the truth.

        Raises ValueError where the shapes differ, or where there is nothing to compare.
        """
        found, truth = np.asarray(found), np.asarray(truth)
        if found.shape != truth.shape:
            raise ValueError(f"{formula}, {what}: shape {found.shape}, expected {truth.shape}")
        if found.size == 0:
            raise ValueError(f"{formula}, {what}: compared nothing")
        error = float(np.max(np.abs(found - truth)) / (np.max(np.abs(truth)) or 1.0))
        self.lines.append(Line(formula, what, against, error, limit))
        return error

    def holds(self, formula: str, what: str, condition) -> None:
        """Note a statement that is true or false; it counts as an error of 0 or 1."""
        self.lines.append(Line(formula, what, "statement", 0.0 if bool(condition) else 1.0, 0.5))

    def measured(self, formula: str, what: str, result: str) -> None:
        """Note a measurement, whatever it turned out to be."""
        self.lines.append(Line(formula, what, result, None, None))

    def report(self) -> None:
        """Print all lines; raise AssertionError where one is wrong or nothing was verified."""
        compared = [line for line in self.lines if line.error is not None]
        errors = [line.error or 0.0 for line in compared if line.against != "statement"]
        largest = f", the largest error is {max(errors):.1e}" if errors else ""
        print(f"{self.title}: {len(compared)} verified{largest}")
        for line in self.lines:
            print(line)
        wrong = [line.what for line in self.lines if not line.ok]
        if wrong or not compared:
            raise AssertionError(f"{self.title}: {'; '.join(wrong) or 'nothing was verified'}")
