"""Which devices take part in one collective, from the ways in which XLA writes it."""

from __future__ import annotations

import math
import re

import numpy as np

_AXIS = re.compile(r"'?([\w.\-]+)'?(?::\((\d+)\)(\d+))?")
_TILES = re.compile(r"\[([\d,]+)\](?:<=\[([\d,]+)\])?(?:T\(([\d,]+)\))?")


def groups_of(text: str, count: int) -> np.ndarray:
    """The groups of `replica_groups=` among so many devices, (groups, members).

    XLA lists them, `{{0,1},{2,3}}`, cuts a row of all devices, `[2,2]<=[2,2]T(1,0)`, or names axes
    of a mesh, `mesh['a'=2,'b'=2] {'b'}`. Groups of unlike sizes are filled with -1.

    Raises:
        ValueError: it is written in another way.

    >>> groups_of("{{0,1},{2,3}}", 4).tolist(), groups_of("{}", 2).tolist()
    ([[0, 1], [2, 3]], [[0, 1]])
    >>> groups_of("[2,2]<=[2,2]T(1,0)", 4).tolist()
    [[0, 2], [1, 3]]
    >>> groups_of("mesh['a'=2,'b'=2] {'a'}", 4).tolist()
    [[0, 2], [1, 3]]
    """
    if text.startswith("mesh"):
        return _of_mesh(text)
    tiles = _TILES.match(text)
    if tiles and tiles[2]:
        return _tiled(tiles)
    if not text.startswith("{"):
        raise ValueError(f"replica_groups={text[:60]}: written in a way that is not known")
    groups = [[int(i) for i in re.findall(r"\d+", g)] for g in re.findall(r"\{([\d, ]+)\}", text)]
    if not groups:
        return np.arange(count)[None]
    longest = max(map(len, groups))
    return np.array([[*g, *[-1] * (longest - len(g))] for g in groups])


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def _tiled(tiles: re.Match[str]) -> np.ndarray:
    """All devices as an array of one shape, its axes in another order, cut into another shape."""
    shape, source = _numbers(tiles[1]), _numbers(tiles[2] or tiles[1])
    ids = np.arange(math.prod(source)).reshape(source)
    return (ids.transpose(_numbers(tiles[3])) if tiles[3] else ids).reshape(shape)


def _of_mesh(text: str) -> np.ndarray:
    found = re.match(
        r"mesh\[([^\]]*)\](?:, ?device_ids=\(([^)]*(?:\([^)]*\))?)\))? ?\{(.*?)\}", text
    )
    if found is None:
        raise ValueError(f"replica_groups={text[:60]}: written in a way that is not known")
    sizes = {name: int(n) for name, n in re.findall(r"'?([\w.\-]+)'?=(\d+)", found[1])}
    tiles = _TILES.match(found[2] or "")
    if tiles:
        ids = _tiled(tiles)
    else:
        ids = np.array(_numbers(found[2])) if found[2] else np.arange(math.prod(sizes.values()))
    # An axis of which a part is named is three: what is before the part, the part, what is after.
    named = {(m[1], int(m[2] or 1)): int(m[3] or 0) for m in _AXIS.finditer(found[3])}
    shape, within = [], {}
    for name, size in sizes.items():
        done = 1
        for before, part in sorted((b, p or size) for (n, b), p in named.items() if n == name):
            shape += [before // done, part]
            within[name, before] = len(shape) - 1
            done = before * part
        shape.append(size // done)
    chosen = [within[axis] for axis in named]
    others = [i for i in range(len(shape)) if i not in chosen]
    members = math.prod(shape[i] for i in chosen)
    return ids.reshape(shape).transpose(*others, *chosen).reshape(-1, members)
