"""funcnn checkpoint list and verify, and train --resume --strict, on a run whose files change."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from funcnn.cli import main
from funcnn.train import Checkpoints, TrainState

# Random numbers cannot be compressed: the largest file of a checkpoint is the one that holds w.
W = jax.random.normal(jax.random.key(0), (64, 64))
STATE = TrainState.create({"w": W, "b": jnp.ones(3)}, optax.adam(0.1), seed=0)
LEAVES = 9
VALUES = {4: 0.75, 8: 0.5, 12: None}  # that of the last one has not been noted


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it, in its checkpoints alone; the config names what is absent."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.toml").write_text('[model]\nfunction = "absent.module:build"\n')
    checkpoints = Checkpoints(
        tmp_path / "run/checkpoints", best="evaluation_accuracy", higher_is_better=True
    )
    for step, value in VALUES.items():
        checkpoints.save(STATE._replace(step=jnp.int32(step)))
        if value is not None:
            checkpoints.note({"step": step, "evaluation_accuracy": value})
    return tmp_path / "run"


def called(capsys, *arguments):
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def rows(capsys, action, run):
    code, out, _ = called(capsys, "checkpoint", action, run, "--json")
    return code, [json.loads(line) for line in out]


def spoil(folder, step):
    files = (p for p in (folder / f"checkpoints/step_{step:08d}").rglob("d/*") if p.is_file())
    path = max(files, key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path.name


def test_list_shows_step_size_time_and_which_is_the_best_by_what(run, capsys):
    code, found = rows(capsys, "list", run)
    assert code == 0
    assert {row["step"]: row["value"] for row in found} == VALUES
    for row in found:
        files = (run / f"checkpoints/step_{row['step']:08d}").rglob("*")
        assert row["bytes"] == sum(p.stat().st_size for p in files if p.is_file())
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", row["time"])
        assert row["best"] == (row["step"] == 4)
        assert row["metric"] == (None if row["value"] is None else "evaluation_accuracy")
    code, table, _ = called(capsys, "checkpoint", "list", run)
    assert code == 0
    assert table[0].split() == ["step", "bytes", "time", "best", "metric", "value"]
    assert len(table) == 2 + len(found)


def test_what_is_not_known_of_a_checkpoint_is_null(run, capsys):
    (run / "checkpoints/best.json").unlink()
    _, found = rows(capsys, "list", run)
    assert all((r["best"], r["metric"], r["value"]) == (False, None, None) for r in found)
    assert main(["checkpoint", "list", str(run)]) == 0


def test_verify_says_whole_of_each_and_what_it_has_looked_at(run, capsys):
    code, lines, _ = called(capsys, "checkpoint", "verify", run)
    assert code == 0
    assert len(lines) == 3
    for step, line in zip(VALUES, lines, strict=True):
        assert re.fullmatch(rf"step {step}: whole, \d+ files, {LEAVES} leaves", line)
    code, found = rows(capsys, "verify", run)
    assert code == 0
    assert all(row["whole"] and row["files"] == row["leaves"] == [] for row in found)


def test_verify_takes_a_relative_path(run, capsys, monkeypatch):
    """As `runs/run` is, where a config says nothing of a folder."""
    monkeypatch.chdir(run.parent)
    code, lines, _ = called(capsys, "checkpoint", "verify", run.name)
    assert (code, len(lines)) == (0, 3), lines


def test_verify_names_every_file_and_leaf_that_is_damaged_and_ends_with_1(run, capsys):
    name = spoil(run, 12)
    (run / "checkpoints/step_00000012/state/new").touch()
    code, lines, _ = called(capsys, "checkpoint", "verify", run)
    assert code == 1
    assert re.search(rf"step 12: DAMAGED: file \S+{name} has changed .*leaves hit: ", lines[-1])
    assert all("whole" in line for line in lines[:-1])
    code, found = rows(capsys, "verify", run)
    assert code == 1
    assert [row["whole"] for row in found] == [True] * (len(found) - 1) + [False]
    assert len(found[-1]["files"]) == 2
    assert len(found[-1]["leaves"]) >= 1


def test_a_run_is_verified_and_listed_by_a_path_from_here(run, capsys, monkeypatch):
    monkeypatch.chdir(run.parent)
    code, lines, _ = called(capsys, "checkpoint", "verify", run.name)
    assert code == 0, lines
    assert all("whole" in line for line in lines)
    code, found = rows(capsys, "list", run.name)
    assert (code, len(found)) == (0, 3)


def test_what_could_not_be_read_at_all_is_not_called_damaged(run, capsys, monkeypatch):
    def refused(*args, **kwargs):
        raise RuntimeError("no such luck")

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.restore", refused)
    code, lines, _ = called(capsys, "checkpoint", "verify", run)
    assert code == 1
    for step, line in zip(VALUES, lines, strict=True):
        assert re.fullmatch(rf"step {step}: NOT READ: .*{step} cannot be read: no such luck", line)
    _, found = rows(capsys, "verify", run)
    assert all(not (row["whole"] or row["damaged"]) for row in found)


DAMAGES = {
    "its manifest.json is missing": lambda folder: (folder / "manifest.json").unlink(),
    "it holds step ": lambda folder: folder.rename(folder.with_name("step_00000099")),
}


@pytest.mark.parametrize("line", DAMAGES)
def test_verify_finds_what_is_no_file_of_an_array(run, capsys, line):
    DAMAGES[line](run / "checkpoints/step_00000012")
    code, lines, _ = called(capsys, "checkpoint", "verify", run)
    assert code == 1
    assert line in lines[-1]


def test_a_damaged_choice_of_the_best_is_damage(run, capsys):
    (run / "checkpoints/best.json").write_text("{}")
    code, lines, _ = called(capsys, "checkpoint", "verify", run)
    assert code == 1
    assert "best.json is damaged" in lines[-1]
    code, _, err = called(capsys, "checkpoint", "list", run)
    assert code == 0
    assert "best.json is damaged" in err[0]


@pytest.mark.parametrize("action", ["list", "verify"])
def test_a_folder_of_something_else_is_one_line(action, tmp_path, capsys):
    code, out, (line,) = called(capsys, "checkpoint", action, tmp_path)
    assert (code, out) == (2, [])
    assert line == f"funcnn: {tmp_path}: holds no run (no config.toml)"


def test_where_nothing_was_saved_nothing_is_called_whole(run, capsys):
    shutil.rmtree(run / "checkpoints")
    assert called(capsys, "checkpoint", "list", run)[0] == 0
    code, out, (line,) = called(capsys, "checkpoint", "verify", run)
    assert (code, out) == (1, [])
    assert line == f"no checkpoint in {run / 'checkpoints'}"


@pytest.mark.slow
def test_neither_action_imports_models_data_or_what_the_config_names(run):
    code = (
        "import sys; from funcnn.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'funcnn.data', 'funcnn.models', 'funcnn.rules', 'funcnn.experiment', "
        "'funcnn.network', 'matplotlib'} & set(sys.modules); "
        "sys.exit(code or (str(heavy) if heavy else 0))"
    )
    for action in ("list", "verify"):
        command = [sys.executable, "-c", code, "checkpoint", action, str(run)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_an_action_must_be_given(capsys):
    code, _, err = called(capsys, "checkpoint")
    assert code == 2
    assert "the following arguments are required: ACTION" in err[-1]


CONFIG = str(Path(__file__).parent.parent / "configs/digits_mlp.toml")
SHORT = {"steps": 4, "steps_per_call": 2, "checkpoint_every": 2, "checkpoint_minutes": 30.0}


def command(folder, *more):
    changes = [part for name, x in SHORT.items() for part in ("--set", f"train.{name}={x}")]
    return ["train", CONFIG, "--out", str(folder), *changes, *more]


@pytest.mark.slow
def test_strict_refuses_a_damaged_newest_checkpoint_by_file_and_leaf(tmp_path, capsys):
    run = tmp_path / "run"
    assert called(capsys, *command(run, "--resume", "--strict"))[0] == 0  # it begins there
    assert called(capsys, *command(run, "--resume", "--strict"))[0] == 0  # and is whole
    name = spoil(run, 4)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    code, out, (line,) = called(capsys, *command(run, "--resume", "--strict"))
    assert (code, out) == (2, [])
    assert re.search(rf"step_00000004 is damaged: file \S+{name} .* leaves hit: \w+/", line)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before
    code, _, err = called(capsys, *command(run, "--resume"))
    assert code == 0
    assert sum("is damaged" in line and "taking step 2 instead" in line for line in err) == 1


def test_strict_without_resume_is_one_line(tmp_path, capsys):
    code, out, (line,) = called(capsys, *command(tmp_path / "new", "--strict"))
    assert (code, out) == (2, [])
    assert "--strict: is about what --resume goes on from; give both" in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrong", ["0.0", "-1.0", "inf", '"soon"'])
def test_minutes_that_never_pass_are_one_line(tmp_path, capsys, wrong):
    change = ["--set", f"train.checkpoint_minutes={wrong}"]
    code, _, (line,) = called(capsys, *command(tmp_path / "new", *change))
    assert code == 2
    assert "train.checkpoint_minutes" in line
