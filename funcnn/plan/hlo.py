"""The collectives of a compiled program, read off the compiler's text: what each, and how often."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from funcnn.plan.instructions import Computations, computations_of, trips_of

KINDS = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast", "ragged-all-to-all"),
)
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|true_computation|false_computation|called_computations)="
    r"\{?((?:%?[\w.\-]+(?:, ?)?)+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_GROUPS = re.compile(
    r"\b(?:replica_groups|source_target_pairs)="
    r"(mesh\[.*?\}|\{(?:\{[^}]*\},?)*\}|\[[\d,]+\](?:<=\[[\d,]+\](?:T\([\d,]+\))?)?)"
)
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,<=]*)\]")


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
        kind: of `KINDS`.
        operand_bytes: what one device hands in, each time.
        times: how often it runs, in loops as often as they do.
        groups: as XLA writes them: of all devices that take part, or pairs of two.
        known: whether each loop around it says how often it runs.
    """

    kind: str
    operand_bytes: int
    times: int
    groups: str
    known: bool = True


def collectives_of(text: str) -> list[Collective]:
    """The collectives that one run of a program makes, from its entry on.

    Of an asynchronous pair the start counts. Of a conditional all branches count.

    Raises:
        ValueError: there is no entry, or an operand stands nowhere.

    >>> text = '''
    ... %body (x: f32[8]) -> f32[8] {
    ...   %x = f32[8]{0} parameter(0)
    ...   ROOT %y = f32[8]{0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
    ... }
    ... ENTRY %main (x: f32[8]) -> f32[8] {
    ...   %x = f32[8]{0} parameter(0)
    ...   ROOT %y = f32[8]{0} while(%x), body=%body, "known_trip_count":{"n":"3"}
    ... }
    ... '''
    >>> collectives_of(text)
    [Collective(kind='all-reduce', operand_bytes=32, times=3, groups='{{0,1}}', known=True)]
    """
    computations, entry = computations_of(text)
    return list(_run(entry, computations, 1, True))


def _run(name: str, computations: Computations, times: int, known: bool) -> Iterator[Collective]:
    lines = computations.get(name, [])
    types = {line.name: line.type for line in lines}
    for line in lines:
        kind = line.operation.removesuffix("-start")
        if kind in KINDS:
            handed = sum(bytes_of(_known(n, types)) for n in line.names)
            found = _GROUPS.search(line.rest)
            yield Collective(kind, handed, times, found[1] if found else "{}", known)
            continue  # what it calls says how two numbers become one
        trips = trips_of(line, lines, computations) if line.operation == "while" else 1
        for called in _called(line.rest):
            yield from _run(called, computations, times * (trips or 1), known and trips is not None)


def _known(name: str, types: dict[str, str]) -> str:
    if name not in types:  # counted as nothing, it would be missed by nobody
        raise ValueError(f"the text of the compiler does not say what %{name} is")
    return types[name]


def _called(rest: str) -> list[str]:
    lists = [m[1] for m in (*_CALLED.finditer(rest), *_BRANCHES.finditer(rest))]
    return [
        name.strip().lstrip("%") for names in lists for name in names.split(",") if name.strip()
    ]


def bytes_of(written: str) -> int:
    """The bytes of a type as XLA writes it, an array's or a tuple's.

    >>> bytes_of("(f32[2,3]{1,0}, bf16[], /*index=5*/pred[4]{0}, token[])")
    30
    """
    total = 0
    for letters, digits, dims in _ARRAY.findall(written):
        bits = 8 if letters == "pred" else int(digits or 0)
        size = math.prod(int(d.lstrip("<=")) for d in dims.split(",") if d)
        total += math.ceil(bits * size / 8)
    return total
