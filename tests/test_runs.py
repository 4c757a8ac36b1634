"""A run folder as a user meets it after kills, damage, full disks and second processes."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from funcnn.cli import main
from funcnn.commands import train as commands
from funcnn.commands.streams import warn
from funcnn.commands.train import _work
from funcnn.config import ConfigError, load_config
from funcnn.data.known import Known
from funcnn.runs import folder as folders
from funcnn.runs import lock as locks
from funcnn.train import Checkpoints

ROOT = Path(__file__).parent.parent
STEPS = 4
SHORT = {"steps": STEPS, "steps_per_call": 2, "log_every": 2, "checkpoint_every": 2}


def command(folder, *more):
    change = [part for key, value in SHORT.items() for part in ("--set", f"train.{key}={value}")]
    config = str(ROOT / "configs/digits_mlp.toml")
    return ["train", config, "--out", str(folder), *change, *more]


def train(capsys, folder, *more):
    """Exit code, stdout and the lines of stderr."""
    code = main(command(folder, *more))
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nobody disturbed; tests take a copy."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(command(folder)) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def assert_ends_as(folder, finished):
    assert (folder / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert {p.name for p in folder.iterdir()} == {p.name for p in finished.iterdir()}
    assert Checkpoints(folder / "checkpoints").steps() == [2, 4]


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resume"])
def test_leftovers_of_a_run_that_never_began_are_ignored(resume, finished, tmp_path, capsys):
    (tmp_path / "checkpoints/unfinished-00000002").mkdir(parents=True)
    for name in (".funcnn-lock", "versions.json", "config.toml.unfinished"):
        (tmp_path / name).write_text("")
    code, _, stderr = train(capsys, tmp_path, *resume)
    assert code == 0
    assert ("no state to resume from: starts at step 0" in stderr) == bool(resume)
    assert_ends_as(tmp_path, finished)


def test_a_run_killed_before_its_first_checkpoint_resumes_at_step_0(finished, run, capsys):
    for step in (2, 4):
        shutil.rmtree(run / f"checkpoints/step_{step:08d}")
    (run / "checkpoints/unfinished-00000002").mkdir()
    (run / ".funcnn-lock").write_text("")
    code, _, (message,) = train(capsys, run)
    assert code == 2
    assert "already holds a run; continue it with --resume" in message
    code, _, stderr = train(capsys, run, "--resume")
    assert code == 0
    assert "no state to resume from: starts at step 0" in stderr
    assert_ends_as(run, finished)


def test_a_folder_of_something_else_is_not_resumed(tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    code, _, (message,) = train(capsys, tmp_path, "--resume")
    assert code == 2
    assert "is not empty; take another folder with --out" in message
    assert [p.name for p in tmp_path.iterdir()] == ["letters"]


def test_an_option_that_the_run_did_not_have_cannot_be_given_on_resume(tmp_path):
    path, folder = tmp_path / "run.toml", folders.RunFolder(tmp_path / "run")
    path.write_text('[model]\nname = "mlp"\n')
    folder.begin(load_config(path), "a device", Known({}))
    folder.check_resumable(load_config(path, ["train.steps=7"]))
    with pytest.raises(
        ConfigError, match=r"options\.dropout was absent in this run and is 0\.5 now"
    ):
        folder.check_resumable(load_config(path, ["model.options.dropout=0.5"]))


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resume"])
def test_a_second_process_ends_with_one_line_and_writes_nothing(resume, run, capsys):
    with locks.locked(run / ".funcnn-lock"):
        before = contents(run)
        code, out, (message,) = train(capsys, run, *resume)
        assert (code, out) == (2, "")
        assert f"another process, {os.getpid()} on host {socket.gethostname()}, is tr" in message
        assert re.search(
            r"is training in it since 20\d\d-\d\d-\d\dT[\d:]+\+00:00; wait for it", message
        )
        assert contents(run) == before


def test_a_lock_whose_file_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / "lock", fcntl.flock, []

    def late(descriptor, how):
        flock(descriptor, how)
        calls.append(descriptor)
        if len(calls) == 1:  # the process that held it until now removes it
            path.unlink()

    monkeypatch.setattr("fcntl.flock", late)
    with locks.locked(path) as held:
        assert held
        assert path.exists()
        assert len(calls) == 2
    assert not path.exists()


def no_locks(descriptor, how):
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_where_there_are_no_locks_a_run_goes_on_with_a_warning(run, capsys, monkeypatch):
    monkeypatch.setattr("fcntl.flock", no_locks)
    with folders.RunFolder(run).held(warn):
        assert "cannot be locked here" in capsys.readouterr().err


def of_a_dead_process():
    return subprocess.run(["sh", "-c", "echo $$"], capture_output=True, check=True).stdout


HERE = socket.gethostname()
# Who is named by a lock file that was left, or not left; whether it is an obstacle where the system
# has no locks. Where it has some, none is.
OWNERS = {
    "a dead process": (lambda: {"pid": int(of_a_dead_process()), "host": HERE}, False),
    "a living one": (lambda: {"pid": os.getppid(), "host": HERE}, True),
    "somebody else's": (lambda: {"pid": 1, "host": HERE}, True),
    "on another host": (lambda: {"pid": 2**22 + 1, "host": f"not-{HERE}"}, True),
    "no process": (lambda: {"pid": 0, "host": HERE}, True),
    "nobody": (dict, False),
    "a list": (lambda: [1], False),
}


@pytest.mark.parametrize("name", OWNERS)
def test_a_lock_file_is_an_obstacle_only_where_its_owner_may_live(name, run, capsys, monkeypatch):
    owner, obstacle = OWNERS[name]
    content = owner()
    if content and isinstance(content, dict):
        content["since"] = "2026-01-02T03:04:05+00:00"
    lock = run / ".funcnn-lock"
    lock.write_text(json.dumps(content))
    with folders.RunFolder(run).held(warn):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()
    monkeypatch.setattr("fcntl.flock", no_locks)
    lock.write_text(json.dumps(content))
    before = contents(run)
    if obstacle:
        line = rf"another process, {content['pid']} on host \S+, is training in it since 2026-01-02"
        with pytest.raises(ConfigError, match=line) as raised, folders.RunFolder(run).held(warn):
            pass
        assert str(raised.value).endswith(f"; if it no longer runs, remove {lock}")
        assert contents(run) == before
    else:
        with folders.RunFolder(run).held(warn):
            assert json.loads(lock.read_text())["pid"] == os.getpid()
        assert not lock.exists()


HOLDER = """
import sys, time
from pathlib import Path
from funcnn.runs.lock import locked
with locked(Path(sys.argv[1])) as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_none_and_while_it_lives_it_is_named(run):
    lock = run / ".funcnn-lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        line = f"another process, {holder.pid} on host {HERE}, is training in it since "
        with pytest.raises(ConfigError, match=line), folders.RunFolder(run).held(warn):
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert lock.exists()
    with folders.RunFolder(run).held(warn):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def places(folder):
    (folder / "file").write_text("x")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    yield "/dev/null", "/dev/null: is a device; a run needs a folder"
    yield "/dev/null/run", "/dev/null: is a device; no folder can be made under it"
    yield folder / "file", "file: is a file; a run needs a folder"
    yield folder / "file/a/b", "file: is a file; no folder can be made under it"
    yield folder / "dangling", "dangling: is a link to nowhere, which is not there"
    yield folder / "dangling/run", "is not there; no folder can be made under it"
    yield folder / "pipe", "pipe: is a pipe"
    yield folder / "new" / ("x" * 300), "cannot be made: File name too long"


def test_a_place_that_can_hold_no_run_is_said_before_anything_is_built(
    tmp_path, capsys, monkeypatch
):
    def build(config):
        raise AssertionError("something was built")

    monkeypatch.setattr(commands, "build_experiment", build)
    for place, message in places(tmp_path):
        for resume in ([], ["--resume"]):
            code, _, (line,) = train(capsys, place, *resume)
            assert code == 2
            assert message in line
    assert {p.name for p in tmp_path.iterdir()} == {"file", "dangling", "pipe"}


def test_a_signal_in_the_last_save_leaves_a_complete_run(tmp_path, capsys, monkeypatch):
    save = Checkpoints.save

    def interrupted(self, state, record=None):
        if int(state.step) == STEPS:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, state, record)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    code, out, stderr = train(capsys, tmp_path / "run")
    assert code == 0
    assert out.startswith("test accuracy 0.")
    assert not any("--resume" in line for line in stderr)


def test_a_finished_run_that_cannot_be_written_is_reported_with_a_warning(run, capsys, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    before = contents(run)
    monkeypatch.setattr(folders, "locked", refuse)
    monkeypatch.setattr(commands, "learning_curves", refuse)
    code, out, stderr = train(capsys, run, "--resume")
    assert code == 0
    assert out.startswith("test accuracy 0.")
    (warning,) = [line for line in stderr if "warning" in line]
    assert warning.endswith("curves.png could not be drawn: Read-only file system")
    assert contents(run) == before


def test_a_run_past_the_steps_asked_for_is_reported_and_left_alone(run, capsys):
    before = contents(run)
    code, out, stderr = train(capsys, run, "--resume", "--set", "train.steps=3")
    assert code == 0
    assert out.startswith("test accuracy 0.")
    assert stderr[-3:] == [
        "train.steps was 4 when this run began and is 3 now",
        "resumed at step 4",
        "nothing to do: the run is at step 4, past train.steps = 3",
    ]
    assert contents(run) == before


def test_a_new_run_where_nothing_can_be_written_is_one_line(tmp_path, capsys, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(folders, "locked", refuse)
    code, _, (message,) = train(capsys, tmp_path / "a" / "run")
    assert code == 2
    assert "run: cannot be written: Read-only file system" in message
    assert not (tmp_path / "a").exists()


def test_a_damaged_checkpoint_is_one_warning_and_the_end_is_the_same(finished, run, capsys):
    newest = run / "checkpoints/step_00000004"
    file = max((p for p in newest.rglob("d/*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, _, stderr = train(capsys, run, "--resume")
    assert code == 0
    (warning,) = [line for line in stderr if "warning" in line]
    assert "step_00000004 is damaged: file " in warning
    assert warning.endswith("taking step 2 instead")
    assert "resumed at step 2" in stderr
    assert_ends_as(run, finished)


def test_eval_takes_the_checkpoint_before_a_damaged_one_and_says_what_makes_it_whole(run, capsys):
    (run / "checkpoints/step_00000004/manifest.json").unlink()
    assert main(["eval", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["step"] == 2
    assert err.endswith("; taking step 2 instead; train --resume makes what comes after it again\n")


def test_a_finished_run_has_nothing_to_do(run, capsys):
    code, _, stderr = train(capsys, run, "--resume")
    assert code == 0
    assert stderr[-1] == f"nothing to do: the run has its 4 steps; results in {run}"
    code, _, stderr = train(capsys, run, "--resume", "--set", "train.steps=5")
    assert code == 0
    assert re.match(r"1 step in [0-9.]+ s, 5 in all; results in ", stderr[-1])


def test_without_a_whole_checkpoint_one_line_says_how_to_start_anew(run, capsys):
    for path in run.glob("checkpoints/*/manifest.json"):
        path.write_text("[" * 200_000)
    code, _, (message,) = train(capsys, run, "--resume")
    assert code == 2
    assert "no checkpoint is whole" in message
    assert f"to start anew remove {run / 'checkpoints'} and resume" in message
    assert main(["eval", str(run)]) == 2
    assert capsys.readouterr().err.splitlines() == [message]
    shutil.rmtree(run / "checkpoints")
    code, _, stderr = train(capsys, run, "--resume")
    assert code == 0
    assert "no state to resume from: starts at step 0" in stderr


def test_a_bad_line_of_the_metrics_is_named_before_anything_is_built(run, capsys, monkeypatch):
    monkeypatch.setattr(commands, "build_experiment", None)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\n")
    code, _, (message,) = train(capsys, run, "--resume")
    assert code == 2
    assert "metrics.jsonl, line 3: not UTF-8" in message


MODELS = """
import funcnn as fnn
def normal(): return fnn.chain(fnn.flatten, fnn.dense(16), fnn.batch_norm(), fnn.dense(10))
def pair(): return normal().init, lambda params, x, key=None: normal()(params, x, key=key)
"""


@pytest.mark.parametrize(
    ("build", "change", "message"),
    [
        ("pair", "run.seed=0", "let the builder return the fnn.Layer itself"),
        ("normal", "data.batch_size=1", "batch norm 'batch_norm_0' would take the variance of one"),
    ],
)
def test_what_trains_and_cannot_be_evaluated_leaves_no_folder(
    build, change, message, tmp_path, capsys, monkeypatch
):
    (tmp_path / "normal_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    own = ["--set", f"model.function=normal_models:{build}", "--set", "model.options={}"]
    code, _, (line,) = train(capsys, tmp_path / "run", *own, "--set", change)
    assert code == 2
    assert message in line
    assert not (tmp_path / "run").exists()


STREAMS = """
import os, sys
from funcnn.commands.streams import open_missing_streams, say
open_missing_streams()
assert os.open(os.devnull, os.O_RDONLY) > 2
for _ in range(3):
    say("log " * 30_000)
print("result")
"""


@pytest.mark.parametrize("how", ["2>&-", "2>&- <&-", "2>/dev/full"])
def test_a_log_that_cannot_be_written_stops_nothing(how):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    closed = ["sh", "-c", f'exec "$0" -c "$1" {how}', sys.executable, STREAMS]
    done = subprocess.run(closed, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "result\n")


@pytest.mark.slow
def test_without_standard_error_a_run_trains(tmp_path):
    closed = ["sh", "-c", 'exec "$0" -m funcnn "$@" 2>&-', sys.executable, *command(tmp_path)]
    done = subprocess.run(closed, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("test accuracy 0.")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.slow
def test_killed_runs_end_as_if_nobody_had_disturbed_them():
    kills = [sys.executable, str(ROOT / "benchmarks/kills.py"), "--kills", "5"]
    done = subprocess.run(kills, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_numbers_of_one_line_are_written_alike():
    assert _work(2000, 6000, 1.0) == "4,000 steps in 1.0 s, 6,000 in all"
    assert _work(6000, 6000, 1.0) == "nothing to do: the run has its 6,000 steps"
