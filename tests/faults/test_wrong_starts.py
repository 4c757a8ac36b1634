"""F12, F17: configs and machines on which a run must not begin."""

import os
import re

import pytest
from faulty_runs import CONFIG, ROOT, command, process, train, write_config

NO_JAX = "raise AssertionError('JAX was imported')\n"
# What is wrong with a config, and the line.
WRONG = {
    "stepps = 12": 'unknown key "train.stepps" (did you mean "train.steps"?)',
    'steps = "many"': 'train.steps: expected an integer, found "many"',
    "steps = 12.5": "train.steps: expected an integer, found 12.5",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.slow
def test_a_wrong_key_or_type_ends_before_jax_is_imported(wrong, tmp_path):
    for module in ("jax", "jaxlib", "optax", "orbax"):
        (tmp_path / f"{module}.py").write_text(NO_JAX)
    config = write_config(tmp_path, CONFIG.replace("steps = 12", wrong))
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = process(command(config, tmp_path / "run"), environment=paths)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert WRONG[wrong] in line
    right = process(command(write_config(tmp_path), tmp_path / "run"), environment=paths)
    assert "JAX was imported" in right.stderr
    assert not (tmp_path / "run").exists()


# What is changed at --resume; what may be, with the state that comes of it, is in test_runs.py.
CHANGED = {
    "optimizer.learning_rate=0.5": "optimizer.learning_rate was 0.001 in this run and is 0.5 now",
    "run.seed=3": "run.seed was 0 in this run and is 3 now",
    "model.options.hidden=[8]": "model.options.hidden was [16] in this run and is [8] now",
    "data.batch_size=64": "data.batch_size was 256 in this run and is 64 now",
}


def test_a_changed_config_is_refused_and_nothing_is_written(straight, capsys):
    before = {p: p.stat().st_mtime_ns for p in straight.folder.rglob("*")}
    code, out, err = train(capsys, straight.config, straight.folder, "--resume", *CHANGED)
    assert (code, out, len(err)) == (2, "", len(CHANGED))
    for line in CHANGED.values():
        assert any(line in each and "it cannot change on --resume" in each for each in err)
    assert {p: p.stat().st_mtime_ns for p in straight.folder.rglob("*")} == before


ROOM = """
import os, resource
import funcnn as fnn
def build():
    pages = int(open("/proc/self/statm").read().split()[0])
    room = 1_000_000_000 + pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    return fnn.models.mlp(hidden=(200_000,))  # of 1,400 rows more than a gigabyte
"""


@pytest.mark.slow
def test_a_step_that_does_not_fit_into_memory_leaves_nothing(tmp_path):
    """What would make it fit could not be changed on --resume."""
    (tmp_path / "large_models.py").write_text(ROOM)
    changes = ["model.function=large_models:build", "model.options={}", "data.batch_size=1200"]
    done = process(command(write_config(tmp_path), tmp_path / "a/run", *changes), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    line = done.stderr.splitlines()[-1]
    assert re.match(r"funcnn: does not fit into memory: Out of memory allocating \d+ bytes; ", line)
    assert "lower data.batch_size = 1200, cut a batch in parts with train.accumulate" in line
    assert not (tmp_path / "a").exists()


def test_a_run_that_has_something_is_kept_where_memory_ends(tmp_path):
    from funcnn.commands.memory import fits_into_memory
    from funcnn.config import ConfigError, load_config
    from funcnn.data.known import Known
    from funcnn.runs.folder import RunFolder

    config = load_config(write_config(tmp_path))
    for kept in (None, "metrics.jsonl", "checkpoints/step_00000002/manifest.json"):
        folder = RunFolder(tmp_path / "run")
        folder.begin(config, "a device", Known({}))
        if kept:
            (folder.path / kept).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / kept).touch()
        with pytest.raises(ConfigError, match="does not fit"), fits_into_memory(config, folder):
            raise MemoryError
        assert folder.holds_run() == bool(kept)
        assert bool(list(folder.path.iterdir())) == bool(kept)
    with pytest.raises(ValueError, match="another"), fits_into_memory(config, folder):
        raise ValueError("another")
