"""Which rule it is: its name, where its derivative stands, and the values that it closes over."""

from __future__ import annotations

import functools
import re
import sys
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from funcnn.core import registry
from funcnn.core.registry import Rule

# Where somebody else's rule is wrapped: what is looked for stands behind functions of these.
_WRAPPERS = ("equinox", "flax", "haiku", "jaxtyping", "beartype")
_DERIVATIVE = ("bwd", "backward", "jvp", "rule")
_DEPTH = 6
_SHOWN = 60  # characters of a value
_JAX = str(Path(jax.__file__).parent) + "/"
_STANDARD = sysconfig.get_paths()["stdlib"] + "/"


class Identity(NamedTuple):
    """A rule, the same in each process.

    Attributes:
        name: of the function that it differentiates, with those of what that stands in.
        kind: "custom_vjp" or "custom_jvp".
        source: file and line of its backward pass, or of its tangents.
        values: what its functions close over, as text, or "".
    """

    name: str
    kind: str
    source: str
    values: str

    @property
    def file(self) -> str:
        """The file of its derivative."""
        return self.source.rpartition(":")[0]


def identity(rule: Any) -> Identity:
    """Which rule an instance of `jax.custom_vjp` or `jax.custom_jvp` is.

    Instances that one factory has made are different rules where they close over other values.

    >>> relu = identity(jax.nn.relu)
    >>> relu.name, relu.kind, relu.values
    ('relu', 'custom_jvp', '')
    """
    function, derivative = rule.fun, getattr(rule, "bwd", None) or getattr(rule, "jvp", None)
    kind = "custom_vjp" if isinstance(rule, jax.custom_vjp) else "custom_jvp"
    ours = _rule_of_ours(derivative)
    if ours is not None:
        name, places = ours.name, [line_of(theirs(ours.backward))]
    else:
        named = theirs(function)
        name = qualified(named)
        # Tangents that defjvps makes of a function for each argument stand in JAX.
        places = [line_of(theirs(derivative, _DERIVATIVE)), line_of(named)]
    places = [place for place in places if place]
    source = next((p for p in places if not _is_wrapping(p)), places[0] if places else "")
    functions = [f for f in (function, getattr(rule, "fwd", None), derivative) if f is not None]
    values = dict.fromkeys(text for f in functions for text in _values(theirs(f)))
    if ours is not None and (static := dict(_cells(derivative)).get("static")):
        values = {f"{n}={shown(v)}": None for n, v in sorted(static.items())}
    return Identity(name, kind, source, ", ".join(values))


def qualified(function: Any) -> str:
    """The name of a function, after those of the classes and functions that it stands in.

    >>> def outer():
    ...     def inner():
    ...         pass
    ...     return inner
    >>> qualified(outer()), qualified(identity)
    ('outer.inner', 'identity')
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    whole = str(getattr(function, "__qualname__", name)).replace(".<locals>", "")
    return whole if whole.rpartition(".")[2] == name else name  # a name that was given later


def is_named(name: str, chosen: Collection[str]) -> bool:
    """Whether a rule is one of those chosen, by its whole name or the last part of it.

    >>> is_named("outer.inner", {"inner"}), is_named("outer.inner", {"outer"})
    (True, False)
    """
    return name in chosen or name.rpartition(".")[2] in chosen


def place(rule: Any) -> str:
    """File and line of the function that a rule differentiates, "" where it has none.

    >>> is_of_jax(place(jax.nn.relu))
    True
    """
    return line_of(theirs(rule.fun))


def _rule_of_ours(derivative: Any) -> Rule | None:
    held = (cell for _, cell in _cells(derivative))
    return next((cell for cell in held if isinstance(cell, Rule)), None)


def line_of(function: Any) -> str:
    """File and line of a function, or "".

    >>> line_of(line_of).rpartition(":")[0] == __file__
    True
    """
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def theirs(function: Any, role: Sequence[str] = ()) -> Any:
    """The function that somebody wrote, behind those of libraries that wrap it.

    Args:
        function: any function.
        role: words in the names of what is looked for, where a library holds several.

    >>> theirs(functools.partial(line_of)) is line_of
    True
    """
    found = next(_behind(function, role, _DEPTH), None)
    return _unwrapped(function) if found is None else found


def _behind(function: Any, role: Sequence[str], depth: int) -> Iterator[Any]:
    """Functions that are of no wrapper, the nearest first."""
    bound = [value for _, value in _partial(function) if callable(value)]
    function = _unwrapped(function)
    line = line_of(function)
    if line and not _is_wrapping(line):
        yield function
    elif depth:
        for value in (*bound, *_inside(function, role)):
            yield from _behind(value, role, depth - 1)


def _unwrapped(function: Any) -> Any:
    while True:
        if isinstance(function, (jax.custom_vjp, jax.custom_jvp)):
            function = function.fun
        elif callable(getattr(function, "__wrapped__", None)):  # a partial may have it, too
            function = function.__wrapped__
        elif isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__func__"):
            function = function.__func__
        else:
            return function


def _inside(function: Any, role: Sequence[str]) -> list[Any]:
    """The functions that a function, or an object, holds; those whose names fit first."""
    held = dict(_cells(function))
    if not line_of(function):  # an object, as Equinox's
        held = dict(getattr(function, "__dict__", {}))
    in_turn = sorted(held, key=lambda name: not any(word in name for word in role))
    return [held[n] for n in in_turn if callable(held[n]) or hasattr(held[n], "__dict__")]


def _cells(function: Any) -> Iterator[tuple[str, Any]]:
    code = getattr(function, "__code__", None)
    for name, cell in zip(
        code.co_freevars if code else (), getattr(function, "__closure__", None) or (), strict=False
    ):
        try:
            yield name, cell.cell_contents
        except ValueError:  # an empty cell
            continue


def _is_wrapping(line: str) -> bool:
    installed = "site-packages" in line or "dist-packages" in line
    if line.startswith((_JAX, str(registry.__file__))) or (
        line.startswith(_STANDARD) and not installed
    ):
        return True
    return any(f"/{name}/" in line for name in _WRAPPERS if _is_installed(name, line))


def _is_installed(name: str, line: str) -> bool:
    """Whether a line stands in the package of that name, and not in its tests."""
    module = sys.modules.get(name)
    home = str(Path(getattr(module, "__file__", None) or "/none").parent) + "/"
    return line.startswith(home) and "test" not in line.removeprefix(home)


def is_of_jax(file: str) -> bool:
    """Whether a file is one of JAX's own.

    >>> is_of_jax(identity(jax.nn.relu).file), is_of_jax(__file__)
    (True, False)
    """
    return file.startswith(_JAX)


def _values(function: Any) -> Iterator[str]:
    """`name=value` for what somebody's function closes over, but for other functions."""
    if _is_wrapping(line_of(_unwrapped(function))):
        return
    for name, value in (*_cells(_unwrapped(function)), *_partial(function)):
        if hasattr(value, "dtype") or not (callable(value) or hasattr(value, "__dict__")):
            yield f"{name}={shown(value)}"


def _partial(function: Any) -> Iterator[tuple[str, Any]]:
    while isinstance(function, functools.partial):
        yield from ((str(i), value) for i, value in enumerate(function.args))
        yield from function.keywords.items()
        function = function.func


def shown(value: Any) -> str:
    """A static value as a short text that is the same in each process.

    >>> shown(2.5), shown(shown), shown(jax.numpy.ones((2, 3)))
    ('2.5', 'funcnn.suite.identity.shown', 'float32[2,3]')
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, (tuple, list)):
        items = ", ".join(map(shown, value))
        return f"({items})" if isinstance(value, tuple) else f"[{items}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(k)}: {shown(v)}" for k, v in value.items()) + "}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    text = re.sub(r" at 0x[0-9a-f]+|0x[0-9a-f]+", "", repr(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
