"""A text as tokens of a known vocabulary, and tokens as text again, one after the other."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from funcnn.data.dataset import DataError
from funcnn.data.vocabularies import opened_tokenizer, vocabulary_of

_NO_TEXT = "\N{REPLACEMENT CHARACTER}"


class Writer(Protocol):
    """Tokens as text, as they come: a character may need several of them."""

    def add(self, token: int) -> str:
        """What is certain of the text with one token more, and was not before."""
        ...

    def end(self) -> str:
        """What is left where no token comes any more."""
        ...


class Codec(Protocol):
    """Both ways between text and tokens."""

    def encode(self, text: str) -> np.ndarray:
        """Tokens int32 (n,); `DataError` where some of the text is none."""
        ...

    def writer(self) -> Writer:
        """The way back, from the first token on."""
        ...


def codec_of(vocabulary: Sequence[str], tokens: str = "characters") -> Codec:
    """The codec of a text that was read with these `tokens` (`fnn.data.text`).

    Args:
        vocabulary: what each token stands for.
        tokens: "characters", "bytes", or the path of a `tokenizer.json`.

    Raises:
        DataError: the vocabulary holds more than characters, or the tokenizer has another one.

    >>> codec = codec_of(("a", "b", "c"))
    >>> codec.encode("cab"), codec.writer().add(1)
    (array([2, 0, 1], dtype=int32), 'b')
    """
    if tokens == "bytes":
        return _Bytes()
    if tokens.endswith(".json"):
        return _Tokenizer(Path(tokens), tuple(vocabulary))
    longer = [token for token in vocabulary if len(token) != 1]
    if longer:
        raise DataError(f"the vocabulary holds more than characters: {longer[0]!r}")
    return _Characters(vocabulary)


class _Characters:
    def __init__(self, vocabulary: Sequence[str]):
        self._vocabulary = vocabulary
        self._numbers = {token: number for number, token in enumerate(vocabulary)}

    def encode(self, text: str) -> np.ndarray:
        unknown = [character for character in text if character not in self._numbers]
        if unknown:
            raise DataError(f"{unknown[0]!r} is no token of the training's text")
        return np.array([self._numbers[character] for character in text], np.int32)

    def writer(self) -> Writer:
        return self  # each token is a character

    def add(self, token: int) -> str:
        return self._vocabulary[token] if token < len(self._vocabulary) else _NO_TEXT

    def end(self) -> str:
        return ""


class _Bytes:
    def encode(self, text: str) -> np.ndarray:
        # Bytes of an argument that are no UTF-8 come as halves of surrogate pairs.
        return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8).astype(np.int32)

    def writer(self) -> Writer:
        return _BytesWriter()


class _BytesWriter:
    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        return self._decoder.decode(bytes([token])) if token < 256 else _NO_TEXT

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class _Tokenizer:
    def __init__(self, path: Path, vocabulary: tuple[str, ...]):
        self._tokenizer = opened_tokenizer(path)
        if vocabulary_of(self._tokenizer) != vocabulary:
            raise DataError(f"{path}: is another tokenizer than that of the training's text")

    def encode(self, text: str) -> np.ndarray:
        try:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        except (UnicodeError, TypeError):
            raise DataError("is not UTF-8") from None
        return np.array(ids, np.int32)

    def writer(self) -> Writer:
        return _TokenizerWriter(self._tokenizer)


class _TokenizerWriter:
    """What a token stands for may depend on that before it: a space, half a character.

    So the tokens since the last certain text are decoded together with those just before.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._before: list[int] = []
        self._new: list[int] = []

    def add(self, token: int) -> str:
        self._new.append(token)
        text = self._of_new()
        # A character has at most four bytes: after as many tokens it will never be whole.
        if text.endswith(_NO_TEXT) and len(self._new) < 4:
            return ""
        self._before, self._new = self._new, []
        return text

    def end(self) -> str:
        return self._of_new()

    def _of_new(self) -> str:
        before = self._decoded(self._before)
        return self._decoded(self._before + self._new)[len(before) :]

    def _decoded(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=False) if tokens else ""
