"""A file is written whole or not at all, and whoever cannot write it is told which file."""

import errno
import os
from pathlib import Path

import pytest

from funcnn.report.files import in_place_of, require_writable, take_the_place


def write(path, text, error=None):
    with in_place_of(path) as unfinished:
        unfinished.write_text(text)
        if error is not None:
            raise error


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, "old")
    with in_place_of(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, "old")
    with pytest.raises(KeyboardInterrupt):
        write(path, "ha", KeyboardInterrupt())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_that_was_wanted(tmp_path):
    path = tmp_path / "rows.jsonl"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as info:
        write(path, "ha", full)
    assert info.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        write(tmp_path / "absent/rows.jsonl", "new")
    assert info.value.filename == str(tmp_path / "absent/rows.jsonl")


def test_an_error_without_a_number_keeps_its_words(tmp_path):
    with pytest.raises(OSError, match="cannot be drawn"):
        write(tmp_path / "page.html", "ha", OSError("it cannot be drawn"))


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    path = tmp_path / "rows.jsonl"
    with in_place_of(path) as unfinished:
        unfinished.write_text("new")
        name = unfinished.name
    (tmp_path / name).write_text("a much longer text that was left behind")
    write(path, "newer")
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_link_the_file_is_replaced_that_it_names(tmp_path):
    path, link = tmp_path / "rows.jsonl", tmp_path / "latest.jsonl"
    write(path, "old")
    link.symlink_to(path)
    write(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"


def test_what_is_no_file_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(pipe, "new")
        assert os.read(reader, 9) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_folder_is_no_place_for_a_text(tmp_path):
    with pytest.raises(IsADirectoryError):
        write(tmp_path, "new")
    assert not list(tmp_path.iterdir())


def test_what_can_be_written_is_left_as_it_is(tmp_path):
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_text("old")
    for path in (old, new, "/dev/null"):
        require_writable(path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.html": "old"}


def test_what_cannot_be_written_is_an_error_that_names_it(tmp_path):
    for path in (tmp_path, tmp_path / "absent" / "new.html", tmp_path / (300 * "a")):
        with pytest.raises(OSError, match=r"directory|too long") as caught:
            require_writable(path)
        assert caught.value.filename == str(path)
        assert caught.value.strerror
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_cannot_be_taken_keeps_it(tmp_path, monkeypatch):
    new, target, before = (tmp_path / name for name in ("new", "net", "before"))
    for folder in (new, target):
        folder.mkdir()
        (folder / folder.name).touch()
    rename = Path.rename

    def busy(self, name):
        if self == new:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return rename(self, name)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", busy)
        with pytest.raises(OSError, match="busy"):
            take_the_place(new, target, before)
    assert (new / "new").exists()
    assert (target / "net").exists()
    assert not before.exists()
    take_the_place(new, target, before)
    assert (target / "new").exists()
    assert (before / "net").exists()
