"""A wrong trial made small: few elements, short numbers, a plain cotangent; it stays wrong."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from funcnn.gradient.hunt.judging import Trial, score, verdict
from funcnn.gradient.hunt.search import Wrong, raised_by_rule

_SIMPLE = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, 10.0)
_DIGITS = (1, 2, 3, 4)
_MOST = 64  # elements of an array that are looked at one by one
_ROUNDS = 4

Accepts = Callable[[Trial], bool]


@dataclasses.dataclass(eq=False)
class Shrinking:
    """Makes a wrong trial smaller, for as long as there is time.

    Attributes:
        wrong: the smallest so far.
        deadline: of the monotonic clock.
        tried: how many smaller ones were tried.
    """

    wrong: Wrong
    deadline: float
    tried: int = 0

    def run(self) -> Wrong:
        """The smallest one found."""
        if np.isinf(self.wrong.score.error) and not self.wrong.trial.how:
            self._sizes_that_raise()
            return self.wrong
        self._plain_cotangents()
        self._roughly()
        self._sizes()
        for _ in range(_ROUNDS):
            before = _length(self.wrong.trial)
            self._plain_cotangents()
            self._numbers()
            if _length(self.wrong.trial) == before or self.late():
                break
        return self.wrong

    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.deadline

    def accepts(self, place: Any, trial: Trial) -> bool:
        """Whether a trial is wrong, too; then it is the smallest so far."""
        self.tried += 1
        try:
            found = score(place, trial)
            if found.why or found.ratio <= 1:
                return False
            said, note = verdict(place, trial, found)
        except Exception:  # nothing that is handed back raises
            return False
        if said == "fail":
            self.wrong = Wrong(place, trial, found, note)
        return said == "fail"

    def _sizes_that_raise(self) -> None:
        """As `_sizes`, where the rule raises whatever the numbers are: those are ones, then."""
        place = self.wrong.place
        for n in _sizes_of(place):
            for kept in _parts(n):
                other = self._at(n, kept)
                if other is not None and not self.late() and raised_by_rule(other[0]):
                    self.wrong = dataclasses.replace(self.wrong, place=other[0], trial=other[1])
                    break
        if raised_by_rule(self.wrong.place):
            kinds, trial = place.hunted.kinds, self.wrong.trial
            pairs = zip(kinds, trial.x, strict=True)
            x = tuple(np.ones_like(v) if kind == "float" else v for kind, v in pairs)
            self.wrong = dataclasses.replace(self.wrong, trial=dataclasses.replace(trial, x=x))

    def _roughly(self) -> None:
        """Short numbers where nothing is compiled, so that new sizes begin with them."""
        for k in range(len(self.wrong.trial.x)):
            for value in self._all_at_once("x", k):
                if self.late():
                    return
                if _is_simpler(value, self.wrong.trial.x[k]) and self._with(k, value, "x"):
                    break

    def _sizes(self) -> None:
        """Fewer elements: each axis cut to the first, the last or half of its indices."""
        for _ in range(_ROUNDS):
            shapes = [np.shape(x) for x in self.wrong.trial.x]
            sizes = sorted({n for shape in shapes for n in shape if n > 1}, reverse=True)
            smaller = any(self._cut(n) for n in sizes if not self.late())
            if not smaller or self.late():
                return

    def _cut(self, n: int) -> bool:
        for kept in _parts(n):
            if self.late():
                return False
            other = self._at(n, kept)
            if other is not None and self.accepts(*other):
                return True
        return False

    def _at(self, n: int, kept: np.ndarray) -> tuple[Any, Trial] | None:
        """The place and the trial with the axes of size n cut to some indices."""
        place, trial = self.wrong.place, self.wrong.trial
        original = {old: place.sizes.get(old, old) for old in _sizes_of(place)}
        sizes = {old: len(kept) if now == n else now for old, now in original.items()}
        try:
            other = place.hunted.at(sizes, place.situation.seed)
            jax.eval_shape(other.low.automatic, *other.low.x)
        except Exception:  # sizes that the function refuses
            return None
        x = []
        for i, (leaf, like) in enumerate(zip(trial.x, other.low.x, strict=True)):
            cut = _taken(leaf, n, kept)
            if place.hunted.kinds[i] == "integer" and cut.size:
                cut = np.clip(cut, *other.ends(i)).astype(cut.dtype)
            if cut.shape != like.shape:
                return None
            x.append(cut)
        w = []
        for dy, shape in zip(trial.w, other.outputs, strict=True):
            cut = _taken(dy, n, kept)
            w.append(cut if cut.shape == shape.shape else np.ones(shape.shape, shape.dtype))
        return other, dataclasses.replace(trial, x=tuple(x), w=tuple(w))

    def _plain_cotangents(self) -> None:
        """Ones, or one element alone."""
        for k in range(len(self.wrong.trial.w)):
            for simpler in _simpler_cotangents(self.wrong.trial.w[k]):
                if self.late():
                    return
                if _is_simpler(simpler, self.wrong.trial.w[k]) and self._with(k, simpler, "w"):
                    break

    def _numbers(self) -> None:
        """Shorter numbers, all of an array at once and then one by one."""
        for name in ("x", "w"):
            for k in range(len(getattr(self.wrong.trial, name))):
                self._shorter(name, k)

    def _shorter(self, name: str, k: int) -> None:
        for value in self._all_at_once(name, k):
            if self.late():
                return
            if _is_simpler(value, getattr(self.wrong.trial, name)[k]):
                self._with(k, value, name)
        array = getattr(self.wrong.trial, name)[k]
        for c in range(array.size if array.size <= _MOST else 0):
            for v in _shorter_numbers(float(array.flat[c]), self._is_choice(name, k)):
                if self.late():
                    return
                now = getattr(self.wrong.trial, name)[k]
                value = np.array(now)
                value.flat[c] = v
                if _is_simpler(value, now) and self._with(k, value, name):
                    break

    def _is_choice(self, name: str, k: int) -> bool:
        return name == "x" and self.wrong.place.hunted.kinds[k] != "float"

    def _all_at_once(self, name: str, k: int) -> Iterator[np.ndarray]:
        array = np.array(getattr(self.wrong.trial, name)[k])
        yield np.zeros_like(array)
        yield np.ones_like(array)
        if self._is_choice(name, k):
            return
        if array.size:
            yield np.full_like(array, array.flat[0])
        with np.errstate(all="ignore"):
            for digits in _DIGITS:
                rounded = [_rounded(float(v), digits) for v in np.ravel(array)]
                yield np.reshape(rounded, array.shape).astype(array.dtype)

    def _with(self, k: int, value: np.ndarray, name: str) -> bool:
        trial, place = self.wrong.trial, self.wrong.place
        old = getattr(trial, name)
        value = np.asarray(value, old[k].dtype)
        if np.array_equal(value, old[k], equal_nan=True):
            return False
        return self.accepts(
            place, dataclasses.replace(trial, **{name: (*old[:k], value, *old[k + 1 :])})
        )


def _sizes_of(place: Any) -> list[int]:
    leaves = [place._given(i) for i in range(len(place.low.x))]
    return list(dict.fromkeys(n for leaf in leaves for n in np.shape(leaf)))


def _parts(n: int) -> Iterator[np.ndarray]:
    yield np.arange(1)
    yield np.arange(n - 1, n)
    if n > 2:
        yield np.arange(2)
        yield np.arange(n - 2, n)
    if n > 5:
        yield np.arange(n // 2)
        yield np.arange(n // 2, n)
    if n > 2:
        yield np.arange(n - 1)
        yield np.arange(1, n)


def _taken(x: np.ndarray, n: int, kept: np.ndarray) -> np.ndarray:
    for axis, size in enumerate(x.shape):
        if size == n:
            x = np.take(x, kept, axis)
    return x


def _simpler_cotangents(dy: np.ndarray) -> Iterator[np.ndarray]:
    yield np.ones_like(dy)
    for c in np.argsort(-np.abs(np.ravel(dy)), kind="stable")[:4]:
        alone = np.zeros_like(dy)
        alone.flat[c] = 1.0
        yield alone
        other = np.zeros_like(dy)
        other.flat[c] = dy.flat[c]
        yield other
    yield -np.ones_like(dy)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else value


def _shorter_numbers(value: float, choice: bool) -> Iterator[float]:
    """Numbers to write in the place of one, the shortest first."""
    if choice:
        yield from (0.0, 1.0, value - 1) if value > 0 else ()
        return
    yield from _SIMPLE
    if np.isfinite(value):
        for digits in _DIGITS:
            yield _rounded(value, digits)
        yield float(np.trunc(value)) if abs(value) < 1e6 else value


def _is_simpler(new: np.ndarray, old: np.ndarray) -> bool:
    return _cost(new) < _cost(old)


def _cost(x: np.ndarray) -> tuple[int, float]:
    """How long the numbers are in print, and of equally long ones how large."""
    with np.errstate(all="ignore"):
        length = sum(map(_digits, np.ravel(x)))
        finite = np.abs(x[np.isfinite(x)]).astype(np.float64)
        return length, float(np.sum(np.minimum(finite, 1e3)) + np.sum(x < 0) / 2)


def _digits(value: Any) -> int:
    if value == 0:
        return 0
    number = value if isinstance(value, np.floating) else np.float32(value)
    return len(np.format_float_scientific(number, trim="-")) if value != 1 else 1


def _length(trial: Trial) -> int:
    return sum(_cost(v)[0] for v in (*trial.x, *trial.w))
