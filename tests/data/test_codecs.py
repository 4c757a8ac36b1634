"""Text of tokens, as they come: no character twice, none lost, none cut in two."""

from pathlib import Path

import pytest

from funcnn.data import DataError
from funcnn.data.codecs import codec_of
from funcnn.data.vocabularies import opened_tokenizer, vocabulary_of

TEXT = "Grün ist, ach, die 木 — und 🌳!\n  Zwei"


def written(codec, tokens):
    writer = codec.writer()
    pieces = [writer.add(int(token)) for token in tokens]
    return [*pieces, writer.end()]


def byte_level(folder):
    """A tokenizer like GPT-2's, of bytes and pairs of them."""
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=270, initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(["und so und so ist die Zwei"], trainer)
    return saved(model, folder / "bytes.json")


def of_words(folder):
    """A tokenizer like Llama's: the first space of what is decoded is left out."""
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    decoders = tokenizers.decoders
    model.decoder = decoders.Sequence(
        [
            *(decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, show_progress=False
    )
    model.train_from_iterator(["und so und so ist die Zwei"], trainer)
    return saved(model, folder / "words.json")


def saved(model, path):
    model.save(str(path))
    return str(path), vocabulary_of(opened_tokenizer(path))


def test_characters():
    codec = codec_of(tuple(sorted(set(TEXT))))
    assert written(codec, codec.encode(TEXT)) == [*TEXT, ""]
    assert codec.writer().add(99) == "\ufffd"
    with pytest.raises(DataError, match="'x' is no token of the training's text"):
        codec.encode("Zxei")
    with pytest.raises(DataError, match="holds more than characters: 'und'"):
        codec_of(("a", "und"))


def test_bytes_wait_for_their_character():
    codec = codec_of((), "bytes")
    assert codec.encode("ä").tolist() == [0xC3, 0xA4]
    pieces = written(codec, codec.encode(TEXT))
    assert "".join(pieces) == TEXT
    assert [piece for piece in pieces if piece] == list(TEXT)
    assert written(codec, [0xC3, 65, 300, 0xC3]) == ["", "\ufffdA", "\ufffd", "", "\ufffd"]
    assert codec.encode(b"\xe4".decode("utf-8", "surrogateescape")).tolist() == [0xE4]


@pytest.mark.parametrize("make", [byte_level, of_words])
def test_pieces_of_a_tokenizer(make, tmp_path):
    path, vocabulary = make(tmp_path)
    codec = codec_of(vocabulary, path)
    tokens = codec.encode(TEXT).tolist()
    pieces = written(codec, tokens)
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)
    assert sum(map(bool, pieces)) > 8  # it came bit by bit
    half = codec.encode("🌳").tolist()[-4:-1]
    assert "".join(written(codec, [*codec.encode("so").tolist(), *half])).startswith("so\ufffd")
    assert written(codec, half * 3)[3] != ""  # what is never whole is not waited for
    with pytest.raises(DataError, match="is not UTF-8"):
        codec.encode("\udc80")
    with pytest.raises(DataError, match=r"json: is another tokenizer than that of the training's"):
        codec_of(vocabulary[:-1], path)
    Path(path).unlink()
    with pytest.raises(DataError, match="no such file"):
        codec_of(vocabulary, path)
