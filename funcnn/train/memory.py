"""Let the process keep the memory that a step frees, for the next step."""

from __future__ import annotations

import ctypes
import sys

# Of <malloc.h>: how much free memory at its end the heap keeps, and how many blocks may stand
# outside of it, each of which is given back when it is freed.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory; whether it could be told (glibc, on Linux).

    XLA:CPU takes its temporary arrays from the C library anew in each call. As it is, glibc hands
    large ones back to the system when they are freed, so that in each step the system fills their
    pages with zeros again, which can take a quarter of the time of a step. After this the heap
    keeps up to 2 GB; the process stays as large as its largest step. It holds for the whole
    process, whoever allocates, so it is for a program to call, once, at its start, and not for a
    library; `funcnn train` and `funcnn bench` do. On other systems nothing is changed.

    Source: the GNU C library reference manual, 3.2.3.1, malloc tunable parameters.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    results = [mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _MOST)]
    return all(result == 1 for result in results)
