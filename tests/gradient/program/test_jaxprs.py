"""What jaxprs look like inside, which JAX does not promise: these tests fail when it moves."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.program.rewriting import Rewriting, sites

X = jnp.array([0.5, -1.25])


@jax.custom_vjp
def reverse_rule(x):
    return jnp.sin(x)


reverse_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (100 * dy,))


@jax.custom_jvp
def forward_rule(x):
    return jnp.tanh(x)


@forward_rule.defjvp
def forward_rule_jvp(primals, tangents):
    return forward_rule(primals[0]), 100 * tangents[0]


def stripped(f, *args):
    return Rewriting(lambda site: True).closed(jax.make_jaxpr(f)(*args))


# The assumptions, one by one


def test_the_backward_pass_of_a_rule_is_the_function_that_it_was_given():
    other = jax.custom_vjp(jnp.sin)
    other.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (dy,))
    program = jax.make_jaxpr(lambda x: reverse_rule(other(reverse_rule(x))))(X)
    first, second, third = (site.backward for site in sites(program))
    assert first == third == id(reverse_rule.bwd)
    assert second == id(other.bwd)


@pytest.mark.parametrize(
    ("f", "primitive"), [(reverse_rule, "custom_vjp_call"), (forward_rule, "custom_jvp_call")]
)
def test_a_custom_rule_is_one_equation_with_what_it_wraps(f, primitive):
    (eqn,) = jax.make_jaxpr(f)(X).jaxpr.eqns
    assert eqn.primitive.name == primitive
    wrapped = eqn.params["call_jaxpr"]
    assert isinstance(wrapped, jex.ClosedJaxpr)
    assert [inner.primitive.name for inner in wrapped.jaxpr.eqns] in (["sin"], ["tanh"])
    assert len(wrapped.in_avals) == len(eqn.invars)
    name, _, source = wrapped.jaxpr.debug_info.func_src_info.partition(" at ")
    assert name == f.__name__
    assert source.rpartition(":")[0].endswith("test_jaxprs.py")
    assert wrapped.debug_info.func_src_info == wrapped.jaxpr.debug_info.func_src_info


def test_named_scopes_stand_in_the_name_stack():
    def f(x):
        with jax.named_scope("block"), jax.named_scope("relu_0"):
            return jnp.sin(x)

    (eqn,) = jax.make_jaxpr(f)(X).jaxpr.eqns
    assert str(eqn.source_info.name_stack) == "block/relu_0"


def test_variables_and_literals_can_be_made():
    aval = jax.make_jaxpr(jnp.sin)(X).in_avals[0]
    assert jex.Var(aval).aval == aval
    assert jex.Var(aval) != jex.Var(aval)
    assert jex.Literal(X, aval).val is X


@pytest.mark.parametrize(
    ("f", "primitive", "parameters"),
    [
        (lambda x: jax.lax.scan(lambda c, _: (2 * c, c), x, None, 2), "scan", ["jaxpr"]),
        (lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), "cond", ["branches"]),
        (
            lambda x: jax.lax.while_loop(lambda c: c[0] < 1, lambda c: 2 * c, x),
            "while",
            ["cond_jaxpr", "body_jaxpr"],
        ),
        (jax.jit(lambda x: 2 * x), "jit", ["jaxpr"]),
        (jax.checkpoint(lambda x: 2 * x), "remat2", ["jaxpr"]),
    ],
    ids=["scan", "cond", "while", "jit", "remat"],
)
def test_where_the_programs_inside_a_primitive_stand(f, primitive, parameters):
    eqn = jax.make_jaxpr(f)(X).jaxpr.eqns[-1]
    assert eqn.primitive.name in {primitive, "checkpoint" if primitive == "remat2" else primitive}
    for name in parameters:
        value = eqn.params[name]
        inside = value if isinstance(value, tuple) else (value,)
        assert all(isinstance(v, (jex.Jaxpr, jex.ClosedJaxpr)) for v in inside)


# Rewriting

CONTAINERS = {
    "jit": lambda f: jax.jit(f),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), f(c)), x, None, 2)[1],
    "cond": lambda f: lambda x: jax.lax.cond(x[0] > 0, f, lambda x: f(-x), x),
    "while": lambda f: (
        lambda x: jax.lax.while_loop(
            lambda c: (c[0] < 2) & (f(c[1])[0] < 9), lambda c: (c[0] + 1, f(c[1])), (0, x)
        )[1]
    ),
    "remat": lambda f: jax.checkpoint(f),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("f", [reverse_rule, forward_rule])
def test_rules_are_taken_out_wherever_a_program_can_hold_one(container, f):
    program = CONTAINERS[container](f)
    assert {site.name for site in sites(jax.make_jaxpr(program)(X))} == {f.__name__}
    jaxpr = stripped(program, X)
    assert "custom_" not in str(jaxpr)
    assert not sites(jaxpr)
    (found,) = jex.jaxpr_as_fun(jaxpr)(X)
    np.testing.assert_allclose(found, program(X), rtol=1e-6)
    jax.jit(jex.jaxpr_as_fun(jaxpr)).lower(X)  # it is well-formed


def test_a_rule_that_passes_an_argument_through():
    swap = jax.custom_vjp(lambda x, y: (y, x, x + y))
    swap.defvjp(lambda x, y: (swap(x, y), None), lambda _, dys: (dys[0], dys[1]))

    def f(x, y):
        a, b, c = swap(x, y)
        swap(a, b)
        return a, 2 * b, c

    found = jex.jaxpr_as_fun(stripped(f, X, 3 * X))(X, 3 * X)
    for value, expected in zip(found, (3 * X, 2 * X, 4 * X), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_one_wrapped_program_at_two_sites_does_not_mix_its_variables():
    def f(x):
        return reverse_rule(reverse_rule(x)) - reverse_rule(2 * x)

    (found,) = jex.jaxpr_as_fun(stripped(f, X))(X)
    np.testing.assert_allclose(found, jnp.sin(jnp.sin(X)) - jnp.sin(2 * X), rtol=1e-6)

    # The very same wrapped program twice, as a cache of JAX's might hand it out.
    closed = jax.make_jaxpr(reverse_rule)(X)
    (call,) = closed.jaxpr.eqns
    out = jex.Var(call.outvars[0].aval)
    again = call.replace(invars=call.outvars, outvars=[out])
    closed = closed.replace(jaxpr=closed.jaxpr.replace(eqns=[call, again], outvars=[out]))
    jaxpr = Rewriting(lambda site: True).closed(closed)
    outs = [v for eqn in jaxpr.jaxpr.eqns for v in eqn.outvars]
    assert len(outs) == len(set(outs)) == 2
    np.testing.assert_allclose(jex.jaxpr_as_fun(jaxpr)(X)[0], jnp.sin(jnp.sin(X)), rtol=1e-6)


def test_the_original_is_not_changed():
    closed = jax.make_jaxpr(jax.jit(reverse_rule))(X)
    before = str(closed)
    Rewriting(lambda site: True).closed(closed)
    assert str(closed) == before


# Sites


def test_a_site_says_name_path_kind_and_source():
    def f(x):
        with jax.named_scope("block"):
            return jax.jit(lambda x: jax.named_call(reverse_rule, name="act_0")(x))(x)

    (site,) = sites(jax.make_jaxpr(f)(X))
    assert (site.name, site.path, site.kind) == ("reverse_rule", "block/act_0", "custom_vjp")
    assert "test_jaxprs.py:" in site.source
    assert str(site) == "reverse_rule in block/act_0"


def test_positions_tell_sites_apart_and_choose_them():
    def f(x):
        inner = jax.lax.scan(lambda c, _: (reverse_rule(c), None), x, None, 2)[0]
        return (reverse_rule(x) + reverse_rule(inner)).sum()

    closed = jax.make_jaxpr(f)(X)
    found = sites(closed)
    assert len({site.position for site in found}) == len(found) == 3
    for chosen in found:
        rewriting = Rewriting(lambda site, chosen=chosen: site.position == chosen.position)
        assert len(sites(rewriting.closed(closed))) == 2
        assert [site.position for site in rewriting.removed] == [chosen.position]
        assert len(rewriting.kept) == 2


def test_rules_inside_rules_are_found_and_none_in_a_program_without():
    @jax.custom_vjp
    def outer(x):
        return forward_rule(x) + reverse_rule(x)

    outer.defvjp(lambda x: (outer(x), None), lambda _, dy: (dy,))
    names = [site.name for site in sites(jax.make_jaxpr(outer)(X))]
    assert names == ["outer", "forward_rule", "reverse_rule"]
    assert sites(jax.make_jaxpr(lambda x: jnp.sin(x))(X)) == []


def test_without_reverse_mode_a_rule_is_left_where_it_is():
    doubling = jax.custom_vjp(lambda x: jax.lax.while_loop(lambda c: c[0] < 9, lambda c: 2 * c, x))
    doubling.defvjp(lambda x: (doubling(x), None), lambda _, dy: (dy,))
    closed = jax.make_jaxpr(lambda x: doubling(x))(X)
    rewriting = Rewriting(lambda site: True)
    assert len(sites(rewriting.closed(closed))) == len(rewriting.irreversible) == 1
    assert rewriting.removed == []
