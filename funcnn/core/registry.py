"""A rule: one function with two derivatives, the hand-derived one and the one that JAX derives.

`rule` turns a plain function, the *reference*, into a `Rule`; `Rule.defvjp` adds the forward and
the backward pass, `Rule.defcases` the arguments on which it is checked. What every rule needs (the
contract of its cotangents, the matmul precision, one `jax.custom_vjp` for each set of static
values) is done here, once.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Generic, NoReturn, ParamSpec, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.contract import Contract, explained, without_types
from funcnn.core.explicit import placed_backward, placed_forward
from funcnn.core.removal import removal_in_force
from funcnn.types import Function, Intent, Key, PyTree, Residuals

# The arguments of a rule and its value, as its reference has them.
Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")
Static: TypeAlias = dict[str, Any]
# `(args, dy, cotangents) -> (left, right)`, which must agree.
Law: TypeAlias = Callable[..., tuple[PyTree, PyTree]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One set of arguments on which a rule is checked.

    Args:
        name: what is special about it: "normal", "kink", "tail", "empty", ...
        args: the positional arguments of the rule, in float32 where they are floating point.
        static: its keyword-only arguments.
        dtypes: the low precisions in which the rule is run on these arguments.
        kinks: the arguments stand on kinks or ties, where finite differences do not apply and the
            rule must follow the convention of its reference.
        laws: name -> function `(args, dy, cotangents) -> (left, right)`; left and right must agree.
        reference: a form of the reference whose automatic gradient is accurate on these arguments,
            where the plain one loses its digits even in float64; with the intent "surrogate", a
            function whose gradient the rule is meant to have.
        intent: "derivative", or "surrogate" for a rule that differs from it on purpose.

    >>> import jax.numpy as jnp
    >>> Case("zeros", (jnp.zeros(3),)).name
    'zeros'
    """

    name: str
    args: tuple[PyTree, ...]
    static: Mapping[str, Hashable] = dataclasses.field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    kinks: bool = False
    laws: Mapping[str, Callable[..., tuple[PyTree, PyTree]]] = dataclasses.field(
        default_factory=dict
    )
    reference: Function | None = None
    intent: Intent = "derivative"


class Rule(Generic[Arguments, Value]):
    """A function with a hand-derived gradient beside its reference.

    Calling the rule runs it with the hand-derived gradient; static arguments are keyword-only and
    hashable. Inside `fnn.without_rules` it runs its reference.

    Attributes:
        name: the name under which it is registered.
        reference: the plain function, which JAX differentiates where the rule is taken out.
        forward: `forward(*args, **static) -> (y, res)`.
        backward: `backward(res, dy, **static) -> cotangents`, one for each argument, None for an
            argument that is not differentiable.

    >>> triple = Rule(lambda x: 3 * x, "triple")
    >>> triple.defvjp(lambda x: (3 * x, None), lambda res, dy: (3 * dy,))
    >>> float(jax.grad(triple)(1.0)), float(jax.grad(triple.reference)(1.0))
    (3.0, 3.0)
    """

    def __init__(self, reference: Callable[Arguments, Value], name: str):
        functools.update_wrapper(self, reference)
        self.name = name
        self.reference = reference
        self.forward: Callable[..., tuple[Value, Residuals]] = self._undefined
        self.backward: Callable[..., tuple[PyTree, ...]] = self._undefined
        self._make_cases: Callable[[Key], Iterator[Case]] | None = None
        self._signature = inspect.signature(reference)
        self._static_names = frozenset(
            p.name for p in self._signature.parameters.values() if p.kind is p.KEYWORD_ONLY
        )
        self._functions: dict[Hashable, Callable[..., Value]] = {}

    def __repr__(self) -> str:
        return f"<rule {self.name}{self._signature}>"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the arguments that may be arrays, in order."""
        return tuple(n for n in self._signature.parameters if n not in self._static_names)

    def _undefined(self, *args: PyTree, **static: Hashable) -> NoReturn:
        raise TypeError(f"{self.name}: {self.underived}")

    @property
    def underived(self) -> str:
        """That it has no derivative yet, and how it gets one; "" where it has."""
        if getattr(self.backward, "__func__", None) is not Rule._undefined:
            return ""
        return f"no derivative yet: call {self.local_name}.defvjp(forward, backward)"

    @property
    def local_name(self) -> str:
        """What it is called where it is defined: its name without that of its module."""
        return self.name.rpartition(".")[2]

    def defvjp(
        self,
        forward: Callable[..., tuple[Value, Residuals]],
        backward: Callable[..., tuple[PyTree, ...]],
    ) -> None:
        """Set the hand-derived passes; see the class for their signatures."""
        for role, given in (("forward", forward), ("backward", backward)):
            if not callable(given):
                kind = type(given).__name__
                raise TypeError(f"{self.name}: {role} must be a function, found {kind}")
        self.forward, self.backward = forward, backward
        self._functions.clear()

    def defcases(
        self, make_cases: Callable[[Key], Iterator[Case]]
    ) -> Callable[[Key], Iterator[Case]]:
        """Decorate the generator `make_cases(key)` of this rule's cases."""
        self._make_cases = make_cases
        return make_cases

    def cases(self, key: Key | None = None) -> list[Case]:
        """The rule's cases, drawn from `key` (by default a fixed one); empty where it has none."""
        if self._make_cases is None:
            return []
        return list(self._make_cases(jax.random.key(0) if key is None else key))

    def replace(
        self,
        *,
        forward: Callable[..., tuple[Value, Residuals]] | None = None,
        backward: Callable[..., tuple[PyTree, ...]] | None = None,
    ) -> Rule[Arguments, Value]:
        """An unregistered copy with another pass: for an experiment, or for a planted mistake."""
        copy = Rule(self.reference, self.name)
        copy.defvjp(forward or self.forward, backward or self.backward)
        copy._make_cases = self._make_cases
        return copy

    def __call__(self, *args: Arguments.args, **keywords: Arguments.kwargs) -> Value:
        """The value, with the hand-derived gradient; the reference inside `without_rules`."""
        arrays, static = self.bind(*args, **keywords)
        removal = removal_in_force()
        if removal is not None and removal.covers(self.name):
            return self.reference(*arrays, **static)
        function = self._function(static)
        try:
            # Where JAX refuses forward mode later, its traceback shows this line alone of ours.
            return function(*arrays)  # no jvp, jacfwd, linearize: take fnn.without_rules(f) for f
        except TypeError as error:
            if explanation := explained(self.name, error):
                raise explanation from error
            raise

    def bind(self, *args: PyTree, **keywords: PyTree) -> tuple[tuple[PyTree, ...], Static]:
        """The arguments in the order of the signature, and the static ones, defaults filled in."""
        try:
            bound = self._signature.bind(*args, **keywords)
        except TypeError as error:
            raise TypeError(f"{self.name}{without_types(self._signature)}: {error}") from None
        bound.apply_defaults()
        static = {n: v for n, v in bound.arguments.items() if n in self._static_names}
        for name, value in static.items():
            self._check_static(name, value)
        arrays = tuple(v for n, v in bound.arguments.items() if n not in self._static_names)
        return arrays, static

    def static_arguments(self, **static: Hashable) -> Static:
        """All static arguments, those not given at their defaults; TypeError for one unknown."""
        full = {n: self.default(n) for n in self._static_names}
        for name, value in static.items():
            if name not in full:
                raise TypeError(
                    f"{self.name}: unknown static argument {name!r}; it takes "
                    f"{', '.join(sorted(full)) or 'none'}"
                )
            self._check_static(name, value)
        full |= static
        missing = [n for n, value in full.items() if value is inspect.Parameter.empty]
        if missing:
            raise TypeError(f"{self.name}: static argument {missing[0]!r} is missing")
        return full

    def default(self, name: str) -> PyTree:
        """The default of an argument, `inspect.Parameter.empty` where it has none."""
        return self._signature.parameters[name].default

    def _check_static(self, name: str, value: object) -> None:
        if any(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"{self.name}: {name} is static and cannot be an array; arrays are positional: "
                f"{', '.join(self.parameters)}"
            )
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"{self.name}: {name} is static and must be hashable, found "
                f"{type(value).__name__} {value!r}; pass a tuple or a number"
            ) from None

    def _function(self, static: Static) -> Callable[..., Value]:
        """The custom_vjp of one set of static values, made once: a second call traces nothing."""
        precision = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009, pyright knows no flags
        # 1 == 1.0 == True: the types are part of the key.
        cache_key = (precision, *((n, type(v), v) for n, v in sorted(static.items())))
        if cache_key not in self._functions:
            self._functions[cache_key] = self._make_function(static, precision)
        return self._functions[cache_key]

    def _make_function(self, static: Static, precision: str | None) -> Callable[..., Value]:
        forward_pass = functools.partial(self.forward, **static)
        reference = functools.partial(self.reference, **static)

        def value(*args: PyTree) -> Value:
            return placed_forward(forward_pass, reference, args)[0]

        def forward(*args: PyTree) -> tuple[Value, tuple[Residuals, Contract]]:
            # Among the residuals a Python number would meet the backward pass, which takes arrays.
            args = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, _NUMBERS) else a, args)
            # JAX traces both passes when the context around the call has closed already.
            with jax.default_matmul_precision(precision):
                y, res = placed_forward(forward_pass, reference, args)
            return y, (res, Contract.of(self.name, self.parameters, args))

        def backward(saved: tuple[Residuals, Contract], dy: PyTree) -> tuple[PyTree, ...]:
            res, contract = saved
            with jax.default_matmul_precision(precision):
                backward_pass = functools.partial(self.backward, **static)
                return contract.enforce(placed_backward(backward_pass, res, dy, contract))

        value.__name__ = value.__qualname__ = self.name
        function = jax.custom_vjp(jax.jit(value))
        function.defvjp(forward, backward)
        return function


_NUMBERS = (bool, int, float, complex)
_rules: dict[str, Rule] = {}


def rule(reference: Callable[Arguments, Value]) -> Rule[Arguments, Value]:
    """Make and register a `Rule` from its reference; to be followed by `defvjp` and `defcases`.

    Raises:
        TypeError: the reference takes `*args` or `**kwargs`.
        ValueError: another rule of funcnn has the name.

    >>> import jax, jax.numpy as jnp
    >>> @rule
    ... def square(x):
    ...     return x * x
    >>> square.defvjp(lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))
    >>> float(jax.grad(square)(3.0))
    6.0
    """
    if not callable(reference):
        raise TypeError(f"rule: expected a function, found {type(reference).__name__}")
    variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    for parameter in inspect.signature(reference).parameters.values():
        if parameter.kind in variadic:
            raise TypeError(
                f"{reference.__name__}: a rule names its arguments; {parameter} does not"
            )
    ours = reference.__module__.split(".")[:2] == ["funcnn", "rules"]
    name = reference.__name__ if ours else f"{reference.__module__}.{reference.__qualname__}"
    if name in _rules and _rules[name].reference.__module__ != reference.__module__:
        raise ValueError(
            f"two rules named {name}: in {_rules[name].__module__} and {reference.__module__}"
        )
    _rules[name] = Rule(reference, name)
    return _rules[name]


def registered_rules() -> dict[str, Rule]:
    """All registered rules by name, in the order in which they were defined.

    >>> isinstance(registered_rules(), dict)
    True
    """
    return dict(_rules)
