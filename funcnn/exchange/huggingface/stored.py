"""The arrays in the safetensors files of a folder, one file or several shards, read one by one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.core.errors import first_line
from funcnn.types import Shape

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# The dtypes of weights, as the format calls them.
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Stored:
    """The arrays by name, of open files. Shapes and dtypes are known before any is read.

    Args:
        files: each with the names that it holds, as `safe_open` returns it.
    """

    def __init__(self, files: dict[str, Any]):
        self._files: dict[str, Any] = {}
        for path, file in files.items():
            for name in file.keys():  # noqa: SIM118, it has no other way to its names
                if name in self._files:
                    raise ValueError(f"{path} holds {name}, and so does another of its shards")
                self._files[name] = file

    def names(self) -> list[str]:
        """Those of all arrays."""
        return list(self._files)

    def shape(self, name: str) -> Shape:
        """The shape of an array."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The dtype of an array, "F32" say."""
        return self._files[name].get_slice(name).get_dtype()

    def read(self, name: str) -> np.ndarray:
        """An array; each call reads it again, and keeps nothing."""
        return self._files[name].get_tensor(name)


def json_of(path: Path) -> dict[str, object]:
    """The dict that a JSON file holds.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds no dict.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "config.json")
    >>> size = path.write_text("[3]")
    >>> json_of(path)
    Traceback (most recent call last):
    ValueError: .../config.json holds no JSON object
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Stored]:
    """The arrays of a folder, while its files are open.

    Raises:
        OSError: there are no such files.
        ValueError: one is no safetensors file, or the index is none.

    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> folder = Path(tempfile.mkdtemp())
    >>> save_file({"w": np.ones((2, 3), np.float32)}, folder / WEIGHTS)
    >>> with opened(folder) as stored:
    ...     stored.names(), stored.shape("w"), stored.dtype("w")
    (['w'], (2, 3), 'F32')
    """
    from safetensors import SafetensorError, safe_open

    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        for path in _paths(folder):
            try:
                files[str(path)] = stack.enter_context(safe_open(path, framework="np"))
            except SafetensorError as error:
                what = f"{path} is no safetensors file, or a part of one"
                raise ValueError(f"{what}: {first_line(error)}") from error
        yield Stored(files)


def _paths(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        why = f"; {pickled[0]} is a pickle, which may hold code and is not read" if pickled else ""
        raise FileNotFoundError(f"{folder} has neither {WEIGHTS} nor {INDEX}{why}")
    of_array = json_of(folder / INDEX).get("weight_map")
    shards = sorted(set(map(str, of_array.values()))) if isinstance(of_array, dict) else []
    if not shards:
        raise ValueError(f"{folder / INDEX} has no weight_map from names to files")
    # A name with a folder in it would lead elsewhere.
    absent = [s for s in shards if Path(s).name != s or not (folder / s).is_file()]
    if absent:
        raise FileNotFoundError(f"{folder / INDEX} names {', '.join(absent)}: no such file there")
    return [folder / shard for shard in shards]
