"""Functions of somebody else's, named as `package.module:name`: found, imported, called.

To import a module is to run it, and nothing here protects from what it does: whose code runs is
for the caller to say. What goes wrong on the way is one line that names the function.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from funcnn.config import ConfigError, check_known
from funcnn.core.errors import first_line
from funcnn.core.layer import Init, Layer, as_layer
from funcnn.modules import folders, put_on_path, taken_by
from funcnn.types import Array, Function, Key, PyTree, Shaped

BUILDS = (
    "a builder returns a Layer, or a pair (init, apply) of init(key, x) -> params and "
    "apply(params, x) -> logits"
)
# As Haiku, stax and Flax call the argument that is `key` here; `rngs` of a bound apply is optional.
_KEYS = ("rng", "rng_key", "prng", "prng_key", "prngkey", "random_key")


def find(path: str, source: str, search: Sequence[str] = ()) -> Function:
    """Import what `package.module:name` names: from the current folder, or those of `search`.

    Raises:
        ConfigError: there is no such thing, its module cannot be imported, or it cannot be called;
            `source` is what the line begins with.

    >>> find("funcnn.rules:relu", "--target funcnn.rules:relu").name
    'relu'
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ConfigError([f"{source}: give it as package.module:name"])
    put_on_path(search)
    if there := taken_by(module.split(".")[0]):
        raise ConfigError([f"{source}: {there}"])
    try:
        target = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except ModuleNotFoundError as error:
        places = ", ".join(folders(search))
        where = f" in {places}, nor installed" if error.name == module.split(".")[0] else ""
        raise ConfigError([f"{source}: {first_line(error)}{where}"]) from error
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"{source}: {first_line(error)}"]) from error
    except SystemExit as stop:
        raise ConfigError([f"{source}: {_stopped(stop, 'its module')}"]) from stop
    except Exception as error:
        reason = f"importing it raised {type(error).__name__}: {first_line(error)}"
        raise ConfigError([f"{source}: {reason}"]) from error
    if not callable(target):
        raise ConfigError([f"{source}: is not a function but {type(target).__name__}"])
    return target


@contextlib.contextmanager
def no_exit(source: str) -> Iterator[None]:
    """Inside, `sys.exit` is an error: a command does not end well because foreign code says so.

    >>> with no_exit("model.function = 'm:build'"):
    ...     sys.exit(0)
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: model.function = 'm:build': it called sys.exit(0), ...
    """
    try:
        yield
    except SystemExit as stop:
        raise ConfigError([f"{source}: {_stopped(stop, 'it')}"]) from stop


def _stopped(stop: SystemExit, who: str) -> str:
    return f"{who} called sys.exit({stop.code!r}), which would end the command without a result"


def build_foreign(
    function: str,
    options: dict[str, Any],
    search: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> Layer:
    """The model that the function `package.module:build` builds from `options`.

    It gets what it takes of `given`, too, where the options do not say it.

    Raises:
        ConfigError: it cannot be imported, does not take the options, or builds no model.

    >>> build_foreign("funcnn.models:mlp", {"hidden": []})
    chain(flatten_0=flatten, dense_0=dense)
    """
    source = f"model.function = {function!r}"
    check_builder(function)
    build = find(function, source, search)
    if isinstance(build, Layer):  # a network that takes no options needs no function round it
        if options:
            raise ConfigError([f"{source}: is a layer and takes no model.options"])
        return build
    return built_by(build, options, source, given)


def call_foreign(
    key: str,
    function: str,
    options: Mapping[str, Any],
    search: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> Any:
    """What the function `package.module:name` of a config's `key` returns of the table's options.

    Args:
        key: as "optimizer.function".
        function: what it names.
        options: the table's options.
        search: the folders where its module is looked for, after the current one.
        given: what it gets besides, where it takes an argument of that name.

    Raises:
        ConfigError: it cannot be imported, does not take the options, or raises an error.

    >>> call_foreign("optimizer.function", "optax:sgd", {}, given={"learning_rate": 0.1})._fields
    ('init', 'update')
    """
    source = f"{key} = {function!r}"
    check_builder(function, key)
    build = find(function, source, search)
    arguments = _with_given(build, options, given)
    _check_options(build, arguments, source)
    with no_exit(source):
        try:
            return build(**arguments)
        except ConfigError:
            raise
        except Exception as error:
            kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
            raise ConfigError([f"{source}: {kind}{first_line(error)}"]) from error


def check_builder(function: str, key: str = "model.function") -> None:
    """Raise ConfigError where `package.module:name` is of Python itself, before it is imported.

    >>> check_builder("os:system")
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: model.function = 'os:system': os is a module of Python ...
    """
    top = function.partition(":")[0].split(".")[0]
    if top in sys.stdlib_module_names:
        reason = (
            f"{top} is a module of Python itself and builds no {key.partition('.')[0]}; "
            "call your own another name"
        )
        raise ConfigError([f"{key} = {function!r}: {reason}"])


def _with_given(
    build: Function, options: Mapping[str, Any], given: Mapping[str, Any] | None
) -> dict[str, Any]:
    taken = {n: x for n, x in (given or {}).items() if n in _named_parameters(build)}
    return {**taken, **options}


def built_by(
    build: Function,
    options: dict[str, Any],
    source: str,
    given: Mapping[str, Any] | None = None,
) -> Layer:
    """What a builder builds from `options`, and from what it takes of `given`, as a layer.

    Raises:
        ConfigError: it does not take the options, or what it returns is no model.

    >>> def build(width):
    ...     return lambda key, x: {"w": jnp.ones(width)}, lambda params, x: x * params["w"]
    >>> built_by(build, {"width": 2}, "mine").kind
    'function'
    """
    options = _with_given(build, options, given)
    _check_options(build, options, source)
    try:
        with no_exit(source):
            return _as_model(build(**options))
    except (TypeError, ValueError, IndexError) as error:
        raise ConfigError([f"{source}: {first_line(error)}"]) from error


def _as_model(built: Any) -> Layer:
    if isinstance(built, Layer):
        return built
    if inspect.isroutine(built):
        if not getattr(built, "makes_layer", False):
            _check_call(getattr(built, "__name__", "f"), built, ("params", "x"))
        return as_layer(built)
    if isinstance(built, tuple | list):
        if len(built) != 2 or not all(map(callable, built)):
            kinds = ", ".join(type(part).__name__ for part in built[:5])
            raise TypeError(f"returned {type(built).__name__} of {len(built)} ({kinds}); {BUILDS}")
        return _pair(*built)
    if callable(getattr(built, "init", None)):
        apply = getattr(built, "apply", built)
        if callable(apply):
            return _pair(built.init, apply)
    if getattr(built, "makes_layer", False) or type(built).__module__.startswith("funcnn."):
        return as_layer(built)  # which says what it is
    raise TypeError(f"returned {type(built).__name__}; {BUILDS}")


def _pair(init: Init, apply: Function) -> Layer:
    """A layer of two functions of somebody else's, each called as it asks to be."""
    _check_call("init", init, ("key", "x"))
    names = _check_call("apply", apply, ("params", "x"))
    key_second = names[1:2] and names[1] in _KEYS  # Haiku's apply(params, rng, x)
    if not key_second and (wrong := [name for name in names if name in _KEYS]):
        raise TypeError(
            f"apply takes {wrong[0]!r}: call it 'key', as in apply(params, x, key=None)"
        )

    def with_key(params: PyTree, x: Array, key: Key | None = None) -> PyTree:
        return apply(params, key, x)

    def init_of_array(key: Key, x: Shaped) -> PyTree:
        # A layer's init may get a shape alone; those of Haiku and Flax compute with x.
        params: Any = init(key, jnp.zeros(x.shape, x.dtype))
        if isinstance(params, tuple) and params and isinstance(params[0], tuple):
            problem = "it returned (shape, params), as stax does, and must return the params alone"
            raise TypeError(f"{problem}: lambda key, x: init(key, x.shape)[1]")
        if isinstance(params, Mapping) and {"params", "batch_stats"} <= params.keys():
            problem = (
                "it returned batch_stats beside params, as Flax does, and all would be trained"
            )
            raise TypeError(f"{problem}: return variables['params'], and put the others in apply")
        return params

    return as_layer(with_key if key_second else apply, init=init_of_array)


def _check_call(role: str, f: Function, wanted: tuple[str, ...]) -> list[str]:
    """The names of its parameters, once it is known to take two arguments by position."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # builtins and some wrapped callables have no signature
        return []
    names = list(signature.parameters)
    given = (*wanted, "key") if names[1:2] and names[1] in _KEYS else wanted
    try:
        signature.bind(*given)
    except TypeError:
        problem = f"{role} is called as {role}({', '.join(wanted)}) and takes {signature}"
        raise TypeError(f"{problem}; {BUILDS}") from None
    return names


def _named_parameters(build: Function) -> dict[str, inspect.Parameter]:
    """Those that can be given by name; none where there is no signature to read."""
    try:
        accepted = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: p for p in accepted if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _check_options(build: Function, options: Mapping[str, Any], source: str) -> None:
    """`source` begins with the key of the config, as `model.function = ...`."""
    try:
        accepted = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return
    table, by_name = f"{source.partition('.')[0]}.options", _named_parameters(build)
    unnamed = [p.name for p in accepted if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if unnamed:
        problem = f"takes {unnamed[0]!r} by position alone, and {table} are given by name"
        raise ConfigError([f"{source}: {problem}"])
    if not any(p.kind is p.VAR_KEYWORD for p in accepted):
        for option in options:
            check_known(f"{source}: {table}", option, list(by_name))
    missing = [n for n, p in by_name.items() if p.default is p.empty and n not in options]
    if missing:
        problem = f"{table}.{missing[0]} is missing; it is called as a builder, with the options"
        raise ConfigError([f"{source}: {problem}"])
