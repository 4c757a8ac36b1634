"""Which precisions somebody has asked for: those of a rule's own case, or of the arguments."""

import numpy as np
import pytest

from funcnn import rules
from funcnn.core.registry import Case
from funcnn.gradient.case.bound_case import Situation

ONE = Case("one", (np.ones(3, np.float32),), dtypes=("float16",))


@pytest.mark.parametrize(("own", "setting"), [(True, ""), (False, "float16")])
def test_what_nobody_has_asked_for_concerns_another_setting(own, setting):
    situation = Situation.of_rule(rules.relu, ONE, own=own)
    assert situation.result("rounding", "x", "fail", dtype="float16").setting == setting
    eager = situation.result("rounding", "x", "fail", dtype="float16 eager").setting
    assert eager == (setting and "float16 eager")
    for asked in ("float32", "float64", "mixed"):
        assert situation.result("rounding", "x", "fail", dtype=asked).setting == ""
