"""Many processes that train together: who writes, what all agree on, and where they wait."""

from __future__ import annotations

import jax
import numpy as np


def are_many() -> bool:
    """Whether this is one of several processes, which share each array.

    >>> are_many()
    False
    """
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes what only one may write; a process that is alone does.

    >>> is_first()
    True
    """
    return jax.process_index() == 0


def together(what: str) -> None:
    """Wait until each process has come to this place, which `what` names.

    >>> together("saved")
    """
    if are_many():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def any_of_all(flag: bool) -> bool:
    """Whether the flag is true in any of the processes; each must ask.

    >>> any_of_all(True), any_of_all(False)
    (True, False)
    """
    if not are_many():
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
