"""F3, F15: a process that ends, as by SIGKILL, at each boundary of a save and of a record."""

import json

import pytest
from faulty_runs import assert_ends_as, command, names, process, states, train

from funcnn.train import Checkpoints

pytestmark = pytest.mark.slow

# Ends the process at a place of the save, or the record, of step 8. Nothing is flushed by
# os._exit, no finally runs, and other threads die as they stand.
DIES = """
import os, sys, time
import orbax.checkpoint
from pathlib import Path
from funcnn.cli import main
from funcnn.train import checkpoint, evaluation, manifest, metrics_log, step_folders, storage

place, *arguments = sys.argv[1:]
armed = False
saved = Path(arguments[arguments.index("--out") + 1]) / "checkpoints/step_00000008"

def die():
    os._exit(9)

def before(home, name, when=lambda *args: armed, what=die):
    original = getattr(home, name)
    def patched(*args, **options):
        if when(*args):
            what()
        return original(*args, **options)
    setattr(home, name, patched)

def arm(path, state, record):
    global armed
    armed = int(state.step) == 8

def of_step_8(log, record):
    return record["step"] == 8

def wait():
    while not saved.exists():
        time.sleep(0.01)
    time.sleep(0.1)  # the thread that saves has gone on to what is old

def half(log, record):
    wait()
    text = metrics_log.json.dumps(record)
    with log.path.open("a") as file:
        file.write(text[: len(text) // 2])
    die()

if place in ("before the evaluation", "before the record", "in the record", "after the record"):
    write, call = metrics_log.MetricsLog.write, evaluation.Evaluation.__call__
    evaluated = []
    def evaluate(self, params):
        evaluated.append(1)
        if place == "before the evaluation" and len(evaluated) == 2:
            wait()
            die()
        return call(self, params)
    def written(self, record):
        if record["step"] == 8 and place == "before the record":
            wait()
            die()
        if record["step"] == 8 and place == "in the record":
            half(self, record)
        write(self, record)
        if record["step"] == 8:
            wait()
            die()
    metrics_log.MetricsLog.write, evaluation.Evaluation.__call__ = written, evaluate
else:
    before(checkpoint, "write_state", when=lambda *args: arm(*args) or (
        armed and place == "after the folder"))
    {
        "after the folder": lambda: None,
        "before the data": lambda: before(orbax.checkpoint.StandardCheckpointer, "save"),
        "after the data": lambda: before(storage, "write_manifest"),
        "before the flush of the manifest": lambda: before(manifest.os, "fsync"),
        "before the flush of the folder": lambda: before(storage, "sync"),
        "before the name": lambda: before(step_folders.StepFolders, "publish"),
        "after the name": lambda: before(step_folders, "sync"),
        "before the old one goes": lambda: before(checkpoint.Checkpoints, "_remove_old"),
        "as the old one goes": lambda: before(step_folders.shutil, "rmtree"),
    }[place]()
sys.exit(main(arguments))
"""
# What is left: whether the state of step 8 is a checkpoint, and whether that of step 4 still is.
SAVES = {
    "after the folder": (False, True),
    "before the data": (False, True),
    "after the data": (False, True),
    "before the flush of the manifest": (False, True),
    "before the flush of the folder": (False, True),
    "before the name": (False, True),
    "after the name": (True, True),
    "before the old one goes": (True, True),
    "as the old one goes": (True, False),
}
RECORDS = ("before the evaluation", "before the record", "in the record", "after the record")


def die(straight, folder, place):
    """Of one checkpoint alone, so that no older one stands in for it."""
    arguments = command(straight.config, folder, "train.keep_checkpoints=1")
    done = process([place, *arguments], code=DIES)
    assert done.returncode == 9, done.stderr


@pytest.mark.parametrize("place", SAVES)
def test_death_at_each_boundary_of_a_save(place, straight, tmp_path, capsys):
    folder = tmp_path / "run"
    die(straight, folder, place)
    whole = [step for step, there in zip((8, 4), SAVES[place], strict=True) if there]
    assert Checkpoints(folder / "checkpoints").steps() == sorted(whole)
    assert states(folder, straight.state)  # the newest of them is whole
    leftovers = [name for name in names(folder)[1] if name.startswith("unfinished-")]
    assert len(leftovers) == (place not in ("after the name", "before the old one goes"))
    code, _, err = train(capsys, straight.config, folder, "--resume", "train.keep_checkpoints=1")
    assert code == 0
    assert f"resumed at step {whole[0]}" in err
    assert not any("warning" in line for line in err)
    assert_ends_as(folder, straight.folder, straight.state, steps=[12])


@pytest.mark.parametrize("place", RECORDS)
def test_death_between_a_save_and_its_record(place, straight, tmp_path, capsys):
    folder = tmp_path / "run"
    die(straight, folder, place)
    lines = (folder / "metrics.jsonl").read_text().split("\n")
    logged = [json.loads(line)["step"] for line in lines[:-1]]
    assert logged == [2, 4, 6, *([8] if place == "after the record" else [])]
    assert bool(lines[-1]) == (place == "in the record")
    code, _, err = train(capsys, straight.config, folder, "--resume", "train.keep_checkpoints=1")
    assert code == 0
    assert "resumed at step 8" in err
    # With the evaluation of step 8, which the process that died had not written, and once only.
    assert_ends_as(folder, straight.folder, straight.state, steps=[12])
