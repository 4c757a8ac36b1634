import hashlib
import json
import logging
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from train_problems import assert_bit_equal, mlp_params

from funcnn.train import CheckpointError, Checkpoints, TrainState
from funcnn.train.damage import whole_manifest
from funcnn.train.manifest import DamagedCheckpoint, write_manifest
from funcnn.train.quiet import orbax_silenced


def state_of(step, params=None, optimizer=None):
    params = mlp_params() if params is None else params
    state = TrainState.create(params, optimizer or optax.adam(0.1), seed=5)
    return state._replace(step=jnp.int32(step))


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def test_what_is_saved_is_restored_bit_for_bit(checkpoints):
    params = {"a/b": {"c.d": jnp.array([1.5, jnp.inf, -0.0], jnp.bfloat16)}, "w": mlp_params()}
    state = state_of(7, params)
    checkpoints.save(state)
    assert checkpoints.latest() == 7
    assert_bit_equal(checkpoints.restore(state), state)
    abstract = jax.eval_shape(lambda: state)
    restored = Checkpoints(checkpoints.folder).restore(abstract)
    assert_bit_equal(restored, state)
    assert isinstance(restored, TrainState)
    assert not any(jax.typeof(leaf).weak_type for leaf in jax.tree.leaves(restored))


def test_a_relative_folder_is_taken_from_where_the_run_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Checkpoints("here").save(state_of(1))
    assert Checkpoints(tmp_path / "here").latest() == 1


def test_the_newest_are_kept_and_any_of_them_can_be_restored(checkpoints):
    for step in (2, 10, 100):
        checkpoints.save(state_of(step))
    assert checkpoints.steps() == [10, 100]
    assert int(checkpoints.restore(state_of(0), step=10).step) == 10
    assert int(checkpoints.restore(state_of(0)).step) == 100
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 2 in .*: there is 10, 100"):
        checkpoints.restore(state_of(0), step=2)


def test_the_same_step_again_replaces_it(checkpoints):
    checkpoints.save(state_of(3))
    other = state_of(3, jax.tree.map(lambda x: x + 1, mlp_params()))
    checkpoints.save(other)
    assert_bit_equal(checkpoints.restore(other), other)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step_00000003"]


def test_a_step_below_a_later_checkpoint_is_refused(checkpoints):
    checkpoints.save(state_of(9))
    with pytest.raises(CheckpointError, match="holds a checkpoint of step 9, later than step 4"):
        checkpoints.save(state_of(4))
    assert checkpoints.steps() == [9]


def test_without_a_checkpoint_there_is_one_line(checkpoints):
    assert checkpoints.latest() is None
    assert not checkpoints.folder.exists()
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*checkpoints"):
        checkpoints.restore(state_of(0))


def test_a_failed_save_leaves_the_previous_one_and_nothing_else(checkpoints, monkeypatch):
    good = state_of(1)
    checkpoints.save(good)

    def fail(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", fail)
    with pytest.raises(
        CheckpointError, match=r"could not save step 2 to .*: .*No space left"
    ) as info:
        checkpoints.save(state_of(2))
    assert "\n" not in str(info.value)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step_00000001"]
    assert_bit_equal(checkpoints.restore(good), good)


def test_a_save_that_was_killed_is_no_checkpoint_and_is_cleared_by_the_next(checkpoints):
    checkpoints.save(state_of(1))
    leftover = checkpoints.folder / "unfinished-00000002"
    (leftover / "state").mkdir(parents=True)
    assert checkpoints.latest() == 1
    checkpoints.save(state_of(3))
    assert not leftover.exists()


def test_every_changed_shortened_or_missing_file_is_noticed(checkpoints):
    state = state_of(1)
    checkpoints.save(state)
    files = [path for path in (checkpoints.folder / "step_00000001").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content or b"\0")
        flipped[len(content) // 2] ^= 4
        for damaged in (bytes(flipped), content[: len(content) // 2], None):
            if damaged == content:
                continue  # an empty file cannot be shortened
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match="step_00000001 is damaged: ") as info:
                checkpoints.restore(state)
            assert path.name in str(info.value)
            assert "\n" not in str(info.value)
        path.write_bytes(content)
    assert_bit_equal(checkpoints.restore(state), state)


def wider():
    return {
        **mlp_params(),
        "dense_1": {"w": np.zeros((11, 9), np.float32), "b": mlp_params()["dense_1"]["b"]},
    }


OTHERS = {
    r"params/dense_1/w is float32\[11, 4\] in the checkpoint and float32\[11, 9\] in the": (
        lambda: state_of(0, wider())
    ),
    r"params/dense_0/b is float32\[11\] in the checkpoint and bfloat16\[11\]": (
        lambda: state_of(0, jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), mlp_params()))
    ),
    r"params/dense_2/w \(float32\[2\]\) is not in it": (
        lambda: state_of(0, {**mlp_params(), "dense_2": {"w": np.zeros(2, np.float32)}})
    ),
    r"optimizer_state/0/count \(int32\[\]\) is in it alone \(and 8 more\)": (
        lambda: state_of(0, None, optax.sgd(0.1))
    ),
}


def test_a_file_that_the_manifest_does_not_name_is_damage(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "0").write_bytes(b"an array")
    write_manifest(tmp_path, {"w": "float32[]"}, None)
    (tmp_path / "state" / ".of_the_system").touch()
    assert whole_manifest(tmp_path).leaves == {"w": "float32[]"}
    (tmp_path / "state" / "1").touch()
    with pytest.raises(DamagedCheckpoint, match=r"its manifest.json does not name state.1; "):
        whole_manifest(tmp_path)


@pytest.mark.parametrize("line", OTHERS)
def test_a_checkpoint_of_another_model_names_the_leaf(checkpoints, line):
    checkpoints.save(state_of(1))
    with pytest.raises(CheckpointError, match="does not fit the state to fill: " + line):
        checkpoints.restore(OTHERS[line]())


def test_keep_must_be_a_count(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1, found 0"):
        Checkpoints(tmp_path, keep=0)


def spoil(path):
    """Flip one bit of an array."""
    file = max((p for p in path.rglob("d/*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_and_set_aside_by_the_next_save(tmp_path):
    messages = []
    checkpoints = Checkpoints(tmp_path, keep=3, warn=messages.append)
    for step in (1, 2, 3):
        checkpoints.save(state_of(step))
    spoil(tmp_path / "step_00000002")
    spoil(tmp_path / "step_00000003")
    assert int(checkpoints.restore(state_of(0)).step) == 1
    (line,) = messages
    assert "step_00000003 is damaged: file state/" in line
    assert line.endswith(" (and 1 more checkpoint); taking step 1 instead")
    assert checkpoints.steps() == [1]
    assert {p.name for p in tmp_path.iterdir()} == {f"step_{n:08d}" for n in (1, 2, 3)}  # only read
    with pytest.raises(CheckpointError, match="step_00000003 is damaged"):
        checkpoints.restore(state_of(0), step=3)
    checkpoints.save(state_of(2))
    assert {p.name for p in tmp_path.iterdir()} == {
        *("step_00000001", "step_00000002", "damaged-00000002", "damaged-00000003")
    }


def test_where_none_is_whole_one_line_says_how_to_start_anew(checkpoints):
    checkpoints.save(state_of(1))
    spoil(checkpoints.folder / "step_00000001")
    line = "no checkpoint is whole: .*step_00000001 is damaged.*; to start anew remove "
    with pytest.raises(CheckpointError, match=line):
        checkpoints.restore(state_of(0))
    assert checkpoints.steps() == [1]


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(tmp_path):
    messages = []
    checkpoints = Checkpoints(tmp_path, warn=messages.append)
    checkpoints.save(state_of(4))
    (tmp_path / "step_00000004").rename(tmp_path / "step_00000009")
    with pytest.raises(CheckpointError, match="step_00000009 is damaged: it holds step 4"):
        checkpoints.restore(state_of(0))


def resigned(content, **changes):
    content = {k: v for k, v in {**content, **changes}.items() if v is not None and k != "manifest"}
    content.setdefault("record", None)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "manifest": digest})


MANIFESTS = {
    "deep list": lambda content: "[" * 200_000,
    "deep dict": lambda content: '{"a":' * 200_000,
    "no leaves": lambda content: resigned(content, leaves=None),
    "leaves are a list": lambda content: resigned(content, leaves=[]),
    "a leaf is a number": lambda content: resigned(content, leaves={"step": 3}),
    "files are a list": lambda content: resigned(content, files=list(content["files"])),
    "no files": lambda content: resigned(content, files={}),
    "few files": lambda content: resigned(content, files=dict(list(content["files"].items())[:2])),
    "a file elsewhere": lambda content: resigned(
        content, files={**content["files"], "../x/manifest.json": ""}
    ),
    "the record is a list": lambda content: resigned(content, record=[1]),
    "a list": lambda content: "[]",
    "a long number": lambda content: '{"manifest": ' + "9" * 5_000 + "}",
    "no text": lambda content: "\0",
}


def test_a_manifest_of_any_other_kind_is_damage(checkpoints):
    checkpoints.save(state_of(1))
    path = checkpoints.folder / "step_00000001" / "manifest.json"
    content = json.loads(path.read_text())
    for name, change in MANIFESTS.items():
        path.write_text(change(content))
        with pytest.raises(CheckpointError, match="step_00000001 is damaged: ") as info:
            checkpoints.restore(state_of(0))
        assert "\n" not in str(info.value), name
    path.write_text(resigned(content))  # signed as we do it is whole
    assert int(checkpoints.restore(state_of(0)).step) == 1


def numbers(start):
    return jnp.arange(start, start + 3, dtype=jnp.float32)


TREES = [
    {"a": {"b": numbers(0)}, "a.b": numbers(3)},
    {"a": {"b": numbers(0)}, "a/b": numbers(3)},
    {"": {"b": numbers(0)}, "/b": numbers(3), "b": numbers(6)},
    {"a": [numbers(0), numbers(3)], "a.0": numbers(6), "a/1": numbers(9)},
    {"a": {"b": numbers(0)}, "a/b": numbers(3), "['params']['a']['b']": numbers(6)},
]


@pytest.mark.parametrize("params", TREES, ids=str)
def test_each_leaf_is_its_own_whatever_its_keys(checkpoints, params):
    state = state_of(1, params, optax.sgd(0.1))
    checkpoints.save(state)
    assert_bit_equal(checkpoints.restore(state), state)


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning_and_no_checkpoint(
    tmp_path, monkeypatch
):
    messages = []
    checkpoints = Checkpoints(tmp_path, keep=1, warn=messages.append)
    checkpoints.save(state_of(1))

    def busy(path, **kwargs):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("shutil.rmtree", busy)
    for step in (2, 3):
        checkpoints.save(state_of(step))
    assert checkpoints.steps() == [3]
    assert len(messages) == 2  # once for each folder
    assert "could not remove" in messages[0]
    assert "Device or resource busy" in messages[0]
    monkeypatch.undo()
    checkpoints.save(state_of(4))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000004"]


LIMITED = """
import resource, sys, numpy as np, optax
from funcnn.train import Checkpoints, TrainState
state = TrainState.create({str(n): np.ones(999, np.float32) for n in range(9)}, optax.adam(1), 0)
# Larger files are refused, as on a full disk, in the threads of the library.
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    Checkpoints(sys.argv[1]).save(state)
except ValueError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_one_line_and_nothing_of_orbax(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"could not save step 0 to {tmp_path}: File too large\n"
    assert not list(tmp_path.iterdir())


def test_what_is_not_of_a_save_is_still_reported_during_one(caplog):
    with orbax_silenced():
        logging.getLogger("asyncio").error("somebody else's")
        logging.getLogger("absl").error("in orbax/checkpoint")
    assert [record.getMessage() for record in caplog.records] == ["somebody else's"]
