"""The one private name of JAX that `pytest --gradients` rests on: without it nothing breaks."""

import sys
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax._src import pjit

from funcnn.suite import running
from funcnn.suite.distribution import from_text, merged, to_text
from funcnn.suite.recording import Recorder
from funcnn.suite.table import Found


def recorded(x):
    """How the operand of a rule inside a compiled program was found, and what it was."""

    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, dy: (2 * x * dy,))
    recorder = Recorder(lambda name: name.endswith("square"))
    recorder.start()
    try:
        y = jax.jit(square)(x)
    finally:
        recorder.stop()
    assert y == x**2
    recorder.fetch()
    recorder.draw()
    (one,) = recorder.called.values()
    sample = one.samples["first"]
    return recorder, sample.how, float(sample.leaves[0])


def test_this_jax_has_it_and_the_operand_is_fetched():
    original = getattr(pjit, running._RUN)
    recorder, how, x = recorded(jnp.float32(3.0))
    assert (recorder.blind, how, x) == ("", "fetched", 3.0)
    assert getattr(pjit, running._RUN) is original


def test_where_a_jax_has_no_such_function_operands_are_drawn_and_the_table_says_so(monkeypatch):
    monkeypatch.setattr(running, "_RUN", "another_name")
    recorder, how, _ = recorded(jnp.float32(3.0))
    assert (recorder.blind, how) == ("this JAX has no jax._src.pjit.another_name", "drawn")
    both = merged([from_text(to_text(Found((), blind=recorder.blind), [])), (Found(()), [])])
    assert f"are not seen, and drawn: {recorder.blind}" in "\n".join(both.lines())


def test_where_a_jax_has_no_such_module_operands_are_drawn(monkeypatch):
    monkeypatch.setattr(running, "_MODULE", "jax.no_such_module")
    recorder, how, _ = recorded(jnp.float32(3.0))
    assert (recorder.blind[:11], how) == ("this JAX ha", "drawn")


@pytest.fixture
def other(monkeypatch):
    """A module whose function takes other arguments than JAX's."""
    module = ModuleType("other")
    vars(module)[running._RUN] = lambda *args, **keywords: (args, keywords)
    monkeypatch.setitem(sys.modules, "other", module)
    monkeypatch.setattr(running, "_MODULE", "other")
    return module


@pytest.mark.parametrize(
    ("args", "keywords"),
    [((), {"program": 1}), ((1, [2]), {}), ((SimpleNamespace(params={}),), {})],
)
def test_where_it_has_other_arguments_the_program_runs_all_the_same(other, args, keywords):
    shown = []
    one = running.Running(lambda *what: shown.append(what))
    one.start()
    assert getattr(other, running._RUN)(*args, **keywords) == (args, keywords)
    assert "has other arguments" in one.blind
    assert not shown


def test_what_goes_wrong_in_looking_is_no_error_of_the_program(other):
    def look(program, leaves):
        raise ValueError(program)

    one = running.Running(look)
    one.start()
    args = (SimpleNamespace(params={"jaxpr": 1}), [2])
    assert getattr(other, running._RUN)(*args) == (args, {})
    assert one.blind == ""
