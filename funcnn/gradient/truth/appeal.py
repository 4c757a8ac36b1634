"""An automatic truth that a gradient contradicts is questioned before the gradient is called wrong.

One policy for `check`, `compare` and `census`, element by element and in float64:

- where it is NaN, secants of the function stand in for it;
- at a kink any slope between those of the two sides is right;
- where the two sides agree there is no kink, whatever the reference says at the point itself;
- an element that the rounding of the reference's own arithmetic explains proves nothing;
- a loop that stops at a tolerance is known as far as some more iterations leave it;
- where the differences of the function are sure, they decide;
- what is still open, and small, is decided by differences in many digits.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from funcnn.gradient.case.pullbacks import Subject
from funcnn.gradient.program.float64 import NoTruth
from funcnn.gradient.truth.contested import TINY, Contested
from funcnn.gradient.truth.kinks import at_kinks
from funcnn.gradient.truth.many_digits import MET, in_many_digits
from funcnn.gradient.truth.oracle import KINKED, Slope, sure_slopes
from funcnn.gradient.verdict.judge import UNCERTAIN, relative_error
from funcnn.types import ArrayLike, Verdict

_SECANTS = 64  # elements without an automatic derivative that are looked at, one by one
_SECANT = 1e-6  # relative
GROWN = 4.0  # errors that are COARSE times larger do so many times more, at least
NOISE = 16.0  # of what rounding was seen to do
SOLVED = 1e-4  # relative: what a loop that stops at a tolerance may leave open
_SOLVER = 1e-6  # relative: a solver's usual tolerance
_REACH = 1e9  # of the unit, beside the cotangents: what cancels further has no digit left
_DRAWS = 4  # of rounding errors, where each element counts for itself
_ALGEBRA = 1e-2  # relative
_LOST = 0.1  # of the truth
_FAINT = 2.0**-40  # of the largest element: below it an element whose truth is lost says nothing
_STOPPED = 10.0  # of what more iterations change

Found = tuple[Verdict, str]  # verdict and note


@dataclasses.dataclass(frozen=True, eq=False)
class Appeal(Contested):
    """One leaf's gradient, and the truth that it contradicts, for one cotangent of the outputs.

    Attributes:
        unit: the rounding error of a number on the way to the gradient.
        excusing: what of rounding in the rule's own arithmetic counts: "all" of it, as one noise
            for the whole leaf; that of "elements"; or "nothing", where accuracy is the question.
    """

    unit: float = 2.0**-52
    excusing: Literal["all", "elements", "nothing"] = "all"

    def verdict(self) -> Found | None:
        """("pass" or "inconclusive", why); None where nothing excuses it. x64 is enabled."""
        if not np.all(np.isfinite(self.manual)):
            return in_many_digits(self, 8 * self.unit)
        if not self.off.size:  # the elements are near, and the leaf as a whole is not
            return self._rounding_of_the_rule()
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.all(np.isfinite(self.truth)):
                return self._no_number()
            excuses = self._stopped_loop, self._kinks, self._rounding, self._differences
            found = next(filter(None, (excuse() for excuse in excuses)), None)
            found = found or self._rounding_of_the_rule()
            if found and found[0] == "pass":
                return found
            doubted = found or self._sure is None or any("automatic" in s.wrong for s in self._sure)
            return (in_many_digits(self, 8 * self.unit) if doubted else None) or found

    def _no_number(self) -> Found | None:
        """Where the automatic derivative is NaN, behind a where or so, secants decide."""
        if np.any(np.isfinite(np.ravel(self.truth)[self.off])) or self.off.size > _SECANTS:
            return None
        if not all(self._between_secants(int(c)) for c in self.off):
            return None
        return "pass", f"{self.off.size} elements as differences say: autodiff is not finite there"

    def _between_secants(self, c: int) -> bool:
        """Whether element c lies between the slopes of the function to its two sides."""
        m, middle = float(np.ravel(self.manual)[c]), self.weighted(self.x)
        steps = [sign * self._step(c) for sign in (-1, 1)]
        sides = [(self.weighted(self.moved(c, step)) - middle) / step for step in steps]
        low, high = sorted(sides)
        if m == low == high:
            return True
        noise = _STOPPED * 2.0**-52 * abs(middle) / self._step(c)
        slack = 1e-4 * abs(m) + noise + float(np.ravel(self.allowed)[c])
        known = self.truth[np.isfinite(self.truth)]
        sizes = abs(m), abs(low), abs(high), _rms(known)
        return slack <= 1e-3 * max(sizes) and low - slack <= m <= high + slack

    def _step(self, c: int) -> float:
        size = abs(float(self.x[self.leaf].flat[c]))
        return _SECANT * (size if size > TINY else 1.0)

    def _kinks(self) -> Found | None:
        return at_kinks(self)

    def _rounding(self) -> Found | None:
        noise = rounding_of(self.subject, self.x, self.w, 2.0**-52)[self.leaf]
        if np.any(~(np.abs(self.manual - self.truth) <= self.allowed + NOISE * noise)):
            return None
        lost = f"the truth has lost its digits {{}}: its own rounding is {np.max(noise):.1e}"
        if self._faint(noise):
            return "pass", f"{self.off.size} elements not compared: {lost.format('there')}"
        return "inconclusive", lost.format("here")

    def _faint(self, noise: np.ndarray) -> bool:
        """Whether all that is off is lost in the truth's rounding, and that far below the others.

        A sigmoid's tail is: beside the elements that were compared it is nothing.
        """
        lost = np.abs(self.truth) <= NOISE * noise
        largest = np.max(np.abs(np.where(lost, 0.0, self.truth)), initial=0.0)
        unclear = np.ravel(NOISE * noise)[self.off]
        return bool(np.all(np.ravel(lost)[self.off]) and np.all(unclear <= _FAINT * largest))

    def _rounding_of_the_rule(self) -> Found | None:
        """Whether rounding in the rule's own arithmetic explains what it is off by.

        It may be poorer than that of the automatic gradient, where terms cancel that the other has
        not: y (1 - y) beside a sigmoid's tail. Then the rule is inaccurate, and its algebra right.
        """
        error = np.abs(self.manual - self.truth)
        largest = max(float(np.linalg.norm(d)) for d in (self.truth, *self.w))
        near = float(np.linalg.norm(error)) <= _REACH * self.unit * largest
        if not near or self.excusing == "nothing":
            return None  # as much is no rounding, and need not be looked for
        draws = _DRAWS if self.excusing == "elements" else 1
        try:
            runs = self.subject.shaken_manual(self.unit, draws)
            exact, *shaken = (np.asarray(run(self.x, list(self.w))[self.leaf]) for run in runs)
        except Exception:  # what the rule does in float64, or a shard_map in a pullback
            return None
        noise = np.max([np.abs(each - exact) for each in shaken], axis=0)
        if self.excusing == "all":
            explained = NOISE * np.maximum(noise, _rms(noise) / 4)
        else:
            explained = NOISE / 2 * noise
        truth = self._by_its_algebra(exact, noise) if self.unit > 2.0**-52 else self.truth
        if truth is None or np.any(~(np.abs(self.manual - truth) <= self.allowed + explained)):
            return None
        if float(np.linalg.norm(noise)) > _LOST * float(np.linalg.norm(truth)):
            return "inconclusive", "the rule has lost its digits here: its own rounding is as large"
        return "pass", "as far as rounding in the rule's own arithmetic goes"

    def _by_its_algebra(self, exact: np.ndarray, noise: np.ndarray) -> np.ndarray | None:
        """The truth, on the rule's side of each kink, if the rule in float64 says as much.

        There nothing is left of what a low precision does.
        """
        allowed = _ALGEBRA * np.abs(self.truth) + 1e-3 * noise
        given = self.subject, self.x, self.w, self.leaf
        algebra = Contested(*given, exact, self.truth, allowed)
        if not algebra.off.size:
            return self.truth
        kinks = at_kinks(algebra)
        known = kinks and kinks[0] == "pass"
        if not known and not in_many_digits(algebra, _ALGEBRA):
            return None
        truth = np.array(self.truth)
        truth.flat[algebra.off] = exact.flat[algebra.off]
        return truth

    def _stopped_loop(self) -> Found | None:
        if not self.subject.further or not self.subject.has_loop:
            return None
        error = relative_error(self.manual, self.truth)
        if error <= _SOLVER:
            return "pass", f"to {error:.0e}; a loop stops at a tolerance, which hides what is less"
        y, _ = self.subject.pull_automatic(self.x, self.w)
        y_on, pulled_on = self.subject.pull_further(self.x, self.w)
        moved = max(map(_change, y, y_on), default=0.0)
        further = np.asarray(pulled_on[self.leaf])
        if moved > 1e-3 or not np.all(np.isfinite(further)):
            return None  # it does not stop because it has converged
        bar = np.abs(further - self.truth)
        bar += moved * (np.abs(self.truth) + np.sqrt(np.mean(self.truth**2)))
        near = np.minimum(np.abs(self.manual - self.truth), np.abs(self.manual - further))
        sizes = [float(np.linalg.norm(g)) for g in (self.truth, further)]
        # The gradient of a start from which the loop gets away is what its tolerance leaves of it.
        fades = sizes[1] <= sizes[0] / 2 and sizes[0] <= _SOLVER * max(map(_rms, self.w))
        known = fades or np.linalg.norm(bar) <= SOLVED * sizes[0]
        if not known or np.any(~(near <= self.allowed + _STOPPED * bar)):
            return None
        return "pass", f"a loop stops where more iterations still change {moved:.1e} of its value"

    def _differences(self) -> Found | None:
        """Whether differences of the function contradict the truth, and not the gradient."""
        slopes = self._sure
        wrong = {name for slope in slopes or () for name in slope.wrong}
        if slopes is None or "manual" in wrong:
            met = self._met(self.manual)
            return ("inconclusive", f"{UNCERTAIN}: {met.describe()}") if met else None
        if "automatic" in wrong:
            # Beside a truth that is far larger, whatever is small would seem near to them.
            alone = self._slopes(manual=self.manual)
            if alone is None or any(slope.wrong for slope in alone):
                return None
            return "pass", f"differences decide, against autodiff: {slopes[0].describe()}"
        if self.subject.has_loop:
            return "pass", f"as far as differences can tell: {slopes[0].describe()}"
        return None

    @functools.cached_property
    def _sure(self) -> list[Slope] | None:
        """The differences beside both gradients, if they are sure of themselves."""
        return self._slopes(manual=self.manual, automatic=self.truth)

    def _slopes(self, problems: Sequence[str] = ("",), **known: np.ndarray) -> list[Slope] | None:
        function = self.subject.plain or self.subject.automatic
        return sure_slopes(function, self.x, self.w, self.leaf, known, problems)

    def _met(self, manual: np.ndarray) -> Slope | None:
        """The first of the differences, if they contradict the truth and are near to this gradient.

        Where a function has a branch for one value, `x == 0`, autodiff takes the branch for the
        function, and what lies beside it may have lost many digits: such differences have a jump,
        or are further from the gradient than they believe. They prove nothing, but that the truth
        is none.
        """
        slopes = self._slopes(("", KINKED), manual=manual, automatic=self.truth)
        for slope in slopes or ():
            off = {name: abs(d - slope.value) for name, d in slope.exact.items()}
            if not max(off["manual"], slope.bar) <= MET * min(off["automatic"], abs(slope.value)):
                return None
        return slopes[0] if slopes else None


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0


def _change(a: ArrayLike, b: ArrayLike) -> float:
    a, b = np.asarray(a), np.asarray(b)
    size = float(np.linalg.norm(a))
    return float(np.linalg.norm(a - b)) / size if size else float(np.any(a != b))


def rounding_of(
    subject: Subject, x: Sequence[Any], w: Sequence[Any], unit: float
) -> list[np.ndarray]:
    """What rounding errors of a size upon every number on the way do to the automatic gradient.

    An array of absolute errors for each leaf. x64 is enabled by the caller.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     one = Subject(("x",), (np.array([40.0]),), list, lambda x: [jax.nn.sigmoid(x)], False)
    ...     bool(rounding_of(one, one.x, [np.ones(1)], 2.0**-52)[0][0] < 1e-15)
    True
    """

    noise = [np.zeros(np.shape(leaf)) for leaf in x]
    try:
        exact, *shaken = subject.shaken(unit)
        exact = [np.asarray(d) for d in exact(tuple(x), list(w))]
        pairs = [[run(tuple(x), list(w)) for run in pair] for pair in shaken]
    except NoTruth:  # the pullback of a shard_map cannot be run with errors: it explains nothing
        return noise
    for fine, coarse in pairs:
        for i, (e, f, c) in enumerate(zip(exact, fine, coarse, strict=True)):
            with np.errstate(invalid="ignore"):
                by, by_coarse = (np.abs(np.asarray(d) - e) for d in (f, c))
            # What does not grow with the errors is a choice that they have turned, at a kink.
            grows = np.linalg.norm(by_coarse) >= GROWN * np.linalg.norm(by)
            noise[i] = np.maximum(noise[i], by if grows else 0.0)
    return noise
