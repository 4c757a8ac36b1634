"""The foreign rules are right, and the disguised ones wrong: by differences of their values."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue_disguises import DISGUISES
from catalogue_foreign import FOREIGN

from funcnn.gradient.check import check

SAMPLE = ("plain", "symbolic_zeros", "infinite_scores", "straight_through")
DIRECTIONS = 2
HALVINGS = 4


def is_float(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def in_float64(args):
    """The arrays of floats among the arguments in float64, and a function that puts them back."""
    leaves, tree = jax.tree.flatten(args)
    leaves = [np.asarray(x) if isinstance(x, float) else x for x in leaves]
    chosen = [i for i, x in enumerate(leaves) if is_float(x)]

    def filled(x):
        new = list(leaves)
        for i, value in zip(chosen, x, strict=True):
            new[i] = value
        return jax.tree.unflatten(tree, new)

    return [np.asarray(leaves[i]).astype(np.float64) for i in chosen], filled


def outputs(f, filled):
    return lambda x: [y for y in jax.tree.leaves(f(*filled(x))) if is_float(y)]


def slope(f, x, v, w, step):
    """d/dt w . f(x + t v) at 0: central differences at halved steps, extrapolated to none."""

    def at(t):
        moved = [a + t * b for a, b in zip(x, v, strict=True)]
        return sum(float(np.vdot(p, np.asarray(y))) for p, y in zip(w, f(moved), strict=True))

    steps = step * 0.5 ** np.arange(HALVINGS)
    column = [(at(h) - at(-h)) / (2 * h) for h in steps]
    for power in range(1, HALVINGS):
        column = [b + (b - a) / (4.0**power - 1) for a, b in itertools.pairwise(column)]
    return column[-1]


def slopes(f, reference, args, step):
    """By the rule of f, and by differences of the reference; each for a few directions."""
    random = np.random.default_rng(0)
    x, filled = in_float64(args)
    rule, value = jax.jit(outputs(f, filled)), jax.jit(outputs(reference, filled))
    y, pull = jax.vjp(rule, x)
    found = []
    for _ in range(DIRECTIONS):
        w = [random.normal(size=a.shape) for a in y]
        v = [random.normal(size=a.shape) for a in x]
        v = [np.where(np.isfinite(a), b, 0) for a, b in zip(x, v, strict=True)]
        (g,) = pull([jnp.asarray(a, b.dtype) for a, b in zip(w, y, strict=True)])
        by_rule = sum(float(np.vdot(a, b)) for a, b in zip(v, g, strict=True))
        found.append((by_rule, slope(value, x, v, w, step)))
    return found


@pytest.fixture
def as_users_have_it():
    """float64, with the promotions that JAX has by default."""
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield


def marked(names, quick):
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", marked(FOREIGN, SAMPLE))
@pytest.mark.usefixtures("as_users_have_it")
def test_the_rule_is_right(name):
    entry = FOREIGN[name]
    f, args, options = entry.make()
    for by_rule, expected in slopes(f, options.get("reference", f), args, entry.step):
        np.testing.assert_allclose(by_rule, expected, rtol=entry.tolerance, atol=entry.tolerance)


@pytest.mark.parametrize("factor", [1, 7])
@pytest.mark.parametrize("name", marked(DISGUISES, ("while_loop", "hidden_in_a_partial")))
@pytest.mark.usefixtures("as_users_have_it")
def test_the_disguise_is_wrong_by_its_factor(name, factor):
    f, args, options = DISGUISES[name](factor)
    for by_rule, expected in slopes(f, f, args, 1e-2):
        np.testing.assert_allclose(by_rule, factor * expected, rtol=1e-7, atol=1e-9)
    assert not options


@pytest.fixture
def standard():
    """The promotions that JAX has by default: users' code needs them."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize(
    "name", [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.battery) for n in FOREIGN]
)
@pytest.mark.usefixtures("standard")
def test_no_false_alarm(name):
    f, args, options = FOREIGN[name].make()
    report = check(f, *args, level="full", **options)
    assert report.ok, str(report)


QUICK = (
    "while_loop",
    "hidden_in_a_partial",
    "pure_callback",
    "list_of_numbers",
    "inner_rule_wrong",
)


@pytest.mark.parametrize("name", marked(DISGUISES, QUICK))
@pytest.mark.usefixtures("standard")
def test_no_disguise_hides_a_factor(name):
    f, args, options = DISGUISES[name](1)
    right = check(f, *args, **options)
    assert right.ok, str(right)
    f, args, options = DISGUISES[name](7)
    assert not check(f, *args, **options).ok


def test_there_are_as_many_as_are_needed():
    assert len(FOREIGN) >= 50
    assert len(DISGUISES) >= 14
    assert all(entry.make.__doc__ for entry in FOREIGN.values())
    assert all(make.__doc__ for make in DISGUISES.values())
