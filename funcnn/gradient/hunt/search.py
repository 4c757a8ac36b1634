"""The search itself: place after place, kind after kind, and on from what is furthest off."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator

import jax
import numpy as np

from funcnn.core.errors import first_line
from funcnn.gradient.case.memory import MEGABYTES, megabytes_of_check
from funcnn.gradient.hunt.drawing import Drawing
from funcnn.gradient.hunt.judging import Endless, Score, Trial, score, verdict
from funcnn.gradient.hunt.place import Hunted, Place
from funcnn.gradient.program.answering import step
from funcnn.gradient.program.loops import Ending

_AT_ONCE = 150  # trials between two new sizes
_SAME = 3  # appeals of one kind of numbers
_APPEALS = 60  # in all, before they are rationed
_SHARE = 0.05  # of the trials: what may be appealed then


@dataclasses.dataclass(eq=False)
class Counts:
    """What was tried.

    Attributes:
        trials: how many.
        compared: at how many of them a gradient was compared with the truth.
        why_not: how many of the others, by the reason.
        excused: how many looked wrong, and `check` did not say so, by its verdict.
        refused: sizes that the function does not take.
        large: sizes that would take too much memory.
        places: sizes that it takes.
    """

    trials: int = 0
    compared: int = 0
    why_not: Counter[str] = dataclasses.field(default_factory=Counter)
    excused: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: int = 0
    large: int = 0
    places: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Wrong:
    """A trial at which the gradient is wrong.

    Attributes:
        place, trial, score: where, with what, by how much.
        note: what `check` says of it.
    """

    place: Place
    trial: Trial
    score: Score
    note: str


@dataclasses.dataclass(eq=False)
class Search:
    """A search for a trial at which a function's hand-written gradient is wrong.

    Attributes:
        hunted: the function.
        seed: of all that is drawn.
        counts: what was tried.
        megabytes: what the trials of one size may take.
        appeals: how often `check` was asked.
    """

    hunted: Hunted
    seed: int
    counts: Counts = dataclasses.field(default_factory=Counts)
    megabytes: float = MEGABYTES
    appeals: int = 0
    _asked: Counter[tuple[str, ...]] = dataclasses.field(default_factory=Counter)

    def run(self, deadline: float) -> Wrong | None:
        """The first wrong one found, or None at the deadline of the monotonic clock."""
        for found in self._work():
            if found is not None or time.monotonic() > deadline:
                return found
        return None

    def _work(self) -> Iterator[Wrong | None]:
        random = np.random.default_rng(self.seed)
        drawings: list[Drawing] = []
        others = self.hunted.other_sizes()
        first = self._place(self.hunted.sizes()) or self._place({})
        if isinstance(first, Wrong):
            yield first
        elif first is not None:
            drawings.append(Drawing(first, random))
            yield from (self.tried(drawings[0], trial) for trial in drawings[0].in_turn())
        while True:
            sizes = next(others, None)
            place = None if sizes is None else self._place(sizes)
            if isinstance(place, Wrong):
                yield place
            elif place is not None:
                drawings.append(Drawing(place, random))
                yield from (self.tried(drawings[-1], trial) for trial in drawings[-1].plainly())
            elif sizes is not None:
                yield None
                continue
            if not drawings:
                return
            chosen = drawings[int(random.integers(len(drawings)))]
            for drawing in (drawings[0], chosen):
                yield from self._round(drawing)

    def _round(self, drawing: Drawing) -> Iterator[Wrong | None]:
        """Mixtures, and changes of those that were furthest off."""
        for k in range(_AT_ONCE):
            good = drawing.guide.chosen(drawing.random) if k % 3 else None
            yield self.tried(drawing, drawing.beside(good) if good else drawing.mixed())

    def _place(self, sizes: dict[int, int]) -> Place | Wrong | None:
        """The function at these sizes; None where it does not take them."""
        try:
            place = self.hunted.at(sizes, self.seed)
            if megabytes_of_check(place.situation.args) > self.megabytes:
                self.counts.large += 1
                return None
            jax.eval_shape(place.low.automatic, *place.low.x)
        except Exception:  # whatever it raises, the function does not take these sizes
            self.counts.refused += 1
            return None
        raised = raised_by_rule(place)
        if raised and self._broadcasts(place):
            self.counts.refused += 1
            return None
        if raised:
            note = f"the rule raises where its reference does not: {raised}"
            return Wrong(place, Trial(place.low.x, _ones(place)), Score(np.inf, np.inf), note)
        if _raises(place.low.pull_manual, place):  # and without the rule, too
            self.counts.refused += 1
            return None
        if why := _raises(place.low.pull_automatic, place):
            self.counts.trials += 1
            self.counts.why_not[f"no truth: {why}"] += 1
            return None
        self.counts.places += 1
        return place

    def _broadcasts(self, place: Place) -> bool:
        """Whether an axis of 1 stands for that of an array which the function holds itself.

        Its outputs then are as large as before, and the rule was made for arguments as large.
        """
        if 1 not in place.sizes.values():
            return False
        before = [s.shape for s in self.hunted.at({}, self.seed).outputs]
        shapes = [s.shape for s in place.outputs]
        return shapes == before and any(n in shape for shape in shapes for n in place.sizes)

    def tried(self, drawing: Drawing, trial: Trial) -> Wrong | None:
        """What a trial shows."""
        self.counts.trials += 1
        place = drawing.place
        step(lambda: f"a trial, {trial}")
        try:
            found = score(place, trial)
        except Endless as error:
            plain = dataclasses.replace(trial, how=())  # to make it smaller would take for ever
            return Wrong(place, plain, Score(np.inf, np.inf), str(error))
        except Exception as error:
            found = Score(0.0, why=f"it raised: {first_line(error)}")
        drawing.tell(trial, found.why)
        if found.why:
            self.counts.why_not[found.why] += 1
            return None
        self.counts.compared += 1
        if found.ratio <= 1:
            drawing.guide.saw(trial, found.ratio)
            return None
        if not self._worth_asking(trial, found):
            self.counts.excused["not asked again"] += 1
            return None
        said, note = verdict(place, trial, found)
        if said == "fail":
            return Wrong(place, trial, found, note)
        self.counts.excused[said] += 1
        return None

    def _worth_asking(self, trial: Trial, found: Score) -> bool:
        """Appeals take long, and what was excused for numbers of one kind is so for most of it."""
        kind = (found.dtype, str(found.leaf), str(len(trial.x)), *trial.how)
        self._asked[kind] += 1
        rationed = self.appeals > _APPEALS + _SHARE * self.counts.trials
        if self._asked[kind] > _SAME or rationed:
            return False
        self.appeals += 1
        return True


def raised_by_rule(place: Place) -> str:
    """What the function raises when its gradient is traced, and without its rules does not."""
    raised = _raises(place.low.pull_manual, place)
    return raised if raised and not _raises(place.low.pull_automatic, place) else ""


def _raises(pull: Ending, place: Place) -> str:
    try:
        pull.eval_shape(place.low.x, list(_ones(place)))
    except Exception as error:
        return first_line(error)
    return ""


def _ones(place: Place) -> tuple[np.ndarray, ...]:
    return tuple(np.ones(s.shape, s.dtype) for s in place.outputs)
