"""A function or a rule of somebody else's, and its arguments: `package.module:name`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from funcnn.config import ConfigError
from funcnn.core.errors import first_line
from funcnn.core.registry import Rule
from funcnn.foreign import find, no_exit
from funcnn.gradient.program.answering import answer
from funcnn.gradient.program.without_rules import trace
from funcnn.report.files import require_writable
from funcnn.rules import registered_rules
from funcnn.spelling import did_you_mean
from funcnn.types import PyTree

T = TypeVar("T")


def subjects(
    tool: str, names: Sequence[str], target: str | None, arguments: str | None
) -> tuple[list[tuple[str, Any]], tuple[Any, ...]]:
    """What a tool looks at, by its name, and the arguments: registered rules, or one target.

    All rules where none is named; a name with a colon is a rule of somebody else's, module:name.

    Raises:
        ConfigError: an unknown rule, what cannot be loaded, a function without arguments, options
            that do not go together.

    >>> subjects("check", ["tanh"], None, None)[0][0][0]
    'tanh'
    """
    if target is not None and names:
        raise ConfigError([f"{tool}: name rules or give --target, not both"])
    if target is None and arguments is not None:
        raise ConfigError([f"{tool}: --args needs --target; a rule has its own cases"])
    if target is None:
        return [(name, _rule(tool, name)) for name in names or registered_rules()], ()
    subject, args = load_target(target), load_arguments(arguments)
    if not args and not isinstance(subject, Rule):
        needs = "which needs --args package.module:function_that_returns_a_tuple"
        if arguments is not None:
            needs = f"which needs an argument; --args {arguments} returned none"
        raise ConfigError([f"--target {target}: is a function, {needs}"])
    return [(target, subject)], args


def _rule(tool: str, name: str) -> Rule:
    rules = registered_rules()
    if ":" not in name:
        check_name(f"{tool}: unknown rule", name, list(rules))
        return rules[name]
    rule = load_target(name)
    if not isinstance(rule, Rule):
        raise ConfigError([f"{tool}: {name} is a function: give it by --target, with --args"])
    return rule


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Raise ConfigError where a name is not among those that are known.

    >>> check_name("check: unknown rule", "rellu", ["relu", "tanh"])
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: check: unknown rule rellu (did you mean relu?); known: relu, ...
    """
    if name not in known:
        hint = did_you_mean(name, list(known))
        raise ConfigError([f"{what} {name or repr(name)}{hint}; known: {', '.join(known)}"])


def load_target(path: str) -> Any:
    """What `--target package.module:name` names: a Rule or any function.

    Raises:
        ConfigError: there is no such thing, or it cannot be called.

    >>> load_target("funcnn.rules:relu").name
    'relu'
    """
    return find(path, f"--target {path}")


def load_arguments(path: str | None) -> tuple[Any, ...]:
    """What the function that `--args package.module:function` names returns, a tuple.

    Raises:
        ConfigError: there is no such function, it raises, or it returns something else.

    >>> load_arguments(None)
    ()
    """
    if path is None:
        return ()
    source = f"--args {path}"
    function = find(path, source)
    try:
        with no_exit(source):
            arguments = function()
    except ConfigError:
        raise
    except Exception as error:
        message = f"it raised {type(error).__name__}: {first_line(error)}"
        raise ConfigError([f"{source}: {message}"]) from error
    if not isinstance(arguments, (tuple, list)):
        message = f"must return a tuple of arguments, found {type(arguments).__name__}"
        raise ConfigError([f"{source}: {message}"])
    return tuple(arguments)


def traced(function: Callable[..., Any], args: tuple[Any, ...], target: str) -> PyTree:
    """The shapes of what a function returns of these arguments; nothing is computed.

    Raises:
        ConfigError: it does not take them.

    >>> import jax.numpy as jnp
    >>> traced(jnp.sum, (jnp.ones(3),), "numpy:sum").shape
    ()
    """
    try:
        program = trace(function, args, {})
    except Exception as error:
        line = first_line(error)
        raise ConfigError([f"--target {target}: cannot be called with --args: {line}"]) from error
    return jax.tree.unflatten(program.out_tree, program.jaxpr.out_avals)


@contextlib.contextmanager
def refused_by(tool: str, target: str) -> Iterator[None]:
    """Inside, what a tool says of what it is given is a mistake of the command.

    >>> with refused_by("census", "mine:f"):
    ...     raise TypeError("census: expected a function of JAX, found int 3")
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: --target mine:f: census: expected a function of JAX, found ...
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if not str(error).startswith(f"{tool}: "):  # of the function, or of ours
            raise
        raise ConfigError([f"--target {target}: {first_line(error)}"]) from error


def answered(
    tool: str, path: str, subject: Any, args: tuple[Any, ...], seconds: float, run: Callable[..., T]
) -> T:
    """What a tool says of one of its subjects.

    Raises:
        ConfigError: the arguments do not fit.
        NoAnswer: no sign that it goes on, for so many seconds.

    >>> answered("check", "mine:f", lambda x: x, (1.0,), 5.0, lambda f, x: f(x))
    1.0
    """

    def answer_of() -> T:
        if not isinstance(subject, Rule):
            traced(subject, args, path)
        with refused_by(tool, path):
            return run(subject, *args)

    return answer(answer_of, seconds, patient=True)


def check_writable(option: str, path: str | None) -> None:
    """Raise ConfigError where no file can be written, before anything is computed.

    >>> check_writable("--html", "no/such/folder/page.html")
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: --html no/such/folder/page.html: there is no folder ...
    """
    if path is None:
        return
    if not path:
        raise ConfigError([f'{option}: expected the name of a file, found ""'])
    if os.path.isdir(path):
        raise ConfigError([f"{option} {path}: is a folder; name a file"])
    if not os.path.isdir(Path(path).absolute().parent):
        raise ConfigError([f"{option} {path}: there is no folder {Path(path).parent}"])
    try:
        require_writable(path)
    except OSError as error:
        raise ConfigError([f"{option} {path}: cannot be written: {error.strerror}"]) from error
