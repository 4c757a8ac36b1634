"""Things of ours by their names, with options that are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from funcnn.config import ConfigError, check_known
from funcnn.core.errors import first_line
from funcnn.names import files, named, parameters

Made = TypeVar("Made")


def of_ours(
    folder: str,
    table: str,
    name: str,
    options: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
) -> Any:
    """What the module of this name in a folder makes of its options.

    Raises:
        ConfigError: there is none of this name, or it does not take one of the options.

    >>> of_ours("funcnn.task.metrics", "metrics", "mse", {}).is_mean
    True
    """
    takes = takes_of(folder, table, name)
    for option in options:
        check_known(f"{table}: options of {name}", option, takes)
    try:
        return named(folder, name)(**{**(given or {}), **options})
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{table}: {first_line(error)}"]) from error


def takes_of(folder: str, table: str, name: str) -> list[str]:
    """The options of what has this name in a folder.

    >>> takes_of("funcnn.task.metrics", "metrics", "top_k")
    ['k', 'ignored']
    """
    check_known(f"{table}.name" if table != "metrics" else "metrics.names", name, files(folder))
    return parameters(folder, name)


def of_kind(kind: type[Made], made: Any, source: str, wanted: str) -> Made:
    """What a function of the user's made, once it is of the kind that is wanted.

    >>> of_kind(int, 3, "task.function = 'a:b'", "a number")
    3
    """
    if not isinstance(made, kind):
        raise ConfigError([f"{source}: returned {type(made).__name__}, and must return {wanted}"])
    return made


def options_of_name(table: str, options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The table of the options that are for one of several names.

    >>> options_of_name("metrics", {"top_k": {"k": 3}}, "top_k")
    {'k': 3}
    """
    of_name = options.get(name, {})
    if not isinstance(of_name, dict):
        raise ConfigError([f"{table}.options.{name}: expected a table, found {of_name!r}"])
    return of_name
