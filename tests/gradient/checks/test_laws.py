"""Homogeneity has no tolerance, but for a loop that ends by the cotangent."""

import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.laws import homogeneity


@pytest.mark.parametrize("off", [1e-12, 1e-5, 1.0])
def test_a_backward_pass_that_is_nearly_proportional_fails(off):
    rule = Rule(lambda x: 2 * x, "twice")
    rule.defvjp(lambda x: (2 * x, None), lambda _, dy: (2 * dy + off * dy * jnp.abs(dy),))
    one = Situation.of_rule(rule, Case("one", (np.linspace(1.0, 2.0, 3),)))
    found = {result.check: result.verdict for result in homogeneity(one)}
    assert found == {"zero": "pass", "homogeneity": "fail"}


@pytest.mark.parametrize(
    "clipped",
    [lambda dy: jnp.clip(dy, -1e4, 1e4), lambda dy: jnp.where(jnp.abs(dy) < 1e-5, 0, dy)],
    ids=["large", "small"],
)
def test_a_clipped_cotangent_is_noticed_that_a_loss_scale_would_meet(clipped):
    rule = Rule(lambda x: 2 * x, "twice")
    rule.defvjp(lambda x: (2 * x, None), lambda res, dy: (2 * clipped(dy),))
    one = Case("one", (np.linspace(-1.0, 1.0, 3),))
    verdicts = {r.check: r.verdict for r in homogeneity(Situation.of_rule(rule, one))}
    assert verdicts == {"zero": "pass", "homogeneity": "fail"}
