"""F6, F7: disks that take no more, of a whole run; those of a single save are in test_saves.py."""

import errno
import os
from pathlib import Path

import pytest
from faulty_runs import assert_ends_as, train

from funcnn.train import Checkpoints

ERRORS = ("ENOSPC", "EROFS", "EIO", "EACCES", "EDQUOT")


def refuse(name):
    number = getattr(errno, name)
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("name", ERRORS)
def test_a_save_that_fails_in_the_background_ends_the_run(
    name, straight, tmp_path, capsys, monkeypatch
):
    """With exit code 1 and what the system said; the state before it is there, and goes on."""
    scope, folder = Checkpoints._write.__globals__, tmp_path / "run"
    write = scope["write_state"]

    def failing(path, state, record):
        if int(state.step) >= 8:
            assert path.is_dir()
            (path / "half").write_text("of a state")
            refuse(name)
        write(path, state, record)

    monkeypatch.setitem(scope, "write_state", failing)
    code, out, err = train(capsys, straight.config, folder)
    assert (code, out) == (1, "")
    reason = os.strerror(getattr(errno, name))
    assert err[-1] == f"funcnn: could not save step 8 to {folder / 'checkpoints'}: {reason}"
    assert Checkpoints(folder / "checkpoints").steps() == [4]
    assert not list((folder / "checkpoints").glob("unfinished-*"))
    monkeypatch.undo()
    assert train(capsys, straight.config, folder, "--resume")[0] == 0
    assert_ends_as(folder, straight.folder, straight.state)


class HalfFile:
    """A file that takes half of the line of step 10."""

    def __init__(self, file, name):
        self._file, self._name = file, name

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def write(self, text):
        if '"step": 10' in text:
            self._file.write(text[: len(text) // 2])
            refuse(self._name)
        self._file.write(text)


@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
def test_a_log_that_takes_half_a_line_ends_the_run(name, straight, tmp_path, capsys, monkeypatch):
    whole, folder = Path.open, tmp_path / "run"

    def opened(self, mode="r", **options):
        file = whole(self, mode, **options)
        return HalfFile(file, name) if (self.name, mode) == ("metrics.jsonl", "a") else file

    monkeypatch.setattr(Path, "open", opened)
    code, out, err = train(capsys, straight.config, folder)
    assert (code, out) == (1, "")
    reason = os.strerror(getattr(errno, name))
    assert err[-1] == f"funcnn: {folder / 'metrics.jsonl'} cannot be written: {reason}"
    monkeypatch.undo()
    assert not (folder / "metrics.jsonl").read_text().endswith("\n")
    assert train(capsys, straight.config, folder, "--resume")[0] == 0
    assert_ends_as(folder, straight.folder, straight.state)
