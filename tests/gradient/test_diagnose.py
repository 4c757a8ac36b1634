"""A diagnosis names the mistake that was made, and says nothing where none explains the error."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue_operations import OPERATIONS

from funcnn.gradient.diagnose import diagnose, diagnose_failure
from funcnn.gradient.evidence import Draw, Evidence
from funcnn.gradient.mistakes import name_of_factor
from funcnn.gradient.situation import Situation

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
    "sum for mean": (1, lambda dy, t: 4 * t, "sum for mean over axis 0 of the output (x 4)"),
    "mean for sum": (1, lambda dy, t: t / 4, "mean for sum over axis 0 of the output (x 0.25"),
    "negative mean": (1, lambda dy, t: -t / 4, "(x -0.25 = 1/4), and the sign is wrong"),
    "twice": (1, lambda dy, t: 2 * t, "counted twice (x 2)"),
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
        (8.0, [(8, "axis 0 of x")], "sum for mean over axis 0 of x (x 8)"),
        (0.5, [(2, "axis 1 of x")], "a factor 2 is missing or mean for sum over axis 1"),
        (2.0, [], "counted twice (x 2)"),
        (1.5, [(6, "axis 1 of x"), (4, "axis 0 of x")], "a mean over axis 0 of x in place of"),
        (7.3, [(8, "axis 0 of x")], "a constant factor (x 7.3)"),
        (1.0001, [(1, "axis 0 of x")], "a constant factor (x 1.0001)"),
    ],
)  # fmt: skip
def test_factors_have_readable_names(c, lengths, text):
    assert name_of_factor(c, lengths).startswith(text)


# From a failed check


def situation_of(rule):
    return Situation.of_rule(rule, rule.cases()[0])


def test_the_forward_pass_is_diagnosed():
    linear = OPERATIONS["linear"]

    def forward(x, w, b):
        y, res = linear.forward(x, w, b)
        return 3 * y, res

    situation = situation_of(linear.rule(forward=forward))
    failure = situation.result("primal", "output 0", "fail")
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
