"""What the figures show: which numbers, in which panel, under which title."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from funcnn.pictures.activations import draw_activations
from funcnn.pictures.filters import draw_filters
from funcnn.pictures.maximization import draw_maximized
from funcnn.pictures.occlusion import draw_occlusion
from funcnn.pictures.panels import largest
from funcnn.pictures.saliency import draw_saliency
from funcnn.pictures.style import save_figure

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(3, 6, 8, 1))


def shown(axes):
    return np.asarray(axes.get_images()[0].get_array())


def drawn(figure):
    return [axes for axes in figure.axes if axes.get_images()]


def test_each_filter_has_its_panel_and_all_one_scale():
    w = RNG.normal(size=(3, 5, 1, 10))
    panels = drawn(draw_filters(w, title="Filters of conv_0"))
    assert [axes.get_title() for axes in panels] == [str(k) for k in range(10)]
    for k, axes in enumerate(panels):
        np.testing.assert_array_equal(shown(axes), w[:, :, 0, k])
        assert axes.get_images()[0].get_clim() == (-abs(w).max(), abs(w).max())


def test_filters_of_several_channels():
    w = RNG.normal(size=(3, 3, 6, 20))
    figure = draw_filters(w)
    panels = drawn(figure)
    assert len(panels) == 4 * 8  # the first channels, the first filters
    np.testing.assert_array_equal(shown(panels[8 + 3]), w[:, :, 1, 3])
    assert "the first 8 of 20" in figure.get_suptitle()


def test_activations_stand_beside_their_image():
    z = RNG.normal(size=(3, 3, 4, 2))
    figure = draw_activations(IMAGES, z, labels=["a", "b", "c"], title="Output of conv_0")
    panels = drawn(figure)
    assert [axes.get_ylabel() for axes in panels[::3]] == ["a", "b", "c"]
    np.testing.assert_array_equal(shown(panels[3]), IMAGES[1, ..., 0])
    np.testing.assert_array_equal(shown(panels[3 + 2]), z[1, ..., 1])
    assert figure.get_suptitle().startswith("Output of conv_0: red is positive")


def test_saliency_and_occlusion_show_their_maps_in_the_order_of_the_images():
    g = RNG.normal(size=IMAGES.shape)
    panels = drawn(draw_saliency(IMAGES, g, labels=["1", "2", "3"]))
    np.testing.assert_array_equal(shown(panels[4]), np.float32(abs(g[1, ..., 0])))
    np.testing.assert_allclose(shown(panels[8]), (g * IMAGES)[2, ..., 0], rtol=1e-6)
    maps = RNG.uniform(-1, 1, size=(3, 6, 8))
    maps[1, 2, 7] = 2.0
    panels = drawn(draw_occlusion(IMAGES, maps, square=3, fill=0.5, labels=["1", "2", "3"]))
    assert [axes.get_title() for axes in panels[:3]] == ["1", "2", "3"]
    np.testing.assert_array_equal(shown(panels[4]), maps[1])
    covered = IMAGES[1, ..., 0].copy()
    covered[1:4, 6:8] = 0.5
    np.testing.assert_allclose(shown(panels[7]), covered, rtol=1e-6)
    assert panels[7].get_title() == "drop of 2.00"
    (frame,) = panels[7].patches
    assert isinstance(frame, Rectangle)
    assert list(frame.get_bbox().extents) == [5.5, 0.5, 7.5, 3.5]


def test_a_map_of_every_second_pixel_covers_the_image():
    maps = RNG.uniform(size=(3, 3, 4))
    panels = drawn(draw_occlusion(IMAGES, maps, square=3, stride=2))
    assert panels[3].get_images()[0].get_extent() == [-1, 7, 5, -1]  # centres 0, 2, 4, 6


def test_colour_images_and_given_figures():
    from matplotlib.figure import Figure

    figure = Figure()
    assert draw_maximized(np.ones((2, 4, 4, 3)), ["a", "b"], figure=figure) is figure
    assert shown(drawn(figure)[0]).shape == (4, 4, 3)


def test_wrong_shapes_are_one_line():
    with pytest.raises(ValueError, match=r"\(H, W, C, K\)"):
        draw_filters(np.ones((3, 3)))
    with pytest.raises(ValueError, match="each of 3 images"):
        draw_activations(IMAGES, np.ones((2, 3, 3, 1)))
    with pytest.raises(ValueError, match="shorter"):
        draw_maximized(IMAGES, ["a"])


def test_the_limit_of_a_scale():
    assert largest([1.0, -4.0, 2.0]) == 4.0
    assert largest(np.arange(101.0), 0.9) == 90.0
    assert largest([0.0, 0.0, 0.0, 5.0], 0.5) == 5.0


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path):
    figure = draw_maximized(IMAGES, ["a", "b", "c"])
    save_figure(figure, tmp_path / "picture")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(before) == {"picture.png", "picture.svg"}
    save_figure(figure, tmp_path / "picture")  # the same picture is the same file
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before

    figure.axes[0].set_title("$broken")  # matplotlib parses this when it draws
    figure.axes[0].set_title(r"$\frac{$")
    with pytest.raises(ValueError, match="frac"):
        save_figure(figure, tmp_path / "picture")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
