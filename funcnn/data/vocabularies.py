"""Text as tokens: characters, bytes, or those of a `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from funcnn.data.dataset import DataError
from funcnn.data.optional import needed, said


def characters(text: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A text of n characters -> tokens int32 (n,), and the characters, in the order of Unicode.

    >>> characters("abba c")
    (array([1, 2, 2, 1, 0, 3], dtype=int32), (' ', 'a', 'b', 'c'))
    """
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")  # (n,)
    known, tokens = np.unique(points, return_inverse=True)
    return tokens.astype(np.int32), tuple(map(chr, known.tolist()))


def of_bytes(text: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """n bytes -> tokens int32 (n,), and 256 characters, each of which is its byte in Latin-1.

    >>> tokens, vocabulary = of_bytes("hé".encode())
    >>> "".join(vocabulary[token] for token in tokens).encode("latin-1").decode()
    'hé'
    """
    return np.frombuffer(text, np.uint8).astype(np.int32), tuple(map(chr, range(256)))


def of_tokenizer(path: Path, text: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A text -> tokens int32 (n,) without special ones, and what each stands for in the tokenizer.

    The file is one of Hugging Face's `tokenizers`, the package that reads it. Raises `DataError`
    where it is absent, no such file, or the package is not installed.

    >>> of_tokenizer(Path("no/tokenizer.json"), "abc")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: no/tokenizer.json: no such file
    """
    tokenizer = opened_tokenizer(path)
    tokens = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)
    return tokens, vocabulary_of(tokenizer)


def opened_tokenizer(path: Path) -> Any:
    """The tokenizer of a file; `DataError` as `of_tokenizer` raises it.

    >>> opened_tokenizer(Path("no/tokenizer.json"))
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: no/tokenizer.json: no such file
    """
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    with needed("tokenizers", path):
        from tokenizers import Tokenizer
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more special
        raise DataError(f"{path}: no tokenizer: {said(error)}") from None


def vocabulary_of(tokenizer: Any) -> tuple[str, ...]:
    """What each token of a tokenizer stands for."""
    names = {number: name for name, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    return tuple(names.get(number, "") for number in range(max(names, default=-1) + 1))
