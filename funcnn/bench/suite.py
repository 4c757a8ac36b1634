"""The benchmarks by name, and running them one after another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from funcnn.bench import operations, training
from funcnn.bench.large import LARGE
from funcnn.bench.measure import Row, measure

_ALL: tuple[Callable[[], Any], ...] = (
    *(training.cnn_step, training.mlp_step, training.digits_step),
    *(operations.max_pool_2, operations.max_pool_3),
    *(operations.depthwise_32, operations.depthwise_128),
    *(operations.scanned_stack, operations.linear_cross_entropy),
)
BENCHMARKS = {f.__name__: f for f in (*_ALL, *LARGE)}


def usual() -> list[str]:
    """What runs where no name is given: the large ones on a GPU, the others elsewhere.

    >>> "cnn_step" in usual()
    True
    """
    on_gpu = jax.default_backend() == "gpu"
    return [name for name in BENCHMARKS if name.startswith("large_") == on_gpu]


def describe(name: str) -> str:
    """What a benchmark does, in one line.

    >>> describe("mlp_step")
    '784-512-512-10, batch 128, Adam; funcnn takes 8 steps a call.'
    """
    return (inspect.getdoc(BENCHMARKS[name]) or "").splitlines()[0]


def run(names: Sequence[str], rounds: int) -> Iterator[list[Row]]:
    """The rows of each benchmark, the usual ones where none is named.

    >>> next(run(["absent"], rounds=1))
    Traceback (most recent call last):
    KeyError: 'absent'
    """
    for name in names or usual():
        arms, absent = BENCHMARKS[name]()
        yield measure(name, arms, rounds, absent)
