"""Several processes that share a suite, as those of pytest-xdist: what one checks no other does.

A file in a folder that all of them see says that somebody checks it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence

from funcnn.suite.checking import ELSEWHERE
from funcnn.suite.table import Found, Row


class Claims:
    """Who is first checks it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one, other = Claims(folder), Claims(folder)
    ...     one("relu"), other("relu"), other("tanh")
    (True, False, True)
    """

    def __init__(self, folder: str):
        self.folder = folder

    def __call__(self, key: str) -> bool:
        """Whether nobody has claimed it before."""
        name = hashlib.sha256(key.encode()).hexdigest()
        try:
            os.close(os.open(os.path.join(self.folder, name), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def to_text(found: Found, called: Sequence[str]) -> str:
    """What a process found, to be sent; with the lines of the rules that were called there.

    >>> from_text(to_text(Found(()), ["a.py:1"]))[1]
    ['a.py:1']
    """
    return json.dumps({**dataclasses.asdict(found), "called": list(called)})


def from_text(text: str) -> tuple[Found, list[str]]:
    """What a process has sent."""
    read = json.loads(text)
    rows = tuple(Row(**{**row, "details": tuple(row["details"])}) for row in read["rows"])
    never = tuple(tuple(one) for one in read["never"])
    said = tuple(read["failures"]), read["blind"]
    return Found(rows, never, read["seconds"], *said), read["called"]


def merged(parts: Sequence[tuple[Found, Sequence[str]]]) -> Found:
    """What several processes found, as one.

    >>> row = Row("f", "custom_vjp", "a.py:1", "", "float32[]", False, 0, 2, 1, "model.py::t")
    >>> other = dataclasses.replace(row, how="called", verdict="right")
    >>> never = (("g", "linear.py:3", "linear.py:2"),)
    >>> both = merged([(Found((row,)), []), (Found((other,), never), ["linear.py:2"])])
    >>> [(row.calls, row.verdict) for row in both.rows], both.never
    ([(4, 'right')], ())
    """
    rows: dict[str, Row] = {}
    for found, _ in parts:
        for row in found.rows:
            before = rows.get(row.key)
            rows[row.key] = row if before is None else _joined(before, row)
    called = {line for _, lines in parts for line in lines}
    never = {one: None for found, _ in parts for one in found.never if one[2] not in called}
    failures = tuple(text for found, _ in parts for text in found.failures)
    seconds = max((found.seconds for found, _ in parts), default=0.0)
    blind = next((found.blind for found, _ in parts if found.blind), "")
    return Found(tuple(rows.values()), tuple(never), seconds, failures, blind)


def _joined(a: Row, b: Row) -> Row:
    says = b if (b.how and not a.how) or (b.how and b.outranks(a)) else a
    if not says.how and ELSEWHERE in (a.note, b.note):  # the process that claimed it has ended
        says = dataclasses.replace(says, note="the process that was to check it has ended")
    counts = {name: getattr(a, name) + getattr(b, name) for name in ("calls", "differentiated")}
    return dataclasses.replace(says, **counts, test=says.test or a.test or b.test)
