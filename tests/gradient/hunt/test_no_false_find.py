"""`hunt` finds nothing in rules that are right: funcnn's own, JAX's and Optax's, other people's."""

import jax
import pytest
from catalogue_foreign import FOREIGN
from catalogue_public import PUBLIC

import funcnn as fnn
from funcnn.gradient.hunt.hunt import hunt

SECONDS = 10.0
RULES = tuple(fnn.registered_rules())
SAMPLE = ("tanh", "softmax_cross_entropy")


def assert_nothing(report):
    assert report.found is None, str(report)
    assert report.ok or report.why, str(report)


@pytest.mark.parametrize("name", SAMPLE)
def test_nothing_is_found_in_some_rules(name):
    assert_nothing(hunt(fnn.registered_rules()[name], budget=2.0))


@pytest.mark.battery
@pytest.mark.parametrize("name", RULES)
def test_nothing_is_found_in_the_rules_of_funcnn(name):
    assert_nothing(hunt(fnn.registered_rules()[name], budget=SECONDS))


# What `check` says is wrong may be found.
@pytest.mark.battery
@pytest.mark.parametrize("name", [name for name, public in PUBLIC.items() if not public.says])
def test_nothing_is_found_in_public_functions(name):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert_nothing(hunt(PUBLIC[name].f, *PUBLIC[name].args, budget=SECONDS))


@pytest.mark.battery
@pytest.mark.parametrize("name", FOREIGN)
def test_nothing_is_found_in_the_rules_of_other_people(name):
    f, args, options = FOREIGN[name].make()
    if options.get("intent") == "surrogate":
        pytest.skip("a surrogate, which is no derivative")
    assert_nothing(hunt(f, *args, budget=SECONDS, reference=options.get("reference")))
