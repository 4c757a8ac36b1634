"""`hunt` finds nothing in rules that are right: funcnn's own, JAX's and Optax's, other people's."""

import jax
import numpy as np
import pytest
from catalogue_foreign import FOREIGN
from catalogue_public import PUBLIC

import funcnn as fnn
from funcnn.core.registry import Case
from funcnn.gradient.hunt.hunt import hunt
from funcnn.gradient.hunt.judging import Trial, score, verdict
from funcnn.gradient.hunt.place import Hunted
from funcnn.gradient.hunt.search import Search

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


# Below -1000 its terms cancel: 2981 at -10000 in float32, where 10000 is true. See audit/README.md.
WRONG_FAR_AWAY = "scipy.special.log_ndtr"
SAID_RIGHT = [name for name, public in PUBLIC.items() if not public.says]


@pytest.mark.battery
def test_what_is_wrong_in_a_public_function_is_found():
    one = PUBLIC[WRONG_FAR_AWAY]
    found = hunt(one.f, *one.args, budget=60.0).found
    assert found is not None
    assert found.arguments[0].min() < -1000


# What `check` says is wrong may be found.
@pytest.mark.battery
@pytest.mark.parametrize("name", [name for name in SAID_RIGHT if name != WRONG_FAR_AWAY])
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


@pytest.mark.parametrize(
    ("name", "x", "why"),
    [("callable_object", [-3e38], "the function without its rule overflows on the way")],
)
def test_what_was_found_once_and_is_none(name, x, why):
    f, args, _ = FOREIGN[name].make()
    place = Hunted.of_function(name, f, Case("one", args), None).at({5: 1})
    trial = Trial((np.array(x, np.float32),), (np.zeros(1, np.float32),))
    found = score(place, trial)
    assert found.ratio > 1
    assert verdict(place, trial, found) == ("inconclusive", why)


def test_a_rule_over_an_array_of_its_own_is_not_asked_for_other_sizes():
    """Of one element its arguments still broadcast, and the rule is not made for that."""
    f, args, _ = FOREIGN["equinox_filtered"].make()
    search = Search(Hunted.of_function("f", f, Case("one", args), None), 0)
    assert search._place({}) is not None
    assert search._place({4: 1}) is None
    assert search.counts.refused == 1
