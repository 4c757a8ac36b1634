"""One process at a time in a folder: a lock that the system releases when its process dies."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

# File systems that have no locks say so in these ways.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}


class Owner(NamedTuple):
    """Who holds a lock: process, host, and since when, as the lock file says."""

    pid: int
    host: str
    since: str


class InUse(Exception):
    """Another process holds the lock.

    `owner` says who, None where the file does not; `certain` is False where the system has no locks
    and the owner may have died.
    """

    def __init__(self, owner: Owner | None, *, certain: bool = True):
        super().__init__()
        self.owner, self.certain = owner, certain


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path`, and remove it at the end; whether the system has such locks.

    The file holds an `Owner`, as JSON. One that a killed process has left is no obstacle: what
    counts is the lock, not the file. Where there are no locks the file is one itself: that of a
    process which is dead, on this host, is no obstacle there, and any other is.

    Raises:
        InUse: another process holds it, or, where there are no locks, may hold it.
        OSError: the file cannot be made.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with locked(path):
    ...     try:
    ...         with locked(path):
    ...             pass
    ...     except InUse as error:
    ...         print(error.owner.pid == os.getpid())
    True
    >>> path.exists()
    False
    """
    descriptor, held = _acquire(path)
    try:
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        mine = Owner(os.getpid(), socket.gethostname(), since)
        with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(mine._asdict()).encode())
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
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_open(path, descriptor):
                return descriptor, True
        except BlockingIOError:
            os.close(descriptor)
            raise InUse(_owner(path)) from None
        except OSError as error:
            owner = _owner(path)
            if error.errno in _NO_LOCKS and (owner is None or _is_dead(owner)):
                return descriptor, False
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                raise InUse(owner, certain=False) from None
            raise
        os.close(descriptor)  # whoever held it has removed it in between


def _owner(path: Path) -> Owner | None:
    """Whom a lock file names; None for a file of anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Owner(int(content["pid"]), str(content["host"]), str(content["since"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_dead(owner: Owner) -> bool:
    """Whether a process is known to have ended: of one on another host nothing is known."""
    if owner.host != socket.gethostname() or os.name != "posix" or owner.pid < 1:
        return False
    try:
        os.kill(owner.pid, 0)  # which sends nothing
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # somebody else's, which lives
        pass
    return False


def _is_open(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
