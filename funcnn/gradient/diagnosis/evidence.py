"""What a diagnosis looks at: one wrong leaf, for several cotangents, as NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import EllipsisType

import numpy as np

from funcnn.gradient.diagnosis.of_one_operation import LocalMistakes

_UNEXPLAINED = 1e-3  # of the error: a mistake is named where it explains more than 99.9 %

Arrays = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Draw:
    """One cotangent of the outputs, and what either derivative made of it.

    Attributes:
        name: "random 0", "ones", ..., as in `cotangents`.
        dys: the cotangent, an array for each output.
        manual, truth: an array for each leaf.
    """

    name: str
    dys: Arrays
    manual: Arrays
    truth: Arrays


Prediction = Callable[[Draw], np.ndarray | None]  # what `manual` is if a mistake was made, or None
Hypotheses = Iterator[tuple[str, Prediction]]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A leaf whose gradient is wrong.

    Attributes:
        leaf: its index.
        names: of all leaves.
        x: the arguments, an array for each leaf.
        y: the outputs.
        draws: several cotangents; those named "zero" and "large" probe whether it is linear.
        pull: `(x, dys) -> truth`, where the truth can be had at other points too.
        integers: the integer arguments.
        unit: of the last place, of the dtype that computed `manual`.
        outputs: the names of the outputs.
        singles: a draw for each element of the outputs, in their order, or none.
        constants: numbers by which the reference multiplies, and what to say if one is left out.
        local: makes mistakes in the single operations of the reference, where that can be done.

    >>> x = np.array([1.0, -2.0])
    >>> wrong = Evidence(0, ("x",), (x,), [x], (Draw("ones", [x / x], [2 * x], [x]),))
    >>> wrong.explained_by(lambda draw: 2 * draw.truth[0])
    True
    """

    leaf: int
    names: tuple[str, ...]
    x: tuple[np.ndarray, ...]
    y: Arrays
    draws: tuple[Draw, ...]
    pull: Callable[[tuple[np.ndarray, ...], Arrays], Arrays] | None = None
    integers: tuple[np.ndarray, ...] = ()
    unit: float = 2.0**-52
    outputs: tuple[str, ...] = ()
    singles: tuple[Draw, ...] = ()
    constants: tuple[tuple[float, str], ...] = ()
    local: Callable[[], LocalMistakes | None] | None = None

    @property
    def name(self) -> str:
        """The name of the leaf."""
        return self.names[self.leaf]

    def output(self, i: int) -> str:
        """The name of an output."""
        name = self.outputs[i] if self.outputs else f"output {i}"
        return "the output" if len(self.y) == 1 and name in ("output", "output 0") else name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the leaf."""
        return self.draws[0].truth[self.leaf].shape

    @property
    def ordinary(self) -> list[Draw]:
        """The draws but those that probe whether the cotangent enters linearly."""
        return [d for d in self.draws if d.name not in {"zero", "large"}]

    def pair(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Manual and truth of the leaf."""
        return draw.manual[self.leaf], draw.truth[self.leaf]

    def is_wrong(self, draw: Draw) -> bool:
        """Whether there is an error beyond the rounding of a few operations."""
        manual, truth = self.pair(draw)
        beyond = 1e3 if self.unit < 1e-10 else 1.0  # a low precision has no digits to give away
        return bool(np.linalg.norm(manual - truth) > beyond * self._noise(draw))

    def explained_by(self, prediction: Prediction) -> bool:
        """Whether the prediction explains more than 99.9 % of the error in every draw."""
        if not any(map(self.is_wrong, self.ordinary)):
            return False
        return all(self._explained(draw, prediction) for draw in self.draws)

    def _explained(self, draw: Draw, prediction: Prediction) -> bool:
        manual, truth = self.pair(draw)
        guess = prediction(draw)
        if guess is None or np.shape(guess) != manual.shape:
            return False
        if np.array_equal(guess, manual):  # infinite ones too
            return True
        error, remaining = np.linalg.norm(manual - truth), np.linalg.norm(manual - guess)
        return bool(remaining <= _UNEXPLAINED * error + self._noise(draw))

    def _noise(self, draw: Draw) -> float:
        """What rounding leaves; where a gradient cancels, beside the largest of the draws."""
        sizes = [np.linalg.norm(g) for d in (draw, *self.ordinary) for g in self.pair(d)]
        return 8 * self.unit * float(np.max(sizes))

    def wrong_elements(self) -> np.ndarray:
        """Which elements are off in any of the ordinary draws, a mask of the leaf's shape."""
        off = np.zeros(self.shape, bool)
        for draw in self.ordinary:
            manual, truth = self.pair(draw)
            rms = np.sqrt(np.mean(truth**2)) if truth.size else 0.0
            allowed = (1e4 if self.unit < 1e-10 else 8.0) * self.unit
            off |= ~(np.abs(manual - truth) <= allowed * (np.abs(truth) + rms))
        return off

    def factor(self, where: np.ndarray | EllipsisType = ...) -> float:
        """The c of manual = c x truth that fits best over the ordinary draws; NaN if truth is 0."""
        pairs = [self.pair(draw) for draw in self.ordinary]
        above = sum(float(np.vdot(t[where], m[where])) for m, t in pairs)
        below = sum(float(np.vdot(t[where], t[where])) for _, t in pairs)
        return above / below if below else float("nan")

    def pulled(self, change: Callable[[Draw], tuple[tuple[np.ndarray, ...], Arrays]]) -> Prediction:
        """The truth at other arguments and cotangents, `change(draw) -> (x, dys)`."""
        return lambda draw: self.pull(*change(draw))[self.leaf] if self.pull else None
