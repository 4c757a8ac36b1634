"""Where the modules are that a config names; nothing is imported to know it."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder


def file_of(path: str, search: Sequence[str] = ()) -> str | None:
    """The file that `package.module:name` would be imported from; nothing is imported for it.

    >>> os.path.basename(file_of("funcnn.rules.linear:linear") or "")
    'linear.py'
    """
    put_on_path(search)
    top, *rest = path.partition(":")[0].split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in rest:
            inside = spec and spec.submodule_search_locations
            top = f"{top}.{part}"
            spec = PathFinder.find_spec(top, inside) if inside else None
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


def taken_by(top: str) -> str:
    """What is wrong where another module of this name is imported already; "" for the same text.

    >>> taken_by("no_such_module"), taken_by("funcnn")
    ('', '')
    """
    file = getattr(sys.modules.get(top), "__file__", None)
    spec = PathFinder.find_spec(top) if file else None
    if not (file and spec and spec.origin and os.path.isfile(file) and os.path.isfile(spec.origin)):
        return ""
    if filecmp.cmp(file, spec.origin, shallow=False):
        return ""
    wanted = f"the one here is {spec.origin}; load it in a process of its own, or rename it"
    return f"another module {top} is imported already, from {file}, and {wanted}"


def folders(search: Sequence[str]) -> list[str]:
    """The folders where modules are looked for before the installed ones, the current one first."""
    return list(dict.fromkeys([os.getcwd(), *map(os.path.abspath, search)]))


def put_on_path(search: Sequence[str]) -> None:
    """Python's search path as for a script that stands in these folders."""
    sys.path[:0] = [folder for folder in folders(search) if folder not in sys.path]
