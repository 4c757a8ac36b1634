"""Where the custom rules of a program stand in its jaxpr, and what is inside of them.

Everything here is `jax.extend.core`; what a jaxpr looks like inside is not promised by JAX, so what
depends on it stands in this file and, for loops and branches, in operands.py, and
tests/gradient/program/test_jaxprs.py fails when it moves.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import jax
import jax.extend.core as jex

from funcnn.core import registry
from funcnn.core.registry import registered_rules
from funcnn.types import ArrayLike, Aval, ClosedJaxpr, Equation

_RULES = frozenset({"custom_jvp_call", "custom_vjp_call"})
# JAX's new engine has one primitive for all; what it is stands in the class of its parameter.
_HIGH = "call_hi_primitive"
_HIGH_RULES = {
    "CustomVJPTraced": "custom_vjp",
    "CustomJVPTraced": "custom_jvp",
    "CustomRoot": "custom_jvp",
}
_HIGH_ROOT = "CustomRoot"
_SHOWN = {"_custom_root": "custom_root", _HIGH_ROOT: "custom_root"}


@dataclasses.dataclass(frozen=True)
class Site:
    """One place where a program calls a custom rule.

    Attributes:
        position: where it stands in the jaxpr, a tuple that is unique in the program.
        name: the name of the rule or, for a foreign one, of the function that it wraps.
        path: the named scopes around it, which for a funcnn model are the path of the layer.
        kind: "custom_vjp" or "custom_jvp".
        source: file and line of the wrapped function.
        around: whether it wraps another rule, of the same function.
        sees_zeros: whether it asks which operands are differentiated, and which results have a
            cotangent: JAX's symbolic zeros.
        backward: the identity of the function that is its backward pass, 0 where it cannot be told.
    """

    position: tuple[int | str, ...]
    name: str
    path: str
    kind: str
    source: str
    around: bool = False
    sees_zeros: bool = False
    backward: int = dataclasses.field(default=0, repr=False, compare=False)

    @property
    def rule(self) -> tuple[str, str, int]:
        """Which rule it calls: rules that one factory has made differ by their backward passes.

        >>> eqn, = jax.make_jaxpr(jax.nn.relu)(1.0).jaxpr.eqns
        >>> site_of(eqn, (0,)).rule == site_of(eqn, (7,)).rule
        True
        """
        return self.name, self.source, self.backward

    def __str__(self) -> str:
        return f"{self.name} in {self.path}" if self.path else self.name


def site_of(eqn: Equation, position: tuple[int | str, ...] = (), path: str = "") -> Site | None:
    """The site that an equation is, None where it calls no custom rule.

    >>> eqn, = jax.make_jaxpr(jax.nn.relu)(1.0).jaxpr.eqns
    >>> str(site_of(eqn)), site_of(eqn).kind
    ('relu', 'custom_jvp')
    """
    if eqn.primitive.name in _RULES:
        kind, jaxpr = eqn.primitive.name.removesuffix("_call"), eqn.params["call_jaxpr"]
        sees_zeros = bool(eqn.params.get("symbolic_zeros"))
        backward = _backward(eqn)
    elif eqn.primitive.name == _HIGH and type(_innermost(eqn)).__name__ in _HIGH_RULES:
        rule, backward = _innermost(eqn), 0
        kind = _HIGH_RULES[type(rule).__name__]
        sees_zeros = bool(getattr(rule, "symbolic_zeros", False))
        jaxpr = rule.traced.jaxpr if hasattr(rule, "traced") else rule.solve_jaxpr
    else:
        return None
    name, _, source = jaxpr.debug_info.func_src_info.partition(" at ")
    if _HIGH_ROOT in str(type(eqn.params.get("_prim"))):
        name = _HIGH_ROOT
    name, around = _SHOWN.get(name, name), _is_around(jaxpr)
    return Site(position, name, path, kind, _source(name, source), around, sees_zeros, backward)


def _backward(eqn: Equation) -> int:
    """The identity of a backward pass; under vmap JAX makes a function of its own for each call."""
    function = getattr(eqn.params.get("bwd"), "f", None)
    of_jax = str(getattr(function, "__module__", "")).startswith("jax.")
    return 0 if function is None or of_jax else id(function)


def _is_around(jaxpr: Any) -> bool:
    """Whether all that a jaxpr does is to call a custom rule."""
    eqns = jaxpr.jaxpr.eqns if hasattr(jaxpr, "jaxpr") else jaxpr.eqns
    return len(eqns) == 1 and site_of(eqns[0]) is not None


def _source(name: str, place: str) -> str:
    """A Rule wraps its forward pass inside the registry: its own line is that of its reference."""
    rule = registered_rules().get(name)
    if rule is None or not place.startswith(str(registry.__file__)):
        return place
    code = inspect.unwrap(rule.reference).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def wrapped(eqn: Equation) -> ClosedJaxpr:
    """The closed jaxpr of what the rule at a site wraps, in the operands of the equation.

    >>> eqn, = jax.make_jaxpr(jax.nn.relu)(1.0).jaxpr.eqns
    >>> wrapped(eqn).in_avals[0].shape
    ()
    """
    if eqn.primitive.name != _HIGH:
        return eqn.params["call_jaxpr"]
    rule = eqn.params["_prim"]

    def expanded(*leaves: ArrayLike) -> list[Any]:
        return jax.tree.leaves(rule.expand(*jax.tree.unflatten(rule.in_tree, leaves)))

    return jax.make_jaxpr(expanded)(*(shape_of(v.aval) for v in eqn.invars))


def inside_of(eqn: Equation) -> ClosedJaxpr | None:
    """The closed jaxpr that the new engine's checkpoint holds out of sight; None elsewhere.

    >>> inside_of(jax.make_jaxpr(jax.nn.relu)(1.0).jaxpr.eqns[0]) is None
    True
    """
    rule: Any = eqn.params["_prim"] if eqn.primitive.name == _HIGH else None
    return rule.jaxpr if type(rule).__name__ == "RematTraced" else None


def operands(eqn: Equation) -> list[int]:
    """Which operands of an equation can vary by themselves: no literals.

    The functions of a custom_root close over the same arrays, each of which is an operand several
    times; by one of them alone an implicit derivative has no meaning.

    >>> operands(jax.make_jaxpr(lambda x: 2.0 * x)(1.0).jaxpr.eqns[0])
    [1]
    """
    chosen = [i for i, v in enumerate(eqn.invars) if not isinstance(v, jex.Literal)]
    site = site_of(eqn)
    if site is None or site.name != _SHOWN[_HIGH_ROOT]:
        return chosen
    return list({eqn.invars[i]: i for i in reversed(chosen)}.values())[::-1]


def alone(eqn: Equation) -> ClosedJaxpr:
    """The closed jaxpr of one equation, in its `operands`.

    >>> closed = alone(jax.make_jaxpr(lambda x: 2.0 * x)(1.0).jaxpr.eqns[0])
    >>> [float(y) for y in jex.jaxpr_as_fun(closed)(3.0)]
    [6.0]
    """
    chosen = operands(eqn)
    variables = [v for v in eqn.invars if not isinstance(v, jex.Literal)]
    merged = len(chosen) < len(variables)  # then each variable is an input once
    known: dict[Any, Any] = {}
    fresh: list[Any] = []
    for v in eqn.invars:
        if isinstance(v, jex.Literal):
            fresh.append(v)
        else:
            known[v] = known[v] if merged and v in known else jex.Var(v.aval)
            fresh.append(known[v])
    inputs = [fresh[i] for i in chosen]
    outputs = [jex.Var(v.aval) for v in eqn.outvars]
    again = eqn.replace(invars=fresh, outvars=outputs)
    name = jex.DebugInfo("site", eqn.primitive.name, None, None)
    return jex.ClosedJaxpr(jex.Jaxpr((), inputs, outputs, [again], eqn.effects, name), ())


def _innermost(eqn: Equation) -> Any:
    """What the new engine's primitive is, under any number of vmaps."""
    primitive = eqn.params["_prim"]
    while hasattr(primitive, "prim"):
        primitive = primitive.prim
    return primitive


def shape_of(aval: Aval) -> jax.ShapeDtypeStruct:
    """What a program is traced with in the place of a value of this type.

    >>> shape_of(jax.typeof(1.0)).shape
    ()
    """
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def join(path: str, scope: str) -> str:
    """A path of named scopes and the scopes further in.

    >>> join("block", ""), join("block", "relu_0")
    ('block', 'block/relu_0')
    """
    return "/".join(part for part in (path, scope) if part)
