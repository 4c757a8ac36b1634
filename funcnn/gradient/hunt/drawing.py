"""Trials to make: each kind of numbers for each leaf, mixtures of them, changes of good ones."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from funcnn.gradient.hunt.choices import COTANGENTS, INDICES, MASKS, cotangents, indices, masks
from funcnn.gradient.hunt.guide import Guide
from funcnn.gradient.hunt.judging import Trial
from funcnn.gradient.hunt.place import Place
from funcnn.gradient.hunt.values import DRAWS, Random, drawn, near_constant

_LEAST = 0.05  # of the chance of other kinds: what kinds have that were outside of the domain
_PLAIN = ("as given", "normal", "moderate", "whole numbers")


@dataclasses.dataclass(eq=False)
class Drawing:
    """Draws trials at one place.

    Attributes:
        place: where.
        random: what draws.
        guide: which trials to go on from.
        chances: of each kind of numbers, by leaf: smaller for those whose values are not defined.
    """

    place: Place
    random: Random
    guide: Guide = dataclasses.field(init=False)
    chances: dict[tuple[int, str], float] = dataclasses.field(
        default_factory=lambda: defaultdict(lambda: 1.0)
    )

    def __post_init__(self) -> None:
        self.guide = Guide(self.place)

    def kinds_of(self, i: int) -> tuple[str, ...]:
        """The kinds of numbers for a leaf; the cotangents come after the last."""
        if i == len(self.place.low.x):
            return COTANGENTS
        kind = self.place.hunted.kinds[i]
        if kind == "float":
            return tuple(DRAWS)
        return INDICES if kind == "integer" else MASKS

    def leaf(self, i: int, name: str) -> np.ndarray:
        """The numbers of a leaf."""
        given, kind = self.place.low.x[i], self.place.hunted.kinds[i]
        if kind == "float":
            value = drawn(name, self.random, self.place.numbers[i])
        elif kind == "mask":
            value = masks(name, self.random, given)
        else:
            value = indices(name, self.random, given, *self.place.ends(i))
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(given.dtype)

    def cotangents(self, name: str) -> tuple[np.ndarray, ...]:
        """The cotangents of the outputs."""
        dys = cotangents(name, self.random, self.place.numbers_of_outputs)
        return tuple(_held(dy, s.dtype) for dy, s in zip(dys, self.place.outputs, strict=True))

    def trial(self, how: tuple[str, ...]) -> Trial:
        """Of the kinds named, leaf by leaf and last of the cotangents."""
        x = [self.leaf(i, name) for i, name in enumerate(how[:-1])]
        return Trial(tuple(x), self.cotangents(how[-1]), how)

    def in_turn(self) -> Iterator[Trial]:
        """Each kind for each leaf, the others as given or normal; then each kind for all."""
        n = len(self.place.low.x)
        plain = ("as given",) * n
        for name in COTANGENTS:
            yield self.trial((*plain, name))
        for i in range(n):
            for name in self.kinds_of(i):
                for _ in range(2):
                    yield self.trial((*plain[:i], name, *plain[i + 1 :], "normal"))
        floats = [i for i in range(n) if self.place.hunted.kinds[i] == "float"]
        if len(floats) > 1:
            for name in DRAWS:
                how = [name if i in floats else "random" for i in range(n)]
                yield self.trial((*how, "normal"))

    def plainly(self) -> Iterator[Trial]:
        """A few ordinary ones, for a size that is new."""
        n = len(self.place.low.x)
        for name in ("normal", "ones", "one-hot", "sparse", "negative", "one-hot"):
            yield self.trial((*("as given",) * n, name))
            yield self.mixed(_PLAIN)

    def mixed(self, only: tuple[str, ...] = ()) -> Trial:
        """Kinds by chance; every other time two leaves of one shape are made alike."""
        n = len(self.place.low.x)
        few = self.random.random() < 0.5
        how = []
        for i in range(n + 1):
            names = [name for name in self.kinds_of(i) if name in only] or self.kinds_of(i)
            weights = np.array([self.chances[i, name] for name in names])
            if few and i < n and self.random.random() < 0.6:
                how.append(str(self.random.choice(["as given", names[0]])))
            else:
                how.append(str(self.random.choice(names, p=weights / weights.sum())))
        trial = self.trial(tuple(how))
        return self._alike(trial) if self.random.random() < 0.15 else trial

    def _alike(self, trial: Trial) -> Trial:
        """Two leaves with the same numbers, or one with the opposite ones."""
        pairs = [
            (i, j)
            for i, a in enumerate(trial.x)
            for j, b in enumerate(trial.x)
            if i < j and a.shape == b.shape and self._is_float(i) and self._is_float(j)
        ]
        if not pairs:
            return trial
        i, j = pairs[self.random.integers(len(pairs))]
        x = list(trial.x)
        x[j] = (x[i] * self.random.choice([1.0, 1.0, -1.0])).astype(x[j].dtype)
        how = (*trial.how[:j], f"that of leaf {i}", *trial.how[j + 1 :])
        return dataclasses.replace(trial, x=tuple(x), how=how)

    def _is_float(self, i: int) -> bool:
        return self.place.hunted.kinds[i] == "float"

    def beside(self, trial: Trial) -> Trial:
        """A trial with a change or two."""
        for _ in range(self.random.choice([1, 1, 2])):
            i = int(self.random.integers(len(trial.x) + 1))
            if i == len(trial.x):
                trial = dataclasses.replace(trial, w=self._changed_cotangents(trial))
            elif self._is_float(i) and self.random.random() < 0.8:
                value = _held(
                    self._changed(np.asarray(trial.x[i], np.float64), i), trial.x[i].dtype
                )
                x = (*trial.x[:i], value, *trial.x[i + 1 :])
                trial = dataclasses.replace(trial, x=x, how=_marked(trial.how, i))
            else:
                name = str(self.random.choice(self.kinds_of(i)))
                x = (*trial.x[:i], self.leaf(i, name), *trial.x[i + 1 :])
                how = (*trial.how[:i], name, *trial.how[i + 1 :])
                trial = dataclasses.replace(trial, x=x, how=how)
        return trial

    def _changed_cotangents(self, trial: Trial) -> tuple[np.ndarray, ...]:
        if not trial.w or self.random.random() < 0.3:
            return self.cotangents(str(self.random.choice(COTANGENTS)))
        k = int(self.random.integers(len(trial.w)))
        numbers = self.place.numbers_of_outputs[k]
        changed = _change(self.random, np.asarray(trial.w[k], np.float64), numbers)
        changed = np.where(np.isfinite(changed), changed, 1.0)
        return (*trial.w[:k], _held(changed, trial.w[k].dtype), *trial.w[k + 1 :])

    def _changed(self, x: np.ndarray, i: int) -> np.ndarray:
        return _change(self.random, x, self.place.numbers[i])

    def tell(self, trial: Trial, why: str) -> None:
        """Kinds outside of the domain become rarer, those inside of it less rare."""
        for i, name in enumerate(trial.how[:-1]):
            chance = self.chances[i, name]
            self.chances[i, name] = max(0.8 * chance, _LEAST) if why else min(1.0, 1.3 * chance)


def _marked(how: tuple[str, ...], i: int) -> tuple[str, ...]:
    name = how[i].removesuffix(", changed")
    return (*how[:i], f"{name}, changed", *how[i + 1 :])


def _held(x: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(dtype)


def _change(random: Random, x: np.ndarray, numbers: Any) -> np.ndarray:
    """The array scaled, or with an element elsewhere, or like another, or all in another order."""
    x = np.array(x)
    if not x.size:
        return x
    place, other = random.integers(x.size, size=2)
    with np.errstate(all="ignore"):
        match random.integers(8):
            case 0:
                return x * 10.0 ** random.uniform(-2, 2)
            case 1:
                x.flat[place] *= 10.0 ** random.uniform(-2, 2)
            case 2:
                x.flat[place] = near_constant(random, numbers)
            case 3:
                x.flat[place] = x.flat[other]
            case 4:
                x.flat[place] *= -1.0
            case 5:
                return np.sort(x, -1) if x.ndim else -x
            case 6:
                x.flat[place] = random.normal()
            case _:
                return x + random.normal()
    return x
