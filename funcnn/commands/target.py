"""A function or a rule of somebody else's, and its arguments: `package.module:name`."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from funcnn.config import ConfigError


def load_target(path: str) -> Any:
    """What `--target package.module:name` names: a Rule or any function.

    Raises:
        ConfigError: there is no such thing, or it cannot be called.

    >>> load_target("funcnn.rules:relu").name
    'relu'
    """
    return _load("--target", path)


def load_arguments(path: str | None) -> tuple[Any, ...]:
    """What the function that `--args package.module:function` names returns, a tuple.

    Raises:
        ConfigError: there is no such function, it raises, or it returns something else.

    >>> load_arguments(None)
    ()
    """
    if path is None:
        return ()
    try:
        arguments = _load("--args", path)()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError([f"--args {path}: it raised {_told(error)}"]) from error
    if not isinstance(arguments, (tuple, list)):
        told = f"must return a tuple of arguments, found {type(arguments).__name__}"
        raise ConfigError([f"--args {path}: {told}"])
    return tuple(arguments)


def check_writable(path: str | None) -> None:
    """Raise ConfigError where no file can be written, before anything is computed.

    >>> check_writable("no/such/folder/page.html")
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: --html no/such/folder/page.html: there is no folder ...
    """
    if path is None:
        return
    if Path(path).is_dir():
        raise ConfigError([f"--html {path}: is a folder; name a file"])
    if not Path(path).parent.is_dir():
        raise ConfigError([f"--html {path}: there is no folder {Path(path).parent}"])


def _load(option: str, path: str) -> Any:
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ConfigError([f"{option} {path}: give it as package.module:name"])
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # the user's own module, where the command was given
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"{option} {path}: {str(error).splitlines()[0]}"]) from error
    except Exception as error:
        raise ConfigError([f"{option} {path}: importing it raised {_told(error)}"]) from error
    if not callable(found):
        raise ConfigError([f"{option} {path}: is not a function but {type(found).__name__}"])
    return found


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
