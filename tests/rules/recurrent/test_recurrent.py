"""The recurrent rules against Flax's cells and differences; lengths, products, bytes, mistakes."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from witness import finite_difference_error, float64_args, gradient_error, gradient_errors

from funcnn.gradient.cost.residuals import ledger
from funcnn.gradient.program.without_rules import without_rules
from funcnn.rules import gru, lstm, rnn
from funcnn.rules.recurrent.steps import with_step

RULES = {"rnn": rnn, "lstm": lstm, "gru": gru}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
N, T, D, H = 2, 4, 3, 5


def arrays(name, dtype="float32", shape=(N, T, D, H)):
    """x, the carries, w, u and b."""
    rows, steps, depth, hidden = shape
    wide = GATES[name] * hidden
    shapes = [(rows, steps, depth), (rows, hidden), (rows, hidden)][: 3 if name == "lstm" else 2]
    shapes += [(depth, wide), (hidden, wide), (4 * hidden if name == "gru" else wide,)]
    generator = np.random.default_rng(0)
    return tuple(jnp.asarray(generator.standard_normal(s), dtype) for s in shapes)


# Flax


def cell_of(name, w, u, b, activation):
    """Flax's cell with our weights: `step(carry, x) -> (carry, y)`."""
    ws, us = (jnp.split(a, GATES[name], axis=1) for a in (w, u))
    bs = jnp.split(b, 4 if name == "gru" else GATES[name])
    if name == "rnn":
        cell = linen.SimpleCell(H, activation_fn=activation, param_dtype=w.dtype)
        params = {"i": {"kernel": w, "bias": b}, "h": {"kernel": u}}
    elif name == "lstm":
        cell = linen.LSTMCell(H, param_dtype=w.dtype)
        params = {f"i{g}": {"kernel": k} for g, k in zip("ifgo", ws, strict=True)}
        for g, k, bias in zip("ifgo", us, bs, strict=True):
            params[f"h{g}"] = {"kernel": k, "bias": bias}
    else:
        cell = linen.GRUCell(H, param_dtype=w.dtype)
        params = {f"i{g}": {"kernel": k, "bias": v} for g, k, v in zip("rzn", ws, bs, strict=False)}
        params |= {f"h{g}": {"kernel": k} for g, k in zip("rzn", us, strict=True)}
        params["hn"]["bias"] = bs[3]

    def step(carry, x):
        with jax.numpy_rank_promotion("allow"):
            return cell.apply({"params": params}, carry, x)

    return step


def flax(name, args, lengths=None, reverse=False, activation=jnp.tanh):
    """Each sequence by itself, cut to its length, step by step."""
    x, *carries, w, u, b = args
    step = cell_of(name, w, u, b, activation)
    ys, lasts = [], []
    for row in range(x.shape[0]):
        length = x.shape[1] if lengths is None else int(lengths[row])
        h = carries[0][row]
        carry = (carries[1][row], h) if name == "lstm" else h  # Flax has (c, h)
        y = [jnp.zeros_like(h)] * x.shape[1]
        for t in reversed(range(length)) if reverse else range(length):
            carry, y[t] = step(carry, x[row, t])
        ys.append(jnp.stack(y))
        lasts.append(carry[::-1] if name == "lstm" else (carry,))
    return jnp.stack(ys), *(jnp.stack(c) for c in zip(*lasts, strict=True))


def cotangents(outs):
    generator = np.random.default_rng(1)
    return tuple(jnp.asarray(generator.standard_normal(y.shape), y.dtype) for y in outs)


SETTINGS = {
    "plain": ({}, None),
    "from the end": ({"reverse": True}, None),
    "lengths": ({}, (0, 3)),
    "lengths from the end": ({"reverse": True}, (1, 4)),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", RULES)
def test_value_and_gradient_are_those_of_flax(name, setting):
    static, lengths = SETTINGS[setting]
    with jax.enable_x64(True):
        args = arrays(name, "float64")
        given = None if lengths is None else jnp.array(lengths)
        truth, pull = jax.vjp(lambda *a: flax(name, a, lengths, **static), *args)
        dys = cotangents(truth)
        for f in (RULES[name], RULES[name].reference):
            found, pull_found = jax.vjp(lambda *a, f=f: f(*a, given, **static), *args)
            for a, b in zip(found, truth, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
            for a, b in zip(pull_found(dys), pull(dys), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_relu_is_that_of_flax():
    with jax.enable_x64(True):
        args = arrays("rnn", "float64")
        truth, pull = jax.vjp(lambda *a: flax("rnn", a, activation=jax.nn.relu), *args)
        found, pull_found = jax.vjp(lambda *a: rnn(*a, activation="relu"), *args)
        dys = cotangents(truth)
        for a, b in zip((*found, *pull_found(dys)), (*truth, *pull(dys)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


# Truth


@pytest.mark.parametrize("name", RULES)
def test_references_agree_with_finite_differences(name, key):
    (case,) = (c for c in RULES[name].cases() if c.name == "lengths from the end")
    # Of relu, the differences would cross kinks.
    static = {**case.static, **({"activation": "tanh"} if name == "rnn" else {})}
    reference = functools.partial(RULES[name].reference, **static)
    errors = finite_difference_error(reference, case.args, key, directions=2)
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("name", RULES)
def test_rules_agree_with_the_automatic_gradient_in_float64(name):
    (case,) = (c for c in RULES[name].cases() if c.name == "lengths")
    errors = gradient_errors(RULES[name], [case], "float64", "vmap")
    assert max(errors.values()) < 1e-13, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_second_derivatives(name):
    with jax.enable_x64(True):
        args = float64_args(RULES[name].cases()[3])

        def curvature(f):
            def loss(x):
                return sum(jnp.sum(jnp.sin(y)) for y in f(x, *args[1:], reverse=True))

            return jax.jit(jax.jvp, static_argnums=0)(jax.grad(loss), args[:1], args[:1])[1]

        found, expected = curvature(RULES[name]), curvature(RULES[name].reference)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


# Lengths


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_what_stands_beyond_the_end_counts_for_nothing(name, reverse):
    rule, lengths = RULES[name], jnp.array([2, 0, 9])  # 9 is beyond the end of x
    x, *rest = arrays(name, shape=(3, T, D, H))
    f = jax.jit(lambda x, *rest: rule(x, *rest, lengths, reverse=reverse))
    outs, pull = jax.vjp(f, x, *rest)
    dys = cotangents(outs)
    spoilt = x.at[0, 2:].set(jnp.nan).at[1].set(jnp.inf)
    outs_spoilt, pull_spoilt = jax.vjp(f, spoilt, *rest)
    spoilt_dys = (dys[0].at[0, 2:].set(jnp.nan), *dys[1:])
    for a, b in zip(outs, outs_spoilt, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(pull(dys), pull_spoilt(spoilt_dys), strict=True):
        np.testing.assert_array_equal(a, b)
    dx, dh = pull(dys)[:2]
    y, h = outs[:2]
    for a in (y, dx):
        assert not np.any(a[0, 2:])
        assert not np.any(a[1])
        assert np.all(a[2] != 0)
    np.testing.assert_array_equal(h[1], rest[0][1])  # a sequence without steps keeps its carry
    np.testing.assert_array_equal(dh[1], dys[1][1])


@pytest.mark.parametrize("name", RULES)
def test_full_lengths_change_nothing(name):
    args = arrays(name)
    for lengths in (jnp.full(N, T), jnp.full(N, T, jnp.uint8)):
        for a, b in zip(RULES[name](*args), RULES[name](*args, lengths), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# Products and bytes


def products(jaxpr, inside=False):
    """The matrix products of a program: how many outside of loops, and how many in a step."""
    counts = np.zeros(2, int)
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            counts[int(inside)] += 1
        for value in eqn.params.values():
            if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
                body = getattr(value, "jaxpr", value)
                counts += products(body, inside or eqn.primitive.name == "scan")
    return counts


@pytest.mark.parametrize("name", RULES)
def test_one_product_in_a_step_and_one_for_each_gradient_after_the_loop(name):
    args = arrays(name)
    outs, pull = jax.vjp(RULES[name], *args)
    assert products(jax.make_jaxpr(pull)(outs).jaxpr).tolist() == [3, 1]  # dw, du, dx; dh
    assert products(jax.make_jaxpr(RULES[name])(*args).jaxpr).tolist() == [1, 1]
    automatic, pull = jax.vjp(without_rules(RULES[name]), *args)
    assert products(jax.make_jaxpr(pull)(automatic).jaxpr).tolist() == [0, 4]


KEPT = {"rnn": 1, "lstm": 5, "gru": 4}  # arrays (T, N, H) beside x and y


@pytest.mark.parametrize("name", RULES)
def test_bytes_kept(name):
    shape = (2, 8, 3, 4)
    args = arrays(name, shape=shape)
    rows, steps, _, hidden = shape
    array = 4 * rows * steps * hidden
    manual = ledger(RULES[name], args)
    automatic = ledger(RULES[name].reference, args)
    assert manual.extra == KEPT[name] * array
    assert manual.output == array
    assert manual.dead == manual.wide == 0
    assert automatic.extra > (KEPT[name] + 1) * array, str(automatic)
    low = [a.astype(jnp.bfloat16) for a in args]
    assert 2 * ledger(RULES[name], low).extra == manual.extra


@pytest.mark.parametrize("name", RULES)
def test_the_value_alone_stacks_nothing_but_y(name):
    args = arrays(name)
    compiled = jax.jit(RULES[name]).lower(*args).compile().as_text()
    assert compiled is not None
    (loop,) = (line for line in compiled.splitlines() if " while(" in line)
    # Of this shape are y, being written, and nothing else; x w + b is read.
    assert loop.partition(" while(")[0].count(f"f32[{T},{N},{H}]") == 1 + (name == "rnn")


# Mistakes


def patched(name, **helpers):
    """The backward pass with some of its helpers replaced."""

    def backward(res, dys, **static):
        home = RULES[name].backward.__module__
        with mock.patch.multiple(home, **helpers):
            return RULES[name].backward(res, dys, **static)

    return RULES[name].replace(backward=backward)


def with_cotangents(name, change):
    rule = RULES[name]
    return rule.replace(backward=lambda res, dys, **s: rule.backward(res, change(dys), **s))


def with_residuals(name, change):
    rule = RULES[name]
    return rule.replace(backward=lambda res, dys, **s: rule.backward(change(res), dys, **s))


LENGTHS = {"rnn": 4, "lstm": 5, "gru": 4}  # their place among the residuals
MISTAKES = {
    "truncated": lambda n: patched(n, recur=lambda a, u: jnp.zeros((a.shape[0], u.shape[1]))),
    "rows of the weights in another order": lambda n: patched(n, recur=lambda a, u: a @ u[::-1]),
    "state of the same step": lambda n: patched(n, before_each_step=lambda s, after, *_: after),
    "starts from zero": lambda n: patched(
        n, before_each_step=lambda s, after, *_: jnp.concatenate([0 * s[None], after])[:-1]
    ),
    "one step forgotten in a sum": lambda n: patched(
        n, weight_gradient=lambda v, dz: jnp.einsum("tnd,tnk->dk", v[1:], dz[1:])
    ),
    "bias averaged": lambda n: patched(n, bias_gradient=lambda dz: jnp.mean(dz, (0, 1))),
    "cotangent of the last carry lost": lambda n: with_cotangents(
        n, lambda dys: (dys[0], *(0 * d for d in dys[1:]))
    ),
    "cotangent of y lost": lambda n: with_cotangents(n, lambda dys: (0 * dys[0], *dys[1:])),
}
PADDED = {
    "lengths ignored": lambda n: with_residuals(
        n, lambda res: (*res[: LENGTHS[n]], None, *res[LENGTHS[n] + 1 :])
    ),
    "padding handed to the weights": lambda n: patched(
        n, where_active=lambda active, new, old: new
    ),
    "starts at the padding": lambda n: patched(
        n, before_each_step=lambda s, after, *_: jnp.concatenate([after, s[None]])[1:]
    ),
}


def worst(rule, case):
    (case,) = (c for c in rule.cases() if c.name == case)
    return max(gradient_error(rule, case, "float64").values())


# Of one rule each: the mutation scores cover all of them.
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", ["lstm"])
def test_planted_mistakes_are_rejected(name, mistake):
    with jax.enable_x64(True):
        assert worst(MISTAKES[mistake](name), "sequences") > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("mistake", PADDED)
@pytest.mark.parametrize("name", ["gru"])
def test_planted_mistakes_with_lengths_are_rejected(name, mistake):
    with jax.enable_x64(True):
        assert worst(PADDED[mistake](name), "lengths from the end") > 1e-3


@pytest.mark.parametrize("name", ["rnn"])
def test_the_wrong_direction_is_rejected(name):
    rule = RULES[name]

    def forwards(res, dys, *, reverse, **static):
        return rule.backward(res, dys, reverse=False, **static)

    assert worst(rule.replace(backward=forwards), "from the end") > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "i", "j"), [("lstm", -4, -3), ("gru", -4, -3), ("lstm", -1, -2)])
def test_swapped_gates_are_rejected(name, i, j):
    def swapped(res):
        res = list(res)
        res[i], res[j] = res[j], res[i]
        return res

    assert worst(with_residuals(name, swapped), "sequences") > 1e-3


# Errors

X, CARRY = jnp.ones((2, 3, 4)), jnp.ones((2, 5))
W, U, B = jnp.ones((4, 20)), jnp.ones((5, 20)), jnp.ones(20)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {0: jnp.ones((2, 3, 4), int)},
            TypeError,
            "x must be floating point, found int32[2, 3, 4]",
        ),
        ({0: jnp.ones((3, 4))}, ValueError, "x must have shape (N, T, D), found float32[3, 4]"),
        (
            {2: jnp.ones((3, 5))},
            ValueError,
            "c must have shape (N, H) = (2, 5), found float32[3, 5]",
        ),
        ({3: jnp.ones((4, 5))}, ValueError, "w must have shape (D, 4H) = (4, 20), found"),
        ({4: jnp.ones((4, 20))}, ValueError, "w must have shape (D, 4H) = (4, 16), found"),
        ({4: jnp.ones(20)}, ValueError, "u must have two axes, found float32[20]"),
        ({5: jnp.ones(15)}, ValueError, "b must have shape (4H,) = (20,), found float32[15]"),
        ({5: B.astype("bfloat16")}, TypeError, "x and b must have one dtype, found"),
        ({6: jnp.ones(2)}, TypeError, "lengths must be integers, found float32[2]"),
        ({6: jnp.ones(3, int)}, ValueError, "lengths must have shape (N,) = (2,), found int32[3]"),
    ],
)
@pytest.mark.parametrize("f", [lstm, lstm.reference], ids=["rule", "reference"])
def test_bad_arguments_are_one_clear_line(f, changed, error, message):
    args = [X, CARRY, CARRY, W, U, B, None]
    for place, value in changed.items():
        args[place] = value
    with pytest.raises(error) as caught:
        f(*args)
    assert message in str(caught.value)
    assert str(caught.value).startswith("lstm: ")
    assert "\n" not in str(caught.value)


def test_shapes_in_the_errors_of_the_others():
    with pytest.raises(ValueError, match=r"gru: b must have shape \(4H,\) = \(20,\)"):
        gru(X, CARRY, jnp.ones((4, 15)), jnp.ones((5, 15)), jnp.ones(15))
    with pytest.raises(ValueError, match=r"rnn: w must have shape \(D, H\) = \(4, 5\)"):
        rnn(X, CARRY, W, jnp.ones((5, 5)), jnp.ones(5))
    with pytest.raises(ValueError, match="rnn: activation is 'tanh' or 'relu', found 'gelu'"):
        rnn(X, CARRY, jnp.ones((4, 5)), jnp.ones((5, 5)), jnp.ones(5), activation="gelu")


def test_a_step_is_written_block_by_block_on_a_cpu_and_at_once_elsewhere():
    def write(stacked, step, first, second):
        return with_step(stacked, step, [first, second])

    args = jnp.zeros((3, 2, 5)), 1, jnp.ones((2, 2)), jnp.full((2, 3), 2.0)
    expected = np.zeros((3, 2, 5))
    expected[1] = [1, 1, 2, 2, 2]
    np.testing.assert_array_equal(write(*args), expected)
    traced = jax.jit(write).trace(*args)
    for platform, writes in (("cpu", 2), ("cuda", 1)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.dynamic_update_slice") == writes
