"""The three arms of a comparison: automatic, automatic with jax.checkpoint, and manual."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex

from funcnn.core.errors import first_line, kind_and_line
from funcnn.gradient.cost.flops import Compiled, Count, compiled_expense, count_operations
from funcnn.gradient.cost.residuals import ledger
from funcnn.gradient.program.compiling import compiled as compiled_once
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.remat import POLICIES, Placement, place, whole
from funcnn.gradient.program.without_rules import Program
from funcnn.types import Array


@dataclasses.dataclass(frozen=True)
class Arm:
    """What one way to the gradient of a program costs; NaN where it was not measured.

    Attributes:
        name: "automatic", "checkpointed" or "manual".
        flops: operations, counted on the jaxpr.
        bytes_accessed: as the compiler says, which counts the body of a loop once.
        temporary_bytes: the peak memory beside arguments and results, as compiled.
        residual_bytes: what the forward pass keeps for the backward pass, arguments not counted.
        compile_seconds: the seconds of one compilation.
        seconds_median, seconds_low, seconds_high: of a call, the arms called in turn.
        note: where jax.checkpoint stands, and what the operations do not hold.
    """

    name: str
    flops: float = math.nan
    bytes_accessed: float = math.nan
    temporary_bytes: float = math.nan
    residual_bytes: float = math.nan
    compile_seconds: float = math.nan
    seconds_median: float = math.nan
    seconds_low: float = math.nan
    seconds_high: float = math.nan
    note: str = ""

    def timed(self, seconds: Sequence[float]) -> Arm:
        """The same arm with the seconds of its calls.

        >>> Arm("manual").timed([3.0, 1.0, 2.0]).seconds_median
        2.0
        """
        middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
        return dataclasses.replace(self, seconds_median=middle, seconds_low=low, seconds_high=high)


@dataclasses.dataclass(frozen=True, eq=False)
class Gradient:
    """The gradient of a traced program by some of its flat leaves.

    Attributes:
        program: it, with a scalar as its first result.
        leaves: the indices of the leaves to differentiate.
        run: evaluates the program: `run(*leaves) -> list of outputs`.
    """

    program: Program
    leaves: tuple[int, ...]
    run: Callable[..., list[Any]]

    @classmethod
    def of(cls, program: Program, leaves: Sequence[int]) -> Gradient:
        """The gradient of a program as it is.

        >>> import jax.numpy as jnp
        >>> from funcnn.gradient.program.without_rules import trace
        >>> Gradient.of(trace(lambda x: x**2, (jnp.ones(()),), {}), (0,))([jnp.float32(3)])
        [Array(6., dtype=float32)]
        """
        return cls(program, tuple(leaves), jex.jaxpr_as_fun(program.jaxpr))

    def where_it_stands(self) -> Gradient:
        """The same of the function that was traced, which is called anew.

        >>> import jax.numpy as jnp
        >>> from funcnn.gradient.program.without_rules import trace
        >>> gradient = Gradient.of(trace(lambda x: x**2, (jnp.ones(()),), {}), (0,))
        >>> gradient.where_it_stands()([jnp.float32(3)])
        [Array(6., dtype=float32)]
        """
        function = self.program.function
        return dataclasses.replace(self, run=lambda *leaves: jax.tree.leaves(function(*leaves)))

    def __call__(self, leaves: list[Any]) -> list[Any]:
        """The gradient at flat leaves, one for each chosen leaf."""

        def scalar(*chosen: Array) -> Array:
            filled = list(leaves)
            for i, value in zip(self.leaves, chosen, strict=True):
                filled[i] = value
            return self.run(*filled)[0]

        argnums = tuple(range(len(self.leaves)))
        return list(jax.grad(scalar, argnums)(*(leaves[i] for i in self.leaves)))


@dataclasses.dataclass(frozen=True)
class Built:
    """A gradient that has been compiled.

    Attributes:
        gradient: what was compiled.
        call: `call(leaves) -> list of cotangents`.
        seconds: how long that took.
        expense: what the compiler says of it.
    """

    gradient: Gradient
    call: Callable[[list[Any]], list[Any]]
    seconds: float
    expense: Compiled

    def count(self) -> Count:
        """The operations of the gradient, on its jaxpr."""
        return count_operations(jax.make_jaxpr(self.gradient)(self.gradient.program.leaves))


def build(gradient: Gradient, *, quick: bool = False) -> Built:
    """Compile a gradient; quick for one that is run once, and neither timed nor measured.

    >>> import jax.numpy as jnp
    >>> from funcnn.gradient.program.without_rules import trace
    >>> built = build(Gradient.of(trace(lambda x: x**2, (jnp.ones(()),), {}), (0,)))
    >>> built.call([jnp.ones(())])
    [Array(2., dtype=float32)]
    """
    jitted: Any = compiled_once(gradient) if quick else jax.jit(gradient)
    lowered = jitted.lower(gradient.program.leaves)
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    return Built(gradient, compiled, seconds, compiled_expense(compiled))


def measure(name: str, built: Built, *notes: str) -> Arm:
    """The row of an arm, without its times.

    >>> import jax.numpy as jnp
    >>> from funcnn.gradient.program.without_rules import trace
    >>> f = trace(lambda x: jnp.sum(jnp.sin(x)), (jnp.ones(3),), {})
    >>> arm = measure("automatic", build(Gradient.of(f, (0,))))
    >>> arm.flops, arm.residual_bytes
    (6.0, 12)
    """
    count = built.count()
    gradient = built.gradient
    kept, more = math.nan, []
    try:
        kept_by = ledger(
            lambda *x: _loss(gradient.run(*x)), gradient.program.leaves, gradient.leaves
        )
        kept = kept_by.total - kept_by.argument
    except Exception as error:  # JAX cannot always differentiate a rule with symbolic zeros twice
        more = [f"residuals not counted: {kind_and_line(error)}"]
    return Arm(
        name,
        count.flops,
        built.expense.bytes_accessed,
        built.expense.temporary_bytes,
        kept,
        built.seconds,
        note="; ".join([*notes, *count.notes, *more]),
    )


def _loss(outputs: list[Array]) -> Array:
    return outputs[0]


def build_checkpointed(automatic: Gradient) -> tuple[Built | None, str]:
    """The automatic gradient with jax.checkpoint where a user would place it, and where that is.

    Where a program has neither layers nor scans, the policy that leaves the smaller peak of memory,
    or the fewer operations at the same peak. None where jax.checkpoint refuses the program.

    >>> import jax.numpy as jnp
    >>> from funcnn.gradient.program.without_rules import trace
    >>> f = trace(lambda x: jnp.sum(jnp.sin(x)), (jnp.ones(3),), {})
    >>> build_checkpointed(Gradient.of(f, (0,)))[1].startswith("round the whole function, ")
    True
    """
    try:
        placed = place(automatic.program.jaxpr)
        if placed:
            return build(_with(automatic, placed)), placed.where
        return _better(automatic)
    except NotImplementedError as error:
        return None, f"jax.checkpoint refuses this program: {first_line(error)}"


def _with(automatic: Gradient, placed: Placement) -> Gradient:
    return dataclasses.replace(automatic, run=placed.run)


def _better(automatic: Gradient) -> tuple[Built, str]:
    tried = []
    for policy in POLICIES:
        placed = whole(automatic.program.jaxpr, policy)
        built = build(_with(automatic, placed))
        tried.append((built.expense.temporary_bytes, built.count().flops, built, placed.where))
    (_, _, best, where), (memory, flops, _, other) = sorted(tried, key=lambda t: t[:2])
    return best, f"{where} ({other.rpartition(' ')[2]}: {memory:g} bytes, {flops:g} FLOPs)"


def require_scalar(program: Program, has_aux: bool) -> None:
    """Raise TypeError unless the program returns a floating-point scalar, first where it has more.

    >>> import jax.numpy as jnp
    >>> from funcnn.gradient.program.without_rules import trace
    >>> require_scalar(trace(jnp.sin, (jnp.ones(3),), {}), has_aux=False)
    Traceback (most recent call last):
    TypeError: compare: f must return a floating-point scalar (has_aux=True where it returns more),
    found float32[3]
    """
    results = program.jaxpr.out_avals
    first = results[0] if results else None
    if first is None or first.shape or not is_float(first) or (len(results) > 1 and not has_aux):
        actual = ", ".join(str(a) for a in results[:3]) or "nothing"
        aux = "" if has_aux else " (has_aux=True where it returns more)"
        raise TypeError(f"compare: f must return a floating-point scalar{aux}, found {actual}")
