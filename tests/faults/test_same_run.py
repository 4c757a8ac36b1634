"""F1, F4, F14: the same run twice, signals, and two processes in one folder."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
from faulty_runs import ROOT, assert_ends_as, command, process, train

from funcnn.train import Checkpoints

HOOKS = """
import os, signal
def sends(*names, at=6):
    def on_step(state, metrics):
        if int(state.step) == at:
            for name in names:
                os.kill(os.getpid(), getattr(signal, name))
    return on_step
SIGINT, SIGTERM = sends("SIGINT"), sends("SIGTERM")
SIGINT_twice, SIGTERM_twice = sends(*2 * ["SIGINT"]), sends(*2 * ["SIGTERM"])
"""


@pytest.mark.slow
def test_the_same_config_twice_in_two_processes(straight, tmp_path):
    done = process(command(straight.config, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert_ends_as(tmp_path / "run", straight.folder, straight.state)


@pytest.fixture
def signals(tmp_path, monkeypatch):
    """Signals that come as the hook of step 6 is called, which is not saved by itself."""
    (tmp_path / "signalling_hooks.py").write_text(HOOKS)
    monkeypatch.chdir(tmp_path)
    return lambda name: f"train.hooks.on_step=signalling_hooks:{name}"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_one_signal_saves_and_ends(name, code, straight, signals, tmp_path, capsys):
    folder = tmp_path / "run"
    found, _, err = train(capsys, straight.config, folder, signals(name))
    assert found == code
    assert err[-1] == f"stopped at step 6; go on with --resume --out {folder}"
    assert Checkpoints(folder / "checkpoints").latest() == 6
    assert train(capsys, straight.config, folder, "--resume")[0] == 0
    assert_ends_as(folder, straight.folder, straight.state)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")],
)
def test_a_second_signal_ends_at_once(name, code, said, straight, signals, tmp_path, capsys):
    folder = tmp_path / "run"
    found, _, err = train(capsys, straight.config, folder, signals(f"{name}_twice"))
    assert (found, err[-1]) == (code, f"funcnn: {said}")
    assert Checkpoints(folder / "checkpoints").steps() == [4]
    assert train(capsys, straight.config, folder, "--resume")[0] == 0
    assert_ends_as(folder, straight.folder, straight.state)


@pytest.mark.slow
def test_two_processes_on_one_folder_and_the_lock_of_the_killed_one(straight, tmp_path):
    """The first trains on while the second is refused; killed, it is in nobody's way."""
    long = command(straight.config, folder := tmp_path / "run", "train.steps=1000000")
    arguments, nowhere = [sys.executable, "-m", "funcnn", *long], subprocess.DEVNULL
    first = subprocess.Popen(arguments, cwd=ROOT, stdout=nowhere, stderr=nowhere)
    try:
        log = folder / "metrics.jsonl"
        while first.poll() is None and not log.exists():
            time.sleep(0.01)
        for resume in ((), ("--resume",)):
            second = process(command(straight.config, folder, *resume))
            assert second.returncode == 2
            (line,) = second.stderr.splitlines()
            assert f"another process, {first.pid} on host " in line
        written = log.stat().st_size
        while first.poll() is None and log.stat().st_size == written:
            time.sleep(0.01)
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert (folder / ".funcnn-lock").exists()
    for step in Checkpoints(folder / "checkpoints").steps():  # they are far beyond the straight run
        shutil.rmtree(folder / f"checkpoints/step_{step:08d}")
    done = process(command(straight.config, folder, "--resume"))
    assert done.returncode == 0, done.stderr
    assert_ends_as(folder, straight.folder, straight.state)
