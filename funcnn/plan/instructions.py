"""The instructions of a compiled program, from the compiler's text, and how often a loop runs."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_TRIPS = re.compile(r"\"known_trip_count\":\{\"n\":\"(\d+)\"")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
        name: of it.
        type: of its result.
        operation: what it does.
        operands: with what, as written.
        rest: how.
    """

    name: str
    type: str
    operation: str
    operands: str
    rest: str

    @property
    def names(self) -> list[str]:
        """The instructions that it takes.

        >>> Instruction("y", "f32[]", "add", "%a, /*index=1*/f32[] %b", "").names
        ['a', 'b']
        """
        operands = re.sub(r"/\*.*?\*/", "", self.operands)
        return [part.split()[-1].lstrip("%") for part in _between_commas(operands) if part.strip()]


# The instructions of each computation, by its name.
Computations: TypeAlias = dict[str, list[Instruction]]


def computations_of(text: str) -> tuple[Computations, str]:
    """The instructions of each computation, and the name of the entry.

    Raises:
        ValueError: there is no entry.

    >>> text = "ENTRY %main () -> f32[] {\\n  ROOT %c = f32[] constant(1)\\n}"
    >>> computations, entry = computations_of(text)
    >>> entry, computations["main"][0].operation
    ('main', 'constant')
    """
    computations: Computations = {}
    entry, current = "", []
    for raw in text.splitlines():
        head = _HEAD.match(raw) if raw[:1] not in (" ", "}", "") else None
        if head:
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif " = " in raw:
            line = _line(raw.strip())
            current += [line] if line else []
    if not entry:
        raise ValueError("the text of the compiler has no ENTRY")
    return computations, entry


def _line(text: str) -> Instruction | None:
    name, _, rest = text.removeprefix("ROOT ").partition(" = ")
    end = _closing(rest) + 1 if rest.startswith("(") else rest.find(" ")
    written, rest = rest[:end], rest[end:].strip()
    called = re.match(r"([a-z][\w\-]*)\(", rest)
    if called is None:
        return None
    rest = rest[called.end() - 1 :]
    close = _closing(rest)
    return Instruction(name.lstrip("%"), written, called[1], rest[1:close], rest[close + 1 :])


def _closing(text: str) -> int:
    """The place of the parenthesis that closes the first one."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return i
    return len(text)


def _between_commas(text: str) -> list[str]:
    """The parts of a list, whose types have commas in brackets."""
    return re.split(r",(?![^\[{(]*[\]})])", text)


def trips_of(
    loop: Instruction, around: list[Instruction], computations: Computations
) -> int | None:
    """How often a while loop runs, where the compiler says so, or where it counts from 0 to N.

    The latter is what JAX makes of a scan, whose counter goes up by one.

    >>> known = 'body=%b, backend_config={"known_trip_count":{"n":"3"}}'
    >>> trips_of(Instruction("w", "s32[]", "while", "%x", known), [], {})
    3
    """
    if found := _TRIPS.search(loop.rest):
        return int(found[1])
    condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
    inside = {line.name: line for line in computations.get(condition[1] if condition else "", [])}
    last = next(reversed(inside.values())) if inside else None
    if last is None or last.operation != "compare" or "direction=LT" not in last.rest:
        return None
    counter, limit = (inside.get(name) for name in last.names)
    index = re.search(r"index=(\d+)", counter.rest) if counter else None
    outside = {line.name: line for line in around}
    start = outside.get(loop.names[0])
    if index is None or limit is None or start is None or start.operation != "tuple":
        return None
    first = outside.get(start.names[int(index[1])])
    while first is not None and first.operation in ("copy", "bitcast", "convert"):
        first = outside.get(first.names[0])
    if first is None or (first.operation, first.operands) != ("constant", "0"):
        return None
    return int(limit.operands) if limit.operation == "constant" else None
