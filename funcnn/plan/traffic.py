"""What collectives move over the links of one device, by the ring: a lower bound of its kind.

A group of n devices, m of them in each of k nodes, sums B bytes by moving 2 (m - 1)/m B over the
link of each device within its node, and 2 (k - 1)/k B/m over its own share of the network; in one
node m = n, 2 (n - 1)/n B. To gather or to scatter is half of a sum. A switch that sums by itself
moves less than any ring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from funcnn.plan.groups import groups_of
from funcnn.plan.hlo import Collective


class Traffic(NamedTuple):
    """Collectives of one kind among groups of one size, in a program or a part of it.

    Attributes:
        kind: as XLA calls it.
        group: how many devices take part in each.
        nodes: over how many nodes these stand.
        times: how often one runs.
        bytes: the whole array of each, on one device, summed: what goes into a sum, what comes out
            of a gathering.
        link: of them, what each device moves over the link of its node.
        network: what it moves over the network.
    """

    kind: str
    group: int
    nodes: int
    times: float
    bytes: float
    link: float
    network: float

    def over(self, steps: int) -> Traffic:
        """Of each of so many steps.

        >>> Traffic("all-reduce", 2, 1, 6, 60, 60.0, 0.0).over(3)
        Traffic(kind='all-reduce', group=2, nodes=1, times=2.0, bytes=20.0, link=20.0, network=0.0)
        """
        kind, group, nodes, *amounts = self
        return Traffic(kind, group, nodes, *(amount / steps for amount in amounts))


def traffic_of(collectives: Iterable[Collective], count: int, per_node: int) -> list[Traffic]:
    """The collectives of a program by kind, group and nodes, on so many devices in all.

    >>> one = Collective("all-reduce", 800, 3, "{}")
    >>> traffic_of([one], count=8, per_node=8)
    [Traffic(kind='all-reduce', group=8, nodes=1, times=3, bytes=2400, link=4200.0, network=0.0)]
    """
    sums: dict[tuple[str, int, int], list[float]] = {}
    for collective in collectives:
        group, nodes = _extent(collective, count, per_node)
        if group < 2:
            continue
        whole = collective.operand_bytes * (group if collective.kind == "all-gather" else 1)
        link, network = _moved(collective.kind, group, nodes, whole)
        total = sums.setdefault((collective.kind, group, nodes), [0, 0, 0.0, 0.0])
        for i, value in enumerate((1, whole, link, network)):
            total[i] += collective.times * value
    return [Traffic(*key, *amounts) for key, amounts in sums.items()]


def _extent(collective: Collective, count: int, per_node: int) -> tuple[int, int]:
    """The members of the widest group, and over how many nodes they stand."""
    groups = groups_of(collective.groups, count)
    if not groups.size:
        return 0, 1
    if collective.kind == "collective-permute":
        groups = groups[groups[:, 0] != groups[:, 1]] if groups.shape[1] == 2 else groups
    nodes = [len(Counter(row[row >= 0] // per_node)) for row in groups]
    widest = int(np.argmax(nodes)) if nodes else 0
    return (int(np.sum(groups[widest] >= 0)), nodes[widest]) if nodes else (0, 1)


def _moved(kind: str, group: int, nodes: int, whole: int) -> tuple[float, float]:
    """Bytes over the link and over the network, of one device, in one collective."""
    within = group / nodes
    if kind in ("collective-permute", "collective-broadcast"):
        return (0.0, float(whole)) if nodes > 1 else (float(whole), 0.0)
    if kind in ("all-to-all", "ragged-all-to-all"):
        return (within - 1) / group * whole, (nodes - 1) / nodes * whole
    ways = 2 if kind == "all-reduce" else 1
    return (
        ways * max(within - 1, 0) / within * whole,
        ways * (nodes - 1) / nodes * whole / within,
    )
