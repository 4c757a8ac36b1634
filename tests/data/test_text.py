import sys

import numpy as np
import pytest
from told import told

from funcnn.data import load
from funcnn.data.sets.text import text
from funcnn.data.windows import cut_windows, windows

POEM = (
    "So, we'll go no more a roving\nSo late into the night,\nThough the heart be still as loving\n"
)


@pytest.fixture
def poem(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text(POEM * 4, "utf-8")
    return path


def spelled(data, split):
    """What the rows of a split say, and what comes next."""
    return ["".join(data.vocabulary[token] for token in split[name].ravel()) for name in "xy"]


@pytest.mark.parametrize("tokens", ["characters", "bytes"])
def test_rows_follow_each_other_and_splits_share_no_token(poem, tokens):
    data = text(poem, tokens, length=10, test_fraction=0.25, validation_fraction=0.1)
    whole = POEM * 4
    end = len(whole) - round(0.25 * len(whole))
    start = end - round(0.1 * end)
    pieces = {"train": whole[:start], "validation": whole[start:end], "test": whole[end:]}
    for name, split in data.splits().items():
        rows = (len(pieces[name]) - 1) // 10
        assert split.x.shape == split.y.shape == (rows, 10)
        assert split.x.dtype == split.y.dtype == np.int32
        said = pieces[name]
        assert spelled(data, split) == [said[: 10 * rows], said[1 : 10 * rows + 1]]
    assert data.classes == len(data.vocabulary) == (256 if tokens == "bytes" else len(set(POEM)))


def test_characters_are_code_points(tmp_path):
    (tmp_path / "a").write_bytes("aé€😀\r\n".encode() * 10)
    data = text(tmp_path / "a", length=6)
    assert data.vocabulary == ("\n", "\r", "a", "é", "€", "😀")
    assert data.train.x[0].tolist() == [2, 3, 4, 5, 1, 0]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    for name, content in (("b.txt", "second "), ("a/z.txt", "first "), ("c", "third")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / ".hidden").write_text("!")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("!")
    data = text(tmp_path, length=3, test_fraction=0.3)
    assert spelled(data, data.train)[0] == "first second third"[:12]
    assert "!" not in data.vocabulary


def test_pythons_sources_are_the_default_and_the_same_each_time():
    data, again = text(length=16, limit=5000), load("text", length=16, limit=5000, seed=3)
    assert np.array_equal(data.train.x, again.train.x)
    assert spelled(data, data.train)[0].startswith("# Copyright 2007 Google, Inc.")
    assert data.name.startswith(f"the standard library of Python {sys.version_info.major}.")
    assert data.train.rows + data.test.rows == 3999 // 16 + 999 // 16


def test_all_of_pythons_sources_fit_a_few_hundred_characters():
    data = text()
    assert data.train.x.max() < len(data.vocabulary) < 1000
    assert data.train.rows * 128 > 2_000_000


@pytest.fixture
def tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=40, special_tokens=["[UNK]"], show_progress=False
    )
    model.train_from_iterator([POEM], trainer)
    path = tmp_path / "tokenizer.json"
    model.save(str(path))
    return path, model


def test_the_tokens_of_a_tokenizer(poem, tokenizer):
    path, model = tokenizer
    data = text(poem, str(path), length=8)
    ids = model.encode(POEM * 4).ids
    assert data.train.x.ravel()[:80].tolist() == ids[:80]
    assert data.classes == model.get_vocab_size() == len(data.vocabulary)
    assert [data.vocabulary[i] for i in ids[:5]] == [model.id_to_token(i) for i in ids[:5]]
    path.write_text('{"version": 3}')
    assert told(text, poem, str(path)).startswith(f"{path}: no tokenizer: ")
    path.unlink()
    assert told(text, poem, str(path)) == f"{path}: no such file"
    path.mkdir()
    assert told(text, poem, str(path)) == f"{path}: is a folder"


def test_without_the_package_of_tokenizers(poem, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert told(text, poem, str(tokenizer[0])) == (
        f'{tokenizer[0]}: needs tokenizers: pip install "funcnn[data]"'
    )


def test_bytes_need_no_utf_8_and_characters_do(tmp_path):
    path = tmp_path / "latin"
    path.write_bytes("first\nsecond ä\n".encode("latin-1") * 3)
    assert told(text, path) == f"{path}: not UTF-8: byte 0xe4 at position 13, in line 2"
    assert text(path, "bytes", length=4).train.x[3, 1] == 0xE4


def test_bad_inputs(tmp_path, poem):
    assert told(text, tmp_path / "none.txt") == f"{tmp_path / 'none.txt'}: no such file"
    (tmp_path / "empty").touch()
    assert told(text, tmp_path / "empty") == f"{tmp_path / 'empty'}: holds no text"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".hidden").touch()
    folder = tmp_path / "folder"
    assert told(text, folder) == f"{folder}: holds no file that is not hidden"
    assert (
        told(text, poem, "characters", length=0)
        == f"{poem}: train: length must be at least 1, found 0"
    )
    assert told(text, poem, limit=0) == f"{poem}: limit must be at least 1, found 0"
    assert told(text, poem, test_fraction=1.0) == (
        f"{poem}: test_fraction must be from 0 to below 1, found 1.0"
    )
    assert told(text, poem, test_fraction=0.0) == (
        f"{poem}: test_fraction must be above 0, or there is nothing to test with"
    )
    assert told(text, poem, "chars") == (
        f'{poem}: tokens = "chars" (did you mean "characters"?): "characters", "bytes", or a path '
        "ending in .json"
    )
    assert told(text, poem, limit=100, length=20) == (
        f"{poem}: test: 20 tokens, and one row of length 20 needs 21"
    )
    assert told(load, "text", path=poem, length="long").startswith("data \"text\": length = 'long'")


@pytest.mark.parametrize(("tokens", "length", "rows"), [(9, 4, 2), (8, 4, 1), (5, 4, 1), (3, 1, 2)])
def test_windows_are_as_many_as_have_a_next_token(tokens, length, rows):
    split = windows(np.arange(tokens), length)
    assert split.x.shape == (rows, length)
    assert np.array_equal(split.y, split.x + 1)
    assert np.shares_memory(split.x, split.y)


def test_a_share_that_rounds_to_nothing_is_said():
    wanted = "abc: validation: 0 tokens, and one row of length 2 needs 3"
    assert told(cut_windows, "abc", np.arange(20), 2, 0.2, 0.01) == wanted
