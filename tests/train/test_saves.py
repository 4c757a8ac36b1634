"""Saves in the background: what is told is on disk, a failure stops the run, nothing is lost."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal

from funcnn.train import (
    CheckpointError,
    Checkpoints,
    MetricsLog,
    TrainingError,
    TrainState,
    fit,
    make_step,
)
from funcnn.train import saves as saves_module
from funcnn.train.background import Saving, on_host

OPTIMIZER = optax.adam(0.05)


@pytest.fixture(scope="module")
def step():
    return make_step(lambda p, batch, key: jnp.mean((p["w"] - batch) ** 2), OPTIMIZER)


def batches(step):
    return np.full((3,), 1 + step % 3, np.float32)


def start():
    return TrainState.create({"w": jnp.zeros(3)}, OPTIMIZER, seed=0)


def run(step, folder, steps=12, **more: Any):
    log, checkpoints = MetricsLog(folder / "metrics.jsonl"), Checkpoints(folder, keep=99)
    options = {"log_every": 2, "checkpoint_every": 4, "log": log, "checkpoints": checkpoints}
    state = start() if checkpoints.latest() is None else checkpoints.restore(start())
    return fit(step, state, batches, steps=steps, **{**options, **more})


class Gate:
    """Holds the threads that write, until they are let through."""

    def __init__(self, monkeypatch):
        self.open, self.begun = threading.Event(), threading.Event()
        write = Checkpoints._write

        def held(checkpoints, state, record):
            if threading.current_thread() is not threading.main_thread():
                self.begun.set()
                assert self.open.wait(30)
            write(checkpoints, state, record)

        monkeypatch.setattr(Checkpoints, "_write", held)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def under_way():
    return [thread for thread in threading.enumerate() if thread.name == "funcnn save"]


def test_the_run_goes_on_while_a_thread_writes_and_the_state_is_that_of_its_step(
    step, tmp_path, gate
):
    """A state is donated to the next step, which must not change what is written."""
    expected, _ = run(step, tmp_path / "straight", steps=4)

    def on_step(state, metrics):
        if int(state.step) == 7:
            assert Checkpoints(tmp_path / "run").latest() is None
            gate.open.set()

    run(step, tmp_path / "run", on_step=on_step)
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.steps() == [4, 8, 12]
    assert_bit_equal(checkpoints.restore(expected, step=4), expected)
    assert under_way() == []


def test_the_copy_shares_no_memory_with_a_device():
    state = start()
    for copy, leaf in zip(jax.tree.leaves(on_host(state)), jax.tree.leaves(state), strict=True):
        assert isinstance(copy, np.ndarray)
        assert not np.shares_memory(copy, np.asarray(leaf))
    key = jax.random.key(3)
    copied = on_host(state._replace(extra={"key": key})).extra["key"]
    assert jax.random.key_data(copied).tolist() == jax.random.key_data(key).tolist()
    assert copied is not key


def test_at_most_one_save_is_under_way(step, tmp_path, monkeypatch):
    most, write = [], Checkpoints._write

    def watched(self, state, record):
        most.append(len(under_way()))
        write(self, state, record)

    monkeypatch.setattr(Checkpoints, "_write", watched)
    run(step, tmp_path, checkpoint_every=1)
    assert most == [1] * 11 + [0]  # the last one is written by the run itself


def test_a_second_save_waits_for_the_first_one(tmp_path, gate):
    checkpoints = Checkpoints(tmp_path)
    first = checkpoints.save_in_background(start())
    threading.Timer(0.05, gate.open.set).start()
    second = checkpoints.save_in_background(start()._replace(step=jnp.int32(1)))
    assert first.has_ended()
    second.wait()
    assert checkpoints.steps() == [0, 1]


READS = {
    "latest": lambda c: c.latest(),
    "steps": lambda c: c.steps(),
    "restore": lambda c: int(c.restore(start()).step),
    "restore_best": lambda c: int(c.restore(start(), step=4).step),
    "params": lambda c: c.params(4)["w"].shape,
    "record": lambda c: c.record(4),
    "best_step": lambda c: c.best_step(),
    "save": lambda c: c.save(start()._replace(step=jnp.int32(5))),
    "note": lambda c: c.note({"step": 4, "evaluation_x": 1.0}),
    "would_be_best": lambda c: c.would_be_best({"step": 4, "evaluation_x": 1.0}),
    "wait": lambda c: c.wait(),
}
EXPECTED = {"latest": 4, "steps": [4], "restore": 4, "restore_best": 4, "params": (3,)}


@pytest.mark.parametrize("name", READS)
def test_what_needs_the_file_waits_for_it(tmp_path, gate, name):
    checkpoints = Checkpoints(tmp_path, best="evaluation_x")
    saving = checkpoints.save_in_background(start()._replace(step=jnp.int32(4)))
    assert gate.begun.wait(30)
    assert not saving.has_ended()
    threading.Timer(0.05, gate.open.set).start()
    result = READS[name](checkpoints)
    assert saving.has_ended()
    if name in EXPECTED:
        assert result == EXPECTED[name]


def refuse(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.fixture
def full(monkeypatch):
    """`full(4)`: the disk is full from the save of step 4 on; `full(None)`: it is not any more."""
    write_state, fill = Checkpoints._write.__globals__["write_state"], {"from": None}

    def write(path, state, record):
        if fill["from"] is not None and int(state.step) >= fill["from"]:
            refuse()
        write_state(path, state, record)

    monkeypatch.setitem(Checkpoints._write.__globals__, "write_state", write)
    return lambda step: fill.update({"from": step})


def test_a_failure_raises_where_somebody_hears_it_and_the_next_save_is_free(tmp_path, full):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(start())
    full(1)
    saving = checkpoints.save_in_background(start()._replace(step=jnp.int32(1)))
    for _ in range(2):  # of the save itself always
        with pytest.raises(CheckpointError, match=r"could not save step 1 to .*: No space left"):
            saving.wait()
    with pytest.raises(CheckpointError, match="could not save step 1"):
        checkpoints.latest()
    assert checkpoints.steps() == [0]  # of the folder once
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000000"]
    full(None)
    checkpoints.save(start()._replace(step=jnp.int32(2)))
    assert checkpoints.steps() == [0, 2]


@pytest.mark.parametrize("checkpoint_every", [4, 1])
def test_a_failed_save_stops_the_run_before_another_step_and_nobody_is_told(
    step, tmp_path, full, monkeypatch, checkpoint_every
):
    monkeypatch.setattr(Saving, "has_ended", lambda self: self.join() is None)
    straight, _ = run(step, tmp_path / "straight")
    folder, told, made = tmp_path / "run", [], []
    full(8)
    with pytest.raises(CheckpointError, match=r"could not save step 8 to .*: No space left"):
        run(
            step,
            folder,
            checkpoint_every=checkpoint_every,
            on_save=lambda state, record: told.append(record["step"]),
            on_step=lambda state, metrics: made.append(int(state.step)),
        )
    assert told == list(range(checkpoint_every, 8, checkpoint_every))
    assert made == list(range(1, 9))
    assert Checkpoints(folder).latest() == told[-1]
    assert not list(folder.glob("unfinished-*"))
    full(None)
    resumed, _ = run(step, folder)
    assert_bit_equal(resumed, straight)
    lines = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines


@pytest.mark.parametrize("error", [ValueError, TrainingError, KeyboardInterrupt])
def test_a_run_that_ends_otherwise_waits_for_the_save_under_way(step, tmp_path, gate, error):
    """Whatever the step itself raises: nothing is written behind the back of whoever catches it."""
    told = []

    def failing(state, batch):
        if int(state.step) == 5:
            threading.Timer(0.05, gate.open.set).start()
            raise error
        return step(state, batch)

    with pytest.raises(error):
        run(failing, tmp_path, on_save=lambda state, record: told.append(record["step"]))
    assert under_way() == []
    assert Checkpoints(tmp_path).latest() == 4
    assert told == ([] if error is KeyboardInterrupt else [4])


def test_a_failure_under_way_is_raised_where_the_run_ends_otherwise(step, tmp_path, full):
    def failing(state, batch):
        if int(state.step) == 5:
            raise ValueError("of the step")
        return step(state, batch)

    full(4)
    with pytest.raises(CheckpointError, match="could not save step 4"):
        run(failing, tmp_path, checkpoint_every=4)
    assert Checkpoints(tmp_path).latest() is None


def test_a_hook_that_raises_of_an_earlier_save_loses_no_state(step, tmp_path, gate):
    """The save of step 4 ends when that of step 8 is due, and its hook raises then."""

    def on_step(state, metrics):
        if int(state.step) == 8:
            gate.open.set()

    def on_save(state, record):
        if record["step"] == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(step, tmp_path, on_step=on_step, on_save=on_save)
    assert Checkpoints(tmp_path).latest() == 8


def test_what_is_told_is_the_state_of_the_file_in_arrays_of_the_host(step, tmp_path):
    told = []

    def on_save(state, record):
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
        restored = Checkpoints(tmp_path).restore(start(), step=int(state.step))
        assert_bit_equal(restored, state)
        told.append((int(state.step), record["step"]))

    run(step, tmp_path, on_save=on_save, steps=10)
    assert told == [(4, 4), (8, 8), (10, 10)]


def test_a_state_of_many_processes_is_saved_before_the_run_goes_on(step, tmp_path, monkeypatch):
    seen = []

    class Fake(Checkpoints):
        def save(self, state, record=None):
            seen.append((int(state.step), type(state.params["w"])))

        def save_in_background(self, state, record=None):
            raise AssertionError("another process may be elsewhere")

    monkeypatch.setattr(saves_module, "are_many", lambda: True)
    run(step, tmp_path, checkpoints=Fake(tmp_path))
    assert [n for n, _ in seen] == [4, 8, 12]
    assert all(issubclass(kind, jax.Array) for _, kind in seen)
    with pytest.raises(ValueError, match="checkpoint_minutes: the clocks of many processes differ"):
        run(step, tmp_path, checkpoint_minutes=1.0)


# What the clock shows at the end of a step, in minutes; it stands still in between. Of two minutes,
# 2.5 have passed at step 3, exactly 2 at step 7, and 1.95 at step 9.
CLOCK = {1: 1.0, 2: 1.99, 3: 2.5, 5: 4.4, 7: 4.5, 8: 6.4, 9: 6.45, 10: 8.4, 11: 8.5}


@pytest.mark.parametrize(
    ("every", "saved"), [(0, [3, 7, 10, 12]), (9, [3, 7, 9, 11, 12]), (1, list(range(1, 13)))]
)
def test_a_save_is_due_so_many_minutes_after_the_last_one(
    step, tmp_path, monkeypatch, every, saved
):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: 1000.0 + 60 * now[0])
    monkeypatch.setattr(saves_module, "time", clock)

    def timed(state, batch):
        state, metrics = step(state, batch)
        now[0] = CLOCK.get(int(state.step), now[0])
        return state, metrics

    run(timed, tmp_path, checkpoint_every=every, checkpoint_minutes=2)
    assert Checkpoints(tmp_path).steps() == saved


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf")])
def test_minutes_that_never_pass_are_one_line(step, tmp_path, wrong):
    with pytest.raises(ValueError, match="checkpoint_minutes must be a number above 0, found"):
        run(step, tmp_path, checkpoint_minutes=wrong)


def resolve(name) -> Any:
    """What `monkeypatch.setattr` finds by such a name."""
    module = name
    while module not in sys.modules:
        module = module.rpartition(".")[0]
    found = sys.modules[module]
    for part in name.removeprefix(f"{module}.").split("."):
        found = getattr(found, part)
    return found


# Where a save can fail: what is called, and how often it has succeeded before.
PLACES = {
    "the folder": ("funcnn.train.storage.Path.mkdir", 1),  # the folder of the run is there
    "the arrays": ("orbax.checkpoint.StandardCheckpointer.save", 0),
    "the end of the arrays": ("orbax.checkpoint.StandardCheckpointer.wait_until_finished", 0),
    "the manifest": ("funcnn.train.storage.write_manifest", 0),
    "its flush": ("funcnn.train.manifest.os.fsync", 0),
    "the flush of the folder": ("funcnn.train.storage.sync", 0),
    "the name": ("funcnn.train.step_folders.Path.rename", 0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("background", [False, True], ids=["at once", "in the background"])
def test_whatever_cannot_be_written_the_state_before_is_there(
    tmp_path, monkeypatch, place, background
):
    checkpoints = Checkpoints(tmp_path, keep=1)
    before = start()._replace(params={"w": jnp.ones(3)})
    checkpoints.save(before)
    name, calls = PLACES[place]
    original, left = resolve(name), [calls]

    def refused(*args, **kwargs):
        if left[0] > 0 or (place == "the name" and "unfinished" not in str(args[0])):
            left[0] -= 1
            return original(*args, **kwargs)
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(name, refused)
    later = start()._replace(step=jnp.int32(2))

    def save():
        if background:
            checkpoints.save_in_background(later).wait()
        else:
            checkpoints.save(later)

    with pytest.raises(CheckpointError, match=r"could not save step 2 to .*: Read-only file"):
        save()
    monkeypatch.undo()
    anew = Checkpoints(tmp_path, keep=1)
    assert_bit_equal(anew.restore(before, strict=True), before)
    anew.save(later)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_a_state_saved_again_whose_name_is_refused_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints, rename = Checkpoints(tmp_path), Path.rename
    before = start()._replace(params={"w": jnp.ones(3)})
    checkpoints.save(before)

    def refused(self, target):
        if self.name == "unfinished-00000000":
            raise OSError(30, "Read-only file system")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(CheckpointError, match="could not save step 0"):
        checkpoints.save(start())
    assert checkpoints.steps() == [0]
    assert_bit_equal(checkpoints.restore(before, strict=True), before)


FULL = """
import sys, numpy as np, optax
from funcnn.train import CheckpointError, Checkpoints, TrainState, fit, make_step
size, folder = int(sys.argv[2]), sys.argv[1]
optimizer = optax.sgd(0.1)
# What grows with the step cannot be compressed, so that a later save no longer fits.
params = {"w": np.random.default_rng(0).normal(size=size).astype(np.float32)}
step = make_step(lambda p, batch, key: (p["w"] * batch).sum(), optimizer)
told = []
try:
    fit(step, TrainState.create(params, optimizer, 0), lambda step: np.ones(size, np.float32),
        steps=9, checkpoint_every=1, checkpoints=Checkpoints(folder, keep=9),
        on_save=lambda state, record: told.append(record["step"]))
except CheckpointError as error:
    print(error)
checkpoints = Checkpoints(folder)
print(told == checkpoints.steps(), len(told) > 1, [
    int(checkpoints.restore(TrainState.create(params, optimizer, 0), step=n).step) == n
    for n in told].count(True) == len(told))
"""


@pytest.mark.slow
def test_a_disk_that_runs_full_leaves_what_was_told_and_nothing_else(tmp_path):
    """A small disk in memory, mounted in a namespace of its own, where the system lets us."""
    mount = 'mount -t tmpfs -o size=600k none "$1" && shift && exec "$@"'
    own = ["unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path)]
    try:
        able = subprocess.run([*own, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("no file system can be mounted here")
    command = [*own, sys.executable, "-c", FULL, str(tmp_path / "run"), "25000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    failure, told = done.stdout.splitlines()
    assert failure.startswith("could not save step ")
    assert failure.endswith(": No space left on device")
    assert told == "True True True"


CYCLES, WARM, MEGABYTES = 100, 30, 24


def resources():
    """Open files, threads, and MB of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return len(os.listdir("/proc/self/fd")), threading.active_count(), memory


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc here")
@pytest.mark.parametrize("background", [False, True], ids=["at once", "in the background"])
def test_a_hundred_saves_leave_as_many_files_threads_and_bytes_as_one(tmp_path, background):
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = TrainState.create({"w": jnp.zeros((64, 1600))}, OPTIMIZER, seed=0)  # 1.2 MB with Adam's
    before = (0, 0, 0.0)
    for cycle in range(WARM + CYCLES):
        state = state._replace(step=jnp.int32(cycle))
        if background:
            checkpoints.save_in_background(state)
        else:
            checkpoints.save(state)
        if cycle == WARM:
            checkpoints.wait()
            before = resources()
    checkpoints.wait()
    after = resources()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"step_{step:08d}" for step in (WARM + CYCLES - 2, WARM + CYCLES - 1)
    ]
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    # One state in memory for each cycle would be five times as much.
    assert after[2] - before[2] < MEGABYTES, (before, after)
