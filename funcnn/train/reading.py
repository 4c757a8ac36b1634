"""One checkpoint read back: whole, of the right shapes, and leaf by leaf what was saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import optax
from optax.contrib import ScheduleFreeState

from funcnn.train.averages import AVERAGES
from funcnn.train.damage import Damage, whole_manifest
from funcnn.train.digests import changed_leaves
from funcnn.train.extra import EXTRA
from funcnn.train.manifest import CheckpointError, DamagedCheckpoint, Manifest
from funcnn.train.schedule_free import evaluated, states_by_name
from funcnn.train.signature import Leaf, Signature, first_of, leaf_names, signature
from funcnn.train.state import TrainState
from funcnn.train.storage import read_arrays, read_state
from funcnn.types import ArrayLike, PyTree


def read_checkpoint(path: Path, like: TrainState, step: int) -> TrainState:
    """The state of `step` in its folder, with the tree and placement of `like`.

    Where `like` has no state of the optimizer, that is read which evaluates its params.

    Raises CheckpointError as `Checkpoints.restore` does.
    """
    manifest = whole_manifest(path)
    unread = {field for field, tree in like._asdict().items() if tree is None}
    leaves = manifest.leaves.items()
    wanted = {name: leaf for name, leaf in leaves if name.partition("/")[0] not in unread}
    phrases = _differences(wanted, signature(like))
    if phrases:
        raise CheckpointError(f"{path} does not fit the state to fill: {first_of(phrases)}")
    state = read_state(path, like)
    named = zip(leaf_names(state), jax.tree.leaves(state), strict=True)
    _check_leaves(path, dict(named), manifest)
    if int(state.step) != step:
        raise DamagedCheckpoint(f"{path} is damaged: it holds step {int(state.step)}")
    if like.optimizer_state is None and (states := _schedule_free(path, like.params, manifest)):
        state = state._replace(optimizer_state=states)
    return state


def read_params(path: Path) -> dict[str, np.ndarray]:
    """The params in a folder by name, or what is evaluated in their place where it holds some.

    Raises CheckpointError as `Checkpoints.params` does.
    """
    manifest = whole_manifest(path)
    leaves = manifest.leaves
    prefix = f"{EXTRA}/{AVERAGES}/"
    if not any(name.startswith(prefix) for name in leaves):
        prefix = "params/"
    like = {n: Leaf.of(leaf) for n, leaf in leaves.items() if n.startswith(prefix)}
    shapes = {n: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for n, leaf in like.items()}
    arrays = read_arrays(path, shapes)
    _check_leaves(path, arrays, manifest)
    own = {n: Leaf.of(leaves["params/" + n.removeprefix(prefix)]).dtype for n in arrays}
    params = {n.removeprefix(prefix): np.asarray(a, own[n]) for n, a in arrays.items()}
    return jax.tree.map(np.asarray, evaluated(params, _schedule_free(path, params, manifest)))


def _schedule_free(path: Path, params: PyTree, manifest: Manifest) -> tuple[ScheduleFreeState, ...]:
    """Of the state of a schedule-free optimizer what evaluates the params; () of any other."""
    leaves, tree = jax.tree.flatten(params)
    states, unread = [], dict.fromkeys(ScheduleFreeState._fields)
    for begin in states_by_name(manifest.leaves):
        b1, z = f"{begin}/b1", [f"{begin}/z/{name}".rstrip("/") for name in leaf_names(params)]
        placed = {b1: None} | {
            name: getattr(leaf, "sharding", None) for name, leaf in zip(z, leaves, strict=True)
        }
        like = {}
        for name, sharding in placed.items():
            if name in manifest.leaves:  # not what is in no group of this optimizer
                leaf = Leaf.of(manifest.leaves[name])
                like[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        arrays = read_arrays(path, like)
        _check_leaves(path, arrays, manifest)
        kept = jax.tree.unflatten(tree, [arrays.get(name, optax.MaskedNode()) for name in z])
        # A number of the host goes with params of any placement.
        states.append(ScheduleFreeState(**{**unread, "b1": np.asarray(arrays[b1]), "z": kept}))
    return tuple(states)


def _check_leaves(path: Path, leaves: Mapping[str, ArrayLike], manifest: Manifest) -> None:
    """Raise DamagedCheckpoint where what was read, of files that are whole, is not what was saved.

    `leaves` are those that were read, by name.
    """
    changed = changed_leaves(leaves, manifest.digests)
    if changed:
        damage = Damage([], changed, len(manifest.leaves))
        raise DamagedCheckpoint(f"{path} is damaged: it is read otherwise than saved: {damage}")


def _differences(saved: dict[str, str], like: Signature) -> list[str]:
    wanted = {name: str(leaf._replace(weak_type=False)) for name, leaf in like.named().items()}
    phrases = [
        f"{name} is {saved[name]} in the checkpoint and {wanted[name]} in the state"
        for name in wanted
        if name in saved and saved[name] != wanted[name]
    ]
    phrases += [f"{name} ({wanted[name]}) is not in it" for name in wanted if name not in saved]
    phrases += [f"{name} ({saved[name]}) is in it alone" for name in saved if name not in wanted]
    return phrases
