"""The calls of one rule with operands of one kind: how many, whose, and numbers to check it at."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.suite.identity import Identity, shown
from funcnn.suite.operands import behind, discrete, is_array, is_plain, kept, size_of
from funcnn.suite.wrappers import again, held
from funcnn.types import Aval, Function

_LOOKED_AT = 64  # calls, for those with the largest and the smallest numbers


class Bound(NamedTuple):
    """A call of a rule, its arguments in two parts.

    Attributes:
        args: all of them by position, with None for those that are operands.
        positions: where the operands stand.
        leaves: of the operands.
        tree: of the operands, a list of them.
    """

    args: tuple[Any, ...]
    positions: tuple[int, ...]
    leaves: list[Any]
    tree: Any

    @classmethod
    def of(cls, rule: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Bound:
        """As JAX binds them: keywords get their positions, and some arguments are static.

        >>> rule = jax.custom_vjp(lambda how, x: x, nondiff_argnums=(0,))
        >>> Bound.of(rule, (), {"how": "sum", "x": 2.0})[:3]
        (('sum', None), (1,), [2.0])
        """
        if keywords:
            bound = inspect.signature(rule.fun).bind(*args, **keywords)
            bound.apply_defaults()
            args = bound.args
        n = len(args)
        static = {i % n for i in rule.nondiff_argnums if n}
        positions = tuple(i for i in range(n) if i not in static)
        leaves, tree = jax.tree.flatten([args[i] for i in positions])
        others = tuple(args[i] if i in static else None for i in range(n))
        return cls(others, positions, leaves, tree)

    @property
    def avals(self) -> list[Aval]:
        """The types of the leaves."""
        return [jax.typeof(x) for x in self.leaves]

    def filled(self, operands: Sequence[Any]) -> list[Any]:
        """All arguments by position, with these for the operands."""
        args = list(self.args)
        for i, operand in zip(self.positions, operands, strict=True):
            args[i] = operand
        return args

    def described(self) -> str:
        """Its operands as text; a whole number, and what is static, with its value."""
        leaves = iter(map(_described, self.leaves))
        parts = dict.fromkeys(self.positions, 0)
        for i, one in zip(self.positions, self.tree.children(), strict=True):
            parts[i] = one.num_leaves
        texts = []
        for i, arg in enumerate(self.args):
            if i not in parts:
                texts.append(shown(arg))
            else:
                inside = [next(leaves) for _ in range(parts[i])]
                texts.append(inside[0] if len(inside) == 1 else f"({', '.join(inside)})")
        return ", ".join(texts)


def _described(x: Any) -> str:
    # JAX has numbers of its own that are Python's, too; those of NumPy have a dtype.
    if isinstance(x, (int, float, complex)) and not isinstance(x, np.generic):
        if isinstance(x, int):
            return str(int(x)) if not isinstance(x, bool) else repr(x)
        return "float" if isinstance(x, float) else "complex"
    return jax.typeof(x).str_short()


class Sample(NamedTuple):
    """A call to check a rule at.

    Attributes:
        rule: the instance that was called.
        bound: its arguments, with their numbers.
        how: "called" with these, "fetched" from a compiled program, or "drawn".
    """

    rule: Any
    bound: Bound
    how: str

    @property
    def leaves(self) -> list[Any]:
        """The numbers of the operands."""
        return self.bound.leaves

    def stated(self, name: str) -> tuple[Function, list[Any]]:
        """The rule as a function of its operands alone, and those.

        What the rule refuses to be differentiated by is no operand here: it keeps its numbers.
        """
        rule, bound = again(self.rule), self.bound
        fixed = held(self.rule, bound.tree)

        def call(*operands: Any) -> Any:
            given = iter(jax.tree.leaves(list(operands)))
            leaves = [x if k in fixed else next(given) for k, x in enumerate(bound.leaves)]
            return rule(*bound.filled(jax.tree.unflatten(bound.tree, leaves)))

        call.__name__ = call.__qualname__ = name
        free = [None if k in fixed else x for k, x in enumerate(bound.leaves)]
        return call, jax.tree.unflatten(bound.tree, free)


@dataclasses.dataclass
class Called:
    """The calls of one rule with operands of one kind.

    Attributes:
        identity: which rule it is.
        operands: their types as text, with the static values.
        x64: whether float64 was enabled.
        rule: the instance that was called first.
        bound: that call, without its numbers.
        avals: the types of the leaves.
        calls: how many there were; a program that is compiled calls a rule while it is traced.
        differentiated: in how many of these a derivative was taken.
        test: the first test that called it, "" where its module did.
        programs: how many compiled programs are kept in which its numbers may be.
        samples: numbers to check it at, by what is special about them.
    """

    identity: Identity
    operands: str
    x64: bool
    rule: Any
    bound: Bound
    avals: list[Aval]
    test: str = ""
    calls: int = 0
    differentiated: int = 0
    programs: int = 0
    samples: dict[str, Sample] = dataclasses.field(default_factory=dict)

    def note(self, rule: Any, bound: Bound, test: str) -> bool:
        """Note one call; whether its numbers were there to be seen."""
        self.calls += 1
        self.test = self.test or test
        seen = [behind(x) for x in bound.leaves]
        self.differentiated += any(one.differentiated for one in seen)
        if any(one.value is None for one in seen):
            return False
        if self.calls <= _LOOKED_AT or not self.samples:
            rows = (0, -1) if any(axis is not None for one in seen for axis in one.axes) else (0,)
            for row in rows:
                leaves = [kept(one.row(row)) for one in seen]
                self.offer(Sample(rule, without_numbers(bound)._replace(leaves=leaves), "called"))
        return True

    def offer(self, sample: Sample) -> None:
        """Keep a sample if it is the first, or has the largest or the smallest numbers.

        The first one gives way to one that is not the same number all over. Beside it stands one
        other whose integers or masks are not the same.
        """
        first = self.samples.get("first")
        if first is None or (is_plain(first.leaves) and not is_plain(sample.leaves)):
            self.samples["first"] = sample
            return
        if "other" not in self.samples and discrete(sample.leaves) != discrete(first.leaves):
            self.samples["other"] = sample
            return
        size = size_of(sample.leaves)
        if size > self._size("largest", "first"):
            self.samples["largest"] = sample
        elif size < self._size("smallest", "first"):
            self.samples["smallest"] = sample

    def _size(self, *names: str) -> float:
        return size_of(next(self.samples[n] for n in names if n in self.samples).leaves)

    @property
    def elements(self) -> int:
        """How many numbers its operands are."""
        return sum(int(np.prod(a.shape, dtype=int)) for a in self.avals)

    @property
    def has_floats(self) -> bool:
        """Whether there is anything to differentiate by."""
        return any(jnp.issubdtype(a.dtype, jnp.inexact) for a in self.avals)


def without_numbers(bound: Bound) -> Bound:
    """A call that keeps no tracer alive: of its leaves nothing stays."""
    return bound._replace(leaves=[], args=_static(bound))


def _static(bound: Bound) -> tuple[Any, ...]:
    """The static arguments, with the numbers behind tracers in them."""

    def seen(x: Any) -> Any:
        value = behind(x)
        return value.row(0) if value.value is not None else x

    return jax.tree.map(lambda x: kept(seen(x)) if is_array(x) else x, bound.args)
