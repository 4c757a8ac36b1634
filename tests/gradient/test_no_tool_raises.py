"""Every program of the catalogues through `census` and `compare`: a verdict, and no exception."""

import jax
import jax.numpy as jnp
import pytest
from catalogue_disguises import DISGUISES
from catalogue_foreign import FOREIGN
from catalogue_right import RIGHT
from catalogue_wrong import WRONG

from funcnn.core.registry import Rule
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.sites.census import census


def named():
    yield from (("right", name, RIGHT[name].make) for name in RIGHT)
    yield from (("wrong", name, WRONG[name].make) for name in WRONG)
    yield from (("foreign", name, FOREIGN[name].make) for name in FOREIGN)
    for name, make in DISGUISES.items():
        yield "disguise", name, lambda make=make: make(7)


PROGRAMS = {f"{kind} {name}": make for kind, name, make in named()}
SAMPLE = (
    *("right affine: a tree with None", "foreign symbolic_zeros", "foreign infinite_scores"),
    *("disguise pure_callback", "disguise while_loop"),
)


def program(make):
    """A function of arrays and its arguments; of a Rule the first of its cases."""
    target, args, *_ = make()
    if isinstance(target, Rule) and not args:
        case = target.cases()[0]
        return (lambda *args: target(*args, **case.static)), case.args
    return target, args


def scalar(f):
    """The sum of what a function returns, of whatever tree and dtypes."""

    def total(*args):
        leaves = [jnp.real(y) for y in jax.tree.leaves(f(*args))]
        floats = [y for y in leaves if jnp.issubdtype(y.dtype, jnp.floating)]
        return sum(jnp.sum(y.astype(jnp.float32)) for y in floats)

    return total


@pytest.mark.parametrize(
    "name", [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.battery) for n in PROGRAMS]
)
def test_census_and_compare_come_to_a_verdict(name):
    f, args = program(PROGRAMS[name])
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for report in (
            census(f, *args),
            compare(scalar(f), *args, argnums=range(len(args)), pairs=0, cost=False),
        ):
            head = str(report).splitlines()[-1].split(":")[0]
            assert head in {"OK", "FAILED", "INCONCLUSIVE", "NOT COMPARED", "NO TRUTH"}


def test_the_programs_are_many():
    assert len(PROGRAMS) >= 200
