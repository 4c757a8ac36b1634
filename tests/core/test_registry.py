"""What a Rule does once for every rule: naming, static arguments, precision, no wasted work."""

import traceback

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules
from funcnn.core import registry
from funcnn.core.registry import Case, Rule, registered_rules
from funcnn.gradient.program.without_rules import without_rules


@pytest.fixture
def empty_registry(monkeypatch):
    """A registry of the test's own, so that no rule of a test is seen by another test."""
    monkeypatch.setattr(registry, "_rules", {})


def make_rule(reference, forward, backward, name="planted"):
    rule = Rule(reference, name)
    rule.defvjp(forward, backward)
    return rule


def matmul(x, w):
    return x @ w


def make_matmul():
    return make_rule(
        matmul, lambda x, w: (x @ w, (x, w)), lambda res, dy: (dy @ res[1].T, res[0].T @ dy)
    )


def make_power():
    def power(x, *, n=2):
        return x**n

    def forward(x, *, n):
        return x**n, x

    def backward(x, dy, *, n):
        return (n * x ** (n - 1) * dy,)

    return make_rule(power, forward, backward, "power")


def make_cube():
    return make_rule(lambda x: x**3, lambda x: (x**3, x), lambda x, dy: (3 * x**2 * dy,), "cube")


def equations(jaxpr):
    """Every equation of a jaxpr, those inside its parameters included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(value):
                yield from equations(getattr(value, "jaxpr", value))


def is_jaxpr(value):
    return isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr))


# The hand-derived gradient


def test_the_rule_and_not_the_reference_is_differentiated():
    wrong = make_rule(lambda x: x**2, lambda x: (x**2, x), lambda x, dy: (5 * dy,))
    assert jax.grad(wrong)(3.0) == 5.0
    assert jax.grad(wrong.reference)(3.0) == 6.0


def test_a_rule_without_derivatives_says_what_to_call():
    bare = Rule(lambda x: x, "bare")
    with pytest.raises(TypeError, match=r"bare: no derivative yet: call bare\.defvjp\(forward"):
        bare(1.0)


def test_redefined_passes_take_effect():
    rule = make_cube()
    assert jax.grad(rule)(2.0) == 12.0
    rule.defvjp(rule.forward, lambda x, dy: (7 * dy,))
    assert jax.grad(rule)(2.0) == 7.0
    assert rule(2.0) == 8.0
    rule.defvjp(lambda x: (-x, x), rule.backward)
    assert rule(2.0) == -2.0


def test_replace_gives_a_copy_and_leaves_registry_and_original(empty_registry):
    rule = registry.rule(lambda x: x**3)
    rule.defvjp(lambda x: (x**3, x), lambda x, dy: (3 * x**2 * dy,))
    rule.defcases(lambda key: iter([Case("one", (jnp.ones(1),))]))
    copy = rule.replace(backward=lambda x, dy: (-dy,))
    assert jax.grad(copy)(2.0) == -1.0
    assert jax.grad(rule)(2.0) == 12.0
    assert list(registered_rules().values()) == [rule]
    assert copy.name == rule.name
    assert [case.name for case in copy.cases()] == ["one"]


def test_a_none_argument_has_no_cotangent_and_may_be_left_out():
    def affine(x, b=None):
        return x if b is None else x + b

    rule = make_rule(
        affine, lambda x, b: (affine(x, b), b), lambda b, dy: (dy, None if b is None else 2 * dy)
    )
    assert jax.grad(rule)(1.0) == 1.0
    assert jax.grad(rule, 1)(1.0, 1.0) == 2.0
    assert jax.grad(lambda b: rule(1.0, b=b))(1.0) == 2.0


ELEMENTWISE = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_python_number_is_differentiated_as_an_array_is(name):
    rule = getattr(rules, name)
    assert jax.grad(rule)(0.5) == jax.grad(rule)(jnp.array(0.5))


def test_integer_and_key_arguments(key):
    def noisy(x, n, k):
        return x * n.astype(x.dtype) * jax.random.uniform(k, x.shape)

    def forward(x, n, k):
        slope = n.astype(x.dtype) * jax.random.uniform(k, x.shape)
        return x * slope, slope

    rule = make_rule(noisy, forward, lambda slope, dy: (slope * dy, None, None))
    x, n = jnp.array([1.0, 2.0]), jnp.array([3, 4])
    found = jax.jit(jax.grad(lambda x: rule(x, n, key).sum()))(x)
    np.testing.assert_array_equal(found, jnp.array([3.0, 4.0]) * jax.random.uniform(key, x.shape))
    # Differentiated with respect to all arguments the integers have the zero of type float0.
    cotangents = jax.vjp(rule, x, n, key)[1](jnp.ones(2))
    assert cotangents[1].dtype == jax.dtypes.float0


# Transforms


def test_transforms_agree_with_the_reference():
    rule, x = make_cube(), jnp.linspace(-1.0, 2.0, 5)
    expected = 3 * x**2
    gradient = jax.grad(lambda x: rule(x).sum())
    np.testing.assert_allclose(gradient(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(gradient)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(rule))(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(jax.checkpoint(lambda x: rule(x).sum()))(x), expected)

    def scanned(x):
        return jax.lax.scan(lambda c, _: (rule(c), rule(c)), x, None, length=2)[0].sum()

    np.testing.assert_allclose(jax.grad(scanned)(x), 9 * x**8, rtol=1e-5)


def test_vmap_with_some_arguments_batched():
    rule = make_matmul()
    x, w = jnp.arange(12.0).reshape(2, 2, 3), jnp.arange(9.0).reshape(3, 3)
    gradient = jax.grad(lambda x, w: jnp.sin(rule(x, w)).sum(), (0, 1))
    plain = jax.grad(lambda x, w: jnp.sin(x @ w).sum(), (0, 1))
    dx, dw = jax.vmap(gradient, (0, None))(x, w)
    for i in range(2):
        expected = plain(x[i], w)
        np.testing.assert_allclose(dx[i], expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(dw[i], expected[1], rtol=1e-4, atol=1e-5)


def test_second_derivatives_through_a_rule():
    rule, x = make_cube(), jnp.array([1.0, -2.0])
    total = lambda x: (x[::-1] * rule(x)).sum()  # noqa: E731, one function and its two Hessians
    # d²/dx_i dx_j of x_1 x_0³ + x_0 x_1³
    expected = jnp.array([[6 * x[0] * x[1], 3 * (x @ x)], [3 * (x @ x), 6 * x[0] * x[1]]])
    np.testing.assert_allclose(jax.hessian(total)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jacrev(jax.grad(total))(x), expected, rtol=1e-6)


def test_forward_mode_names_the_way_out():
    rule = make_cube()
    with pytest.raises(TypeError, match=r"cube: .*no forward mode.* fnn\.without_rules\(f\)"):
        jax.jvp(rule, (2.0,), (1.0,))
    assert jax.jvp(without_rules(rule), (2.0,), (1.0,)) == (8.0, 12.0)


def test_another_type_error_is_not_taken_for_forward_mode():
    def forward(x):
        raise TypeError("mine")

    rule = make_rule(lambda x: x, forward, lambda res, dy: (dy,))
    with pytest.raises(TypeError, match=r"^mine\b"):
        rule(1.0)


def test_a_rule_inside_the_forward_pass_of_another():
    cube = make_cube()
    outer = make_rule(
        lambda x: 2 * cube(x), lambda x: (2 * cube(x), x), lambda x, dy: (6 * x**2 * dy,), "outer"
    )
    assert outer(2.0) == 16.0
    assert jax.grad(outer)(2.0) == 24.0
    # Forward over reverse runs the forward pass in forward mode, which the inner rule has not.
    assert jax.jacrev(jax.grad(outer))(2.0) == 24.0
    with pytest.raises(TypeError, match="cube: a hand-written rule has no forward mode"):
        jax.hessian(outer)(2.0)
    assert jax.grad(without_rules(outer))(2.0) == 24.0


# Matmul precision


def dot_precisions(f, *args):
    jaxpr = jax.make_jaxpr(f)(*args).jaxpr
    dots = [eqn for eqn in equations(jaxpr) if eqn.primitive.name == "dot_general"]
    return [str(eqn.params["precision"]) for eqn in dots]


def test_matmul_precision_is_in_force_in_both_passes():
    rule, x, w = make_matmul(), jnp.ones((2, 3)), jnp.ones((3, 3))
    plain = jax.custom_vjp(rule.reference)
    plain.defvjp(rule.forward, rule.backward)

    def loss(op):
        def f(x, w):
            with jax.default_matmul_precision("highest"):
                return op(x, w).sum()

        return jax.grad(f, (0, 1))

    found = dot_precisions(loss(rule), x, w)
    assert len(found) == 3
    assert all("HIGHEST" in precision for precision in found)
    # What the registry is for: JAX traces the passes when the context has closed.
    lost = [p for p in dot_precisions(loss(plain), x, w) if "HIGHEST" not in p]
    assert len(lost) >= 2


def test_precision_is_no_part_of_later_calls():
    rule, x, w = make_matmul(), jnp.ones((2, 3)), jnp.ones((3, 3))
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in dot_precisions(rule, x, w)[0]
    assert "HIGHEST" not in dot_precisions(rule, x, w)[0]


# No wasted work


def test_a_second_call_traces_nothing():
    rule, x = make_power(), jnp.ones(3)
    pull = lambda: jax.vjp(lambda x: rule(x, n=3), x)[1](x)  # noqa: E731
    for call in (rule, lambda x: rule(x, n=3), lambda x: pull()):
        call(x)
    with jax.no_tracing(True):
        np.testing.assert_array_equal(rule(x), x)
        np.testing.assert_array_equal(rule(x, n=3), x)
    traces = []
    counted = make_rule(
        rule.reference, lambda x, n: (traces.append(n), rule.forward(x, n=n))[1], rule.backward
    )
    for _ in range(3):
        counted(x, n=3)
    assert traces == [3]


def test_without_differentiation_the_reference_does_not_run():
    def reference(x):
        raise AssertionError("the reference ran")

    rule = make_rule(reference, lambda x: (2 * x, None), lambda res, dy: (2 * dy,))
    assert rule(1.0) == 2.0
    assert jax.jit(rule)(1.0) == 2.0
    assert jax.grad(rule)(1.0) == 2.0
    with pytest.raises(AssertionError, match="the reference ran"):
        without_rules(rule)(1.0)


def test_without_differentiation_no_residual_is_computed():
    rule = make_rule(
        lambda x: 2 * x, lambda x: (2 * x, jnp.exp(x)), lambda e, dy: (2 * dy + 0 * e,)
    )
    x = jnp.ones(3)
    assert "exponential" not in str(jax.jit(rule).lower(x).compile().as_text())
    gradient = jax.jit(lambda x, dy: jax.vjp(rule, x)[1](dy))
    assert "exponential" in str(gradient.lower(x, x).compile().as_text())
    # Called eagerly it is one compiled function, in which the same is dropped.
    (call,) = jax.make_jaxpr(rule)(x).jaxpr.eqns
    assert [eqn.primitive.name for eqn in call.params["call_jaxpr"].jaxpr.eqns] == ["jit"]


# Static arguments


def test_static_values_that_are_equal_but_of_another_type_do_not_collide():
    def typed(x, *, value):
        return x

    def forward(x, *, value):
        return x * {int: 1.0, float: 2.0, bool: 3.0}[type(value)], None

    rule = make_rule(typed, forward, lambda res, dy, *, value: (dy,))
    assert [float(rule(1.0, value=v)) for v in (1, 1.0, True, 1)] == [1.0, 2.0, 3.0, 1.0]


def test_static_values_reach_both_passes():
    rule = make_power()
    assert jax.grad(rule)(3.0) == 6.0
    assert jax.grad(lambda x: rule(x, n=3))(3.0) == 27.0


@pytest.mark.parametrize("value", [jnp.ones(()), np.ones(2), (1, np.ones(2))])
def test_an_array_passed_by_keyword_is_named(value):
    with pytest.raises(TypeError, match=r"power: n is static and cannot be an array.* x$"):
        make_power()(1.0, n=value)


def test_a_tracer_passed_by_keyword_is_named():
    rule = make_power()
    with pytest.raises(TypeError, match="power: n is static and cannot be an array"):
        jax.jit(lambda n: rule(2.0, n=n))(2.0)


def test_an_unhashable_static_argument_is_named():
    with pytest.raises(TypeError, match=r"power: n is static and must be hashable, found list \[2"):
        make_power()(1.0, n=[2])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("args", "keywords"), [((), {}), ((1.0, 2.0), {}), ((1.0,), {"m": 1})], ids=str
)
def test_a_wrong_call_shows_the_signature(args, keywords):
    with pytest.raises(TypeError, match=r"^power\(x, \*, n=2\): "):
        make_power()(*args, **keywords)


def test_static_arguments_are_completed_and_checked():
    rule = make_power()
    assert rule.static_arguments() == {"n": 2}
    with pytest.raises(TypeError, match="power: unknown static argument 'm'; it takes n"):
        rule.static_arguments(m=1)

    def required(x, *, rate):
        return x

    with pytest.raises(TypeError, match="needs: static argument 'rate' is missing"):
        Rule(required, "needs").static_arguments()


# The registry


def test_a_foreign_rule_has_the_name_of_its_module(empty_registry):
    def double(x):
        return 2 * x

    rule = registry.rule(double)
    assert list(registered_rules()) == [rule.name]
    assert rule.name.startswith(f"{__name__}.")
    assert rule.name.endswith("double")


def test_a_rule_of_funcnn_has_its_bare_name(empty_registry):
    def double(module):
        f = lambda x: 2 * x  # noqa: E731, renamed next
        f.__name__, f.__module__ = "double", f"funcnn.rules.{module}"
        return f

    assert registry.rule(double("somewhere")).name == "double"
    with pytest.raises(ValueError, match=r"two rules named double: .*somewhere.*elsewhere"):
        registry.rule(double("elsewhere"))


def test_defining_a_function_again_replaces_its_earlier_self(empty_registry):
    def double(x):
        return 2 * x

    first, second = registry.rule(double), registry.rule(double)
    assert first is not second
    assert registered_rules() == {second.name: second}


def test_the_registry_that_is_given_out_is_a_copy(empty_registry):
    registered_rules()["intruder"] = make_cube()
    assert registered_rules() == {}


@pytest.mark.parametrize("f", [lambda *xs: xs, lambda x, **options: x], ids=["args", "kwargs"])
def test_variadic_references_are_refused(empty_registry, f):
    with pytest.raises(TypeError, match="a rule names its arguments"):
        registry.rule(f)
    assert registered_rules() == {}


def test_cases_come_from_the_key(key):
    rule = make_cube()
    assert rule.cases() == []
    rule.defcases(lambda key: iter([Case("one", (jax.random.normal(key, (2,)),))]))
    (default,), (again,), (other,) = rule.cases(), rule.cases(), rule.cases(jax.random.key(1))
    np.testing.assert_array_equal(default.args[0], again.args[0])
    assert not np.array_equal(default.args[0], other.args[0])


# Forward mode, which a custom_vjp has not


@pytest.mark.parametrize("transform", ["linearize", "jit", "checkpoint", "scan", "jacfwd of jit"])
def test_where_jax_refuses_forward_mode_itself_its_traceback_says_what_to_do(transform):
    def f(x):
        return rules.tanh(x)

    x = jnp.ones(2)
    programs = {
        "linearize": lambda: jax.linearize(f, x)[1](x),
        "jit": lambda: jax.jvp(jax.jit(f), (x,), (x,)),
        "checkpoint": lambda: jax.jvp(jax.checkpoint(f), (x,), (x,)),
        "scan": lambda: jax.jvp(
            lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, 2)[0], (x,), (x,)
        ),
        "jacfwd of jit": lambda: jax.jacfwd(jax.jit(f))(x),
    }
    with pytest.raises(TypeError, match="forward-mode") as caught:
        programs[transform]()
    message = "".join(traceback.format_exception(caught.value))
    assert "# no jvp, jacfwd, linearize: take fnn.without_rules(f) for f" in message


# Without the compiler

SLOW_WITHOUT_JIT = {
    *("conv", "conv_transposed", "dropout", "gru", "linear_cross_entropy", "lstm", "max_pool"),
    *("rnn", "softmax", "log_softmax", "softmax_cross_entropy", "batch_norm", "group_norm"),
    *("instance_norm", "layer_norm", "rms_norm", "gelu", "logistic", "batch_norm_evaluation"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW_WITHOUT_JIT))
        for n in registered_rules()
        if hasattr(rules, n)
    ],
)
def test_every_rule_runs_without_jit_and_leaks_no_tracer(name):
    rule = registered_rules()[name]
    case = rule.cases()[0]
    given = [i for i, a in enumerate(case.args) if a is not None]
    floats = [i for i in given if jnp.issubdtype(jnp.asarray(case.args[i]).dtype, jnp.floating)]

    def f(*values):
        args = list(case.args)
        for i, value in zip(floats, values, strict=True):
            args[i] = value
        return rule(*args, **case.static)

    def forward_and_backward(*values):
        y, pull = jax.vjp(f, *values)
        return y, pull(y)

    values = [case.args[i] for i in floats]
    expected = jax.jit(forward_and_backward)(*values)
    for context in (jax.disable_jit(), jax.checking_leaks()):
        with context:
            found = forward_and_backward(*values)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
