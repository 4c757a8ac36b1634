"""F18: paths, streams, terminals and clocks that a program seldom meets."""

import os
import pty

import pytest
from faulty_runs import assert_ends_as, command, process, train, write_config

pytestmark = pytest.mark.slow


def test_blanks_and_letters_in_a_path_from_a_folder_that_takes_no_file(straight, tmp_path):
    """In the plainest of locales, too."""
    folder = tmp_path / "a run of é"
    done = process(command(straight.config, folder), environment={"LC_ALL": "C"}, cwd="/proc")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert_ends_as(folder, straight.folder, straight.state)


def test_bytes_in_a_path_that_are_no_text(tmp_path):
    """What a config says is UTF-8, and so is that of a run."""
    folder = tmp_path / os.fsdecode(b"\xff")
    done = process(command(write_config(tmp_path), folder))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("run.folder: holds bytes that are not UTF-8 text")
    assert not folder.exists()


def test_a_terminal_of_twenty_columns_without_colours(straight, tmp_path):
    ours, theirs = pty.openpty()
    narrow = {"COLUMNS": "20", "NO_COLOR": "1", "TERM": "dumb"}
    captured = {"capture_output": False, "stdout": theirs, "stderr": theirs}
    done = process(command(straight.config, tmp_path / "run"), environment=narrow, **captured)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += (part := os.read(ours, 65536))
        except OSError:  # how Linux ends it
            break
        if not part:
            break
    os.close(ours)
    assert done.returncode == 0, shown
    assert b"Traceback" not in shown
    assert b"test accuracy" in shown
    assert b"\x1b[3" not in shown  # no colour
    assert_ends_as(tmp_path / "run", straight.folder, straight.state)


def test_a_reader_of_the_result_that_has_gone(straight, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    captured = {"capture_output": False, "stdout": writing, "stderr": -1}
    done = process(command(straight.config, tmp_path / "run"), **captured)
    os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert_ends_as(tmp_path / "run", straight.folder, straight.state)


JUMPS = """
import sys, time
from funcnn.cli import main
original, look = time.time, iter(range(10**9))
how, *arguments = sys.argv[1:]
def jumping():
    turn = next(look)
    back = turn > 20 if how == "back" else turn % 2
    return original() - 40_000_000 * back
time.time = jumping
sys.exit(main(arguments))
"""


@pytest.mark.parametrize("how", ["back", "to and fro"])
def test_a_clock_that_jumps_by_a_year(how, straight, tmp_path, capsys):
    """Orbax takes a jump forwards in the middle of a save for one that takes too long."""
    folder = tmp_path / "run"
    done = process([how, *command(straight.config, folder)], code=JUMPS)
    assert "Traceback" not in done.stderr
    if how == "back":
        assert done.returncode == 0, done.stderr
    elif done.returncode:
        assert done.returncode == 1
        assert "\nfuncnn: could not save step " in done.stderr
        assert train(capsys, straight.config, folder, "--resume")[0] == 0
    assert_ends_as(folder, straight.folder, straight.state)
