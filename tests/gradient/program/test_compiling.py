"""Programs of a check are compiled quickly, whatever options the JAX that is installed knows."""

import pytest

from funcnn.gradient.program import compiling


@pytest.fixture
def options(monkeypatch):
    """As if these were the options, with one that no JAX knows."""
    known = {"xla_backend_optimization_level": 0}
    monkeypatch.setattr(compiling, "_QUICKLY", {"xla_no_such_option": True, **known})
    compiling._known.cache_clear()
    yield known
    compiling._known.cache_clear()


def test_an_option_that_this_jax_does_not_know_is_left_out_alone(options):
    assert compiling._known() == options
    assert compiling.compiled(lambda x: x + 1)(1.0) == 2.0
