"""Walking and rewriting jaxprs: where the custom rules of a program stand, and taking them out.

Everything here is `jax.extend.core`; what a jaxpr looks like inside is not promised by JAX, so all
that depends on it stands in this file, and tests/gradient/test_jaxprs.py fails when it moves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

# What a kernel does inside is not a JAX program that can be differentiated or rewritten.
_OPAQUE = frozenset({"pallas_call"})
_RULES = frozenset({"custom_jvp_call", "custom_vjp_call"})


@dataclasses.dataclass(frozen=True)
class Site:
    """One place where a program calls a custom rule.

    Attributes:
        position: where it stands in the jaxpr, a tuple that is unique in the program.
        name: the name of the rule or, for a foreign one, of the function that it wraps.
        path: the named scopes around it, which for a funcnn model are the path of the layer.
        kind: "custom_vjp" or "custom_jvp".
        source: file and line of the wrapped function.
    """

    position: tuple[Any, ...]
    name: str
    path: str
    kind: str
    source: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}" if self.path else self.name


@dataclasses.dataclass
class Rewriting:
    """Takes out the rules for which `remove(site)` is true, and notes what it found.

    >>> import jax
    >>> closed = jax.make_jaxpr(jax.nn.relu)(1.0)
    >>> rewriting = Rewriting(lambda site: True)
    >>> "custom_jvp" in str(rewriting.closed(closed)), [str(s) for s in rewriting.removed]
    (False, ['relu'])
    """

    remove: Callable[[Site], bool]
    removed: list[Site] = dataclasses.field(default_factory=list)
    left: list[Site] = dataclasses.field(default_factory=list)
    irreversible: list[Site] = dataclasses.field(default_factory=list)

    def closed(self, closed: Any) -> Any:
        """The jaxpr, a closed one, without those rules."""
        return self._nested(closed, (), "")

    def _nested(self, value: Any, position: tuple[Any, ...], path: str) -> Any:
        """A parameter of an equation: a jaxpr, a tuple of them, or anything else."""
        if isinstance(value, jex.Jaxpr):
            return self._jaxpr(value, position, path)
        if isinstance(value, jex.ClosedJaxpr):
            return value.replace(jaxpr=self._jaxpr(value.jaxpr, position, path))
        if isinstance(value, tuple) and any(map(_holds_jaxpr, value)):
            items = [self._nested(v, (*position, i), path) for i, v in enumerate(value)]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value

    def _jaxpr(self, jaxpr: Any, position: tuple[Any, ...], path: str) -> Any:
        substitution: dict[Any, Any] = {}
        eqns: list[Any] = []
        for i, eqn in enumerate(jaxpr.eqns):
            invars = [_substitute(substitution, v) for v in eqn.invars]
            here, scope = (*position, i), _join(path, str(eqn.source_info.name_stack))
            if eqn.primitive.name in _RULES:
                inner = self._rule(eqn, here, scope)
                if inner is None:
                    eqns.append(eqn.replace(invars=invars))
                else:
                    outs = _inline(inner, invars, eqns)
                    substitution.update(zip(eqn.outvars, outs, strict=True))
            else:
                params = eqn.params
                if eqn.primitive.name not in _OPAQUE:
                    params = {k: self._nested(v, (*here, k), scope) for k, v in params.items()}
                eqns.append(eqn.replace(invars=invars, params=params))
        outvars = [_substitute(substitution, v) for v in jaxpr.outvars]
        return jaxpr.replace(eqns=eqns, outvars=outvars)

    def _rule(self, eqn: Any, position: tuple[Any, ...], path: str) -> Any:
        """What the rule wraps, itself rewritten, where the rule is to be taken out; else None."""
        site = _site(eqn, position, path)
        if not self.remove(site):
            self.left.append(site)
            return None
        inside = Rewriting(self.remove)
        inner = inside._nested(eqn.params["call_jaxpr"], (*position, "call"), path)
        if not _has_reverse_mode(inner):
            self.irreversible.append(site)
            return None
        self.removed += [site, *inside.removed]
        self.left += inside.left
        self.irreversible += inside.irreversible
        return inner


def sites(closed: Any) -> list[Site]:
    """Every site of a custom rule in a program, those inside other rules included.

    >>> import jax
    >>> [site.kind for site in sites(jax.make_jaxpr(jax.nn.silu)(1.0))]
    []
    """
    rewriting = Rewriting(lambda site: True)
    rewriting.closed(closed)
    return rewriting.removed + rewriting.irreversible


def _site(eqn: Any, position: tuple[Any, ...], path: str) -> Site:
    name, _, source = eqn.params["call_jaxpr"].debug_info.func_src_info.partition(" at ")
    return Site(position, name, path, eqn.primitive.name.removesuffix("_call"), source)


def _join(path: str, scope: str) -> str:
    return "/".join(part for part in (path, scope) if part)


def _holds_jaxpr(value: Any) -> bool:
    return isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr))


def _substitute(substitution: dict[Any, Any], atom: Any) -> Any:
    return atom if isinstance(atom, jex.Literal) else substitution.get(atom, atom)


def _inline(closed: Any, invars: list[Any], eqns: list[Any]) -> list[Any]:
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


def _has_reverse_mode(closed: Any) -> bool:
    """Whether JAX can differentiate what a rule wraps: a while_loop it cannot."""

    def pull_back(*args: Any) -> Any:
        y, pull = jax.vjp(lambda *a: _inexact(jex.jaxpr_as_fun(closed)(*a)), *args)
        return _inexact(pull(jax.tree.map(jnp.ones_like, y)))

    try:
        jax.eval_shape(
            pull_back, *[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.in_avals]
        )
    except Exception:  # JAX raises ValueError, TypeError or NotImplementedError, by the primitive
        return False
    return True


def _inexact(leaves: Any) -> list[Any]:
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
