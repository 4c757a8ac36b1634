"""What is told of a wrong derivative, and how the output of its program is read."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from typing import NamedTuple

KINDS = {
    "formula": "the formula is wrong",
    "zero": "a zero stands for a derivative that is not known",
    "raises": "no derivative: it raises, where there is one",
    "no rule": "no rule, and automatic differentiation is wrong there",
    "digits": "the formula is right, and floating point loses its digits",
    "range": "the formula is right, and something in it overflows",
}
EXACT = {"formula", "zero", "raises"}  # what is printed is the same on every machine
LONGEST = 10  # lines of a program
_LINE = re.compile(r"(.+): printed (\S+), true (\S+), proposed (\S+)")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One wrong derivative in somebody's package.

    Attributes:
        slug: the name of its page.
        package: the distribution whose tracker it is for.
        function: the public name.
        kind: a key of KINDS.
        title: of the issue.
        wrong: what is wrong, and where in the package.
        program: at most ten lines that print `name: printed P, true T, proposed Q`.
        truth: where T comes from.
        formula: what would be right.
    """

    slug: str
    package: str
    function: str
    kind: str
    title: str
    wrong: str
    program: str
    truth: str
    formula: str

    @property
    def text(self) -> str:
        """The program, without the lines around it."""
        return self.program.strip("\n")

    def versions(self) -> dict[str, str] | None:
        """The versions of what the program uses; None where something is not installed."""
        names = dict.fromkeys((self.package, "jax"))
        try:
            return {name: importlib.metadata.version(name) for name in names}
        except importlib.metadata.PackageNotFoundError:
            return None


class Line(NamedTuple):
    """A line that a program printed."""

    name: str
    printed: float
    true: float
    proposed: float

    @property
    def is_wrong(self) -> bool:
        """Whether what the package gives is off by more than a part in a thousand."""
        return not abs(self.printed - self.true) <= 1e-3 * abs(self.true)

    @property
    def is_right(self) -> bool:
        """Whether what is proposed is the truth, to what float32 can tell."""
        return abs(self.proposed - self.true) <= 2e-5 * abs(self.true)


def lines_of(output: str) -> list[Line]:
    """What a program printed; raises ValueError for any line of another form."""
    found = []
    for line in output.strip().splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not 'name: printed P, true T, proposed Q': {line!r}")
        found.append(Line(match[1], *map(float, match.groups()[1:])))
    return found
