"""Text for a model that says what comes next: by default, Python's own sources."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

import numpy as np

from funcnn.data.dataset import DataError, Dataset
from funcnn.data.files import read_bytes, read_text
from funcnn.data.vocabularies import characters, of_bytes, of_tokenizer
from funcnn.data.windows import cut_windows
from funcnn.spelling import did_you_mean

KINDS = ("characters", "bytes")


def text(
    path: str | Path | None = None,
    tokens: str = "characters",
    length: int = 128,
    limit: int | None = None,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Rows of `length` tokens: `x` int32 (N, T), and `y` int32 (N, T), of each token the next.

    `path` is a file, or a folder, of which all files are read, in the order of their paths and
    without hidden ones; without a path the text is the modules of Python's standard library, one
    after the other, which every machine has (4.2 million characters; those of another version of
    Python differ). `limit` takes no more than so many characters from the beginning, or bytes where
    these are the tokens.

    `tokens` are the "characters" of the text, "bytes", which need not be UTF-8, or the path of a
    `tokenizer.json`. The vocabulary is that of the whole text, and `classes` is its size.

    The rows follow each other in the text; its end, `test_fraction` of it, is for the test, and
    before it `validation_fraction` of what is left for validation. No token is in two splits.
    `Dataset.read` makes rows of another text, of the same tokens.
    Raises `DataError`, one line that names the file.

    >>> data = text(length=32, limit=10_000)
    >>> data.train.x.shape, data.test.x.shape, data.classes == len(data.vocabulary)
    ((249, 32), (62, 32), True)
    >>> "".join(data.vocabulary[token] for token in data.train.x[0])
    '# Copyright 2007 Google, Inc. Al'
    """
    name, files = _files(path)
    if limit is not None and limit < 1:
        raise DataError(f"{name}: limit must be at least 1, found {limit}")
    ids, vocabulary = _tokens(name, files, tokens, limit)
    if not ids.size:
        raise DataError(f"{name}: holds no text")
    if not test_fraction:
        raise DataError(f"{name}: test_fraction must be above 0, or there is nothing to test with")
    splits = cut_windows(name, ids, length, test_fraction, validation_fraction)
    train, test, validation = splits["train"], splits["test"], splits.get("validation")
    classes = len(vocabulary)

    def read(path: Path) -> np.ndarray:
        return _further(path, tokens, length, vocabulary)

    return Dataset(train, test, name, validation, classes, vocabulary=vocabulary, read=read)


def _further(path: Path, tokens: str, length: int, vocabulary: tuple[str, ...]) -> np.ndarray:
    """x (M, T) of another text: rows that follow each other; an end that fills none is left out."""
    name, files = _files(path)
    ids, own = _tokens(name, files, tokens, None)
    if own != vocabulary:
        numbers = {token: number for number, token in enumerate(vocabulary)}
        unknown = [token for token in own if token not in numbers]
        if unknown:
            raise DataError(f"{name}: {unknown[0]!r} is no token of the training's text")
        ids = np.array([numbers[token] for token in own], np.int32)[ids]
    if len(ids) < length:
        raise DataError(f"{name}: {len(ids)} tokens, and one row has {length}")
    return ids[: len(ids) // length * length].reshape(-1, length)  # (M, T)


def _files(path: str | Path | None) -> tuple[str, list[Path]]:
    if path is None:
        modules = Path(sysconfig.get_path("stdlib")).glob("*.py")
        # Others are made for one machine: _sysconfigdata, sitecustomize.
        files = [p for p in modules if p.name[0] != "_" and p.stem != "sitecustomize"]
        return f"the standard library of Python {platform.python_version()}", sorted(files)
    path = Path(path)
    if not path.is_dir():
        return str(path), [path]
    below = {p.relative_to(path): p for p in path.rglob("*") if p.is_file()}
    files = [below[p] for p in sorted(below) if not any(part[0] == "." for part in p.parts)]
    if not files:
        raise DataError(f"{path}: holds no file that is not hidden")
    return str(path), files


def _tokens(
    name: str, files: list[Path], tokens: str, limit: int | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    if tokens == "bytes":
        return of_bytes(b"".join(map(read_bytes, files))[:limit])
    if tokens != "characters" and not tokens.endswith(".json"):
        hint = did_you_mean(tokens, KINDS, quote='"')
        message = f'tokens = "{tokens}"{hint}: "characters", "bytes", or a path ending in .json'
        raise DataError(f"{name}: {message}")
    whole = "".join(map(read_text, files))[:limit]
    return characters(whole) if tokens == "characters" else of_tokenizer(Path(tokens), whole)
