"""What a tool is given: one line, before any work, where it cannot be what is meant."""

from __future__ import annotations

import functools
import inspect
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from funcnn.core.contract import without_types
from funcnn.core.registry import Rule
from funcnn.core.usage import as_integer
from funcnn.types import Function, PyTree

_TEXT_OR_OBJECTS = "USOMm"  # the kinds of NumPy arrays that JAX has not
_SEEDS = 2**32  # those that JAX's and NumPy's generators both take


def described(value: object) -> str:
    """A value as an error quotes it: what it is, in a few words.

    >>> described("relu"), described(None), described(np.ones(3)), described(np.sum)
    ("str 'relu'", 'None', 'ndarray float64 (3,)', 'the function sum')
    """
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"{type(value).__name__} {value.dtype} {value.shape}"
    if value is None or inspect.ismodule(value):
        return "None" if value is None else f"the module {value.__name__}"
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 40 else f'{text[:37]}...'}"


def function_name(f: Function) -> str:
    """The name of a function; of a lambda, which has none, where it stands.

    >>> function_name(np.sum), function_name(eval("lambda x: x"))
    ('sum', '<lambda> at <string>:1')
    """
    name = getattr(f, "__name__", type(f).__name__)
    code = getattr(inspect.unwrap(f), "__code__", None)
    if name != "<lambda>" or code is None:
        return name
    return f"{name} at {os.path.basename(code.co_filename)}:{code.co_firstlineno}"


def check_function(tool: str, f: object, what: str = "a function of JAX") -> None:
    """Raise TypeError where `f` cannot be called.

    >>> check_function("census", 3)
    Traceback (most recent call last):
    TypeError: census: expected a function of JAX, found int 3
    """
    if not callable(f):
        raise TypeError(f"{tool}: expected {what}, found {described(f)}")


def check_positive(tool: str, name: str, value: object, what: str = "a number") -> None:
    """Raise ValueError where a value is no finite number above 0.

    >>> check_positive("hunt", "budget", -1.0, "a number of seconds")
    Traceback (most recent call last):
    ValueError: hunt: budget is a number of seconds above 0, found float -1.0
    """
    kinds = (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < float("inf"):
        raise ValueError(f"{tool}: {name} is {what} above 0, found {described(value)}")


def check_call(
    tool: str,
    f: Function,
    args: tuple[PyTree, ...],
    static: Mapping[str, PyTree] | None = None,
    reference: object = None,
) -> None:
    """Raise TypeError where `f` is no function, cannot take these arguments, or they hold no array.

    Args:
        tool: what the line begins with.
        f, args: the function and its arguments.
        static: its keyword arguments.
        reference: another function of them, or None.

    >>> check_call("compare", lambda x, y: x * y, (np.ones(3),))
    Traceback (most recent call last):
    TypeError: compare: <lambda>(x, y) cannot take the 1 argument given: missing a required ...
    """
    check_function(tool, f)
    if reference is not None:
        check_function(tool, reference, "reference to be a function of the same arguments")
    if static is not None and not isinstance(static, Mapping):
        raise TypeError(f"{tool}: static is a dict of keyword arguments, found {described(static)}")
    for i, arg in enumerate(args):
        for leaf in jax.tree.leaves(arg):
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind in _TEXT_OR_OBJECTS:
                message = f"{tool}: expected arrays of numbers, found {described(leaf)}"
                raise TypeError(f"{message} in argument {i}")
    _check_signature(tool, f, args, static or {})
    if args and not any(map(_is_numeric, jax.tree.leaves(args))):
        kinds = ", ".join(described(arg) for arg in args[:3])
        raise TypeError(f"{tool}: expected an array or a number among the arguments, found {kinds}")


def _is_numeric(leaf: object) -> bool:
    return isinstance(leaf, numbers.Number) or hasattr(leaf, "dtype")


def _check_signature(
    tool: str, f: Function, args: tuple[PyTree, ...], static: Mapping[str, PyTree]
) -> None:
    if isinstance(f, Rule):  # which says so itself
        return
    name = getattr(f, "__name__", type(f).__name__)
    while _wraps_its_own_arguments(f):
        f = getattr(f, "__wrapped__")  # noqa: B009, pyright knows no such attribute
    try:
        # What a decorator of somebody else's wraps may take other arguments than the decorated.
        signature = inspect.signature(f, follow_wrapped=False)
    except (TypeError, ValueError):  # builtins and some classes have none
        return
    try:
        signature.bind(*args, **static)
    except TypeError as error:
        given = f"{len(args)} argument{'' if len(args) == 1 else 's'}"
        message = f"{name}{without_types(signature)} cannot take the {given} given: {error}"
        raise TypeError(f"{tool}: {message}") from None


def _wraps_its_own_arguments(f: object) -> bool:
    """Whether `f` takes just what it wraps: a rule of JAX's, or a jitted function."""
    rules = isinstance(f, (jax.custom_vjp, jax.custom_jvp))
    jitted = hasattr(f, "lower") and not isinstance(f, functools.partial)
    return (rules or jitted) and hasattr(f, "__wrapped__")


def chosen_arguments(tool: str, argnums: int | Sequence[int], n: int) -> tuple[int, ...]:
    """The arguments that `argnums` means, of `n`; a negative one counts from the last.

    >>> chosen_arguments("compare", (0, -1), 3)
    (0, 2)
    >>> chosen_arguments("compare", 7, 2)
    Traceback (most recent call last):
    ValueError: compare: argnums is from -2 to 1 for 2 arguments, found 7
    """
    if not n:
        raise TypeError(f"{tool}: expected the arguments of the function, found none")
    several = argnums if isinstance(argnums, Iterable) else (argnums,)
    chosen = [as_integer(i) for i in several]
    if not chosen or None in chosen:
        what = described(argnums)
        raise TypeError(f"{tool}: argnums is a whole number or several of them, found {what}")
    for i in filter(None, chosen):
        if not -n <= i < n:
            count = f"{n} argument{'' if n == 1 else 's'}"
            raise ValueError(f"{tool}: argnums is from {-n} to {n - 1} for {count}, found {i}")
    return tuple(i % n for i in chosen if i is not None)


def check_count(tool: str, name: str, value: object, most: int | None = None) -> None:
    """Raise ValueError where a count or a seed is no whole number from 0 on, up to `most`.

    >>> check_count("compare", "pairs", -1)
    Traceback (most recent call last):
    ValueError: compare: pairs is a whole number from 0, found int -1
    """
    count = as_integer(value)
    if count is None or count < 0 or (most is not None and count > most):
        upto = "" if most is None else f" to {most:,}"
        what = described(value)
        raise ValueError(f"{tool}: {name} is a whole number from 0{upto}, found {what}")


def check_seed(tool: str, seed: object) -> None:
    """Raise ValueError where a seed is none.

    >>> check_seed("check", "a")
    Traceback (most recent call last):
    ValueError: check: seed is a whole number from 0 to 4,294,967,295, found str 'a'
    """
    check_count(tool, "seed", seed, _SEEDS - 1)


def check_flag(tool: str, name: str, value: object) -> None:
    """Raise TypeError where what is to be True or False is neither.

    >>> check_flag("compare", "has_aux", "no")
    Traceback (most recent call last):
    TypeError: compare: has_aux is True or False, found str 'no'
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{tool}: {name} is True or False, found {described(value)}")


def check_by_rule(tool: str, intent: object, reference: object) -> None:
    """Raise TypeError where an intent is no text and no dict, or a reference no dict of functions.

    >>> check_by_rule("census", "surrogate", {"relu": 3})
    Traceback (most recent call last):
    TypeError: census: expected reference['relu'] to be a function of its operands, found int 3
    """
    if not isinstance(intent, str | Mapping):
        wanted = "a text, or a dict from the name of a rule to its own"
        raise TypeError(f"{tool}: intent is {wanted}, found {described(intent)}")
    if not isinstance(reference, Mapping | None):
        wanted = "a dict from the name of a rule to a function of its operands"
        raise TypeError(f"{tool}: reference is {wanted}, found {described(reference)}")
    for name, f in (reference or {}).items():
        check_function(tool, f, f"reference[{name!r}] to be a function of its operands")


def names_of_rules(tool: str, option: str, names: object) -> frozenset[str]:
    """The names as a set; a TypeError where they are none, or one text, whose letters are names.

    >>> names_of_rules("without_rules", "only", "tanh")
    Traceback (most recent call last):
    TypeError: without_rules: only is a list of names of rules, found str 'tanh'; write ['tanh']
    """
    cure = f"; write [{names!r}]" if isinstance(names, str) else ""
    if cure or not isinstance(names, Iterable):
        message = f"{option} is a list of names of rules, found {described(names)}{cure}"
        raise TypeError(f"{tool}: {message}")
    return frozenset(names)
