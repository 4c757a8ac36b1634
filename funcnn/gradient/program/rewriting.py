"""Taking the custom rules out of a jaxpr, or putting others in their places."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.extend.core as jex

from funcnn.gradient.program.forward_mode import by_forward_mode, iterated_further
from funcnn.gradient.program.jaxprs import bind, is_jaxpr
from funcnn.gradient.program.reverse_mode import has_reverse_mode
from funcnn.gradient.program.sites import Site, inside_of, join, shape_of, site_of, wrapped
from funcnn.types import ArrayLike, Atom, ClosedJaxpr, Equation, Function, Jaxpr, PyTree

# What a kernel does inside is not a JAX program that can be differentiated or rewritten.
_OPAQUE = frozenset({"pallas_call"})


@dataclasses.dataclass
class Rewriting:
    """Takes out the rules for which `remove(site)` is true, and notes what it found.

    A rule without reverse mode inside (a while_loop, a kernel) is kept, and noted as irreversible.
    With `forward` none is kept: a loop gets a reverse mode that is made of its forward mode, and
    what has neither (a callback) is noted as irreversible and has no derivative any more.

    >>> import jax
    >>> closed = jax.make_jaxpr(jax.nn.relu)(1.0)
    >>> rewriting = Rewriting(lambda site: True)
    >>> "custom_jvp" in str(rewriting.closed(closed)), [str(s) for s in rewriting.removed]
    (False, ['relu'])
    """

    remove: Callable[[Site], bool]
    removed: list[Site] = dataclasses.field(default_factory=list)
    kept: list[Site] = dataclasses.field(default_factory=list)
    irreversible: list[Site] = dataclasses.field(default_factory=list)
    # Opened around functions that JAX will trace later: the batching rule of a custom_vmap.
    context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    # The parameters of the shard_map inside which the jaxpr stands.
    mapped: dict[str, Any] | None = None
    forward: bool = False
    # Nobody will ask for a reverse mode.
    inline: bool = False
    # In the place of each rule stands one that autodiff has made.
    twins: bool = False
    # Loops run on for a while after they have ended.
    further: bool = False

    def closed(self, closed: ClosedJaxpr) -> ClosedJaxpr:
        """The jaxpr, a closed one, without those rules."""
        return self._nested(closed, (), "")

    def _nested(self, value: Any, position: tuple[int | str, ...], path: str) -> Any:
        """A parameter of an equation: a jaxpr, a tuple of them, or anything else."""
        if isinstance(value, jex.Jaxpr):
            return self._jaxpr(value, position, path)
        if isinstance(value, jex.ClosedJaxpr):
            return value.replace(jaxpr=self._jaxpr(value.jaxpr, position, path))
        if isinstance(value, tuple) and any(map(is_jaxpr, value)):
            items = [self._nested(v, (*position, i), path) for i, v in enumerate(value)]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value

    def _jaxpr(self, jaxpr: Jaxpr, position: tuple[int | str, ...], path: str) -> Jaxpr:
        substitution: dict[Any, Any] = {}
        eqns: list[Equation] = []
        for i, eqn in enumerate(jaxpr.eqns):
            invars = [_substitute(substitution, v) for v in eqn.invars]
            here, scope = (*position, i), join(path, str(eqn.source_info.name_stack))
            inner = self._in_its_place(eqn, here, scope)
            if inner is None:
                params = self._parameters(eqn, here, scope)
                eqns.append(eqn.replace(invars=invars, params=params))
            else:
                outs = _inline(inner, invars, eqns)
                substitution.update(zip(eqn.outvars, outs, strict=True))
        outvars = [_substitute(substitution, v) for v in jaxpr.outvars]
        return jaxpr.replace(eqns=eqns, outvars=outvars)

    def _in_its_place(
        self, eqn: Equation, position: tuple[int | str, ...], path: str
    ) -> ClosedJaxpr | None:
        """The closed jaxpr to put in the place of an equation, None where it stays."""
        site = site_of(eqn, position, path)
        if site is not None:
            return self._rule(eqn, site)
        if (self.forward or self.further) and eqn.primitive.name == "while":
            return self._loop(eqn, position, path)
        return self._remat(eqn, position, path)

    def _loop(self, eqn: Equation, position: tuple[int | str, ...], path: str) -> ClosedJaxpr:
        """A loop that ends by itself, with a reverse mode."""
        inside = dataclasses.replace(self, forward=False, further=False)
        eqn = eqn.replace(params=inside._parameters(eqn, position, path))
        run = iterated_further(eqn) if self.further else lambda *x: bind(eqn, x)
        if self.forward:
            run = by_forward_mode(run)
        return jax.make_jaxpr(run)(*(shape_of(v.aval) for v in eqn.invars))

    def _parameters(
        self, eqn: Equation, position: tuple[int | str, ...], path: str
    ) -> dict[str, Any]:
        if eqn.primitive.name in _OPAQUE or site_of(eqn, position, path) is not None:
            return eqn.params
        inside = self
        if eqn.primitive.name == "shard_map":
            inside = dataclasses.replace(self, mapped=eqn.params)  # with the same lists
        params = {k: inside._nested(v, (*position, k), path) for k, v in eqn.params.items()}
        if eqn.primitive.name == "custom_vmap_call":
            params["rule"] = self._batching(params["rule"])
        return params

    def _rule(self, eqn: Equation, site: Site) -> ClosedJaxpr | None:
        """What the rule wraps, itself rewritten, where the rule is to be taken out; else None."""
        if not self.remove(site):
            self.kept.append(site)
            return None
        inside = dataclasses.replace(self, removed=[], kept=[], irreversible=[])
        inner = inside._nested(wrapped(eqn), (*site.position, "call"), site.path)
        if self.inline or has_reverse_mode(inner, self.mapped):
            self.removed.append(site)
        else:
            self.irreversible.append(site)
            if not self.forward:
                return None
        self.removed += inside.removed
        self.kept += inside.kept
        self.irreversible += inside.irreversible
        return _twin(inner) if self.twins else inner

    def _remat(
        self, eqn: Equation, position: tuple[int | str, ...], path: str
    ) -> ClosedJaxpr | None:
        """The new engine's checkpoint holds its jaxpr out of sight: it is made again around it."""
        inside = inside_of(eqn)
        if inside is None:
            return None
        inner = self._nested(inside, (*position, "jaxpr"), path)
        run = jax.checkpoint(jex.jaxpr_as_fun(inner), policy=eqn.params["_prim"].policy)
        return jax.make_jaxpr(run)(*map(shape_of, inner.in_avals))

    def _batching(self, rule: Function) -> Function:
        """The batching rule of a custom_vmap, which JAX traces once somebody calls vmap."""

        @functools.wraps(rule)
        def without_rules(
            axis_size: int, in_batched: PyTree, *args: PyTree
        ) -> tuple[PyTree, PyTree]:
            batched: list[Any] = []

            def values(*args: PyTree) -> PyTree:
                y, out_batched = rule(axis_size, in_batched, *args)
                batched.append(out_batched)
                return y

            with self.context():
                jaxpr, y = jax.make_jaxpr(values, return_shape=True)(*args)
            again = dataclasses.replace(self, removed=[], kept=[], irreversible=[])
            leaves = jex.jaxpr_as_fun(again.closed(jaxpr))(*jax.tree.leaves(args))
            return jax.tree.unflatten(jax.tree.structure(y), leaves), batched[-1]

        return without_rules


def sites(closed: ClosedJaxpr) -> list[Site]:
    """Every site of a custom rule in a program, those inside other rules included.

    >>> import jax
    >>> [site.kind for site in sites(jax.make_jaxpr(jax.nn.silu)(1.0))]
    []
    """
    rewriting = Rewriting(lambda site: True)
    rewriting.closed(closed)
    return rewriting.removed + rewriting.irreversible


def _twin(inner: ClosedJaxpr) -> ClosedJaxpr:
    """A closed jaxpr under a custom_vjp that autodiff has made."""
    run = jex.jaxpr_as_fun(inner)

    def forward(*x: ArrayLike) -> tuple[list[Any], tuple[ArrayLike, ...]]:
        return run(*x), x

    def backward(x: tuple[Any, ...], dys: list[Any]) -> tuple[Any, ...]:
        return tuple(d if d.dtype != jax.dtypes.float0 else None for d in jax.vjp(run, *x)[1](dys))

    made = jax.custom_vjp(run)
    made.defvjp(forward, backward)
    return jax.make_jaxpr(made)(*map(shape_of, inner.in_avals))


def _substitute(substitution: dict[Any, Any], atom: Atom) -> Atom:
    return atom if isinstance(atom, jex.Literal) else substitution.get(atom, atom)


def _inline(closed: ClosedJaxpr, invars: list[Atom], eqns: list[Equation]) -> list[Atom]:
    """Append the equations of a closed jaxpr, with fresh variables, and return its outputs."""
    jaxpr = closed.jaxpr
    constants = [
        jex.Literal(c, v.aval) for v, c in zip(jaxpr.constvars, closed.consts, strict=True)
    ]
    fresh: dict[Any, Any] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *invars], strict=True)
    )
    for eqn in jaxpr.eqns:
        for v in eqn.outvars:
            fresh[v] = v if isinstance(v, jex.DropVar) else jex.Var(v.aval)
        eqns.append(
            eqn.replace(
                invars=[_substitute(fresh, v) for v in eqn.invars],
                outvars=[fresh[v] for v in eqn.outvars],
            )
        )
    return [_substitute(fresh, v) for v in jaxpr.outvars]
