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
