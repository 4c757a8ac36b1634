"""Where a user would place jax.checkpoint: round the body of each scan, and round each layer.

The layers of a program are its named scopes: funcnn's chains and Flax's modules leave them. The
program is evaluated piece by piece, so nothing in it needs to know.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.extend.core as jex

from funcnn.core.removal import Removal
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import closed, inner_program, run_scan
from funcnn.gradient.program.pieces import Piece, cut, last_reads, run_pieces, with_others
from funcnn.gradient.program.without_rules import take_out
from funcnn.types import ClosedJaxpr, Equation, Function, Jaxpr, PyTree

POLICIES = ("nothing_saveable", "dots_saveable")
_DEEPEST = 8  # named scopes inside each other


@dataclasses.dataclass(frozen=True)
class Placement:
    """A program with jax.checkpoint in it.

    Attributes:
        run: `run(*leaves) -> list of outputs`.
        where: where it stands, in words.
    """

    run: Callable[..., list[Any]]
    where: str


def place(program: Jaxpr | ClosedJaxpr) -> Placement | None:
    """A closed jaxpr with jax.checkpoint round each layer and each body of a scan.

    None where it has neither: then there is only the whole program to put it round, see `whole`.

    >>> import jax.numpy as jnp
    >>> def rows(x):
    ...     return jax.lax.scan(lambda carry, row: (jnp.sin(carry + row), None), x[0], x)[0]
    >>> placed = place(jax.make_jaxpr(rows)(jnp.ones((3, 2))))
    >>> placed.where, len(placed.run(jnp.ones((3, 2))))
    ('round the body of 1 scan', 1)
    """
    wrapped = _Wrapped()
    run = _program(program, wrapped, layers=True)
    return Placement(run, str(wrapped)) if wrapped.scans or wrapped.layers else None


def whole(program: ClosedJaxpr, policy: str) -> Placement:
    """A closed jaxpr with jax.checkpoint round all of it, and a policy of what may be kept.

    >>> import jax.numpy as jnp
    >>> placed = whole(jax.make_jaxpr(jnp.sin)(1.0), "dots_saveable")
    >>> placed.where
    'round the whole function, dots_saveable'
    """
    kept = getattr(jax.checkpoint_policies, policy)
    run = jax.checkpoint(jex.jaxpr_as_fun(program), policy=kept)
    return Placement(run, f"round the whole function, {policy}")


def checkpointed(f: Function) -> Function:
    """`f` without hand-written rules and with jax.checkpoint where a user would place it.

    >>> import jax.numpy as jnp
    >>> float(jax.grad(checkpointed(lambda x: jnp.sin(x) ** 2))(0.0))
    0.0
    """

    def automatic(*args: PyTree, **keywords: PyTree) -> PyTree:
        program = take_out(f, args, keywords, Removal())[0]
        placed = place(program.jaxpr) or whole(program.jaxpr, POLICIES[0])
        return jax.tree.unflatten(program.out_tree, placed.run(*program.leaves))

    return automatic


@dataclasses.dataclass
class _Wrapped:
    """Round what jax.checkpoint was placed."""

    scans: int = 0
    layers: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        plural = "" if self.scans == 1 else "s"
        scans = f"the body of {self.scans} scan{plural}" if self.scans else ""
        layers = f"each of the layers {', '.join(self.layers)}" if self.layers else ""
        return "round " + " and round ".join(filter(None, [scans, layers]))


def _program(
    program: Jaxpr | ClosedJaxpr, wrapped: _Wrapped, layers: bool
) -> Callable[..., list[Any]]:
    """A closed jaxpr as a function, with jax.checkpoint round its parts."""
    jaxpr = closed(program).jaxpr
    depth = _depth_of_layers(jaxpr.eqns) if layers else None
    level = _Level(jaxpr, last_reads(jaxpr), wrapped, layers)
    steps = list(level.steps((0, len(jaxpr.eqns)), depth))
    return lambda *args: run_pieces(closed(program), steps, args)


@dataclasses.dataclass(frozen=True)
class _Level:
    """A jaxpr that is cut into steps, and what the cutting has found."""

    jaxpr: Jaxpr
    last: dict[jex.Var, int]
    wrapped: _Wrapped
    layers: bool

    def steps(self, span: tuple[int, int], depth: int | None) -> Iterator[Piece]:
        """The steps of some equations: layers at a depth of named scopes, and the rest."""
        for start, stop, layer in _runs(self.jaxpr.eqns, span, depth):
            if layer and depth is not None and any(map(_has_scan, self.jaxpr.eqns[start:stop])):
                yield from self.steps((start, stop), depth + 1)
            elif layer:
                self.wrapped.layers.append(layer)
                piece = cut(self.jaxpr, start, stop, self.last)
                yield dataclasses.replace(piece, run=jax.checkpoint(piece.run))
            else:
                yield from self.plain((start, stop))

    def plain(self, span: tuple[int, int]) -> Iterator[Piece]:
        """Equations outside any layer: scans and calls are looked into, others run as they are."""
        return with_others(self.jaxpr, span, self.last, self.opened)

    def opened(self, number: int, eqn: Equation) -> Callable[..., list[Any]] | None:
        """A scan, or a call that holds scans or layers, as a function; None for anything else."""
        has_scan = _has_scan(eqn)
        if eqn.primitive.name == "scan":
            return _scan(eqn, self.wrapped) if has_scan else None
        inner = inner_program(eqn)
        if inner is None:
            return None
        has_layers = self.layers and _depth_of_layers(inner[1].jaxpr.eqns) is not None
        return _program(inner[1], self.wrapped, self.layers) if has_scan or has_layers else None


def _scan(eqn: Equation, wrapped: _Wrapped) -> Callable[..., list[Any]]:
    """The scan of an equation with jax.checkpoint round its body."""
    wrapped.scans += 1
    # XLA merges nothing across the steps of a loop, so that it need not be kept from it.
    body = jax.checkpoint(
        _program(closed(eqn.params["jaxpr"]), wrapped, layers=False), prevent_cse=False
    )
    return lambda *operands: run_scan(eqn, operands, lambda x, _: (body(*x), None))[0]


def _has_scan(eqn: Equation) -> bool:
    """Whether there is a scan over floating-point numbers in an equation."""
    if eqn.primitive.name == "scan":
        return any(hasattr(v.aval, "dtype") and is_float(v.aval) for v in eqn.outvars)
    inner = inner_program(eqn)
    return bool(inner) and any(map(_has_scan, inner[1].jaxpr.eqns))


def _scopes(eqn: Equation) -> list[str]:
    """The named scopes of an equation, without the transformations: vmap(dense_0) is dense_0."""
    parts = str(eqn.source_info.name_stack).split("/")
    bare = [re.sub(r"^(?:\w+\()+|\)+$", "", part) for part in parts]
    return [part for part in bare if part]


def _depth_of_layers(eqns: Sequence[Equation]) -> int | None:
    """The first depth of named scopes at which there are two layers or more."""
    scopes = [_scopes(eqn) for eqn in eqns]
    for depth in range(_DEEPEST):
        if len({tuple(s[: depth + 1]) for s in scopes if len(s) > depth}) > 1:
            return depth
    return None


def _runs(
    eqns: Sequence[Equation], span: tuple[int, int], depth: int | None
) -> Iterator[tuple[int, int, str]]:
    """Consecutive equations of one layer, and those between layers under the name ""."""
    start, stop = span
    names = [""] * (stop - start)
    if depth is not None:
        scopes = [_scopes(eqn) for eqn in eqns[start:stop]]
        names = ["/".join(s[: depth + 1]) if len(s) > depth else "" for s in scopes]
    # What a rule wraps has lost its scope when it was taken out of it.
    seen = -1
    for i, name in enumerate(names):
        if name:
            if seen >= 0 and names[seen] == name:
                names[seen:i] = [name] * (i - seen)
            seen = i
    begin = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or names[i] != names[begin]:
            yield start + begin, start + i, names[begin]
            begin = i
