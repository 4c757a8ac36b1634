"""The three arms: where jax.checkpoint goes, that it changes no gradient, what each arm costs."""

import math
from types import SimpleNamespace

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from funcnn.core.composition import chain
from funcnn.core.removal import Removal
from funcnn.core.stack import repeat
from funcnn.gradient.comparison import arms
from funcnn.gradient.comparison.arms import Arm, Gradient, build, build_checkpointed, measure
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.cost.flops import Compiled, Count
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.remat import checkpointed, place, whole
from funcnn.gradient.program.without_rules import take_out, trace, without_rules
from funcnn.layers import dense, silu, tanh

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
DEEP = chain(dense(3), deep=repeat(chain(dense(3), tanh), 3), head=dense(1))


def params_of(model):
    return drawn(jax.eval_shape(lambda key: model.init(key, X), jax.random.key(0)))


def drawn(shapes):
    random = np.random.default_rng(1)
    return jax.tree.map(lambda s: random.normal(size=s.shape).astype(s.dtype), shapes)


def loss_of(model):
    return lambda params, x: (model(params, x) ** 2).sum()


def where(f, *args):
    placed = place(take_out(f, args, {}, Removal())[0].jaxpr)
    return placed and placed.where


def checkpoints(f, *args):
    """What jax.checkpoint stands round, as lists of primitives."""
    found = []

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            inner = [p for p in eqn.params.values() if hasattr(p, "eqns")]
            if "remat" in eqn.primitive.name or "checkpoint" in eqn.primitive.name:
                found.append([e.primitive.name for e in inner[0].eqns])
            for jaxpr in inner:
                walk(jaxpr)

    walk(jax.make_jaxpr(checkpointed(f))(*args))
    return found


# Where it goes


def test_round_each_layer_and_the_body_of_a_scan():
    params = params_of(DEEP)
    expected = "round the body of 1 scan and round each of the layers dense_0, head"
    assert where(loss_of(DEEP), params, X) == expected
    found = checkpoints(loss_of(DEEP), params, X)
    assert len(found) == 3
    assert all(names.count("dot_general") == 1 for names in found)
    assert "tanh" in found[1]
    # Neither the loss nor the loop itself is in one.
    assert not any({"scan", "reduce_sum"} & set(names) for names in found)


@pytest.mark.parametrize("wrap", [jax.jit, jax.vmap, lambda f: jax.jit(jax.jit(f))])
def test_layers_are_seen_through_jit_and_vmap(wrap):
    params = params_of(DEEP)

    def loss(params, x):
        return wrap(lambda x: DEEP(params, x[None]).sum() ** 2)(x).sum()

    x = X if wrap is jax.vmap else X[0]
    assert where(loss, params, x) == where(loss_of(DEEP), params, X)


def test_nested_layers_are_the_outer_ones_and_flax_modules_count():
    model = chain(block=chain(dense(3), tanh, dense(3)), head=dense(1))
    assert where(loss_of(model), params_of(model), X) == "round each of the layers block, head"
    net = flax.linen.Sequential([flax.linen.Dense(4), flax.linen.relu, flax.linen.Dense(1)])
    params = drawn(jax.eval_shape(net.init, jax.random.key(0), X))

    def loss(params, x):
        y: jax.Array = net.apply(params, x)  # pyright: ignore[reportAssignmentType]
        return (y**2).sum()

    layers = "Sequential/layers_0, Sequential/layers_2"
    assert where(loss, params, X) == f"round each of the layers {layers}"


def test_a_rule_that_was_taken_out_inside_a_layer_stays_in_it():
    def loss(w, x):
        with jax.named_scope("block"):
            x = jax.nn.relu(x @ w) @ w  # relu has lost its scope
        with jax.named_scope("head"):
            x = x @ w
        return x.sum()

    w = X[:3]
    assert where(loss, w, X) == "round each of the layers block, head"
    assert [names.count("dot_general") for names in checkpoints(loss, w, X)] == [2, 1]


def test_scans_inside_scans_and_scans_of_integers():
    def outer(carry, row):
        inner = jax.lax.scan(lambda c, x: (jnp.sin(c + x), None), carry, row, reverse=True)[0]
        count = jax.lax.scan(lambda n, _: (n + 1, None), jnp.int32(0), None, length=2)[0]
        return inner + jnp.asarray(count, carry.dtype), None

    def f(x):
        return jax.lax.scan(outer, jnp.float32(0), x)[0]

    assert where(f, X) == "round the body of 2 scans"


def test_a_function_without_structure_has_only_the_whole():
    def f(x):
        return jnp.sin(x @ x.T).sum()

    assert where(f, X) is None
    program = take_out(f, (X,), {}, Removal())[0].jaxpr
    placed = whole(program, "dots_saveable")
    assert placed.where == "round the whole function, dots_saveable"
    (names,) = checkpoints(f, X)
    assert {"dot_general", "reduce_sum"} <= set(names)


# It changes no number


def test_the_gradient_is_that_of_the_program():
    params = params_of(DEEP)

    def loss(params, x):
        order = jnp.arange(4)[::-1]

        def step(carry, i):
            return carry * jnp.cos(x[i]), (carry.sum(), i)

        last, (sums, _) = jax.lax.scan(step, jnp.ones(3), order, reverse=True, unroll=2)
        return jax.jit(loss_of(DEEP))(params, x) + last.sum() + sums.sum()

    plain = compiled(jax.grad(without_rules(loss), (0, 1)))(params, X)
    again = compiled(jax.grad(checkpointed(loss), (0, 1)))(params, X)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


# What it costs


def gradient_of(f, *args):
    return Gradient.of(take_out(f, args, {}, Removal())[0], range(len(jax.tree.leaves(args[0]))))


def test_arguments_are_no_residuals_of_an_arm():
    def residuals(f):
        program = trace(lambda x: jnp.sum(f(x)), (jnp.ones(3),), {})
        return measure("automatic", build(Gradient.of(program, (0,)))).residual_bytes

    assert residuals(lambda x: x * x) == 0
    assert residuals(jnp.sin) == 12


def test_checkpoint_keeps_less_and_computes_more():
    def f(x):
        return jax.lax.scan(lambda c, row: (jnp.sin(jnp.cos(c) * row), None), x[0], x)[0].sum()

    automatic = gradient_of(f, X)
    built, note = build_checkpointed(automatic)
    assert built is not None
    assert note == "round the body of 1 scan"
    plain, again = measure("automatic", build(automatic)), measure("checkpointed", built, note)
    assert again.residual_bytes < plain.residual_bytes
    assert again.flops > plain.flops
    np.testing.assert_allclose(built.call([X])[0], build(automatic).call([X])[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ([(8.0, 1.0), (4.0, 9.0)], "dots_saveable"),
        ([(4.0, 9.0), (8.0, 1.0)], "nothing_saveable"),
        ([(4.0, 9.0), (4.0, 1.0)], "dots_saveable"),
    ],
)
def test_the_policy_of_the_smaller_memory_is_taken_and_then_that_of_fewer_operations(
    monkeypatch, costs, best
):
    left = iter(costs)

    def built(gradient):
        memory, flops = next(left)
        count = Count(flops)
        return SimpleNamespace(expense=Compiled(0.0, memory), count=lambda: count)

    monkeypatch.setattr(arms, "build", built)
    note = build_checkpointed(gradient_of(lambda x: jnp.sin(x @ x.T).sum(), X))[1]
    assert note.startswith(f"round the whole function, {best} (")
    other = costs[1] if best == "nothing_saveable" else costs[0]
    assert note.endswith(f"_saveable: {other[0]:g} bytes, {other[1]:g} FLOPs)")


def test_where_checkpoint_refuses_there_is_no_such_arm():
    def f(x):
        shape = jax.ShapeDtypeStruct((), x.dtype)
        noise = io_callback(lambda: np.float32(1), shape, ordered=True)
        return jnp.sin(x).sum() + noise

    built, note = build_checkpointed(gradient_of(f, X))
    assert built is None
    assert note.startswith("jax.checkpoint refuses this program: ")


def test_the_report_has_the_arms_with_their_times():
    model = chain(dense(3), deep=repeat(silu, 3))
    params = params_of(model)
    report = compare(loss_of(model), params, X, pairs=3)
    assert report.ok, str(report)
    automatic, again, manual = report.arms
    assert [arm.name for arm in report.arms] == ["automatic", "checkpointed", "manual"]
    assert again.note == "round the body of 1 scan and round each of the layers dense_0"
    assert again.residual_bytes < automatic.residual_bytes
    assert manual.flops >= 2 * 2 * 4 * 3 * 3  # the product forwards, and that for w
    for arm in report.arms:
        assert 0 < arm.seconds_low <= arm.seconds_median <= arm.seconds_high
        assert arm.compile_seconds > 0
        assert arm.temporary_bytes >= 0
    assert report.timing is not None
    assert report.timing.manual == manual.seconds_median
    text = str(report)
    assert f"checkpointed: {again.note}" in text
    assert "temporary bytes" in text


def test_an_arm_that_was_not_timed_has_no_times():
    assert math.isnan(Arm("manual", 1.0).seconds_median)
    timed = Arm("manual", 1.0).timed([2.0, 1.0, 6.0])
    assert (timed.flops, timed.seconds_median) == (1.0, 2.0)
    assert (timed.seconds_low, timed.seconds_high) == (1.0, 6.0)
