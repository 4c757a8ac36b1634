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
    "an unknown data set": (lambda: tools.data.load(3), "unknown data .* known: digits, idx"),
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
