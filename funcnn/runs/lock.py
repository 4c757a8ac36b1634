"""One process at a time in a folder: a lock that the system releases when its process dies."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

# File systems that have no locks say so in these ways.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}


class InUse(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path`, and remove it at the end; whether the system has such locks.

    A file that a killed process has left is no obstacle: what counts is the lock, not the file.

    Raises:
        InUse: another process holds it.
        OSError: the file cannot be made.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with locked(path):
    ...     with locked(path):
    ...         pass
    Traceback (most recent call last):
    funcnn.runs.lock.InUse
    >>> path.exists()
    False
    """
    descriptor, held = _acquire(path)
    try:
        yield held
    finally:
        # Removed while it is still held, so that nobody else's is removed.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> tuple[int, bool]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is None:
                return descriptor, False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_open(path, descriptor):
                return descriptor, True
        except BlockingIOError:
            os.close(descriptor)
            raise InUse from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor, False
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has removed it in between


def _is_open(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
