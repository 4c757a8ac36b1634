"""Figures: each value stands where its number says, and no value is lost."""

import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from funcnn.report.figures import bars, curves, dots

SVG = "{http://www.w3.org/2000/svg}"


def parse(figure):
    """Well-formed XML, all of it inside the picture."""
    root = ElementTree.fromstring(figure)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for node in root.iter():
        x, y = float(node.attrib.get("x", 0)), float(node.attrib.get("y", 0))
        assert 0 <= x <= width
        assert 0 <= y <= height
    return root


def texts(root):
    return [node.text or "" for node in root.iter(f"{SVG}text")]


def test_bars_have_lengths_in_proportion():
    values = {"manual": 1.0, "automatic": 4.0, "none": None, "nothing": 0.0}
    root = parse(bars(values, "bytes", {"manual": "1 B", "automatic": "4 B", "nothing": "0 B"}))
    lengths = [float(node.attrib["width"]) for node in root.iter(f"{SVG}rect")]
    assert lengths[1] == pytest.approx(4 * lengths[0])
    assert lengths[2:] == [0, 0]
    assert {"1 B", "4 B", "not measured", "0 B"} <= set(texts(root))


def test_bars_of_nothing_but_zeros():
    parse(bars({"a": 0.0, "b": 0.0}, "bytes", {}))


def positions(root):
    """The x of the full discs, the first series."""
    _, *found = [float(node.attrib["cx"]) for node in root.iter(f"{SVG}circle")]
    return found


def test_dots_stand_on_a_logarithmic_axis():
    values = {str(v): {"manual": v} for v in (0.0, 0.01, 0.1, 1.0, 100.0, math.inf, math.nan)}
    root = parse(dots(values, "ulps"))
    zero, *found, infinite = positions(root)
    assert zero < found[0]
    assert found[3] < infinite
    steps = [b - a for a, b in pairwise(found)]
    assert steps[1] == pytest.approx(steps[0], abs=0.2)
    assert steps[2] == pytest.approx(2 * steps[0], abs=0.2)
    assert {"0", "inf", "0.01", "100"} <= set(texts(root))


def test_each_series_has_a_shape_of_its_own():
    root = parse(dots({"w": {"manual": 1.0, "automatic": 2.0, "floor": 0.5}}, "ulps"))
    assert len(list(root.iter(f"{SVG}circle"))) == 2  # the legend's and the row's
    diamonds = [node for node in root.iter(f"{SVG}path") if node.attrib["d"].endswith("z")]
    assert len(diamonds) == 2
    assert {"manual", "automatic", "floor"} <= set(texts(root))


def test_a_wrong_leaf_is_marked_and_a_long_name_kept_whole_somewhere():
    name = "encoder/block_11/attention/projection/w"
    figure = dots({name: {"manual": 1.0}}, "ulps", marked=[name])
    assert any(t.startswith("\N{MULTIPLICATION X} ") and len(t) < 25 for t in texts(parse(figure)))
    assert f"{name}</title>" in figure


def test_dots_without_a_positive_value():
    parse(dots({"w": {"manual": 0.0, "automatic": 0.0}}, "ulps"))


def points(figure, which=0):
    lines = [
        re.findall(r"([\d.]+),([\d.]+)", line)
        for line in re.findall(r'<polyline points="([^"]*)"', figure)
    ]
    lines = [line for line in lines if len(line) > 2 or float(line[0][1]) > 40]  # not the legend
    return [(float(x), float(y)) for x, y in lines[which]]


def test_curves_on_a_linear_axis():
    found = points(curves({"a": [(0, 1.0), (5, 1.5), (10, 2.0)]}, "loss", "step"))
    assert found[1][0] == pytest.approx((found[0][0] + found[2][0]) / 2, abs=0.2)
    assert found[1][1] == pytest.approx((found[0][1] + found[2][1]) / 2, abs=0.2)
    assert found[0][1] > found[2][1]  # up is more


def test_curves_are_logarithmic_where_they_span_a_factor_of_ten():
    figure = curves({"a": [(0, 1.0), (1, 10.0), (2, 100.0)]}, "loss", "step")
    found = points(figure)
    assert found[1][1] == pytest.approx((found[0][1] + found[2][1]) / 2, abs=0.2)
    assert "loss (logarithmic)" in figure
    zero = curves({"a": [(0, 0.0), (1, 10.0), (2, 100.0)]}, "loss", "step")
    assert "logarithmic" not in zero


def test_a_value_that_is_not_finite_breaks_its_line():
    values = [1.0, 1.1, 1.2, math.nan, 1.3, 1.2, 1.1]
    figure = curves({"a": list(enumerate(values))}, "loss", "step")
    assert len(points(figure, 0)) == len(points(figure, 1)) == 3
    parse(figure)


def test_long_curves_are_thinned_and_keep_their_end():
    figure = curves({"a": [(i, 1 + i / 10_000) for i in range(10_000)]}, "loss", "step")
    found = points(figure)
    assert len(found) <= 401
    assert found[-1][0] == 466.0  # the right border


@pytest.mark.parametrize(
    "series",
    [
        {"a": []},
        {"a": [(3, 2.0)]},
        {"a": [(0, math.nan)]},
        {"a": [(0, 5.0), (1, 5.0)]},
        {"a": [(0, -1e-30), (1, 1e30)]},
        {"a": [(0, 1.0), (1, 1.0 + 1e-12)]},
        {},
    ],
)
def test_curves_of_odd_series(series):
    parse(curves(series, "loss", "step"))


def test_an_empty_series_keeps_its_colour():
    figure = curves({"manual": [], "automatic": [(0, 1.0), (1, 2.0)]}, "loss", "step")
    assert ">manual<" not in figure
    alone = curves({"automatic": [(0, 1.0), (1, 2.0)]}, "loss", "step")
    assert 'stroke="#D55E00"' in figure
    assert 'stroke="#D55E00"' not in alone
