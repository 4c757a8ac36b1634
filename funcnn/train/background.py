"""A save in a thread of its own, and the copy of a state that it writes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.train.state import TrainState
from funcnn.types import Array, ArrayLike


class Saving:
    """A save under way; `Checkpoints.save_in_background` begins one.

    Python waits for it before it ends. What it raises, `wait` raises, each time that it is asked.

    >>> saving = Saving(lambda: None)
    >>> saving.wait()
    >>> saving.has_ended()
    True
    """

    def __init__(self, write: Callable[[], None]):
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(write,), name="funcnn save")
        self._thread.start()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # whatever it is, it is raised where somebody hears it
            self._error = error

    def has_ended(self) -> bool:
        """Whether it has been written, or has failed."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Return when it has ended, however."""
        self._thread.join()

    def wait(self) -> None:
        """Return when it is on disk.

        Raises what `Checkpoints.save` raises where it failed.
        """
        self.join()
        if self._error is not None:
            raise self._error


def on_host(state: TrainState) -> TrainState:
    """A copy of a state in NumPy arrays that no device and no later step writes to.

    Typed random keys, of which NumPy has none, are copied on the device.

    >>> import optax
    >>> state = TrainState.create({"w": jnp.ones(2)}, optax.sgd(0.1), seed=0)
    >>> type(on_host(state).params["w"]).__name__
    'ndarray'
    """
    leaves = jax.tree.leaves(state)
    for leaf in leaves:
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()  # all at once, and the copies below wait for each
    return jax.tree.map(_copied, state)


def _copied(leaf: ArrayLike) -> np.ndarray | Array:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return jnp.array(leaf, copy=True)
    # On a CPU np.asarray gives a view of the device's own memory, which a step gives away.
    return np.array(leaf)
