"""A file, or a folder, is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".unfinished"


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError where `in_place_of` could not write a file; nothing is there afterwards.

    >>> require_writable("no/such/folder/page.html")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'no/such/folder/page.html'
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        if target.is_dir() or not os.access(target, os.W_OK):  # a pipe is not opened for this
            kind = errno.EISDIR if target.is_dir() else errno.EACCES
            raise OSError(kind, os.strerror(kind), str(path))
        return
    unfinished = target.with_name(target.name + UNFINISHED)
    there = unfinished.exists()
    try:
        unfinished.open("ab").close()
        if not there:
            unfinished.unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def in_place_of(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside a file, to write to: what is written there takes its place at the end.

    After an error the file is what it was before. What a killed process left behind is overwritten
    the next time. A link stays one; what is no file, such as /dev/stdout, is written to as it is.

    Args:
        path: the file, there already or not; its folder must be there.

    Raises:
        OSError: it cannot be written; the error names this file, not the one beside it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "rows.jsonl")
    >>> with in_place_of(path) as unfinished:
    ...     size = unfinished.write_text("{}")
    >>> path.read_text(), unfinished.exists()
    ('{}', False)
    """
    target = Path(os.path.realpath(path))  # a link stays one
    if target.exists() and not target.is_file():
        yield target  # a terminal or a pipe has no whole to wait for
        return
    unfinished = target.with_name(target.name + UNFINISHED)
    try:
        yield unfinished
        with unfinished.open("r+b") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError as error:  # a full disk, of which Python does not say which file it met
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def take_the_place(unfinished: Path, target: Path, before: Path) -> None:
    """Give a folder that is whole the name of another, which is called `before` then, if it is.

    Raises:
        OSError: that could not be done, and all is as it was.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("new", "net"):
    ...     (folder / name).mkdir()
    >>> take_the_place(folder / "new", folder / "net", folder / "before")
    >>> sorted(path.name for path in folder.iterdir())
    ['before', 'net']
    """
    if not target.exists():
        unfinished.rename(target)
        return
    target.rename(before)
    try:
        unfinished.rename(target)
    except OSError:
        before.rename(target)
        raise
