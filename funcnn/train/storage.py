"""The arrays of a state on the disk, through orbax, with the manifest beside them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcnn.train.manifest import CheckpointError, write_manifest
from funcnn.train.quiet import orbax_silenced
from funcnn.train.signature import leaf_names, signature
from funcnn.train.state import TrainState
from funcnn.types import Array, Shaped

_LOOKS = 40  # until a folder that was removed stays away
_BETWEEN_LOOKS = 0.05  # seconds


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
    """The state that `write_state` wrote there, with the tree and the placement of `like`.

    A field that is None in `like` is not read.
    """
    leaves, treedef = jax.tree.flatten(like)
    names = leaf_names(like)
    arrays = read_arrays(path, dict(zip(names, leaves, strict=True)))
    return jax.tree.unflatten(treedef, [arrays[name] for name in names])


def read_arrays(path: Path, like: Mapping[str, Shaped | np.ndarray]) -> dict[str, Array]:
    """Some arrays of a state, by their names, with the shapes, dtypes and placement of `like`."""
    import orbax.checkpoint as ocp

    def target(leaf: Shaped | np.ndarray) -> jax.ShapeDtypeStruct:
        sharding = getattr(leaf, "sharding", None)
        if sharding is None:
            sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    targets = {name: target(leaf) for name, leaf in like.items()}
    how = ocp.checkpoint_utils.construct_restore_args(targets)
    try:
        with orbax_silenced(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            partly = ocp.args.PyTreeRestore(item=targets, restore_args=how, partial_restore=True)
            return checkpointer.restore(path / "state", args=partly)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error says in one line: of the storage library's long ones what the system said."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).splitlines() or [""])[0]
    system = line.split(" [os_error_code=")
    if len(system) > 1:
        return system[0].rsplit(": ", 1)[-1]
    return line or type(error).__name__


def remove_for_good(folder: Path) -> None:
    """Remove what a failed save has written, and what the threads of the library still write."""
    absent = 0
    for _ in range(_LOOKS):
        absent = 0 if folder.exists() else absent + 1
        if absent > 2:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_BETWEEN_LOOKS)


def sync(folder: Path) -> None:
    """Flush a folder's entries, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
