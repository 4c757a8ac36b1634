"""A model and its params out of a folder of Hugging Face's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.errors import first_line
from funcnn.core.layer import Layer
from funcnn.core.patterns import matches, some, unknown_names
from funcnn.core.stack import Kept
from funcnn.exchange.huggingface.families import Family, family_of
from funcnn.exchange.huggingface.rows import Row, in_force
from funcnn.exchange.huggingface.settings import Settings
from funcnn.exchange.huggingface.stored import FLOATS, Stored, json_of, opened
from funcnn.models.transformer import Transformer
from funcnn.train.signature import leaf_names
from funcnn.types import Array, DType, Params, Shape

_HEADS = ("lm_head.", "cls.")  # which stand beside the model in its file
_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class Pretrained(NamedTuple):
    """What a folder holds: the model, its params, and its config.json as a dict.

    >>> from funcnn.models import llama
    >>> Pretrained(llama(11, width=8, heads=4), {}, {"eos_token_id": 2}).config["eos_token_id"]
    2
    """

    model: Transformer
    params: Params
    config: dict[str, object]


def load_huggingface(
    folder: str | os.PathLike[str],
    *,
    dtype: DType | None = None,
    dropout: float | None = None,
    keep: Kept = "residuals",
) -> Pretrained:
    """A GPT-2, Llama or BERT of Hugging Face's: `fnn.models.gpt`, `llama` or `bert`, and weights.

    The folder holds config.json and model.safetensors, or shards with their index. No code of it is
    run, no pickle is read, and neither torch nor transformers is needed. The architectures are
    `GPT2LMHeadModel`, `LlamaForCausalLM` and `BertForMaskedLM`: grouped heads, heads of their own
    or tied to the table, biases; activations of GPT-2 gelu_new, gelu, relu, silu. What the model
    would do otherwise, such as scaled rotary positions, is refused by the name of its key. Of BERT
    the pooler and the head of next sentences are left out: no logits of tokens ask for them.

    Args:
        folder: a folder on this machine.
        dtype: of the params; None for that in which they are stored, which must be one.
        dropout: of training, with a key; None for that of the config.
        keep: what the loop over the blocks keeps, see `fnn.repeat`.

    Raises:
        OSError: there is no such folder, or a file of it is missing.
        ValueError: the config asks for what is not supported; arrays are missing, unknown, of
            another shape, or of several dtypes; a file is not what its name says.

    Source: the models, https://github.com/huggingface/transformers.

    >>> import tempfile
    >>> import funcnn as fnn
    >>> model, x = fnn.llama(11, width=8, depth=2, heads=4, hidden=12), jnp.array([[0, 3]])
    >>> folder = tempfile.mkdtemp()
    >>> fnn.save_huggingface(folder, model, model.init(jax.random.key(0), x))
    >>> model, params, config = load_huggingface(folder)
    >>> model(params, x).shape, config["num_attention_heads"]
    ((1, 2, 11), 4)
    """
    place = Path(folder)
    try:
        wanted = None if dtype is None else _dtype(dtype)
        config = json_of(_existing(place) / "config.json")
        family, model = _model(config, place, dropout, keep)
        with opened(place) as stored:
            params = _params(stored, _names(stored, family), family, model, wanted, place)
    except OSError as error:
        raise type(error)(f"load_huggingface: {first_line(error)}") from error
    except ValueError as error:
        raise ValueError(f"load_huggingface: {first_line(error)}") from error
    return Pretrained(model, params, config)


def _existing(place: Path) -> Path:
    if not place.exists():
        raise FileNotFoundError(f"there is no folder {place}")
    if not place.is_dir():
        raise NotADirectoryError(f"{place} is no folder")
    return place


def _dtype(dtype: DType) -> np.dtype:
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in FLOATS.values():
        raise ValueError(f"dtype is one of {', '.join(FLOATS.values())}, found {dtype!r}")
    return found


def _model(
    config: Mapping[str, object], place: Path, dropout: float | None, keep: Kept
) -> tuple[Family, Transformer]:
    try:
        settings = Settings(config)
        family = family_of(settings)
        return family, family.build(**family.options_of(settings, dropout), keep=keep)
    except ValueError as error:
        raise ValueError(f"{place / 'config.json'}: {first_line(error)}") from error


def shapes_of(model: Layer) -> dict[str, Shape]:
    """The shape of each leaf of the params of a model of tokens.

    >>> from funcnn.models import llama
    >>> shapes_of(llama(11, width=8, depth=2, heads=4, hidden=12))["head/w"]
    (8, 11)
    """
    tokens = jax.ShapeDtypeStruct((1, 1), "int32")
    tree = jax.eval_shape(model.init, jax.random.key(0), tokens)
    leaves = jax.tree.leaves(tree)
    return {n: leaf.shape for n, leaf in zip(leaf_names(tree), leaves, strict=True)}


def _names(stored: Stored, family: Family) -> dict[str, str]:
    """Our full name of each array that is no buffer, and its name in the files."""
    names = [n for n in stored.names() if not matches("load_huggingface", family.buffers, n)]
    full = any(name.startswith(family.prefix) for name in names)
    ours = {n: n if full or n.startswith(_HEADS) else f"{family.prefix}{n}" for n in names}
    for old, new in _OLD.items():
        ours = {n: name.replace(old, new) for n, name in ours.items()}
    return {name: n for n, name in ours.items()}


def _params(
    stored: Stored,
    names: Mapping[str, str],
    family: Family,
    model: Transformer,
    wanted: np.dtype | None,
    place: Path,
) -> Params:
    shapes = shapes_of(model)
    rows = in_force(family.rows, shapes)
    depth = model.options["depth"]
    assert isinstance(depth, int)
    expected = {name: row.shape(shapes) for row in rows for name in row.names(depth)}
    _check_names(stored, names, expected, family, place)
    dtype = _dtype_of(stored, [names[name] for name in expected], wanted, place)
    found: dict[str, Array] = {}
    for row in rows:
        arrays = _read(stored, row, [names[name] for name in row.names(depth)], shapes, dtype)
        found |= dict(zip(row.leaves, arrays, strict=True))
    return _tree(found)


def _check_names(
    stored: Stored,
    names: Mapping[str, str],
    expected: Mapping[str, Shape],
    family: Family,
    place: Path,
) -> None:
    """One line for all arrays that are missing, too many, or of another shape."""
    wrong: list[str] = []
    missing = [name for name in expected if name not in names]
    surplus = [name for name in names if name not in expected]
    for copy in [name for name in surplus if name in family.copies]:
        surplus.remove(copy)
        first = family.copies[copy]
        if first in names and not _same(stored.read(names[copy]), stored.read(names[first])):
            wrong.append(f"{copy} is not {first}, though tie_word_embeddings is true")
    if missing:
        wrong.insert(0, f"has no {unknown_names(missing, surplus)}")
    if surplus:
        wrong.append(f"holds {some(surplus)}, for which its config.json has no place")
    unlike = [
        f"{name} {list(stored.shape(names[name]))}, by its config.json {list(shape)}"
        for name, shape in expected.items()
        if name in names and stored.shape(names[name]) != shape
    ]
    if unlike:
        wrong.append(f"holds {some(unlike)}")
    if wrong:
        raise ValueError(f"{place} {'; '.join(wrong)}")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _dtype_of(
    stored: Stored, names: Sequence[str], wanted: np.dtype | None, place: Path
) -> np.dtype:
    """The dtype of the params: the one that is wanted, or that of all arrays."""
    by_dtype = {stored.dtype(name): name for name in names}
    shown = ", ".join(f"{FLOATS.get(d, d)} ({name})" for d, name in by_dtype.items())
    if not set(by_dtype) <= set(FLOATS):
        raise ValueError(f"{place} holds {shown}: {', '.join(FLOATS.values())} are supported")
    if wanted is None and len(by_dtype) > 1:  # the rules take one
        raise ValueError(f"{place} holds {shown}: give dtype=, for one of all")
    dtype = jnp.dtype(FLOATS[next(iter(by_dtype))]) if wanted is None else wanted
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"{place} would be {dtype}, for which JAX needs jax_enable_x64")
    return dtype


def _read(
    stored: Stored, row: Row, names: Sequence[str], shapes: Mapping[str, Shape], dtype: np.dtype
) -> list[Array]:
    """The leaves of one row: beside what has been read stands one array of theirs at a time."""
    stacks = [np.empty(shapes[leaf], dtype) for leaf in row.leaves]
    widths = [shape[-1] for shape in row.shapes(shapes)]
    for i, name in enumerate(names):
        for stack, part in zip(stacks, row.parts(stored.read(name), widths), strict=True):
            stack[i if row.stacked else ...] = part
    return [jnp.asarray(stack) for stack in stacks]


def _tree(leaves: Mapping[str, Array]) -> Params:
    tree: Params = {}
    for path, leaf in leaves.items():
        *inside, last = path.split("/")
        node = tree
        for name in inside:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree
