"""Every rule inside a `shard_map`: what devices share has the sum of their cotangents, once."""

import jax
import jax.numpy as jnp
import pytest
from on_devices import in_shard_map, largest_error, patterns

import funcnn as fnn
from funcnn.core import contract, devices
from funcnn.core.registry import registered_rules

RULES = [
    name for name, rule in registered_rules().items() if rule.reference.__module__[:6] == "funcnn"
]


def smooth_cases(rule):
    """Without kinks, and without empty arrays, of which XLA does not compile this program."""
    return [
        case
        for case in rule.cases()
        if not case.kinks and all(jnp.size(a) for a in jax.tree.leaves(case.args))
    ]


def errors(rule, cases, counts, all_patterns=True):
    """Of each case, with each pattern of what a device has of its own, or with one in turn."""
    found = {}
    for i, case in enumerate(cases):
        every = patterns(case.args)
        for own in every if all_patterns else every[i % len(every) :][:1]:
            for count in counts:
                with jax.enable_x64(True):
                    found[case.name, tuple(own), count] = largest_error(
                        *in_shard_map(rule, case, own, count)
                    )
    return found


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_the_gradient_of_one_device(name):
    rule = registered_rules()[name]
    found = errors(rule, smooth_cases(rule)[:1], [2])
    assert found
    assert max(found.values()) < 1e-10, found


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_all_cases_on_one_two_and_eight_devices(name):
    rule = registered_rules()[name]
    cases = smooth_cases(rule)
    found = errors(rule, cases, [2], all_patterns=False)
    found |= errors(rule, cases[:2], [1, 8], all_patterns=False)
    assert max(found.values()) < 1e-10, found


@pytest.mark.battery
@pytest.mark.parametrize("name", RULES)
def test_all_cases_with_every_pattern(name):
    rule = registered_rules()[name]
    found = errors(rule, smooth_cases(rule), [2]) | errors(rule, smooth_cases(rule)[:2], [1, 8])
    assert max(found.values()) < 1e-10, found


def mean_to(cotangent, axes):
    shared = devices.varying(cotangent) - axes
    return jax.lax.pmean(cotangent, tuple(shared)) if shared else cotangent


def test_a_sum_that_is_missing_is_found(monkeypatch):
    """With a mean in its place each device gives what its own rows make of the shared weights."""
    monkeypatch.setattr(contract, "summed_to", mean_to)
    linear = fnn.rules.linear
    with jax.enable_x64(True):
        found = in_shard_map(linear, linear.cases()[0], {0}, 2)
    assert largest_error(*found) > 0.1


def test_without_types_of_varying_axes_jax_takes_the_sum_itself():
    linear = fnn.rules.linear
    with jax.enable_x64(True):
        found = in_shard_map(linear, linear.cases()[0], {0}, 2, check_vma=False)
    assert largest_error(*found) < 1e-10


def test_outside_of_a_shard_map_nothing_varies():
    assert devices.varying({"w": jnp.ones(3)}) == frozenset()
    x = jnp.ones(3)
    assert devices.varying_as(x, x) is x
