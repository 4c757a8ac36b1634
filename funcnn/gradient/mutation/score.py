"""Would a test have noticed? Mutants of a backward pass, and which of them the checks reject."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from funcnn.core.given import check_seed, described
from funcnn.core.registry import Case, Rule
from funcnn.gradient.case.bound_case import Situation
from funcnn.gradient.checks.algebra import dot, truth
from funcnn.gradient.checks.laws import declared_laws, homogeneity
from funcnn.gradient.checks.registered import Check
from funcnn.gradient.mutation.mutants import Mutant, Switch
from funcnn.gradient.mutation.mutated_rule import Specimen
from funcnn.gradient.mutation.operators import SCALED
from funcnn.report import Report, Section, counted, plain
from funcnn.report.sections import mutation_section

# Of the level "fast", those that look at what the backward pass computes: no mutant changes the
# value, or the shape or dtype of a cotangent.
CHECKS: tuple[Check, ...] = (truth, homogeneity, dot, declared_laws)
_LADDER = tuple(10.0**-k for k in range(9, 0, -1))
_SMALL = 1e-6  # a scale this small is small enough: no other case is tried for a smaller one
_EQUAL = 1e-12
_INPUTS = 3  # on which a mutant must be equal to be called equivalent


@dataclasses.dataclass(frozen=True)
class Fate:
    """What became of a mutant.

    Attributes:
        mutant: which.
        verdict: "killed", "survived" or "equivalent".
        note: the check and the case that noticed it, by how much it differs unnoticed, or on how
            many inputs it is equal.
    """

    mutant: Mutant
    verdict: str
    note: str

    def __str__(self) -> str:
        return f"{self.verdict} {self.mutant} ({self.note})"


@dataclasses.dataclass(frozen=True)
class MutationScore(Report):
    """How many mutants of a rule's backward pass the checks notice; `str()` is the report.

    Attributes:
        rule: its name.
        fates: one for each mutant.
        scales: for each equation that can be scaled, the smallest d of 1e-9, 1e-8, ..., 1e-1 at
            which x (1 + d) is noticed; infinite where none is.
        unreachable: the equations in branches for other platforms.

    >>> mutant = Mutant("times -1", "mul", "funcnn/rules/losses/elementwise.py:52")
    >>> print(MutationScore("loss", (Fate(mutant, "killed", "truth, case rows"),), {}, 0))
    loss: 1 of 1 mutant killed (100.0 %), 0 equivalent
    """

    rule: str
    fates: tuple[Fate, ...]
    scales: dict[Mutant, float]
    unreachable: int = 0

    def _with(self, verdict: str) -> tuple[Fate, ...]:
        return tuple(fate for fate in self.fates if fate.verdict == verdict)

    @property
    def killed(self) -> tuple[Fate, ...]:
        """The mutants that a check rejects."""
        return self._with("killed")

    @property
    def survived(self) -> tuple[Fate, ...]:
        """The mutants that differ, and that no check rejects."""
        return self._with("survived")

    @property
    def equivalent(self) -> tuple[Fate, ...]:
        """The mutants that compute the same, shown on three inputs or more."""
        return self._with("equivalent")

    @property
    def score(self) -> float:
        """Killed of those that are not equivalent; 0 where there are none, which proves nothing."""
        different = len(self.killed) + len(self.survived)
        return len(self.killed) / different if different else 0.0

    @property
    def smallest_scale(self) -> float:
        """The d at which x (1 + d) is noticed on every equation; infinite where one never is."""
        return max(self.scales.values(), default=math.inf)

    def rows(self) -> list[dict[str, Any]]:
        """One, of the kind "mutation".

        Its keys: rule, mutants, killed, survived and equivalent (how many), score, smallest_scale
        (None where it is infinite), survivors (their texts).
        """
        return [plain(_row(self))]

    def sections(self) -> Sequence[Section]:
        """Its numbers, and every survivor."""
        return [mutation_section([_row(self)])]

    def _details(self) -> Iterable[str]:
        return map(str, self.survived)

    def conclusion(self) -> str:
        """How many mutants are killed, and the smallest factor that is noticed."""
        different = len(self.killed) + len(self.survived)
        text = (
            f"{self.rule}: {len(self.killed)} of {counted(different, 'mutant')} killed "
            f"({100 * self.score:.1f} %), {len(self.equivalent)} equivalent"
        )
        if self.scales:
            text += f"; a factor of 1 + {self.smallest_scale:.0e} is noticed on every equation"
        if self.unreachable:
            verb = "is" if self.unreachable == 1 else "are"
            text += f"; {counted(self.unreachable, 'equation')} {verb} for other platforms"
        return text


@dataclasses.dataclass(frozen=True)
class MutationScores(Report):
    """The scores of several rules as one report, in one table.

    Attributes:
        scores: one for each rule.

    >>> print(MutationScores((MutationScore("loss", (), {}),)))
    loss: 0 of 0 mutants killed (0.0 %), 0 equivalent
    0 of 0 mutants of 1 rule killed (0.0 %).
    """

    scores: tuple[MutationScore, ...]

    def rows(self) -> list[dict[str, Any]]:
        """The row of each."""
        return [row for score in self.scores for row in score.rows()]

    def conclusion(self) -> str:
        """How many mutants of all rules are killed."""
        killed = sum(len(score.killed) for score in self.scores)
        different = killed + sum(len(score.survived) for score in self.scores)
        share = 100 * killed / different if different else 0.0
        mutants, rules = counted(different, "mutant"), counted(len(self.scores), "rule")
        return f"{killed:,} of {mutants} of {rules} killed ({share:.1f} %)."

    def sections(self) -> Sequence[Section]:
        """The numbers of each, and every survivor."""
        return [mutation_section([_row(score) for score in self.scores])]

    def _details(self) -> Iterable[str]:
        return map(str, self.scores)


def _row(score: MutationScore) -> dict[str, Any]:
    return {
        "kind": "mutation",
        "rule": score.rule,
        "mutants": len(score.fates),
        "killed": len(score.killed),
        "survived": len(score.survived),
        "equivalent": len(score.equivalent),
        "score": score.score,
        "smallest_scale": score.smallest_scale,
        "survivors": [str(fate) for fate in score.survived],
    }


def mutation_score(
    rule: Rule,
    *,
    cases: Iterable[Case] | None = None,
    checks: Sequence[Check] = CHECKS,
    seed: int = 0,
) -> MutationScore:
    """Change the backward pass of a rule, one equation at a time, and count who notices.

    The backward pass is traced in float64, and each equation is scaled by 1.001, negated, replaced
    by zero, moved by 0.001 and rounded to bfloat16; reductions keep their first slice or become
    means, transpositions are left out, masks are inverted, residuals and cotangents of one shape
    swapped. A mutant is killed when a check rejects it on a case on which it accepts the rule
    itself. It is equivalent when it computes the same, to 1e-12 of each leaf, on all cases and on
    three inputs at least, for which cases are moved at random if need be. All others have survived.

    Args:
        rule: any rule that passes its checks.
        cases: those on which the checks run, by default the rule's own.
        checks: functions from a Situation to Results; by default those of `check` at level "fast"
            that look at cotangents.
        seed: of the cases and the cotangents.

    Raises:
        TypeError: not a rule.
        ValueError: the rule itself fails a check, or has no case with a floating-point argument.

    >>> import funcnn as fnn
    >>> score = mutation_score(fnn.rules.squared_error, cases=fnn.rules.squared_error.cases()[:1])
    >>> score.score, score.smallest_scale <= 1e-6
    (1.0, True)
    """
    given = _cases(rule, cases, seed)
    with jax.enable_x64(True):
        specimens = _specimens(rule, given, seed)
        if not specimens:
            raise ValueError(f"{rule.name}: no case with a floating-point argument to mutate")
        fates = dict(_fates(specimens, checks))
        scales = {
            mutant: _smallest_scale(mutant, specimens, checks)
            for mutant, fate in fates.items()
            if mutant.change == f"times {SCALED}" and fate.verdict != "equivalent"
        }
    unreachable = max(len(s.mutants.unreachable) for s in specimens)
    return MutationScore(rule.name, tuple(fates.values()), scales, unreachable)


def _cases(rule: Rule, cases: Iterable[Case] | None, seed: int) -> list[Case]:
    if not isinstance(rule, Rule):
        wanted = "expected a Rule, as of @fnn.rule, whose backward pass is changed"
        raise TypeError(f"mutation_score: {wanted}; found {described(rule)}")
    check_seed("mutation_score", seed)
    if rule.underived:
        raise TypeError(f"mutation_score: {rule.name}: {rule.underived}")
    if cases is not None and not isinstance(cases, Iterable):
        raise TypeError(f"mutation_score: cases is a list of Case, found {described(cases)}")
    given = rule.cases(jax.random.key(seed)) if cases is None else list(cases)
    for case in given:
        if not isinstance(case, Case):
            raise TypeError(f"mutation_score: cases is a list of Case, found {described(case)}")
    if not given:
        lacking = f"no cases; add some with @{rule.local_name}.defcases, or give cases="
        raise ValueError(f"mutation_score: {rule.name}: {lacking}")
    return given


def _specimens(rule: Rule, cases: Iterable[Case], seed: int) -> list[Specimen]:
    situations = [Situation.of_rule(rule, case, seed) for case in cases]
    return [Specimen(s) for s in situations if s.leaves]


def _fates(specimens: list[Specimen], checks: Sequence[Check]) -> Iterator[tuple[Mutant, Fate]]:
    moved: dict[tuple[Specimen, int], Specimen] = {}

    def moved_once(specimen: Specimen, seed: int) -> Specimen:
        if (specimen, seed) not in moved:
            moved[specimen, seed] = specimen.moved(seed)
        return moved[specimen, seed]

    for mutant in dict.fromkeys(m for s in specimens for m in s.mutants.switches):
        there = [s for s in specimens if mutant in s.mutants.switches]
        yield mutant, _fate(mutant, there, checks, moved_once)


def _fate(
    mutant: Mutant,
    specimens: list[Specimen],
    checks: Sequence[Check],
    moved: Callable[[Specimen, int], Specimen],
) -> Fate:
    for specimen in specimens:
        if check := _noticed(specimen, specimen.mutants.switches[mutant], checks):
            return Fate(mutant, "killed", f"{check}, case {specimen.situation.case.name}")
    rounds = math.ceil(_INPUTS / len(specimens))
    inputs = [s if i == 0 else moved(s, i) for i in range(rounds) for s in specimens]
    off = max(d for s in inputs for d in s.differences(s.mutants.switches[mutant]))
    if off > _EQUAL:
        return Fate(mutant, "survived", f"differs by {off:.1e} on {counted(len(inputs), 'input')}")
    shapes = counted(len({s.shapes for s in inputs}), "shape")
    return Fate(mutant, "equivalent", f"equal on {counted(len(inputs), 'input')}, {shapes}")


def _noticed(specimen: Specimen, switch: Switch, checks: Sequence[Check]) -> str:
    """The check that rejects a mutant, or ""."""
    if all(off <= _EQUAL for off in specimen.differences(switch)):
        # The laws, whose tolerance this is, have nothing to notice here, and each run is compiled.
        checks = [run for run in checks if run is not declared_laws]
    return specimen.rejects(switch, checks)


def _smallest_scale(mutant: Mutant, specimens: list[Specimen], checks: Sequence[Check]) -> float:
    """The smallest d at which any case notices a factor of 1 + d on this equation."""
    best = math.inf
    for specimen in specimens:
        if best > _SMALL and mutant in specimen.mutants.switches:
            number = specimen.mutants.switches[mutant].number
            noticed = (d for d in _LADDER if _noticed(specimen, Switch(number, 1 + d), checks))
            best = min(best, next(noticed, math.inf))
    return best
