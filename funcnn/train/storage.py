"""The arrays of a state on the disk, through orbax, with the manifest beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcnn.train.manifest import CheckpointError, write_manifest
from funcnn.train.quiet import orbax_silenced
from funcnn.train.signature import leaf_names, signature
from funcnn.train.state import TrainState
from funcnn.types import Shaped


def write_state(path: Path, state: TrainState, record: dict[str, Any] | None) -> None:
    """Arrays and manifest of `state` in a new folder, all flushed to disk."""
    import orbax.checkpoint as ocp

    # orbax takes arrays only, and a NumPy scalar is none. It joins the keys of a tree by dots, and
    # two leaves of the same joined key overwrite each other: it gets one level, of names of ours.
    arrays = {
        name: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        for name, leaf in zip(leaf_names(state), jax.tree.leaves(state), strict=True)
    }
    path.mkdir()
    with orbax_silenced(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", arrays)
        checkpointer.wait_until_finished()
    leaves = {name: str(leaf) for name, leaf in signature(state).named().items()}
    write_manifest(path, leaves, record)
    sync(path)


def read_state(path: Path, like: TrainState) -> TrainState:
    """The state that `write_state` wrote there, with the tree and the placement of `like`."""
    import orbax.checkpoint as ocp

    def target(leaf: Shaped | np.ndarray) -> jax.ShapeDtypeStruct:
        sharding = getattr(leaf, "sharding", None)
        if sharding is None:
            sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    leaves, treedef = jax.tree.flatten(like)
    names = leaf_names(like)
    try:
        with orbax_silenced(), ocp.StandardCheckpointer() as checkpointer:
            targets = dict(zip(names, map(target, leaves), strict=True))
            arrays = checkpointer.restore(path / "state", targets)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    return jax.tree.unflatten(treedef, [arrays[name] for name in names])


def reason(error: Exception) -> str:
    """What an error says in one line: of the storage library's long ones what the system said."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).splitlines() or [""])[0]
    system = line.split(" [os_error_code=")
    if len(system) > 1:
        return system[0].rsplit(": ", 1)[-1]
    return line or type(error).__name__


def sync(folder: Path) -> None:
    """Flush a folder's entries, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
