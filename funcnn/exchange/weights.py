"""Params in a file of safetensors, which every framework reads, and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnn.core.errors import first_line
from funcnn.core.given import check_flag, described
from funcnn.core.patterns import matching, renamed, some, unknown_names
from funcnn.core.usage import in_a_word
from funcnn.report.files import in_place_of, require_writable
from funcnn.train.checkpoint import Checkpoints
from funcnn.train.manifest import CheckpointError
from funcnn.train.signature import leaf_names
from funcnn.types import Array, Params, Shaped

_OWN_ENTRY = "__metadata__"  # of the format: no array can be called so


def save_weights(path: str | os.PathLike[str], params: Params) -> None:
    """Write a tree of arrays to a safetensors file, whole or not at all.

    An array is called by its path, `block/dense_0/w`, and keeps its shape and dtype: floating point
    (bfloat16, too), integers, booleans. The file holds no code, and other frameworks read it.

    Args:
        path: the file, there already or not; its folder must be there.
        params: the nested dict of arrays.

    Raises:
        OSError: the file cannot be written.
        TypeError: a leaf is no array of numbers.
        ValueError: two leaves have one name, or a dtype is none of the format's.

    Source: the format, https://github.com/huggingface/safetensors.

    >>> import tempfile, jax.numpy as jnp
    >>> path = tempfile.mkdtemp() + "/net.safetensors"
    >>> save_weights(path, {"dense_0": {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}})
    >>> load_weights(path, {"dense_0": {"b": jnp.ones(3)}}, only="dense_0/b")
    {'dense_0': {'b': Array([0., 0., 0.], dtype=float32)}}
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    named = zip(leaf_names(params), jax.tree.leaves(params), strict=True)
    arrays = {name: _as_numpy(name, leaf) for name, leaf in named}
    require_writable(path)
    try:
        with in_place_of(path) as unfinished:
            save_file(arrays, unfinished)
    except SafetensorError as error:
        kind = OSError if "I/O error" in str(error) else ValueError
        raise kind(f"save_weights: {path}: {first_line(error)}") from error


def load_weights(
    path: str | os.PathLike[str],
    like: Params,
    *,
    rename: Mapping[str, str] | None = None,
    only: str | Iterable[str] | None = None,
    strict: bool = True,
) -> Params:
    """The tree of `like` with the arrays of a safetensors file, also of one from elsewhere.

    A run gives its params alone, whatever its optimizer was: those of its best checkpoint where one
    was kept, else of the newest, and their averages where there are some.

    Each leaf gets the array of its own name; shapes and dtypes must be those of `like`. Patterns of
    names hold stars, each for any run of characters: `encoder/*` is all that is below `encoder`.

    Args:
        path: the file, or the folder of a run.
        like: arrays, or `jax.ShapeDtypeStruct` such as those of `jax.eval_shape(model.init, ...)`.
            An array that lies on chosen devices gives its placement to the loaded one.
        rename: from patterns of names in the file to names of leaves, {"encoder.*": "backbone/*"};
            the n-th star of a name is what the n-th star of the pattern has matched.
        only: one or several patterns of names of leaves: those alone are loaded, and the others
            stay as they are in `like`.
        strict: whether every leaf to be loaded must be in the file and, without `only`, every array
            of the file in `like`. Without it what is missing stays as it is in `like`, and what has
            no place is left out.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no safetensors file, or a part of one; a name is missing or has no place,
            a shape or dtype differs, a pattern matches nothing, nothing at all would be loaded; or
            what is to stay as it is in `like` is no array.

    >>> import tempfile, jax.numpy as jnp
    >>> path = tempfile.mkdtemp() + "/net.safetensors"
    >>> save_weights(path, {"encoder": {"w": jnp.ones(2)}})
    >>> like = {"backbone": {"w": jnp.zeros(2)}, "head": {"w": jnp.zeros(1)}}
    >>> load_weights(path, like, rename={"encoder/*": "backbone/*"}, only="backbone/*")
    {'backbone': {'w': Array([1., 1.], dtype=float32)}, 'head': {'w': Array([0.], dtype=float32)}}
    >>> load_weights(path, like)
    Traceback (most recent call last):
    ValueError: load_weights: ...net.safetensors has no backbone/w, head/w; it has encoder/w
    """
    check_flag("load_weights", "strict", strict)
    leaves = dict(zip(leaf_names(like), jax.tree.leaves(like), strict=True))
    names = list(leaves)
    wanted = names if only is None else sorted(matching("load_weights", only, names))
    with _opened(path) as file:
        in_file = renamed("load_weights", sorted(file.keys()), rename)
        _check_missing(path, in_file, wanted, strict)
        if strict and only is None:
            _check_surplus(path, in_file, names)
        found = {n: file.get_tensor(in_file[n]) for n in wanted if n in in_file}
    _check_shapes(path, found, leaves)
    stays = [name for name, a in leaves.items() if name not in found and _is_shape(a)]
    if stays:
        raise ValueError(
            f"load_weights: {some(stays)} would stay as in like, where it is no array but a "
            "ShapeDtypeStruct: give arrays, such as those of model.init(key, x)"
        )
    loaded = [_placed_as(a, found[n]) if n in found else a for n, a in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(like), loaded)


class _OfRun(NamedTuple):
    """The params of a run by name, as an open file has them."""

    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> _OfRun:
        folder = os.path.join(path, "checkpoints")
        if not os.path.isdir(folder):
            what = "neither a safetensors file nor the folder of a run"
            raise IsADirectoryError(f"load_weights: {path} is a folder, {what}")
        checkpoints = Checkpoints(folder)
        try:
            return cls(checkpoints.params(checkpoints.best_step()))
        except CheckpointError as error:
            raise ValueError(f"load_weights: {first_line(error)}") from error

    def keys(self) -> list[str]:
        return list(self.arrays)

    def get_tensor(self, name: str) -> np.ndarray:
        return self.arrays[name]


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A safetensors file, whose arrays are read when they are asked for; or those of a run."""
    from safetensors import SafetensorError, safe_open

    if os.path.isdir(path):
        yield _OfRun.read(path)
        return
    if not os.path.exists(path):
        raise FileNotFoundError(f"load_weights: there is no file {path}")
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except SafetensorError as error:
        what = f"{path} is no safetensors file, or a part of one"
        raise ValueError(f"load_weights: {what}: {first_line(error)}") from error
    except AttributeError as error:  # a dtype that the library has and NumPy has not
        raise ValueError(f"load_weights: {path}: {first_line(error)}") from error


def _check_missing(
    path: str | os.PathLike[str], in_file: Collection[str], wanted: list[str], strict: bool
) -> None:
    missing = [name for name in wanted if name not in in_file]
    if missing and (strict or len(missing) == len(wanted)):
        there = f"it has {some(sorted(in_file)) or 'no array'}"
        if strict and len(missing) < len(wanted):
            there += "; strict=False leaves those as they are in like"
        raise ValueError(
            f"load_weights: {path} has no {unknown_names(missing, sorted(in_file))}; {there}"
        )


def _check_surplus(
    path: str | os.PathLike[str], in_file: Collection[str], names: list[str]
) -> None:
    surplus = [name for name in in_file if name not in names]
    if surplus:
        raise ValueError(
            f"load_weights: in like there is no place for {unknown_names(surplus, names)} of "
            f"{path}: give rename= or only=, or leave it out by strict=False"
        )


def _check_shapes(
    path: str | os.PathLike[str], found: Mapping[str, np.ndarray], leaves: Mapping[str, Shaped]
) -> None:
    types = {name: jax.typeof(leaves[name]) for name in found}
    unlike = [
        f"{name} is {in_a_word(a)} and in like {in_a_word(types[name])}"
        for name, a in found.items()
        if (a.shape, a.dtype) != (types[name].shape, types[name].dtype)
    ]
    if unlike:
        raise ValueError(f"load_weights: in {path} {some(unlike)}")


def _as_numpy(name: str, leaf: object) -> np.ndarray:
    """A leaf as the format takes it, in the dtype that it has in JAX."""
    if name == _OWN_ENTRY:
        raise ValueError(f"save_weights: {name} is a name of the format's own: take another")
    try:
        # The library writes the memory of an array, whatever its strides are.
        return np.asarray(leaf, jax.typeof(leaf).dtype, order="C")
    except TypeError:
        found = in_a_word(leaf) if hasattr(leaf, "shape") else described(leaf)
        raise TypeError(f"save_weights: {name} is no array of numbers: {found}") from None


def _is_shape(leaf: object) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _placed_as(leaf: Shaped, a: np.ndarray) -> Array:
    """The array on the device, or the devices, on which `leaf` was put or is to be put."""
    chosen = _is_shape(leaf) or getattr(leaf, "committed", False)
    return jax.device_put(a, leaf.sharding if chosen else None)
