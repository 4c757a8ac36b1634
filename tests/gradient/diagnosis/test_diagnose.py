"""A diagnosis names the mistake that was made, and says nothing where none explains the error."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue_operations import OPERATIONS

from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.diagnosis.diagnose import diagnose, diagnose_failure
from funcnn.gradient.diagnosis.evidence import Draw, Evidence
from funcnn.gradient.diagnosis.factors import name_of_factor
from funcnn.gradient.verdict.figures import describe_error

RANDOM = np.random.default_rng(0)
X, W = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(3, 3))
DYS = [RANDOM.normal(size=(4, 3)) for _ in range(3)] + [np.ones((4, 3))]
NAMES = ("x", "w")


def pull(x, dys):
    """The truth of x @ w, for the leaves x and w."""
    return [dys[0] @ x[1].T, x[0].T @ dys[0]]


def evidence(leaf, wrong):
    """`wrong(dy, truth) -> manual` for one leaf of x @ w; the other is right."""
    draws = []
    named = [*((f"random {i}", dy) for i, dy in enumerate(DYS)), ("zero", 0 * DYS[0])]
    for name, dy in [*named, ("large", 2.0**40 * DYS[0])]:
        truth = pull((X, W), [dy])
        manual = list(truth)
        manual[leaf] = np.asarray(wrong(dy, truth[leaf]))
        draws.append(Draw(name, [dy], manual, truth))
    return Evidence(leaf, NAMES, (X, W), [X @ W], tuple(draws), pull)


def changed(d, index, factor):
    d = d.copy()
    d[index] *= factor
    return d


def only(dy, rows):
    return np.where(np.isin(np.arange(len(dy)), rows)[:, None], dy, 0)


MISTAKES = {
    "zeros": (1, lambda dy, t: 0 * t, "zeros: no gradient"),
    "sign": (1, lambda dy, t: -t, "the sign is wrong (x -1)"),
    "scale": (1, lambda dy, t: 1.001 * t, "a constant factor (x 1.001)"),
    "sum for mean": (
        1,
        lambda dy, t: 4 * t,
        "sum for mean over axis 0 of the output or axis 0 of x, or a scale of 1/4 left out (x 4)",
    ),
    "mean for sum": (1, lambda dy, t: t / 4, "or axis 0 of x, or a factor 4 left out (x 0.25 ="),
    "negative mean": (1, lambda dy, t: -t / 4, "(x -0.25 = -1/4), and the sign is wrong"),
    "twice": (1, lambda dy, t: 2 * t, "counted twice, or a scale of 1/2 left out (x 2)"),
    "root": (1, lambda dy, t: 3**0.5 * t, "scaled by the square root of axis 1 of the output"),
    "the other length": (1, lambda dy, t: 0.75 * t, "in place of"),
    "transposed": (1, lambda dy, t: t.T, "transposed"),
    "absolute value": (1, lambda dy, t: np.abs(t), "the absolute value of the truth"),
    "clipped": (1, lambda dy, t: np.clip(t, -0.5, 0.5), "clipped at 0.5"),
    "clipped norm": (
        1,
        lambda dy, t: t * min(1, 0.1 / (np.linalg.norm(t) + 1e-300)),
        "clipped at the norm 0.1",
    ),
    "clipped dy": (1, lambda dy, t: X.T @ np.clip(dy, -0.5, 0.5), "clips the cotangent at 0.5"),
    "added": (1, lambda dy, t: t + 1e-4, "adds 0.0001 to every element"),
    "an array added": (1, lambda dy, t: t + W, "adds an array, whatever the cotangent"),
    "one entry": (1, lambda dy, t: changed(t, (1, 2), 1.05), "1 of 9 elements differs, at [1, 2]"),
    "one row": (0, lambda dy, t: changed(t, 3, 0.5), "only index 3 of axis 0 is wrong (there"),
    "rows shifted": (0, lambda dy, t: np.roll(t, 1, 0), "off by one along axis 0"),
    "reordered": (0, lambda dy, t: t.reshape(-1)[::-1].reshape(t.shape), "in another order"),
    "dy not multiplied": (1, lambda dy, t: X.T @ np.ones_like(dy), "not multiplied by the inc"),
    "dy squared": (1, lambda dy, t: X.T @ dy**2, "multiplied by the incoming cotangent twice"),
    "first row": (1, lambda dy, t: X.T @ only(dy, [0]), "only the first index of axis 0"),
    "last row left out": (
        1,
        lambda dy, t: X.T @ only(dy, [0, 1, 2]),
        "the last index of axis 0 of dy is left out",
    ),
    "w as it is": (0, lambda dy, t: dy @ W, "takes w transposed, or does not transpose it"),
    "without x": (1, lambda dy, t: np.ones_like(X).T @ dy, "not multiplied by x"),
    "x squared": (1, lambda dy, t: (X**2).T @ dy, "x enters twice (squared)"),
    "rounded": (
        1,
        lambda dy, t: np.asarray(t, jnp.bfloat16).astype(float),
        "rounded to bfloat16",
    ),
    "mean of dy": (
        0,
        lambda dy, t: np.broadcast_to(dy.mean(0, keepdims=True), dy.shape) @ W.T,
        "takes dy for its mean over axis 0",
    ),
    "identity path": (0, lambda dy, t: t - dy, "by -1 x dy: the identity path is missing"),
    "not finite": (
        0,
        lambda dy, t: changed(t, (2, 1), np.nan),
        "not finite at 1 of 12 elements, the first at [2, 1], where x is",
    ),
    "normalised": (
        1,
        lambda dy, t: X.T @ (dy / (np.linalg.norm(dy) + 1e-300)),
        "normalises the cotangent",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_mistake_is_named(mistake):
    leaf, wrong, expected = MISTAKES[mistake]
    assert expected in diagnose(evidence(leaf, wrong))


def test_swapped_arguments_are_named():
    a, b = RANDOM.normal(size=(2, 3, 3))
    draws = []
    for i, dy in enumerate(RANDOM.normal(size=(3, 3, 3))):
        truth = [dy @ b.T, a.T @ dy]
        draws.append(Draw(f"random {i}", [dy], truth[::-1], truth))
    found = diagnose(Evidence(0, ("a", "b"), (a, b), [a @ b], tuple(draws)))
    assert found == "the cotangents of a and b are swapped (equals the truth of b)"


# In a rule, where the reference can be run with a mistake in one of its operations.

SHORT, MASK = RANDOM.normal(size=(3, 4)), RANDOM.random((3, 4)) < 0.6
OTHER = RANDOM.normal(size=(4, 2))


def softmax(x):
    e = jnp.exp(x)
    return e / e.sum(1, keepdims=True)


def softmax_backward(c):
    def backward(args, dy):
        y = softmax(args[0])
        return (y * (dy - c * (y * dy).sum(1, keepdims=True)),)

    return backward


def layer_norm(x):
    c = x - x.mean(1, keepdims=True)
    return c / jnp.sqrt((c * c).mean(1, keepdims=True) + 1e-5)


def layer_norm_backward(one, mean, norm):
    """The three terms, each times a factor."""

    def backward(args, dy):
        (x,) = args
        y = layer_norm(x)
        r = jax.lax.rsqrt(x.var(1, keepdims=True) + 1e-5)
        terms = one * dy - mean * dy.mean(1, keepdims=True)
        return (r * (terms - norm * y * (dy * y).mean(1, keepdims=True)),)

    return backward


def of_tanh(d):
    """The gradient of tanh(x @ w), with another derivative d(z) of tanh."""

    def backward(args, dy):
        x, w = args
        dz = dy * d(x @ w)
        return dz @ w.T, x.T @ dz

    return backward


def huber(x):
    return jnp.where(jnp.abs(x) < 1, x * x / 2, jnp.abs(x) - 0.5)


def a_and_b(x):
    return {"a": jnp.sin(x), "b": jnp.exp(x)}


# The reference, its wrong backward pass from all arguments, those, and what must be said.
IN_RULES = {
    "temperature 2": (
        lambda x: softmax(x / 2),
        lambda args, dy: softmax_backward(1)((args[0] / 2,), dy),
        (SHORT,),
        r"not divided by 2 in div \(.*\), counted twice, or a scale of 1/2 left out \(x 2\)",
    ),
    "temperature 0.5": (
        lambda x: softmax(x / 0.5),
        lambda args, dy: softmax_backward(1)((2 * args[0],), dy),
        (SHORT,),
        r"not divided by 0\.5 in div \(.*\), or a factor 2 left out \(x 0\.5\)",
    ),
    "an argument that scales": (
        lambda x, s: jnp.sin(x * s),
        lambda args, dy: (
            dy * jnp.cos(args[0] * args[1]),
            (dy * args[0] * jnp.cos(args[0] * args[1])).sum(),
        ),
        (SHORT, np.array(0.7)),
        r"not multiplied by s, or another constant factor \(x 1\.42857\)",
    ),
    "one part in a million": (
        jnp.tanh,
        lambda args, dy: ((1 + 1e-6) * dy * (1 - jnp.tanh(args[0]) ** 2),),
        (SHORT,),
        r"a constant factor \(x 1\.000001\)",
    ),
    "softmax: sum missing": (
        softmax, softmax_backward(0), (SHORT,), r"the path through sum \(.*\) is missing; .*y sum",
    ),
    "softmax: sum doubled": (
        softmax, softmax_backward(2), (SHORT,), r"the path through sum \(.*\): counted twice.* 2\)",
    ),
    "softmax: sum with another sign": (
        softmax, softmax_backward(-1), (SHORT,), r"the path through sum \(.*\): the sign is wrong",
    ),
    "softmax: sum over the wrong axis": (
        softmax,
        lambda args, dy: ((y := softmax(args[0])) * (dy - (y * dy).sum(0, keepdims=True)),),
        (SHORT,),
        "the sum in .* runs over axis 0 instead of axis 1",
    ),
    "layer norm: mean missing": (
        layer_norm, layer_norm_backward(1, 0, 1), (SHORT,), r"through sum .*missing; .*constant",
    ),
    "layer norm: norm times 1.2": (
        layer_norm,
        layer_norm_backward(1, 1, 1.2),
        (SHORT,),
        r"through sum \(.*\): a constant factor \(x 1\.2\); .* multiple of the output",
    ),
    "layer norm: first term doubled": (
        layer_norm, layer_norm_backward(2, 1, 1), (SHORT,), "axis 1 the error is a multiple of dy",
    ),
    "one of two outputs doubled": (
        a_and_b,
        lambda args, dy: (dy["a"] * jnp.cos(args[0]) + 2 * dy["b"] * jnp.exp(args[0]),),
        (SHORT,),
        "the part through .*: counted twice, or a scale of 1/2 left out",
    ),
    "one of two uses forgotten": (
        lambda x: x @ x.T,
        lambda args, dy: (dy @ args[0],),
        (SHORT,),
        "the path through operand 1 of matmul .* is missing",
    ),
    "one factor of a product constant": (
        lambda x: jnp.sin(x) * jnp.exp(x),
        lambda args, dy: (dy * jnp.cos(args[0]) * jnp.exp(args[0]),),
        (SHORT,),
        "the path through exp .* is missing",
    ),
    "derivative dropped": (
        lambda x, w: jnp.tanh(x @ w),
        of_tanh(jnp.ones_like),
        (SHORT, OTHER),
        r"the derivative of tanh \(.*\) is not applied",
    ),
    "derivative at the output": (
        lambda x, w: jnp.tanh(x @ w),
        of_tanh(lambda z: 1 - jnp.tanh(jnp.tanh(z)) ** 2),
        (SHORT, OTHER),
        "takes the output for the result of matmul .* in the derivative of tanh",
    ),
    "mask forgotten in what is kept": (
        lambda w: jnp.where(MASK, SHORT, 0) @ jnp.exp(w),
        lambda args, dy: (SHORT.T @ dy * jnp.exp(args[0]),),
        (OTHER,),
        r"the derivative is that of the function without where \(",
    ),
    "mask forgotten before a softmax": (
        lambda x: softmax(jnp.where(MASK, x, -1e9)),
        softmax_backward(1),
        (SHORT,),
        r"the derivative is that of the function without where \(",
    ),
    "mask of rows forgotten": (
        lambda x, w: jnp.where(MASK[:, 0], x @ w[:, 0], 0),
        lambda args, dy: (
            jnp.where(MASK[:, :1], dy[:, None] * args[1].T[:1], 0),
            jnp.stack([args[0].T @ dy, jnp.zeros(4)], 1),
        ),
        (SHORT, OTHER),
        r"the mask of where \(.*\) is not applied",
    ),
    "one branch everywhere": (
        huber,
        lambda args, dy: (dy * args[0],),
        (3 * SHORT,),
        r"the derivative of one branch of where \(.*\) is taken everywhere",
    ),
    "branches exchanged": (
        huber,
        lambda args, dy: (dy * jnp.where(jnp.abs(args[0]) > 1, args[0], jnp.sign(args[0])),),
        (3 * SHORT,),
        r"the branches of where \(.*\) are exchanged",
    ),
    "labels off by one": (
        lambda x: -jnp.log(softmax(x))[jnp.arange(3), jnp.array([0, 2, 1])],
        lambda args, dy: (
            (softmax(args[0]) - jnp.eye(4)[jnp.array([1, 3, 2])]) * dy[:, None],
        ),
        (SHORT,),
        r"the indices of gather \(.*\) are off by one",
    ),
    "derivative rounded": (
        jnp.exp,
        lambda args, dy: (dy * jnp.exp(args[0]).astype(jnp.bfloat16).astype(dy.dtype),),
        (SHORT,),
        "the derivative is rounded to bfloat16",
    ),
    "result rounded": (
        jnp.exp,
        lambda args, dy: ((dy * jnp.exp(args[0])).astype(jnp.float16).astype(dy.dtype),),
        (SHORT,),
        "^rounded to float16",
    ),
    "one number": (
        lambda x: x**3,
        lambda args, dy: (3 * args[0] * dy,),
        (np.array(1.5),),
        r"not multiplied by x, or another .* \(x 0\.666667\); at one number alone other mistakes",
    ),
    "some rows of the cotangent": (
        lambda w: SHORT @ w,
        lambda args, dy: (SHORT.T @ jnp.concatenate([dy[:1], SHORT[1:, :2] * dy[1:]]),),
        (OTHER,),
        "wrong only through indices 1, 2 of axis 0 of the cotangent of the output",
    ),
}  # fmt: skip


def rule_of(reference, backward):
    rule = Rule(reference, "f")
    rule.defvjp(lambda *args: (reference(*args), args), backward)
    return rule


# Their like is named above; the reference is long to compile.
LONG = {
    "temperature 0.5",
    "softmax: sum doubled",
    "softmax: sum with another sign",
    "layer norm: norm times 1.2",
    "layer norm: first term doubled",
    "mask forgotten before a softmax",
    "mask of rows forgotten",
    "one factor of a product constant",
}


def with_marks(mistake):
    return pytest.param(mistake, marks=[pytest.mark.slow] if mistake in LONG else [])


def test_the_long_ones_are_there():
    assert set(IN_RULES) >= LONG


@pytest.mark.parametrize("mistake", [with_marks(mistake) for mistake in IN_RULES])
def test_the_mistake_in_a_rule_is_named(mistake):
    reference, backward, args, expected = IN_RULES[mistake]
    situation = Situation.of_rule(rule_of(reference, backward), Case("one", args))
    found = [
        diagnose_failure(situation, situation.result("truth", leaf, "fail"))
        for leaf in situation.leaves
    ]
    assert any(re.search(expected, text) for text in found), found


def test_outputs_have_their_names_in_the_tree():
    named = dataclasses.replace(evidence(1, lambda dy, t: 4 * t), outputs=("y['loss']",))
    assert "sum for mean over axis 0 of y['loss'] or" in diagnose(named)
    x, (a, b) = SHORT, RANDOM.normal(size=(2, 4, 3, 4))
    draws = [
        Draw(f"random {i}", [p, q], [2 * p + 0 * q], [2 * p + x * q])
        for i, (p, q) in enumerate(zip(a, b, strict=True))
    ]

    def pull(x, dys):
        return [2 * dys[0] + x[0] * dys[1]]

    e = Evidence(0, ("x",), (x,), [2 * x, x * x / 2], tuple(draws), pull)
    assert diagnose(e) == "the cotangent of output 1 is ignored"
    e = dataclasses.replace(e, outputs=("y['loss']", "y['aux']"))
    assert diagnose(e) == "the cotangent of y['aux'] is ignored"


def test_a_mask_is_missed_where_the_output_does_not_depend_on_the_argument():
    """Of w in (x masked) @ w every element is wrong, and none has a truth of 0."""
    masked = np.where(MASK, SHORT, 0)

    def drawn(name, dy):
        return Draw(name, [dy], [SHORT.T @ dy], [masked.T @ dy])

    draws = tuple(drawn(f"random {i}", dy) for i, dy in enumerate(RANDOM.normal(size=(3, 3, 2))))
    singles = tuple(drawn("single", dy) for dy in np.eye(6).reshape(6, 3, 2))
    e = Evidence(0, ("w",), (OTHER,), [masked @ OTHER], draws, singles=singles)
    assert "not zero where the output does not depend on it (a mask" in diagnose(e)


def test_ones_say_something_only_where_their_gradient_is_not_zero():
    """The columns of dy that are added are those of another axis; or everything cancels."""
    x = RANDOM.normal(size=(4, 4))
    for centred, expected in ((0, "right for a cotangent of ones, wrong for others"), (1, "")):
        draws = []
        for name, dy in [("random 0", RANDOM.normal(size=4)), ("ones", np.ones(4))]:
            dy = dy - centred * dy.mean()
            draws.append(Draw(name, [dy], [np.sin(x) * dy[:, None]], [np.sin(x) * dy]))
        found = diagnose(Evidence(0, ("x",), (x,), [-np.cos(x).sum(0)], tuple(draws)))
        assert found == expected


def test_a_program_that_cannot_be_taken_apart_costs_no_diagnosis():
    def made():
        return None

    wrong = dataclasses.replace(evidence(1, lambda dy, t: np.triu(t)), local=made)
    assert diagnose(wrong) == ""


# What is right, or cannot be explained, gets no name.


@pytest.mark.parametrize("leaf", [0, 1])
def test_the_right_gradient_gets_no_diagnosis(leaf):
    assert diagnose(evidence(leaf, lambda dy, t: t)) == ""
    # Nor does the rounding of another order of summation.
    assert diagnose(evidence(leaf, lambda dy, t: t * (1 + 1e-16) + 1e-17 * dy.sum())) == ""


@pytest.mark.parametrize("shape", [(3,), (2, 2), (4, 4), (3, 5), (1, 6)])
def test_noise_gets_no_diagnosis(shape):
    random = np.random.default_rng(1)
    x = random.normal(size=shape)
    draws = []
    for i in range(4):
        dy, error = random.normal(size=(2, *shape))
        draws.append(Draw(f"random {i}", [dy], [x * dy + 0.01 * error], [x * dy]))
    found = diagnose(Evidence(0, ("x",), (x,), [x * x / 2], tuple(draws)))
    assert found == ""


def test_an_error_that_changes_with_the_draw_is_no_constant_factor():
    found = diagnose(evidence(1, lambda dy, t: t * (1 + abs(dy[0, 0]))))
    assert "factor" not in found


def test_a_truth_that_is_not_finite_explains_nothing():
    draw = Draw("random 0", [X], [X], [changed(X, (0, 0), np.inf)])
    assert diagnose(Evidence(0, ("x",), (X,), [X], (draw,))) == ""


def test_no_elements_have_no_mistake():
    x = np.zeros((0, 3))
    assert diagnose(Evidence(0, ("x",), (x,), [x], (Draw("random 0", [x], [x], [x]),))) == ""


@pytest.mark.parametrize(
    ("c", "lengths", "text"),
    [
        (8.0, [(8, "axis 0 of x")], "sum for mean over axis 0 of x, or a scale of 1/8 left"),
        (0.5, [(2, "axis 1 of x")], "mean for sum over axis 1 of x, or a factor 2 left out"),
        (2.0, [], "counted twice, or a scale of 1/2 left out (x 2)"),
        (2.0, [(2, "axis 0 of x")], "sum for mean over axis 0 of x, counted twice, or a scale"),
        (4.0, [(4, f"axis {i}") for i in range(5)], "sum for mean over axis 0 or axis 1 or axis 2"),
        (1.000001, [], "a constant factor (x 1.000001)"),
        (0.999999, [(1, "axis 0 of x")], "a constant factor (x 0.999999)"),
        (-1.000001, [], "a constant factor (x -1.000001)"),
        (2.0000001, [], "a constant factor (x 2.0000001)"),
        (1.5, [(6, "axis 1 of x"), (4, "axis 0 of x")], "a mean over axis 0 of x in place of"),
        (7.3, [(8, "axis 0 of x")], "a constant factor (x 7.3)"),
        (1.0001, [(1, "axis 0 of x")], "a constant factor (x 1.0001)"),
    ],
)  # fmt: skip
def test_factors_have_readable_names(c, lengths, text):
    assert name_of_factor(c, lengths).startswith(text)


@pytest.mark.parametrize(
    ("manual", "truth", "text"),
    [
        (0.4199743, 0.4199739, "manual 0.4199743, automatic 0.4199739, truth 0.4199739"),
        (1 + 1e-6, 1.0, "manual 1.000001, automatic 1, truth 1"),
        (2.0, 1.0, "manual = 2 x truth; worst at [0]: manual 2, automatic 1, truth 1"),
        (-1.0, 1.0, "manual = -1 x truth"),
        (1 / 3, 2 / 3, "manual = 0.5 x truth; worst at [0]: manual 0.333333, automatic 0.666667"),
        (1 + 2.0**-52, 1.0, "manual 1.0000000000000002, automatic 1, truth 1"),
        (np.inf, 1.0, "manual inf"),
    ],
)  # fmt: skip
def test_figures_are_shown_to_the_digit_in_which_they_differ(manual, truth, text):
    assert text in describe_error(np.array([manual]), np.array([truth]), np.array([truth]))


def test_an_error_of_one_element_is_no_factor():
    truth = np.ones(4)
    assert "x truth" not in describe_error(truth + 1e-6 * np.eye(4)[0], None, truth)
    assert "1.000001 x truth" in describe_error(truth * 1.000001, None, truth)


# From a failed check


def situation_of(rule):
    return Situation.of_rule(rule, rule.cases()[0])


def test_the_forward_pass_is_diagnosed():
    linear = OPERATIONS["linear"]

    def forward(x, w, b):
        y, res = linear.forward(x, w, b)
        return 3 * y, res

    situation = situation_of(linear.rule(forward=forward))
    failure = situation.result("primal", "output", "fail")
    assert re.fullmatch(r".*\(x 3\)", diagnose_failure(situation, failure))


def test_the_dot_test_names_the_leaf():
    situation = situation_of(OPERATIONS["linear"].spoiled(2, lambda d: -3 * d))
    with jax.enable_x64(True):
        failure = situation.result("dot", "", "fail")
    assert "b: " in diagnose_failure(situation, failure)
    assert "x -3" in diagnose_failure(situation, failure)


def test_a_low_precision_inside_is_named():
    def low(d):
        return jnp.asarray(d, jnp.bfloat16).astype(d.dtype) if d.dtype == jnp.float32 else d

    situation = situation_of(OPERATIONS["matmul"].spoiled(0, low))
    failure = situation.result("rounding", "a", "fail", dtype="float32")
    assert diagnose_failure(situation, failure) == "rounded to bfloat16"
    # In float64 the rule is right, and so is its other argument in float32.
    assert diagnose_failure(situation, situation.result("truth", "a", "fail")) == ""
    right = situation.result("rounding", "b", "fail", dtype="float32")
    assert diagnose_failure(situation, right) == ""


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "attention"])
def test_right_rules_get_no_diagnosis(name):
    situation = situation_of(OPERATIONS[name].rule())
    for leaf in situation.leaves:
        assert diagnose_failure(situation, situation.result("truth", leaf, "fail")) == ""


def test_what_is_not_about_a_leaf_has_no_diagnosis():
    situation = situation_of(OPERATIONS["relu"].rule())
    assert diagnose_failure(situation, situation.result("contract", "", "fail")) == ""
