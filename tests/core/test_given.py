"""What a tool cannot use is one line that says what was given and what is right."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcnn as fnn

tools: Any = fnn  # called with what a type checker refuses

X = jnp.linspace(-1.0, 1.0, 5)
tanh = fnn.rules.tanh


def loss(x, y):
    return (tanh(x) * y).sum()


def alone(x):
    return tanh(x).sum()


MISTAKES = {
    "compare without arguments": (
        lambda: tools.compare(alone),
        r"compare: alone\(x\) cannot take the 0 arguments given: missing a required argument: 'x'",
    ),
    "compare nothing": (
        lambda: tools.compare(lambda: 1.0),
        "expected the arguments of the function",
    ),
    "compare no function": (lambda: tools.compare(3, X), "a function of JAX, found int 3"),
    "compare text": (lambda: tools.compare(alone, "abc"), "expected an array .* found str 'abc'"),
    "argnums too large": (
        lambda: tools.compare(alone, X, argnums=7),
        "argnums is from -1 to 0 for 1 argument, found 7",
    ),
    "argnums too small": (
        lambda: tools.compare(loss, X, X, argnums=(0, -3)),
        "argnums is from -2 to 1 for 2 arguments, found -3",
    ),
    "argnums of text": (
        lambda: tools.compare(alone, X, argnums="x"),
        "argnums is .* found str 'x'",
    ),
    "argnums of nothing": (
        lambda: tools.compare(alone, X, argnums=()),
        "argnums is .* found tuple",
    ),
    "pairs": (
        lambda: tools.compare(alone, X, pairs=-1),
        "pairs is a whole number from 0, found int",
    ),
    "has_aux": (
        lambda: tools.compare(alone, X, has_aux="no"),
        "compare: has_aux is True or False, found str 'no'",
    ),
    "nothing to differentiate": (
        lambda: tools.compare(loss, jnp.arange(5), X),
        r"expected a floating-point array in argument 0 to .*, found ArrayImpl int32 \(5,\)",
    ),
    "compare's reference": (
        lambda: tools.compare(alone, X, reference=3),
        "reference .* found int 3",
    ),
    "census of no function": (
        lambda: tools.census(3),
        "census: expected a function .* found int 3",
    ),
    "census without arguments": (
        lambda: tools.census(loss, X),
        r"loss\(x, y\) cannot take the 1 argument given: missing a required argument: 'y'",
    ),
    "census's intent": (
        lambda: tools.census(alone, X, intent=3),
        "intent is a text, .* found int 3",
    ),
    "census's reference": (
        lambda: tools.census(alone, X, reference=alone),
        "reference is a dict .* found the function alone",
    ),
    "census's references": (
        lambda: tools.census(alone, X, reference={"tanh": 3}),
        r"expected reference\['tanh'\] to be a function of its operands, found int 3",
    ),
    "without_rules of no function": (lambda: tools.without_rules(3), "a function .* found int 3"),
    "rules by one text": (
        lambda: tools.without_rules(alone, only="tanh"),
        r"only is a list of names of rules, found str 'tanh'; write \['tanh'\]",
    ),
    "rules by number": (
        lambda: tools.without_rules(alone, exclude=3),
        "exclude is a list .* int 3",
    ),
    "training without a loss": (
        lambda: tools.compare_training(3, X, lambda step: X, optax.sgd(0.1), 1),
        "compare_training: expected loss to be a function, found int 3",
    ),
    "training without batches": (
        lambda: tools.compare_training(alone, X, X, optax.sgd(0.1), 1),
        "expected batches to be a function of the step, found ArrayImpl float32",
    ),
    "training without an optimizer": (
        lambda: tools.compare_training(alone, X, lambda step: X, 3, 1),
        "expected an optimizer of optax, found int 3",
    ),
    "cases": (
        lambda: tools.mutation_score(tanh, cases=[3]),
        "cases is a list of Case, found int 3",
    ),
    "a rule of no function": (lambda: tools.rule(3), "rule: expected a function, found int"),
    "passes that are no functions": (
        lambda: tools.Rule(alone, "alone").defvjp(alone, 3),
        "alone: backward must be a function, found int",
    ),
    "backprop through no layer": (lambda: tools.backprop(3, {}, X, X), "fnn.Layer, found int 3"),
    "a layer of no rule": (
        lambda: tools.layer_from_rule(alone),
        "layer_from_rule: expected a Rule, found the function alone",
    ),
    "an unknown data set": (lambda: tools.data.load(3), "unknown data .*; known: .*digits, .*idx"),
    "check no function": (lambda: tools.check("relu"), "give a Rule, or .* found str 'relu'"),
    "check without arguments": (lambda: tools.check(alone), "found the function alone alone"),
    "check text": (
        lambda: tools.check(alone, "abc"),
        "check: expected an array .* found str 'abc'",
    ),
    "check a rule on text": (lambda: tools.check(tanh, "abc"), "expected an array .* 'abc'"),
    "check an array of text": (
        lambda: tools.check(alone, np.array(["a"])),
        r"expected arrays of numbers, found ndarray <U1 \(1,\) in argument 0",
    ),
    "check too few": (lambda: tools.check(loss, X), r"loss\(x, y\) cannot take the 1 argument"),
    "static": (lambda: tools.check(alone, X, static=3), "static is a dict .* found int 3"),
    "unknown static": (
        lambda: tools.check(alone, X, static={"q": 3}),
        "got an unexpected keyword argument 'q'",
    ),
    "level of no text": (lambda: tools.check(alone, X, level=["fast"]), r"found \['fast'\]"),
    "seed": (lambda: tools.check(alone, X, seed="a"), "seed is a whole number .* found str 'a'"),
    "case of a function": (lambda: tools.check(alone, X, case="a"), "case is for a Rule .* 'a'"),
    "check's reference": (lambda: tools.check(alone, X, reference=3), "reference .* found int 3"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name):
    call, text = MISTAKES[name]
    with pytest.raises((TypeError, ValueError), match=text) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200


@jax.custom_vjp
def without_vjp(x):
    return jnp.sin(x)


@jax.custom_jvp
def without_jvp(x):
    return jnp.sin(x)


def branches(x):
    return x.sum() if x[0] > 0 else -x.sum()


UNTRACEABLE = {
    without_vjp: r"the jax.custom_vjp of without_vjp has no derivative: .* its \.defvjp\(forward",
    without_jvp: r"the jax.custom_jvp of without_jvp has no derivative: .* its \.defjvp\(",
    branches: r"a Python if, .*: use jnp.where or jax.lax.cond; what is fixed goes into a closure",
    (
        lambda x: np.asarray(x).sum()
    ): "NumPy needs a value that is known only when the program runs: use jax.numpy",
    (lambda x: x[int(x[0])]): r"int\(\), float\(\), an index or a shape needs a value",
}


@pytest.mark.parametrize("f", UNTRACEABLE)
@pytest.mark.parametrize("tool", ["check", "census", "compare"])
def test_what_jax_cannot_trace_is_one_line_with_the_cure(tool, f):
    for called in (f, lambda x: f(x) * 2, jax.jit(f)):
        with pytest.raises(TypeError, match=f"{tool}: {UNTRACEABLE[f]}") as caught:
            getattr(tools, tool)(called, X)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 200


def test_what_jax_can_trace_is_not_refused():
    finished = jax.custom_vjp(jnp.sin)
    finished.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x),))
    assert tools.check(finished, X).ok
    assert tools.check(lambda x: jnp.where(x > 0, tanh(x), x), X).ok
    # An error that is the function's own stays as it is.
    with pytest.raises(AttributeError, match="no attribute"):
        tools.census(lambda x: x.absent, X)


def test_a_lambda_has_a_place_for_a_name():
    line = test_a_lambda_has_a_place_for_a_name.__code__.co_firstlineno + 2
    report = tools.check(lambda x: tanh(x), X)
    assert report.conclusion().startswith(f"OK <lambda> at test_given.py:{line}: ")


def test_a_jitted_function_and_a_rule_of_jax_say_what_they_take():
    @jax.custom_vjp
    def scale(x, w):
        return x * w

    for f in (scale, jax.jit(scale), jax.jit(loss)):
        with pytest.raises(TypeError, match=r"\(x, \w\) cannot take the 1 argument given"):
            tools.census(f, X)


def test_a_decorator_may_take_other_arguments_than_what_it_decorates():
    @functools.wraps(loss)
    def halved(x):
        return loss(x, 0.5)

    assert tools.census(halved, X).ok
    assert tools.check(halved, X).ok
    assert tools.check(functools.partial(loss, y=X), X).ok


def test_a_text_beside_an_array_is_passed_on():
    def chosen(x, mode):
        return tanh(x) if mode == "tanh" else x

    assert tools.census(chosen, X, "tanh").ok
    assert tools.check(chosen, X, "tanh").ok


def test_negative_argnums_count_from_the_last():
    last = tools.compare(loss, X, X, argnums=-1, pairs=0, cost=False)
    assert [row.leaf for row in last.leaves] == ["y"]
    both = tools.compare(loss, X, X, argnums=(-2, 1), pairs=0, cost=False)
    assert [row.leaf for row in both.leaves] == ["x", "y"]
