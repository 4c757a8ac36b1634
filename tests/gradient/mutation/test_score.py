"""The mutation score: of checkers that notice, of weak ones, of every registered rule."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules  # noqa: F401, registers them
from funcnn.core.registry import Case, Rule, registered_rules
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.case.pullbacks import cotangents_of
from funcnn.gradient.checks.algebra import truth
from funcnn.gradient.mutation.check import mutation
from funcnn.gradient.mutation.mutants import Mutant
from funcnn.gradient.mutation.operators import SCALED
from funcnn.gradient.mutation.score import Fate, MutationScore, mutation_score

RANDOM = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def scaled_rows(x, w):
    return x * w[:, None]


def make(backward, cases=None):
    rule = Rule(scaled_rows, "scaled_rows")
    rule.defvjp(lambda x, w: (scaled_rows(x, w), (x, w)), backward)
    shapes = [(4, 3), (2, 5), (3, 3)] if cases is None else cases
    rule.defcases(lambda key: iter([Case(str(s), (draw(*s), draw(s[0]))) for s in shapes]))
    return rule


def right(res, dy):
    x, w = res
    return dy * w[:, None], jnp.sum(dy * x, 1)


def notes(fates):
    return [str(fate) for fate in fates]


def test_every_mutant_of_a_right_rule_is_killed():
    score = mutation_score(make(right))
    assert score.score == 1.0, str(score)
    assert len(score.killed) > 20
    assert score.smallest_scale <= 1e-8
    assert len(score.scales) == 4  # broadcast, two products, one sum
    assert str(score).startswith(f"scaled_rows: {len(score.killed)} of {len(score.killed)} mutants")
    killed = {fate.mutant.change for fate in score.killed}
    assert killed >= {"times -1", "zero", "in bfloat16", "mean for sum", "first slice only"}


def test_a_dead_equation_and_one_without_influence_are_equivalent():
    def wasteful(res, dy):
        x, w = res
        shift = jnp.sum(x)
        return dy * w[:, None], jnp.sum(dy * ((x + shift) - shift), 1)

    score = mutation_score(make(wasteful))
    assert score.score == 1.0
    # The sum is added and taken away again: only its own equation has no influence.
    assert {f.mutant.change for f in score.equivalent if f.mutant.primitive == "reduce_sum"} >= {
        f"times {SCALED}",
        "times -1",
        "zero",
    }
    assert {f.mutant.primitive for f in score.equivalent} == {"reduce_sum"}
    assert all("equal on 3 inputs, 3 shapes" in f.note for f in score.equivalent)


@pytest.mark.slow
def test_one_case_is_moved_until_there_are_three_inputs():
    def guarded(res, dy):
        x, w = res
        return dy * w[:, None], jnp.sum(dy * jnp.where(x > 1e9, 0, x), 1)

    score = mutation_score(make(guarded, cases=[(4, 3)]))
    (fate,) = (f for f in score.equivalent if f.mutant.change == "false")
    assert fate.note == "equal on 3 inputs, 1 shape"


@pytest.mark.slow
def test_what_is_equal_on_one_case_by_accident_is_not_equivalent():
    ones = Case("ones", (draw(4, 3), jnp.ones(4)))
    score = mutation_score(make(right), cases=[ones])
    # With w = 1 nothing notices that x is kept in bfloat16 where w should be, or that w is.
    found = {(f.mutant.primitive, f.mutant.change) for f in score.survived}
    assert found == {("broadcast_in_dim", "in bfloat16")}
    assert not score.equivalent


# Weak checkers


def with_tolerance(tolerance):
    def loose(situation):
        subject = situation.subject("float64")
        dys = cotangents_of(subject, situation.seed)[0][1]
        found, expected = (
            pull(subject.x, dys)[1] for pull in (subject.pull_manual, subject.pull_automatic)
        )
        for leaf, a, b in zip(subject.leaves, found, expected, strict=True):
            close = np.allclose(a, b, rtol=tolerance, atol=tolerance)
            yield situation.result("loose", leaf, "pass" if close else "fail")

    return loose


def test_a_tolerance_of_a_hundredth_lets_mutants_survive():
    score = mutation_score(make(right), checks=[with_tolerance(1e-2)])
    assert score.score < 0.8
    assert {f.mutant.change for f in score.survived} >= {f"times {SCALED}", "plus 0.001"}
    assert 1e-3 < score.smallest_scale <= 1e-1
    assert all("differs by" in f.note for f in score.survived)
    assert str(score.survived[0]) in str(score)
    # The mistakes that are large are noticed all the same.
    assert {f.mutant.change for f in score.killed} >= {"times -1", "zero"}


@pytest.mark.slow
def test_a_check_that_only_sees_the_first_argument():
    def half_blind(situation):
        yield from (r for r in truth(situation) if r.leaf == "x")

    score = mutation_score(make(right, cases=[(4, 3)]), checks=[half_blind])
    assert {f.mutant.primitive for f in score.survived} >= {"mul", "reduce_sum"}
    assert {f.mutant.primitive for f in score.killed} >= {"mul", "broadcast_in_dim"}
    assert score.smallest_scale == np.inf


def test_a_check_that_notices_nothing():
    score = mutation_score(make(right, cases=[(4, 3)]), checks=[])
    assert (score.killed, score.score) == ((), 0.0)
    assert set(score.scales.values()) == {np.inf}


def test_a_checker_that_rejects_the_rule_itself_proves_nothing():
    def wrong(res, dy):
        dx, dw = right(res, dy)
        return dx, 2 * dw

    with pytest.raises(ValueError, match="the rule itself fails the check truth on case"):
        mutation_score(make(wrong))


def test_nothing_to_mutate():
    with pytest.raises(ValueError, match=r"no cases; add some with @\w+\.defcases, or give cases="):
        mutation_score(make(right, cases=[]))
    empty = mutation_score(make(right, cases=[(0, 3)]))
    assert (empty.fates, empty.score, empty.smallest_scale) == ((), 0.0, np.inf)


def test_only_rules_are_mutated():
    wanted = r"mutation_score: expected a Rule, as of @fnn\.rule, whose backward pass is changed; "
    with pytest.raises(TypeError, match=wanted + "found int 3"):
        mutation_score(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=wanted + "found the function tanh"):
        mutation_score(jnp.tanh)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"bare: no derivative yet: call bare\.defvjp\(forward, "):
        mutation_score(Rule(jnp.tanh, "bare"))


def test_a_check_in_another_precision_is_refused():
    def low(situation):
        situation.subject("float32")
        yield situation.result("low", "", "pass")

    with pytest.raises(ValueError, match="mutants run in float64 alone"):
        mutation_score(make(right), checks=[low])


def test_a_surrogate_is_held_against_its_reference():
    def clipped(x):
        return x

    rule = Rule(clipped, "clipped")
    rule.defvjp(lambda x: (x, x), lambda x, dy: (jnp.where(jnp.abs(x) < 1, dy, 0),))
    surrogate = {"reference": lambda x: jnp.clip(x, -1, 1), "intent": "surrogate"}
    shapes = [(3,), (5,), (2, 4)]
    rule.defcases(lambda key: iter([Case(str(s), (2 * draw(*s),), **surrogate) for s in shapes]))
    score = mutation_score(rule)
    assert score.killed
    assert not score.survived


# As a check


def test_the_check_scores_once_a_rule():
    rule = make(right)
    cases = rule.cases()
    found = [r for case in cases for r in mutation(Situation.of_rule(rule, case))]
    assert [r.verdict for r in found] == ["pass", "skip", "skip"]
    assert found[0].note.startswith("scaled_rows: ")
    assert found[1].note == "scored once a rule, at case '(4, 3)'"


def test_the_check_fails_where_mutants_survive():
    ones = Case("ones", (draw(1, 1), jnp.ones(1)))
    (found,) = mutation(Situation.of_rule(make(right, cases=[]), ones))
    assert found.verdict == "fail"
    assert "survived test_score.py:" in found.note


@pytest.mark.parametrize(
    ("noticed", "verdict"), [(1e-6, "pass"), (1e-5, "fail"), (math.inf, "fail")]
)
def test_the_check_fails_where_a_small_factor_is_not_noticed(monkeypatch, noticed, verdict):
    mutant = Mutant("times 1.001", "mul", "elementwise.py:52")
    score = MutationScore("right", (Fate(mutant, "killed", ""),), {mutant: noticed})
    monkeypatch.setattr("funcnn.gradient.mutation.check.mutation_score", lambda *_, **__: score)
    case = Case("one", (draw(2, 3), draw(2)))
    (found,) = mutation(Situation.of_rule(make(right, cases=[]), case))
    assert found.verdict == verdict


def test_the_check_skips_functions_and_says_where_nothing_was_compared():
    (skipped,) = mutation(Situation.of_function(jnp.sin, Case("one", (draw(3),)), "sin"))
    assert skipped.verdict == "skip"
    (empty,) = mutation(
        Situation.of_rule(make(right, cases=[]), Case("none", (draw(0, 2), draw(0))))
    )
    assert empty.verdict == "inconclusive"


# The rules: how many mutants were killed, survived and were equivalent, with jax 0.10 on a CPU.

SCORES = {
    "relu": (9, 0, 8),
    "leaky_relu": (10, 0, 0),
    "elu": (36, 0, 13),
    "softplus": (20, 0, 0),
    "sigmoid": (32, 0, 3),
    "tanh": (37, 0, 3),
    "conv": (1143, 0, 48),
    "conv_transposed": (283, 0, 12),
    "dropout": (17, 0, 8),
    "silu": (49, 0, 6),
    "gelu": (174, 0, 6),
    "global_max_pool": (30, 0, 8),
    "global_average_pool": (15, 0, 0),
    "linear": (31, 0, 0),
    "embedding": (15, 0, 4),
    "linear_cross_entropy": (42, 0, 0),
    "softmax": (77, 0, 53),
    "log_softmax": (134, 0, 48),
    "squared_error": (16, 0, 0),
    "logistic": (122, 0, 18),
    "softmax_cross_entropy": (113, 0, 32),
    "max_pool": (222, 0, 110),
    "average_pool": (140, 0, 35),
    "rnn": (230, 0, 48),
    "lstm": (544, 0, 100),
    "gru": (441, 0, 93),
    "layer_norm": (137, 0, 6),
    "rms_norm": (86, 0, 0),
    "group_norm": (152, 0, 5),
    # In float64 the correction of the mean is a rounding error, and its sign is one.
    "instance_norm": (152, 2, 3),
    "batch_norm": (159, 0, 4),
    "batch_norm_evaluation": (103, 0, 0),
    "rotary": (96, 0, 3),
    "swiglu": (77, 0, 17),
    "geglu": (237, 0, 17),
    "attention": (467, 0, 133),
}
# Of these one case is scored: the programs of all of them take hours. In one block (325, 0, 171).
ONE_CASE = {"attention": "blocks"}


def assert_score(name):
    rule = registered_rules()[name]
    cases = [c for c in rule.cases() if c.name == ONE_CASE.get(name, c.name)]
    score = mutation_score(rule, cases=cases)
    assert isinstance(score, MutationScore)
    assert score.smallest_scale <= 1e-6, str(score)
    killed, survived, equivalent = SCORES[name]
    # Another XLA writes and rounds otherwise: some mutants more or fewer, and none that survives.
    assert len(score.killed) >= 0.9 * killed
    assert len(score.survived) <= survived
    assert len(score.equivalent) <= 1.1 * equivalent + 3
    assert score.score >= 0.98


# relu has mutants whose gradient is infinite.
QUICK = ("relu",)


def test_every_registered_rule_has_its_score():
    ours = {n for n, r in registered_rules().items() if r.__module__.startswith("funcnn.rules")}
    assert set(SCORES) == ours


@pytest.mark.parametrize("name", QUICK)
def test_score(name):
    assert_score(name)


def tier(name):
    """Half an hour of compiling, for rules of many mutants, is no part of CI."""
    return pytest.mark.battery if sum(SCORES[name]) > 50 else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=tier(n)) for n in SCORES if n not in QUICK])
def test_score_of_every_rule(name):
    assert_score(name)
