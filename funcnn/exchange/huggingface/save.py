"""A model of ours and its params into a folder that transformers loads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import jax
import numpy as np

from funcnn.core.errors import first_line
from funcnn.core.given import described
from funcnn.core.layer import Layer
from funcnn.core.patterns import some, unknown_names
from funcnn.exchange.huggingface.families import FAMILIES, Family, family_of
from funcnn.exchange.huggingface.load import shapes_of
from funcnn.exchange.huggingface.rows import in_force
from funcnn.exchange.huggingface.settings import Options, Settings
from funcnn.exchange.huggingface.stored import FLOATS, WEIGHTS
from funcnn.exchange.huggingface.written import folder_in_place_of
from funcnn.models.transformer import Transformer
from funcnn.train.signature import leaf_names
from funcnn.types import Params

_CONFIG = "config.json"
# Whose values of our own would be theirs by default, which mean tokens of another vocabulary.
_OF_TOKENS = ("bos_token_id", "eos_token_id")
# Their name of a dtype stands in one of these, by their version.
_OF_DTYPE = ("torch_dtype", "dtype")


def save_huggingface(
    folder: str | os.PathLike[str],
    model: Layer,
    params: Params,
    *,
    config: Mapping[str, object] | None = None,
) -> None:
    """Write `fnn.models.gpt`, `llama` or `bert` as a folder that transformers loads, or nothing.

    The folder holds config.json and model.safetensors. What `fnn.load_huggingface` has loaded comes
    out with the same bits, by the names that transformers gives.

    Args:
        folder: a new one, an empty one, or one that holds these two files alone, which are
            replaced; the folder that it is in must be there.
        model: what `fnn.models.gpt`, `llama` or `bert` or `fnn.load_huggingface` has returned.
        params: its params, of one dtype.
        config: further keys of config.json, such as those that were loaded: `eos_token_id`, ...
            What the model itself says stands in place of theirs.

    Raises:
        OSError: the folder cannot be written, or holds something else.
        TypeError: the model is none of the three.
        ValueError: it has an option that theirs has not; params do not fit it, or are of several
            dtypes; a key of config asks for what the model is not.

    >>> import tempfile
    >>> import funcnn as fnn
    >>> model = fnn.gpt(11, length=8, width=6, depth=2, heads=3)
    >>> params = model.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 2), "int32"))
    >>> folder = tempfile.mkdtemp()
    >>> save_huggingface(folder, model, params)
    >>> sorted(os.listdir(folder))
    ['config.json', 'model.safetensors']
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if not isinstance(model, Transformer):
        made = "fnn.models.gpt, llama and bert and fnn.load_huggingface"
        raise TypeError(f"save_huggingface: model is what {made} make, found {described(model)}")
    try:
        family = FAMILIES[model.family]
        keys = family.config_of(model.options)
        text = _config(family, keys, _dtype(model, params), config or {})
        with folder_in_place_of(folder, (WEIGHTS, _CONFIG)) as unfinished:
            # transformers asks for this word of metadata.
            arrays = _arrays(family, model, params)
            save_file(arrays, unfinished / WEIGHTS, metadata={"format": "pt"})
            (unfinished / _CONFIG).write_text(text, "utf-8")
    except SafetensorError as error:  # a full disk, say
        raise OSError(f"save_huggingface: {folder}: {first_line(error)}") from error
    except OSError as error:
        raise type(error)(f"save_huggingface: {first_line(error)}") from error
    except ValueError as error:
        raise ValueError(f"save_huggingface: {first_line(error)}") from error


def _config(family: Family, keys: Options, dtype: np.dtype, given: Mapping[str, object]) -> str:
    """The text of config.json, of the keys that the model says and of those that were given."""
    known: Options = {"model_type": family.model_type, "architectures": [family.architecture]}
    known |= keys
    others = {name: value for name, value in given.items() if name not in _OF_DTYPE}
    whole = {**dict.fromkeys(_OF_TOKENS), **others, **known, _OF_DTYPE[0]: dtype.name}
    # What was given may ask for more than the model is.
    family_of(Settings(whole)).options_of(Settings(whole), None)
    try:
        return json.dumps(whole, indent=2) + "\n"
    except TypeError as error:
        raise ValueError(f"config holds what no JSON does: {first_line(error)}") from error


def _dtype(model: Transformer, params: Params) -> np.dtype:
    """The dtype of params that have the names and shapes of the model's."""
    wanted = shapes_of(model)
    leaves = dict(zip(leaf_names(params), jax.tree.leaves(params), strict=True))
    no_arrays = [name for name, a in leaves.items() if not isinstance(a, jax.Array | np.ndarray)]
    if no_arrays:
        raise ValueError(f"params hold no array at {some(no_arrays)}")
    missing = [name for name in wanted if name not in leaves]
    surplus = [name for name in leaves if name not in wanted]
    if missing or surplus:
        said = f"lack {unknown_names(missing, surplus)}" if missing else ""
        more = f"hold {some(surplus)}, for which the model has no place" if surplus else ""
        raise ValueError(f"params {' and '.join(filter(None, (said, more)))}")
    unlike = [
        f"{name} of shape {list(leaves[name].shape)}, and the model has {list(shape)}"
        for name, shape in wanted.items()
        if leaves[name].shape != shape
    ]
    if unlike:
        raise ValueError(f"params hold {some(unlike)}")
    dtypes = {str(leaf.dtype): name for name, leaf in leaves.items()}
    (only, *others) = dtypes
    if others or only not in FLOATS.values():
        shown = ", ".join(f"{dtype} ({name})" for dtype, name in dtypes.items())
        raise ValueError(f"params are of one dtype, {' or '.join(FLOATS.values())}, found {shown}")
    return leaves[dtypes[only]].dtype


def _arrays(family: Family, model: Transformer, params: Params) -> dict[str, np.ndarray]:
    """Their arrays by name: views of ours where the order of the numbers is the same."""
    leaves = dict(zip(leaf_names(params), map(np.asarray, jax.tree.leaves(params)), strict=True))
    depth = model.options["depth"]
    assert isinstance(depth, int)
    arrays: dict[str, np.ndarray] = {}
    for row in in_force(family.rows, leaves):
        ours = [leaves[leaf] for leaf in row.leaves]
        for i, name in enumerate(row.names(depth)):
            arrays[name] = row.joined([a[i] for a in ours] if row.stacked else ours)
    return arrays
