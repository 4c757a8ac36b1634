"""What collectives move: the ring within a node, and between nodes."""

import pytest

from funcnn.plan.hlo import Collective
from funcnn.plan.traffic import traffic_of


def moved(kind, size, groups, count, per_node=8):
    (found,) = traffic_of([Collective(kind, size, 1, groups)], count, per_node)
    return found.group, found.nodes, found.bytes, found.link, found.network


@pytest.mark.parametrize(
    ("kind", "size", "link"),
    # 800 bytes, whole, on each of 8 devices.
    [
        ("all-reduce", 800, 1400),
        ("reduce-scatter", 800, 700),
        ("all-gather", 100, 700),
        ("all-to-all", 800, 700),
    ],
)
def test_within_a_node(kind, size, link):
    assert moved(kind, size, "{}", 8) == (8, 1, 800, link, 0)


def test_between_nodes_each_device_moves_its_share():
    # 4 nodes of 8: 7/8 of a sum within, and of an eighth 3/4 between, both ways.
    assert moved("all-reduce", 800, "{}", 32) == (32, 4, 800, 1400, 150)
    assert moved("all-gather", 25, "{}", 32) == (32, 4, 800, 700, 75)
    assert moved("all-to-all", 800, "{}", 32) == (32, 4, 800, 175, 600)
    # One device in each node: the ring goes over the network alone.
    assert moved("all-reduce", 800, "[8,4]<=[4,8]T(1,0)", 32) == (4, 4, 800, 0, 1200)
    # Groups of nodes that stand for themselves.
    assert moved("all-reduce", 800, "[4,8]<=[32]", 32) == (8, 1, 800, 1400, 0)


def test_pairs():
    assert moved("collective-permute", 80, "{{0,1},{1,0}}", 16) == (2, 1, 80, 80, 0)
    assert moved("collective-permute", 80, "{{0,1},{7,8}}", 16) == (2, 2, 80, 0, 80)


def test_sums_by_kind_and_what_one_device_does_alone():
    found = traffic_of(
        [
            Collective("all-reduce", 10, 2, "{}"),
            Collective("all-reduce", 30, 1, "{}"),
            Collective("all-gather", 10, 1, "{{0,1},{2,3}}"),
            Collective("all-reduce", 10, 1, "{{0},{1},{2},{3}}"),
            Collective("collective-permute", 10, 1, "{{0,0},{1,1}}"),
        ],
        4,
        8,
    )
    assert [(t.kind, t.group, t.times, t.bytes) for t in found] == [
        ("all-reduce", 4, 3, 50),
        ("all-gather", 2, 1, 20),
    ]
