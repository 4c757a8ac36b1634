"""Which devices take part in a collective, in each of XLA's ways to write it."""

import pytest

from funcnn.plan.groups import groups_of


def test_axes_of_a_mesh():
    assert groups_of("mesh['a'=2,'b'=3] {'b'}", 6).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert groups_of("mesh[a=2,b=3] {a}", 6).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert groups_of("mesh['a'=2,'b'=3] {'a','b'}", 6).tolist() == [[0, 1, 2, 3, 4, 5]]
    # The order of the axes is that of the members.
    assert groups_of("mesh['a'=2,'b'=2] {'b','a'}", 4).tolist() == [[0, 2, 1, 3]]
    # Of an axis of 8 the middle part, of which each step is 2.
    assert groups_of("mesh['a'=8] {'a':(2)2}", 8).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    in_other_order = "mesh['a'=2,'b'=2], device_ids=([2,2]<=[2,2]T(1,0)) {'b'}"
    assert groups_of(in_other_order, 4).tolist() == [[0, 2], [1, 3]]
    assert groups_of("mesh['a'=2,'b'=2], device_ids=(3,1,2,0) {'b'}", 4).tolist() == [
        [3, 1],
        [2, 0],
    ]


def test_rows_of_devices():
    assert groups_of("[2,4]<=[8]", 8).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert groups_of("[4,2]<=[2,4]T(1,0)", 8).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_lists():
    assert groups_of("{{0,2},{1,3}}", 4).tolist() == [[0, 2], [1, 3]]
    assert groups_of("{{0,1,2},{3}}", 4).tolist() == [[0, 1, 2], [3, -1, -1]]
    assert groups_of("{}", 3).tolist() == groups_of("{{}}", 3).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("text", ["grid(2)", "mesh['a'=2]", "[2,2]"])
def test_another_way_is_said(text):
    with pytest.raises(ValueError, match="written in a way that is not known"):
        groups_of(text, 4)
