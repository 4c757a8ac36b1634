"""A folder that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from funcnn.core.patterns import some
from funcnn.report.files import UNFINISHED, take_the_place

_BEFORE = ".before"


@contextlib.contextmanager
def folder_in_place_of(path: str | os.PathLike[str], files: Collection[str]) -> Iterator[Path]:
    """A folder beside the one wanted, to write these files to; at the end it takes its place.

    A folder that holds some of these files and nothing else is replaced, and so is an empty one.
    After an error all is as it was.

    Raises:
        OSError: it cannot be written, or holds something else.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "net")
    >>> with folder_in_place_of(folder, ["config.json"]) as unfinished:
    ...     size = (unfinished / "config.json").write_text("{}")
    >>> [path.name for path in folder.iterdir()], unfinished.exists()
    (['config.json'], False)
    """
    target = Path(os.path.realpath(path))  # a link stays one
    unfinished, before = (target.with_name(target.name + end) for end in (UNFINISHED, _BEFORE))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    for folder in (target, unfinished, before):
        _require_ours(folder, files)
    _clear(unfinished, target, before)
    unfinished.mkdir()
    try:
        yield unfinished
        for name in files:
            with (unfinished / name).open("r+b") as file:
                os.fsync(file.fileno())
        take_the_place(unfinished, target, before)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _require_ours(folder: Path, files: Collection[str]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is there, and no folder")
    others = sorted(path.name for path in folder.iterdir() if path.name not in files)
    if others:
        raise FileExistsError(
            f"{folder} holds {some(others)}, which would be lost: give an empty or a new folder"
        )


def _clear(unfinished: Path, target: Path, before: Path) -> None:
    """What a process that was killed has left."""
    shutil.rmtree(unfinished, ignore_errors=True)
    if before.exists() and not target.exists():
        before.rename(target)
    shutil.rmtree(before, ignore_errors=True)
