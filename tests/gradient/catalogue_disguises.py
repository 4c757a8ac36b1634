"""Places in which a wrong rule can hide: the manual and the automatic gradient may be one program.

Each builder takes the factor by which the derivative is too large, 7 for a wrong rule and 1 for its
right twin, and returns a function, its arguments and options of `fnn.check`. All in all the
function is a sine, so that nothing but the disguise differs.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from catalogue_wrong import custom
from jax import lax
from jax.core import ShapedArray
from jax.experimental import io_callback
from jax.interpreters import mlir

Builder = Callable[[float], tuple[Any, tuple[Any, ...], dict[str, Any]]]
DISGUISES: dict[str, Builder] = {}
X = np.array([0.2, 0.3, -1.1], np.float32)


def disguise(make: Builder) -> Builder:
    DISGUISES[make.__name__] = make
    return make


def sine(factor, f=jnp.sin):
    """sin with a derivative that is `factor` times too large; `f` computes its value."""
    return custom(f, lambda x: (f(x), x), lambda x, dy: (factor * jnp.cos(x) * dy,))


# What is wrapped has no reverse mode, or none that anybody can see into


@disguise
def while_loop(factor):
    """The value comes from a while_loop: terms of the series are added until none is left."""

    def series(x):
        def step(s):
            n, term, y = s
            k = (2 * n).astype(x.dtype)
            term = -term * x * x / (k * (k + 1))
            return n + 1, term, y + term

        return lax.while_loop(lambda s: s[0] < 12, step, (jnp.asarray(1), x, x))[2]

    return sine(factor, series), (X,), {}


@disguise
def fori_loop_with_a_dynamic_bound(factor):
    """The number of steps is an argument."""

    def series(x, n):
        def step(i, s):
            k = (2 * i).astype(x.dtype)
            term = -s[0] * x * x / (k * (k + 1))
            return term, s[1] + term

        return lax.fori_loop(1, n, step, (x, x))[1]

    f = custom(
        series,
        lambda x, n: (series(x, n), x),
        lambda x, dy: (factor * jnp.cos(x) * dy, None),
    )
    return f, (X, np.array(12, np.int32)), {}


@disguise
def pure_callback(factor):
    """NumPy computes the value."""

    def on_the_host(x):
        return jax.pure_callback(
            np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims"
        )

    return sine(factor, on_the_host), (X,), {}


@disguise
def io_callback_ordered_by_nothing(factor):
    """io_callback computes the value."""

    def on_the_host(x):
        return io_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, ordered=False)

    return sine(factor, on_the_host), (X,), {}


@functools.cache
def opaque_primitive():
    """A primitive with a value and no derivative, as a call of foreign code is."""
    primitive = jex.Primitive("opaque_sine")
    primitive.def_impl(jnp.sin)
    primitive.def_abstract_eval(lambda x: ShapedArray(x.shape, x.dtype))
    lowering = mlir.lower_fun(jnp.sin, multiple_results=False)
    mlir.register_lowering(primitive, lowering)
    return primitive


@disguise
def primitive_without_a_derivative(factor):
    """A primitive of one's own, such as foreign code is called by."""
    return sine(factor, lambda x: opaque_primitive().bind(x)), (X,), {}


# A rule inside a rule


@disguise
def inner_rule_wrong(factor):
    """The outer rule takes the derivative of an inner one, which is wrong."""
    inner = sine(factor)

    def backward(x, dy):
        return jax.vjp(inner, x)[1](dy)

    return custom(inner, lambda x: (inner(x), x), backward), (X,), {}


@disguise
def outer_rule_wrong(factor):
    """The outer rule is wrong, and calls a right one."""
    inner = sine(1)
    return sine(factor, inner), (X,), {}


@disguise
def rule_that_calls_itself(factor):
    """Divide and conquer: what is wrapped calls the rule on either half."""

    def halves(x):
        if x.shape[0] == 1:
            return jnp.sin(x)
        return jnp.concatenate([rule(x[: x.shape[0] // 2]), rule(x[x.shape[0] // 2 :])])

    rule = sine(factor, halves)
    return rule, (X,), {}


@disguise
def custom_jvp_over_custom_vjp(factor):
    """The custom_jvp is wrong; what it wraps has a right custom_vjp."""
    inner = sine(1)
    rule = jax.custom_jvp(lambda x: inner(x))
    rule.defjvps(lambda t, ans, x: factor * jnp.cos(x) * t)
    return rule, (X,), {}


@disguise
def custom_vjp_over_custom_jvp(factor):
    """The custom_vjp takes the derivative of a custom_jvp, which is wrong."""
    inner = jax.custom_jvp(jnp.sin)
    inner.defjvps(lambda t, ans, x: factor * jnp.cos(x) * t)

    def backward(x, dy):
        return jax.vjp(inner, x)[1](dy)

    return custom(inner, lambda x: (inner(x), x), backward), (X,), {}


# Wrappers


@disguise
def jitted_wrapper(factor):
    """jit around jit around the rule."""
    return jax.jit(lambda x: jax.jit(sine(factor))(x) * 1), (X,), {}


@disguise
def vmapped_wrapper(factor):
    """vmap over vmap."""
    return jax.vmap(jax.vmap(sine(factor))), (np.stack([X, 2 * X]),), {}


@disguise
def under_custom_vmap(factor):
    """custom_vmap around the rule, whose batching rule calls it again."""
    rule = sine(factor)
    wrapped = jax.custom_batching.custom_vmap(lambda x: rule(x))

    @wrapped.def_vmap
    def batched(size, mapped, x):
        del size
        return rule(x), mapped[0]

    return jax.vmap(wrapped), (X,), {}


@disguise
def scan_body(factor):
    """In the body of a scan."""
    rule = sine(factor)
    return lambda x: lax.scan(lambda c, row: (c, rule(row)), 0.0, x)[1], (X,), {}


@disguise
def cond_branch(factor):
    """In that branch of a cond which is taken."""
    rule = sine(factor)
    return lambda x: lax.cond(x[0] > 0, rule, jnp.sin, x), (X,), {}


@disguise
def checkpointed(factor):
    """Under jax.checkpoint."""
    return jax.checkpoint(lambda x: sine(factor)(x)), (X,), {}


# Hidden in what is passed


def called(f, x):
    return f(x)


@disguise
def hidden_in_a_partial(factor):
    """The rule is an argument: a jax.tree_util.Partial, which is a tree without leaves."""
    return called, (jax.tree_util.Partial(sine(factor)), X), {}


@disguise
def hidden_in_a_partial_with_an_array(factor):
    """The Partial holds an array, which is a leaf."""
    rule = sine(factor)
    partial = jax.tree_util.Partial(lambda s, x: rule(s * x), np.array([1.5], np.float32))
    return lambda f, x: called(f, x), (partial, X[:1]), {}


@disguise
def hidden_in_a_closure(factor):
    """The rule is made inside the function, at each call."""

    def f(x):
        def inner():
            return sine(factor)(x)

        return inner()

    return f, (X,), {}


# Arguments that are no arrays


@disguise
def python_number(factor):
    """A float of Python."""
    return sine(factor), (0.7,), {}


@disguise
def numpy_number(factor):
    """A float64 of NumPy, which is a float of Python too."""
    return sine(factor), (np.float64(0.7),), {}


@disguise
def numpy_number_in_float32(factor):
    """A float32 of NumPy, which is not."""
    return sine(factor), (np.float32(0.7),), {}


@disguise
def list_of_numbers(factor):
    """A list of floats, each of them a leaf."""
    rule = sine(factor)
    return lambda xs: sum(rule(x) for x in xs), ([0.2, 0.3],), {}


@disguise
def number_beside_arrays(factor):
    """A float of Python in a dict, beside an array."""
    rule = sine(factor)
    return lambda p: rule(p["s"] * p["x"]), ({"s": 0.7, "x": X},), {}


@disguise
def branch_of_an_integer(factor):
    """The rule is used for one value of an integer argument only, which is the one given."""
    rule = sine(factor)
    return lambda x, n: lax.switch(n, [jnp.sin, rule], x), (X, np.array(1, np.int32)), {}


@disguise
def branch_of_a_python_integer(factor):
    """The same, with an integer of Python."""
    rule = sine(factor)
    return lambda x, n: rule(x) if n == 2 else jnp.sin(x), (X, 2), {}
