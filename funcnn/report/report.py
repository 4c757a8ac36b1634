"""What each tool hands back, whatever it looks for: rows, a conclusion, and a page."""

from __future__ import annotations

import abc
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from funcnn.report.files import in_place_of
from funcnn.report.html import Section, page
from funcnn.report.rows import write_json_lines
from funcnn.version import __version__


class Report(abc.ABC):
    """What a tool found; `str()` is its text, and the last line of it the conclusion.

    >>> class Sum(Report):
    ...     def rows(self):
    ...         return [{"kind": "sum", "value": 3}]
    ...     def conclusion(self):
    ...         return "OK: 1 sum is right"
    ...     def sections(self):
    ...         return [Section("Sums", "One line for each.", "<p>3</p>")]
    ...     def _details(self):
    ...         return ["1 + 2 = 3"]
    >>> print(Sum())
    1 + 2 = 3
    OK: 1 sum is right
    """

    @abc.abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """What was found as JSON has it, the key "kind" says what a row is."""

    @abc.abstractmethod
    def conclusion(self) -> str:
        """One line: whether it is right, and how many there are of what."""

    @abc.abstractmethod
    def sections(self) -> Sequence[Section]:
        """What was found as sections of a page."""

    @abc.abstractmethod
    def _details(self) -> Iterable[str]:
        """The text above the conclusion."""

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the rows, one JSON object a line, whole or not at all."""
        write_json_lines(path, self.rows())

    def to_html(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = "funcnn: gradients",
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Write one HTML file that needs nothing else, as `write_page` does."""
        write_page(path, [self], title=title, facts=facts)

    def __str__(self) -> str:
        return "\n".join([*self._details(), self.conclusion()])


def write_page(
    path: str | os.PathLike[str],
    reports: Sequence[Report],
    *,
    title: str = "funcnn: gradients",
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write what was found as one HTML file, whole or not at all.

    Args:
        path: the file.
        reports: of any kinds, one after the other.
        title: of the page.
        facts: how it was made, beside the versions and the device: level, seed, config.

    Raises:
        ValueError: no report was given.

    >>> import pathlib, tempfile
    >>> from funcnn import Census
    >>> file = pathlib.Path(tempfile.mkdtemp(), "page.html")
    >>> write_page(file, [Census(())])
    >>> "NOT COMPARED: 0 hand-written rules found" in file.read_text(encoding="utf-8")
    True
    """
    if not reports:
        raise ValueError("write_page: nothing to show; give it reports")
    parts = [(report.conclusion(), report.sections()) for report in reports]
    text = page(title, parts, {**_versions(), **(facts or {})})
    with in_place_of(path) as unfinished:
        # Half a surrogate pair, in a name perhaps, is no character: it is written as an escape.
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def _versions() -> dict[str, str]:
    return {
        "funcnn": __version__,
        "jax": jax.__version__,
        "Python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
