"""Rules that are wrong only somewhere: in a later step, where something is not used, at a leaf that
nobody differentiates. Each is found, and its right twin is OK."""

import jax
import jax.numpy as jnp
import pytest

from funcnn.gradient.check import check
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.sites.census import census

X, W = jnp.array([0.3, 0.5, -0.7]), jnp.array([1.1, 0.2, 0.4])
FACTORS = [1.0, 7.0]


def sine(factor):
    made = jax.custom_vjp(lambda x: jnp.sin(x))
    made.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (factor * dy * jnp.cos(x),))
    return made


def square(factor, where):
    """x^2, with a cotangent that is wrong where `where(x)`."""
    made = jax.custom_vjp(lambda x: x * x)

    def backward(x, dy):
        return (jnp.where(where(x), factor, 1.0) * 2 * x * dy,)

    made.defvjp(lambda x: (x * x, x), backward)
    return made


# In loops


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("loop", ["scan", "reversed", "while", "nested"])
@pytest.mark.parametrize("number", [5.0, 0.01, 1.5])  # the largest, the smallest, the last
def test_a_rule_that_is_wrong_in_a_later_step(factor, loop, number):
    f = square(factor, lambda x: x == number)
    xs = jnp.array([1.0, 2.0, 5.0, 0.01, 1.5])
    xs = xs[::-1] if loop == "reversed" else xs

    def scanned(xs, reverse=False):
        return jax.lax.scan(lambda c, x: (c + f(x), None), 0.0, xs, reverse=reverse)[0]

    def until(xs):
        return jax.lax.while_loop(
            lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] + f(xs[s[0]])), (0, 0.0)
        )[1]

    program = {
        "scan": scanned,
        "reversed": lambda xs: scanned(xs, reverse=True),
        "while": until,
        "nested": lambda xs: jax.lax.map(scanned, jnp.stack([xs, xs[::-1], xs])).sum(),
    }[loop]
    report = census(program, xs)
    assert report.ok is (factor == 1.0), str(report)
    (row,) = report.rules
    assert row.note.startswith("4 of its 5 calls" if loop != "nested" else "4 of its 15 calls")


@pytest.mark.parametrize("factor", FACTORS)
def test_a_rule_that_a_loop_reaches_in_its_second_step(factor):
    f = sine(factor)

    def program(xs):
        def step(carry, x):
            return carry + jax.lax.cond(x > 0, f, lambda x: x, x), None

        return jax.lax.scan(step, 0.0, xs)[0]

    xs = jnp.array([-1.0, 0.5, -2.0])
    assert census(program, xs).ok is (factor == 1.0)
    report = check(program, xs)
    assert report.ok is (factor == 1.0), str(report)
    assert not report.rules_not_compared
    assert check(program, -jnp.abs(xs)).rules_not_compared == (
        ("<lambda>", "these arguments never run it"),
    )


def test_numbers_that_pass_a_rule_by_are_none_of_its_operands():
    """In steps that do not reach the rule it would be wrong."""
    f = square(7.0, lambda x: x < 0)

    def program(xs):
        def step(carry, x):
            return carry + jax.lax.cond(x > 0, f, lambda x: x, x), None

        return jax.lax.scan(step, 0.0, xs)[0]

    report = census(program, jnp.array([-9.0, 0.5, 3.0, -0.1]))
    assert report.ok, str(report)
    assert report.rules[0].note == "2 of its 2 calls"


# With symbolic zeros


def product(factor, kind):
    """x w, wrong where one of both is not differentiated."""

    def forward(x, w):
        return x.value * w.value, (x.value, w.value, x.perturbed and w.perturbed)

    def backward(res, dy):
        x, w, both = res
        return (1.0 if both else factor) * dy * w, dy * x

    def forward_mode(primals, tangents):
        x, w = primals
        dx, dw = (
            jnp.zeros_like(x) if isinstance(t, jax.custom_derivatives.SymbolicZero) else t
            for t in tangents
        )
        alone = isinstance(tangents[1], jax.custom_derivatives.SymbolicZero)
        return x * w, (factor if alone else 1.0) * dx * w + x * dw

    if kind == "custom_jvp":
        made = jax.custom_jvp(lambda x, w: x * w)
        made.defjvp(forward_mode, symbolic_zeros=True)
    else:
        made = jax.custom_vjp(lambda x, w: x * w)
        made.defvjp(forward, backward, symbolic_zeros=True)
    return made


def two_outputs(factor):
    """(sin x, x^2), wrong where the second is not used."""
    made = jax.custom_vjp(lambda x: (jnp.sin(x), x * x))

    def backward(x, dys):
        a, b = dys
        unused = isinstance(b, jax.custom_derivatives.SymbolicZero)
        a = (
            0.0
            if isinstance(a, jax.custom_derivatives.SymbolicZero)
            else (factor if unused else 1.0) * a * jnp.cos(x)
        )
        return (a + (0.0 if unused else b * 2 * x),)

    def forward(x):
        return (jnp.sin(x.value), x.value * x.value), x.value

    made.defvjp(forward, backward, symbolic_zeros=True)
    return made


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp"])
def test_a_rule_that_is_wrong_where_an_argument_is_not_differentiated(factor, kind):
    f = product(factor, kind)
    for report in (check(f, X, W), census(f, X, W), census(lambda x: f(x, W), X)):
        assert report.ok is (factor == 1.0), str(report)
    alone = [r for r in check(f, X, W).results if r.check == "alone"]
    assert [r.leaf for r in alone] == ["argument_0", "argument_1"]


@pytest.mark.parametrize("factor", FACTORS)
def test_a_rule_that_is_wrong_where_an_output_is_not_used(factor):
    f = two_outputs(factor)
    for report in (check(f, X), census(f, X), census(lambda x: f(x)[1], X)):
        assert report.ok is (factor == 1.0), str(report)
    found = {r.note.partition(" used")[0] for r in check(f, X).results if r.check == "alone"}
    assert found == {"output[0]", "output[1]"}


@pytest.mark.parametrize("factor", FACTORS)
def test_a_rule_that_is_wrong_where_the_other_output_is_not_used(factor):
    made = jax.custom_vjp(lambda x: (jnp.sin(x), x * x))

    def backward(x, dys):
        a, b = (0.0 if isinstance(d, jax.custom_derivatives.SymbolicZero) else d for d in dys)
        alone = isinstance(dys[0], jax.custom_derivatives.SymbolicZero)
        return (a * jnp.cos(x) + (factor if alone else 1.0) * b * 2 * x,)

    made.defvjp(lambda x: ((jnp.sin(x.value), x.value**2), x.value), backward, symbolic_zeros=True)
    for report in (check(made, X), census(made, X)):
        assert report.ok is (factor == 1.0), str(report)


def test_a_kink_where_one_output_is_used_alone():
    """There the rule takes the other side than autodiff, with the cotangent of one output."""
    made = jax.custom_vjp(lambda x: (jnp.abs(x), 3.0 * x))

    def backward(x, dys):
        a, b = (0.0 if isinstance(d, jax.custom_derivatives.SymbolicZero) else d for d in dys)
        return (jnp.where(x > 0, 1.0, -1.0) * a + 3.0 * b,)

    made.defvjp(
        lambda x: ((jnp.abs(x.value), 3.0 * x.value), x.value), backward, symbolic_zeros=True
    )
    assert census(made, jnp.array([0.5, 0.0, 0.0, 0.0, 0.0, -0.5])).ok


def test_a_rule_that_asks_for_no_zeros_is_not_tried_once_more():
    assert not [r for r in check(lambda x, w: sine(1.0)(x) * w, X, W).results if r.check == "alone"]


# Where no leaf goes


@pytest.mark.parametrize("factor", FACTORS)
def test_a_rule_beside_the_leaf_that_is_differentiated(factor):
    """Right or wrong, nothing of it was compared; nor where only integers of it arrive."""
    f = sine(factor)
    programs = [
        lambda w, x: (f(x) + w).sum(),
        lambda w, x: (jnp.floor(f(w)) + w).sum(),
        lambda w, x: (jnp.where(f(w) > 0, w, 2 * w)).sum(),
        lambda w, x: (jax.lax.stop_gradient(f(w)) * w).sum(),
        lambda w, x: (w + jax.lax.scan(lambda c, _: (f(c), None), w, None, 0)[0]).sum(),
    ]
    for program in programs:
        report = compare(program, W, X, pairs=0, cost=False)
        assert not report.ok, str(report)
        assert report.conclusion().startswith("NOT COMPARED"), str(report)
        assert [row.verdict for row in report.leaves] == ["TIE"]


@pytest.mark.parametrize("factor", FACTORS)
def test_a_rule_need_not_know_what_nobody_differentiates(factor):
    """None in the place of the cotangent of a target, a mask or a temperature."""
    f = jax.custom_vjp(lambda x, target: (x - target) ** 2)
    f.defvjp(
        lambda x, target: ((x - target) ** 2, x - target), lambda r, dy: (factor * 2 * r * dy, None)
    )
    for report in (
        compare(lambda x, target: f(x, target).sum(), X, W, pairs=0, cost=False),
        compare(lambda x: f(x, W).sum(), X, pairs=0, cost=False),
        census(lambda x: f(x, W), X),
        check(lambda x: f(x, W), X),
    ):
        assert report.ok is (factor == 1.0), str(report)
        assert report.conclusion().startswith("OK" if factor == 1.0 else "FAILED")
    assert not compare(lambda x, target: f(x, target).sum(), X, W, argnums=(0, 1), pairs=0).ok
    assert not census(f, X, W).ok


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("taken", [True, False])
def test_a_rule_in_a_branch_beside_the_leaf(taken, factor):
    """There no site can be judged by itself: that nothing was compared is said, right or wrong."""
    f = sine(factor)

    def loss(w, x):
        return (jax.lax.cond((x[0] < 9) == taken, f, lambda x: x, x) + w).sum()

    report = compare(loss, W, X, pairs=0, cost=False)
    assert not report.ok
    assert report.conclusion().startswith("NOT COMPARED: no leaf's gradient goes through rule")
    through = compare(loss, W, X, argnums=(0, 1), pairs=0, cost=False)
    assert through.ok is (taken and factor == 1.0), str(through)


def test_one_rule_that_was_compared_and_one_that_was_not():
    def loss(x, w):
        return (sine(1.0)(x) + jax.lax.cond(w[0] > 9, jax.nn.relu, lambda w: w, w)).sum()

    report = compare(loss, X, W, pairs=0, cost=False)
    assert report.ok
    assert report.conclusion().endswith("not compared: rule relu")
    assert check(loss, X, W).conclusion().endswith("; not compared: rule relu")


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    "operand",
    [lambda x, n: W, lambda x, n: n.astype(x.dtype), lambda x, n: jax.lax.stop_gradient(x)],
)
def test_check_names_a_rule_that_no_argument_is_differentiated_through(factor, operand):
    n, beside, f = jnp.arange(3), sine(1.0), sine(factor)
    alone = check(lambda x, n: x * f(operand(x, n)), X, n)
    assert not alone.ok
    why = "no leaf that is differentiated goes through it"
    assert alone.rules_not_compared == (("<lambda>", why),)
    assert alone.conclusion().startswith("INCONCLUSIVE")
    assert alone.conclusion().endswith("; not compared: rule <lambda>")
    two = check(lambda x, n: jax.nn.relu(x) * f(operand(x, n)), X, n)
    assert two.ok
    assert two.conclusion().endswith("; not compared: rule <lambda>")
    # What the argument goes through as well is compared.
    both = check(lambda x, n: f(x) * f(operand(x, n)) * beside(x), X, n)
    assert both.ok is (factor == 1.0), str(both)
    assert not both.rules_not_compared


def test_what_depends_on_a_leaf_through_loops_and_calls():
    """A carry that the leaf reaches in the second step only."""

    def loss(w, x):
        def step(carry, x):
            a, b = carry
            return (b, b * w), sine(1.0)(a)

        return jax.jit(lambda x: jax.lax.scan(step, (x[0], x[1]), x))(x)[1].sum()

    assert compare(loss, W[0], X, pairs=0, cost=False).ok

    def stopped(w, x):
        return sine(1.0)(jax.lax.stop_gradient(w) * x).sum() + w

    report = compare(stopped, W[0], X, pairs=0, cost=False)
    assert [why for _, why in report.not_compared] == [
        "no leaf that is differentiated goes through it"
    ]
    assert not report.ok


# Inside a shard_map, whose pullback cannot be run with rounding errors


@pytest.mark.parametrize("factor", FACTORS)
def test_a_rule_inside_a_shard_map(factor):
    devices = jax.devices()[:2]
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("i",), axis_types=auto, devices=devices)
    spec = jax.sharding.PartitionSpec("i")
    f = jax.shard_map(sine(factor), mesh=mesh, in_specs=spec, out_specs=spec)
    x = jnp.array([0.3, 0.5, -0.7, 1.1])
    for report in (check(f, x), compare(lambda x: f(x).sum(), x, pairs=0, cost=False)):
        assert report.ok is (factor == 1.0), str(report)
        assert report.conclusion().startswith("OK" if factor == 1.0 else "FAILED")
    assert not census(f, x).ok


def added_up(f, w, x):
    return jax.lax.psum(f(x * w[None]).sum(), "i")


def scanned(f, w, x):
    total, _ = jax.lax.scan(lambda c, row: (c + f(row * w), None), 0 * x[0], x)
    return jax.lax.pmean(total.sum(), "i")


def branched(f, w, x):
    return jax.lax.psum(jax.lax.cond(x[0, 0] < 9, f, lambda x: x, x * w[None]).sum(), "i")


def gathered(f, w, x):
    return jax.lax.psum(f(jax.lax.all_gather(x * w[None], "i")).sum(), "i")


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("program", [added_up, scanned, branched, gathered])
def test_compare_inside_a_shard_map_with_parameters_that_each_device_has(
    program, check_vma, factor
):
    """Its axes are bound inside it alone, and so is what runs over them."""
    devices = jax.devices()[:2]
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("i",), axis_types=auto, devices=devices)
    spec = jax.sharding.PartitionSpec
    loss = jax.shard_map(
        lambda w, x: program(sine(factor), w, x),
        mesh=mesh,
        in_specs=(spec(), spec("i")),
        out_specs=spec(),
        check_vma=check_vma,
    )
    x = jnp.array([[0.1, 0.2], [0.3, 0.4], [0.5, -0.6], [0.7, 0.8]])
    report = compare(loss, W[:2], x, argnums=(0, 1), pairs=0, cost=False)
    verdict = "OK" if factor == 1.0 else "FAILED"
    assert report.conclusion().startswith(f"{verdict}: 2 leaves against float64 truth"), str(report)


# What a tool cannot look at, or cannot run


def test_complex_operands_are_not_called_compared():
    f = jax.custom_vjp(lambda x, z: x * jnp.real(z))
    f.defvjp(
        lambda x, z: (f(x, z), (x, z)),
        lambda r, dy: (dy * jnp.real(r[1]), (7 * dy * r[0]).astype(r[1].dtype)),
    )
    report = census(f, X, X.astype(jnp.complex64))
    assert not report.ok
    assert "its complex operands" in str(report)


def test_a_loop_of_several_does_not_hide_the_rules_beside_it():
    def program(x):
        counted = jax.vmap(lambda n: jax.lax.while_loop(lambda s: s < n, lambda s: s + 1.0, 0.0))(x)
        return sine(7.0)(x) + counted

    assert census(program, X).conclusion().startswith("FAILED")


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_keys_of_any_kind_flow_through_a_loop(kind):
    noisy = jax.custom_vjp(lambda key, x: x * jax.random.uniform(key, x.shape))
    noisy.defvjp(
        lambda key, x: (noisy(key, x), key),
        lambda key, dy: (None, dy * jax.random.uniform(key, dy.shape)),
    )

    def program(x):
        def step(key, _):
            return key, noisy(jax.random.fold_in(key, 1), x)

        return jax.lax.scan(step, jax.random.key(0, impl=kind), None, 3)[1]

    assert census(program, X).ok


def test_what_a_backward_pass_raises_is_a_verdict_of_compare():
    made = jax.custom_vjp(lambda x: jnp.sin(x))

    def backward(x, dy):
        raise ZeroDivisionError("boom")

    made.defvjp(lambda x: (jnp.sin(x), x), backward)
    report = compare(lambda x: made(x).sum(), X, pairs=0, cost=False)
    assert report.conclusion().startswith("FAILED")
    assert "it raised ZeroDivisionError: boom" in str(report)


def test_numbers_of_python_among_the_results():
    assert check(lambda x: (sine(1.0)(x), 3, 0.5, True), X).ok
    assert not check(lambda x: (sine(7.0)(x), 3, 0.5, True), X).ok
