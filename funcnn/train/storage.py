"""The arrays of a state on the disk, through orbax, with the manifest beside them."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcnn.train.digests import digests
from funcnn.train.manifest import CheckpointError, write_manifest
from funcnn.train.processes import is_first, together
from funcnn.train.quiet import orbax_silenced
from funcnn.train.signature import leaf_names, signature
from funcnn.train.state import TrainState
from funcnn.types import Array, Shaped

_LOOKS = 40  # until a folder that was removed stays away
_BETWEEN_LOOKS = 0.05  # seconds


def write_state(path: Path, state: TrainState, record: dict[str, Any] | None) -> None:
    """Arrays and manifest of `state` in a folder that is there and empty, all flushed to disk.

    Of many processes each writes the parts of arrays that it holds, and the first the manifest.
    """
    import orbax.checkpoint as ocp

    # orbax takes arrays only, and a NumPy scalar is none. It joins the keys of a tree by dots, and
    # two leaves of the same joined key overwrite each other: it gets one level, of names of ours.
    arrays = {
        name: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        for name, leaf in zip(leaf_names(state), jax.tree.leaves(state), strict=True)
    }
    together("the folder of a checkpoint is there")
    with orbax_silenced(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(_arrays(path), arrays)
        checkpointer.wait_until_finished()
    if is_first():
        leaves = {name: str(leaf) for name, leaf in signature(state).named().items()}
        write_manifest(path, leaves, record, digests(arrays))
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
    return _read(path, targets, how)


def read_leaves(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Leaves of a state by their names, on the host; those that cannot be read are left out.

    Of a typed random key it is the numbers that it is made of. Raises CheckpointError, with the
    reason, where none of them can be read.
    """
    import orbax.checkpoint as ocp

    how = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    found: dict[str, np.ndarray] = {}
    try:
        return _read(path, dict.fromkeys(how, 0), how)
    except CheckpointError as error:
        none_read = error
    with (
        contextlib.suppress(Exception),
        orbax_silenced(),
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
    ):
        failed = None
        for name in how:
            one = ocp.args.PyTreeRestore(
                item={name: 0}, restore_args={name: how[name]}, partial_restore=True
            )
            try:
                found |= checkpointer.restore(_arrays(path), args=one)
            except Exception as error:
                failed = error
        if failed is not None:
            raise failed  # once, since the silence after a failure takes its time
    if not found:
        raise none_read
    return found


def _read(path: Path, targets: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    try:
        with orbax_silenced(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            partly = ocp.args.PyTreeRestore(item=targets, restore_args=how, partial_restore=True)
            return checkpointer.restore(_arrays(path), args=partly)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error


def _arrays(path: Path) -> Path:
    return path.absolute() / "state"  # orbax takes no relative paths


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
