"""The options of the compiler are those that its version knows."""

import pytest

from funcnn.gradient.program import compiling


@pytest.fixture
def forget():
    compiling.known_options.cache_clear()
    yield
    compiling.known_options.cache_clear()


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch, forget):
    options = {"xla_backend_optimization_level": 0, "xla_cpu_option_of_another_year": True}
    monkeypatch.setattr(compiling, "_QUICKLY", options)
    assert compiling.known_options() == {"xla_backend_optimization_level": 0}
    assert float(compiling.compiled(lambda x: x + 1)(1.0)) == 2.0


def test_each_program_is_compiled_with_them(monkeypatch):
    monkeypatch.setattr(compiling, "known_options", lambda: {"xla_cpu_option_of_another_year": 1})
    with pytest.raises(Exception, match="xla_cpu_option_of_another_year"):
        compiling.compiled(lambda x: x + 1)(1.0)
