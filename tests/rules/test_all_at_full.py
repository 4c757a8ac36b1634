"""Every rule of funcnn at the level that its users are told to ask for: none is wrong there."""

import pytest

import funcnn as fnn


@pytest.mark.battery
@pytest.mark.parametrize("name", sorted(fnn.registered_rules()))
def test_the_rule_is_right_at_full(name):
    report = fnn.check(fnn.registered_rules()[name], level="full")
    assert report.conclusion().startswith("OK"), str(report)
