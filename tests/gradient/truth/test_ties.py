"""Each element of a tie may lie between its own slopes, and what all of them get be wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.check import check
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.sites.census import census


def custom(f, backward):
    made = jax.custom_vjp(f)
    made.defvjp(lambda *x: (f(*x), x), backward)
    return made


def reports(rule, *x):
    """What each tool says."""
    leaves = tuple(range(len(x)))
    yield check(rule, *x)
    yield census(rule, *x)
    yield compare(lambda *x: rule(*x).sum(), *x, argnums=leaves, pairs=0, cost=False)


def among_the_largest(rows, way):
    """Who gets the cotangent of the largest element of a row."""
    tied = (rows == rows.max(-1, keepdims=True)).astype(rows.dtype)
    first = jax.nn.one_hot(jnp.argmax(rows, -1), rows.shape[-1], dtype=rows.dtype)
    last = jax.nn.one_hot(
        rows.shape[-1] - 1 - jnp.argmax(rows[..., ::-1], -1), rows.shape[-1], dtype=rows.dtype
    )
    split = tied / tied.sum(-1, keepdims=True)
    alone = jnp.where(tied.sum(-1, keepdims=True) == 1, tied, 0)
    return {"all": tied, "first": first, "last": last, "split": split, "none": alone}[way]


WAYS = [("all", False), ("none", False), ("first", True), ("last", True), ("split", True)]
ROWS = [
    np.array([[-1.0, 0.0, 0.0, -0.5], [1.0, 2.0, -1.0, 0.0]]),
    np.stack([np.minimum(np.arange(302.0) - 2, 0.0), np.arange(302.0)]),
]


@pytest.mark.parametrize(("way", "right"), WAYS)
@pytest.mark.parametrize(
    "rows",
    [pytest.param(ROWS[0], id="two"), pytest.param(ROWS[1], id="hundreds", marks=pytest.mark.slow)],
)
def test_the_largest_of_a_row(way, right, rows):
    f = custom(
        lambda x: jnp.max(x, -1),
        lambda res, dy: (among_the_largest(res[0], way) * dy[:, None],),
    )
    for report in reports(f, jnp.asarray(rows, jnp.float32)):
        assert report.ok is right, str(report)


def windows(x):
    return jnp.stack([x[:-2], x[1:-1], x[2:]], -1)


@pytest.mark.parametrize(("way", "right"), [each for each in WAYS if each[0] != "none"])
def test_windows_over_zeros_that_relu_has_left(way, right):
    """They overlap: a zero takes part in three ties."""

    def backward(res, dy):
        g = among_the_largest(windows(res[0]), way) * dy[:, None]
        return (jax.linear_transpose(windows, res[0])(g)[0],)

    def pooled(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3,), (1,), "VALID")

    f = custom(pooled, backward)
    x = np.maximum(np.random.default_rng(3).normal(size=24), 0)
    for report in reports(f, jnp.asarray(x, jnp.float32)):
        assert report.ok is right, str(report)


@pytest.mark.parametrize(
    ("shares", "right"),
    [
        ((1, 1), False),
        ((0, 0), False),
        ((0.6, 0.6), False),
        ((1, 0), True),
        ((0, 1), True),
        ((0.5, 0.5), True),
        ((0.3, 0.7), True),
    ],
)
def test_a_tie_of_two_arguments(shares, right):
    def backward(res, dy):
        x, y = res
        to_x, to_y = (jnp.asarray(share, dy.dtype) * dy for share in shares)
        return (
            jnp.where(x == y, to_x, jnp.where(x > y, dy, 0)),
            jnp.where(x == y, to_y, jnp.where(x < y, dy, 0)),
        )

    f = custom(lambda x, y: jnp.maximum(x, y), backward)
    for report in reports(f, jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 2.0, 1.0])):
        assert report.ok is right, str(report)


@pytest.mark.parametrize(
    ("shares", "right"),
    [((1, 1), False), ((0, 0), False), ((1, 0), True), ((0, 1), True), ((0.5, 0.5), True)],
)
def test_a_tie_of_numbers_that_are_not_equal(shares, right):
    """x = 2 y: they move together in another proportion, and a change of the last place is none."""

    def backward(res, dy):
        x, y = res
        to_x, to_y = (jnp.asarray(share, dy.dtype) * dy for share in shares)
        return (
            jnp.where(x == 2 * y, to_x, jnp.where(x > 2 * y, dy, 0)),
            2 * jnp.where(x == 2 * y, to_y, jnp.where(x < 2 * y, dy, 0)),
        )

    f = custom(lambda x, y: jnp.maximum(x, 2 * y), backward)
    x, y = jnp.array([2.0, 1.0, -4.0, 3.0]), jnp.array([1.0, 2.0, -2.0, 1.0])
    for report in reports(f, x, y):
        assert report.ok is right, str(report)


@pytest.mark.parametrize(
    ("slopes", "right"),
    [((0, 1), False), ((1, 0), False), ((0, 0), True), ((1, 1), True), ((0.5, 0.5), True)],
)
def test_a_hinge_has_one_slope_for_both_of_its_arguments(slopes, right):
    def backward(res, dy):
        x, y = res
        margin = 1 - x * y
        beside = jnp.where(margin > 0, dy, 0)
        of_x, of_y = (jnp.where(margin == 0, slope * dy, beside) for slope in slopes)
        return -y * of_x, -x * of_y

    f = custom(lambda x, y: jnp.maximum(1 - x * y, 0), backward)
    x, y = jnp.array([2.0, 1.0, 0.25, 3.0, 0.5]), jnp.array([0.5, 1.0, 2.0, 2.0, -1.0])
    for report in reports(f, x, y):
        assert report.ok is right, str(report)


@pytest.mark.parametrize(("way", "right"), [each for each in WAYS if each[0] != "none"])
def test_the_largest_magnitude_of_a_row(way, right):
    """A change of the last place breaks ties of numbers that are not zero."""

    def backward(res, dy):
        return (among_the_largest(jnp.abs(res[0]), way) * jnp.sign(res[0]) * dy[:, None],)

    f = custom(lambda x: jnp.max(jnp.abs(x), -1), backward)
    x = jnp.array([[3.0, -3, 1, 0.5], [-1, 2, 2, 0], [1, -5, 2, -5], [1, -2, 0.5, 0.1]])
    for report in reports(f, x):
        assert report.ok is right, str(report)


TIED = jnp.array([1.0, 3.0, 3.0, 0.5, 3.0, 0.0, 0.0])


@pytest.mark.parametrize(("way", "right"), [("stable", True), ("reversed", True), ("all", False)])
def test_sorting(way, right):
    def backward(res, dy):
        x = res[0]
        if way == "all":
            return ((jnp.sort(x)[None] == x[:, None]).astype(dy.dtype) @ dy,)
        order = jnp.argsort(x) if way == "stable" else x.size - 1 - jnp.argsort(x[::-1])
        return (jnp.zeros_like(dy).at[order].set(dy),)

    for report in reports(custom(lambda x: jnp.sort(x), backward), TIED):
        assert report.ok is right, str(report)


@pytest.mark.parametrize("slopes", [(0.1, 0.9, 0.3, 0.0), (1.0, -1.0, 1.0, -1.0), (0, 0, 0, 0)])
def test_kinks_beside_each_other_are_no_tie(slopes):
    def backward(res, dy):
        at_zero = jnp.asarray([*slopes, 1.0], dy.dtype)
        return (jnp.where(res[0] == 0, at_zero, jnp.sign(res[0])) * dy,)

    x = jnp.array([0.0, 0.0, 0.0, 0.0, 1.0])
    for report in reports(custom(lambda x: jnp.abs(x), backward), x):
        assert report.ok, str(report)


def differences(x):
    return jnp.abs(x[1:] - x[:-1])


@pytest.mark.parametrize("right", [True, False])
def test_differences_that_are_zero(right):
    """The two sides of one term must take the same slope."""

    def backward(res, dy):
        step = res[0][1:] - res[0][:-1]
        after = jnp.where(step >= 0, dy, -dy)
        before = after if right else jnp.sign(step) * dy
        return (jnp.zeros_like(res[0]).at[1:].add(after).at[:-1].add(-before),)

    for report in reports(custom(differences, backward), jnp.array([0.0, 0.0, 0.0, 2.0, 1.0, 3.0])):
        assert report.ok is right, str(report)


def in_the_middle(rows, way):
    """Who gets the cotangent of the median of an even number of elements."""
    middle = jnp.sort(rows, -1)[:, rows.shape[-1] // 2 - 1 : rows.shape[-1] // 2 + 1]
    taken = jnp.zeros_like(rows)
    for value in middle.T:
        tied = (rows == value[:, None]).astype(rows.dtype)
        if way == "split":
            tied = tied / tied.sum(-1, keepdims=True)
        elif way == "first":
            free = jnp.where(taken == 0, tied, 0)
            tied = jax.nn.one_hot(jnp.argmax(free, -1), rows.shape[-1], dtype=rows.dtype)
        taken = taken + tied / 2
    return taken


@pytest.mark.parametrize(("way", "right"), [("split", True), ("first", True), ("all", False)])
def test_the_median_of_an_even_number(way, right):
    """Moved alone, an element of the tie is in the middle no more."""
    f = custom(
        lambda x: jnp.median(x, -1),
        lambda res, dy: (in_the_middle(res[0], way) * dy[:, None],),
    )
    report = check(f, jnp.array([[1.0, 2, 2, 2, 2, 3], [5, 1, 4, 2, 7, 9]]))
    assert report.ok is right, str(report)
