"""Names stand once: a public one where it is imported as itself, `from a.b import c as c`.

That is how the typing specification spells "public", so type checkers read the same lines: those of
a room in its `__init__.py`, those of funcnn in `__init__.pyi`, which `import *` fills with whole
rooms. What a config chooses by name stands in a folder of its own, in a function and a file of that
name: the folder is the list.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

_ROOT = os.path.dirname(__file__)


def reexported(page: str) -> list[str]:
    """The names that a file imports as themselves, from A to z; it is read and not imported.

    >>> reexported(os.path.join(_ROOT, "models", "__init__.py"))[:3]
    ['autoencoder', 'bert', 'char_rnn']
    """
    return sorted(name for name in _homes(page) if not name.startswith("_"))


def _homes(page: str) -> dict[str, str]:
    """Each name that a file imports as itself, one a line, and the module that it comes from."""
    homes: dict[str, str] = {}
    with open(page, encoding="utf-8") as lines:
        for line in lines:
            match line.split():
                case ["from", home, "import", "*"]:
                    room = os.path.join(_ROOT, *home.split(".")[1:], "__init__.py")
                    homes |= dict.fromkeys(reexported(room), home)
                case ["from", home, "import", name, "as", again] if name == again:
                    homes[name] = home
    return homes


def lazily(
    package: str, stub: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package whose names stand in a stub (PEP 562).

    >>> get, names, public = lazily("funcnn", os.path.join(_ROOT, "__init__.pyi"))
    >>> get("mlp").__module__, "chain" in names(), "__version__" in public
    ('funcnn.models.image', True, False)
    """
    homes = _homes(stub)

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"{package} has no {name!r}; its names are in dir({package})")
        if homes[name] == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(homes[name]), name)
        vars(sys.modules[package])[name] = value
        return value

    return get, lambda: sorted(homes), reexported(stub)


def files(folder: str) -> list[str]:
    """The names of the files in a package, from A to z; none of them is imported.

    >>> files("funcnn.task.losses")[:2]
    ['logistic', 'softmax_cross_entropy']
    """
    entries = os.listdir(os.path.join(_ROOT, *folder.split(".")[1:]))
    return sorted(name[:-3] for name in entries if name.endswith(".py") and name[0] != "_")


def import_files(folder: str) -> None:
    """Import every file of a package, so that what they register is there.

    >>> import_files("funcnn.report")
    >>> "funcnn.report.html" in sys.modules
    True
    """
    for name in files(folder):
        importlib.import_module(f"{folder}.{name}")


def named(folder: str, name: str) -> Callable[..., Any]:
    """The function that has the name of its file in a package.

    >>> named("funcnn.data.sets", "digits").__name__
    'digits'
    """
    return getattr(importlib.import_module(f"{folder}.{name}"), name)


def parameters(folder: str, name: str) -> list[str]:
    """What such a function takes; its file is read and not imported.

    >>> parameters("funcnn.data.sets", "digits")
    ['seed', 'pixels']
    """
    arguments = _arguments(folder, name)
    return [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]


def required(folder: str, name: str) -> list[str]:
    """What it cannot do without, likewise.

    >>> required("funcnn.data.sets", "idx")
    ['path']
    """
    arguments = _arguments(folder, name)
    by_place = arguments.args[: len(arguments.args) - len(arguments.defaults)]
    by_name = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [a.arg for a in (*by_place, *(a for a, default in by_name if default is None))]


def _arguments(folder: str, name: str) -> Any:
    import ast  # which costs more than the rest of `import funcnn`

    path = os.path.join(_ROOT, *folder.split(".")[1:], f"{name}.py")
    with open(path, encoding="utf-8") as file:
        functions = [n for n in ast.parse(file.read()).body if isinstance(n, ast.FunctionDef)]
    (arguments,) = (f.args for f in functions if f.name == name)
    return arguments
