"""Indices, masks and cotangents to try: both ends, repeated, all or none, sparse, large."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from funcnn.gradient.hunt.values import DRAWS, Numbers, Random, near_constant


def _pattern(random: Random, given: np.ndarray, low: int, high: int) -> dict[str, np.ndarray]:
    """Whole numbers from low to high, both included, by what they are."""
    shape, count = given.shape, max(high - low + 1, 1)
    alone = random.integers(low, high + 1, shape)
    if alone.size:
        alone.flat[random.integers(alone.size)] = random.choice([low, high])
    in_turn = low + np.arange(given.size).reshape(shape) % count
    return {
        "as given": np.clip(given, low, high),
        "random": random.integers(low, high + 1, shape),
        "all the first": np.full(shape, low),
        "all the last": np.full(shape, high),
        "repeated": np.full(shape, random.integers(low, high + 1)),
        "two of them": random.choice(random.integers(low, high + 1, 2), shape),
        "in turn": in_turn,
        "backwards": high + low - in_turn,
        "an end among them": alone,
        "sorted": np.sort(random.integers(low, high + 1, shape), -1) if given.ndim else alone,
    }


INDICES = tuple(_pattern(np.random.default_rng(0), np.zeros(1, int), 0, 1))


def indices(name: str, random: Random, given: np.ndarray, low: int, high: int) -> np.ndarray:
    """Whole numbers of one kind, as floats.

    >>> indices("all the last", np.random.default_rng(0), np.zeros(2), 0, 4)
    array([4., 4.])
    """
    return np.asarray(_pattern(random, given.astype(int), low, high)[name], np.float64)


def _one_row(random: Random, shape: tuple[int, ...]) -> np.ndarray:
    out = np.ones(shape)
    if len(shape) and out.size:
        out[random.integers(shape[0])] = 0.0
    return out if random.random() < 0.5 else 1.0 - out


_MASKS: dict[str, Callable[[Random, np.ndarray], np.ndarray]] = {
    "as given": lambda random, given: np.array(given),
    "random": lambda random, given: random.integers(0, 2, given.shape) * 1.0,
    "all": lambda random, given: np.ones(given.shape),
    "none": lambda random, given: np.zeros(given.shape),
    "a row": lambda random, given: _one_row(random, given.shape),
    "lower triangle": lambda random, given: (
        np.tril(np.ones(given.shape)) if given.ndim > 1 else np.ones(given.shape)
    ),
    "rare": lambda random, given: (random.random(given.shape) < 0.15) * 1.0,
    "frequent": lambda random, given: (random.random(given.shape) < 0.85) * 1.0,
}
MASKS = tuple(_MASKS)


def masks(name: str, random: Random, given: np.ndarray) -> np.ndarray:
    """A mask of one kind, as floats 0 and 1.

    >>> masks("all", np.random.default_rng(0), np.zeros(2))
    array([1., 1.])
    """
    return _MASKS[name](random, given)


def _each(
    draw: Callable[[Random, Numbers], np.ndarray],
) -> Callable[[Random, Sequence[Numbers]], list[np.ndarray]]:
    return lambda random, outputs: [draw(random, n) for n in outputs]


def _one_hot(random: Random, outputs: Sequence[Numbers]) -> list[np.ndarray]:
    """One element of one output, the first or the last of it more often."""
    dys = [np.zeros(n.given.shape) for n in outputs]
    filled = [dy for dy in dys if dy.size]
    if filled:
        dy = filled[random.integers(len(filled))]
        dy.flat[int((0, dy.size - 1, random.integers(dy.size))[random.integers(3)])] = (
            random.choice([1, -2])
        )
    return dys


def _one_output(random: Random, outputs: Sequence[Numbers]) -> list[np.ndarray]:
    chosen = random.integers(len(outputs)) if outputs else 0
    return [random.normal(size=n.given.shape) * (i == chosen) for i, n in enumerate(outputs)]


def _sparse(random: Random, n: Numbers) -> np.ndarray:
    return random.normal(size=n.given.shape) * (random.random(n.given.shape) < 0.3)


def _balanced(random: Random, n: Numbers) -> np.ndarray:
    """Whole numbers whose sum is zero."""
    dy = random.integers(-3, 4, n.given.shape) * 1.0
    if dy.size:
        dy.flat[0] -= dy.sum()
    return dy


def _at_constant(random: Random, n: Numbers) -> np.ndarray:
    return random.normal(size=n.given.shape) * near_constant(random, n)


_COTANGENTS: dict[str, Callable[[Random, Sequence[Numbers]], list[np.ndarray]]] = {
    "normal": _each(DRAWS["normal"]),
    "ones": _each(lambda random, n: np.ones(n.given.shape)),
    "one-hot": _one_hot,
    "one output": _one_output,
    "sparse": _each(_sparse),
    "large": _each(
        lambda random, n: random.normal(size=n.given.shape) * 10 ** random.uniform(1, 6)
    ),
    "small": _each(
        lambda random, n: random.normal(size=n.given.shape) * 10 ** -random.uniform(1, 9)
    ),
    "huge": _each(
        lambda random, n: random.normal(size=n.given.shape) * 10 ** random.uniform(6, 15)
    ),
    "tiny": _each(
        lambda random, n: random.normal(size=n.given.shape) * 10 ** -random.uniform(9, 20)
    ),
    "positive": _each(lambda random, n: np.abs(random.normal(size=n.given.shape))),
    "negative": _each(lambda random, n: -np.abs(random.normal(size=n.given.shape))),
    "sizes apart": _each(DRAWS["sizes apart"]),
    "equal": _each(lambda random, n: np.full(n.given.shape, random.normal())),
    "minus ones": _each(lambda random, n: -np.ones(n.given.shape)),
    "whole numbers": _each(DRAWS["whole numbers"]),
    "sum zero": _each(_balanced),
    "in order": _each(DRAWS["in order"]),
    "at constants": _each(_at_constant),
    "all at a constant": _each(DRAWS["all at a constant"]),
    "one apart": _each(lambda random, n: _sparse(random, n) * 10.0 ** random.integers(0, 4)),
}
COTANGENTS = tuple(_COTANGENTS)


def cotangents(name: str, random: Random, outputs: Sequence[Numbers]) -> list[np.ndarray]:
    """Finite cotangents of all outputs, of one kind, in float64.

    >>> cotangents("ones", np.random.default_rng(0), [Numbers.of(np.zeros(2), "float32")])
    [array([1., 1.])]
    """
    dys = _COTANGENTS[name](random, outputs)
    return [np.where(np.isfinite(dy), dy, 1.0) for dy in dys]
