"""Noting every call of a hand-written rule, whoever wrote it, while a suite runs.

All of them are instances of `jax.custom_vjp` or `jax.custom_jvp`: `custom_gradient`, and those of
Equinox, Flax and funcnn, make one. The calls of these two classes are noted, and go on unchanged.
"""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from funcnn.core.errors import first_line
from funcnn.core.registry import Rule, registered_rules
from funcnn.suite.calls import Bound, Called, Sample, without_numbers
from funcnn.suite.identity import Identity, identity, is_of_jax, line_of, place
from funcnn.suite.operands import behind, drawn, is_array, without_axes
from funcnn.suite.programs import Programs, tapped

_KINDS = (jax.custom_vjp, jax.custom_jvp)
_MOST_TAPS = 3  # programs in which the numbers of one kind of call are looked for


class _Tap(NamedTuple):
    """A call whose operands are looked for in programs, and the axes of vmap around each."""

    called: Called
    rule: Any
    known: Bound
    axes: list[Any]


class Recorder:
    """What a suite calls, from `start` to `stop`.

    Attributes:
        called: the calls of each rule with operands of each kind.
        test: the test that runs now.

    >>> recorder = Recorder(lambda name: True)
    >>> recorder.start()
    >>> _ = jax.nn.relu(jnp.ones(3)), jax.nn.relu(jnp.ones(3))
    >>> recorder.stop()
    >>> [(one.identity.name, one.operands, one.calls) for one in recorder.called.values()]
    [('relu', 'float32[3]', 2)]
    """

    def __init__(self, wanted: Callable[[str], bool], most_bytes: float = float("inf")):
        self.called: dict[Any, Called] = {}
        self.test = ""
        self._wanted = wanted
        self._identities: weakref.WeakKeyDictionary[Any, Identity] = weakref.WeakKeyDictionary()
        self._defined: dict[str, Any] = {}
        self._originals: list[tuple[type, str, Any]] = []
        self._taps: list[_Tap] = []
        self._programs = Programs(self._is_missing, self._found, most_bytes)
        self.failures: list[str] = []

    def start(self) -> None:
        """From now on calls are noted, and what has been defined before is looked for once."""
        for kind in _KINDS:
            self._replace(kind, "__call__", self._noting)
            self._replace(kind, "__init__", self._defining)
        self._programs.running.start()
        for rule in gc.get_objects():
            if type(rule) in _KINDS:
                self._define(rule)

    def stop(self) -> None:
        """Everything is as it was before `start`."""
        for kind, name, original in self._originals:
            setattr(kind, name, original)
        self._originals.clear()
        self._programs.running.stop()

    def _replace(self, kind: type, name: str, wrapper: Callable[[Any], Any]) -> None:
        original = getattr(kind, name)
        self._originals.append((kind, name, original))
        setattr(kind, name, wrapper(original))

    def _defining(self, original: Any) -> Any:
        @functools.wraps(original)
        def init(rule: Any, *args: Any, **keywords: Any) -> None:
            original(rule, *args, **keywords)
            self._define(rule)

        return init

    def _define(self, rule: Any) -> None:
        line = place(rule) if hasattr(rule, "fun") else ""
        if line:
            self._defined.setdefault(line, rule)

    def _noting(self, original: Any) -> Any:
        @functools.wraps(original)
        def call(rule: Any, *args: Any, **keywords: Any) -> Any:
            failure = ""
            try:
                args, keywords = self._note(rule, args, keywords)
            except Exception as error:  # what is wrong with a call, it says itself
                failure = f"{type(error).__name__}: {first_line(error)}"
            y = original(rule, *args, **keywords)
            if failure:
                self.failures.append(failure)
            return y

        return call

    def _note(self, rule: Any, args: Any, keywords: Any) -> tuple[Any, Any]:
        """The arguments to call with: tapped, where their numbers are not there to be seen."""
        who = self._identities.get(rule)
        if who is None:
            who = self._identities[rule] = identity(rule)
        if not self._wanted(who.name):
            return args, keywords
        bound = Bound.of(rule, args, keywords)
        x64 = jnp.result_type(float) == jnp.float64
        key = who, bound.described(), bool(x64)
        one = self.called.get(key)
        if one is None:
            one = Called(*key, rule, without_numbers(bound), bound.avals)
            self.called[key] = one
        seen = one.note(rule, bound, self.test)
        if seen or one.samples or one.programs >= _MOST_TAPS or is_of_jax(who.file):
            return args, keywords
        return self._tapped(one, rule, bound), {}

    def _tapped(self, one: Called, rule: Any, bound: Bound) -> list[Any]:
        number = len(self._taps)
        self._programs.expecting = True
        seen = [behind(x) for x in bound.leaves]
        at_hand = [s.row(0) if s.value is not None else None for s in seen]
        known = without_numbers(bound)._replace(leaves=at_hand)
        self._taps.append(_Tap(one, rule, known, [s.axes for s in seen]))
        hidden = sum(s.value is None for s in seen)
        leaves = [
            checkpoint_name(x, tapped(number, k, hidden)) if s.value is None else x
            for k, (x, s) in enumerate(zip(bound.leaves, seen, strict=True))
        ]
        return bound.filled(jax.tree.unflatten(bound.tree, leaves))

    def _is_missing(self, tap: int) -> bool:
        one = self._taps[tap].called
        return not one.samples and one.programs < _MOST_TAPS

    def _found(self, tap: int) -> None:
        self._taps[tap].called.programs += 1

    def fetch(self, seconds: float = float("inf")) -> None:
        """Run the compiled programs that were kept once more, for the operands inside of them."""
        for tap, rows in self._programs.fetched(seconds):
            one, rule, known, axes = self._taps[tap]
            for leaves in rows:
                filled = [
                    at_hand if k not in leaves else _fitting(leaves[k], axes[k], one.avals[k])
                    for k, at_hand in enumerate(known.leaves)
                ]
                if all(x is not None for x in filled):
                    one.offer(Sample(rule, known._replace(leaves=filled), "fetched"))

    def draw(self, seed: int = 0) -> None:
        """Numbers for calls whose own are nowhere to be seen, in the range of the rule's others."""
        for one in self.called.values():
            if one.samples:
                continue
            others = [
                c.samples["first"].leaves
                for c in self.called.values()
                if c.identity == one.identity and "first" in c.samples
                if len(c.avals) == len(one.avals) and c.samples["first"].how != "drawn"
            ]
            leaves = [
                drawn(aval, [leaves[k] for leaves in others], seed + k)
                for k, aval in enumerate(one.avals)
            ]
            bound = one.bound._replace(leaves=leaves)
            one.samples["first"] = Sample(one.rule, bound, "drawn")

    @property
    def blind(self) -> str:
        """Why nothing was seen of the operands inside compiled programs, or ""."""
        return self._programs.running.blind

    def defined(self) -> dict[str, tuple[str, str]]:
        """The name and the line of the derivative of each rule, by the line of its function."""
        found = {line: identity(rule) for line, rule in self._defined.items()}
        ours = registered_rules().values()
        found |= {line_of(r.forward): _of_ours(r) for r in ours if not r.underived}
        return {line: (who.name, who.source) for line, who in found.items() if line}

    def lines_called(self) -> list[str]:
        """Those lines, of the rules that were called."""
        return sorted({place(one.rule) for one in self.called.values()})


def _of_ours(rule: Rule) -> Identity:
    return Identity(rule.name, "custom_vjp", line_of(rule.backward), "")


def _fitting(value: Any, axes: Any, aval: Any) -> Any:
    """One row of what was fetched; None where it has another shape than the operand."""
    if not is_array(value):
        return value
    row = without_axes(value, axes, 0)
    while row.ndim > len(aval.shape):  # a vmap around the compiled program
        row = row[0]
    return row if row.shape == aval.shape else None
