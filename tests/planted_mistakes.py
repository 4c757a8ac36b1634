"""The mistakes that `planted.py` plants: each one that a tired programmer could make.

None is an error that Python itself would report: every one computes, and computes something wrong.
"""

from __future__ import annotations

from typing import NamedTuple


class Mistake(NamedTuple):
    """One mistake: in `file` the text `old`, which occurs there once, becomes `new`.

    The `tests`, files or `file::name`, are those that must notice it; `what` says what it is.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    what: str


def _mistake(file: str, old: str, new: str, tests: str, what: str) -> Mistake:
    """A mistake in a file of the package, and the tests below `tests`, with blanks between."""
    return Mistake(
        f"funcnn/{file}", old, new, tuple(f"tests/{test}" for test in tests.split()), what
    )


MISTAKES: tuple[Mistake, ...] = ()
