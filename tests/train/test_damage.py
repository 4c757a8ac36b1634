"""What of a checkpoint is damaged, by file and leaf; and a misread of files that are whole."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal, mlp_params

from funcnn.train import CheckpointError, Checkpoints, DamagedCheckpoint, TrainState
from funcnn.train import reading as reading_module
from funcnn.train.damage import damage_of
from funcnn.train.digests import changed_leaves, digest_of_leaf, digests
from funcnn.train.manifest import digest_of, read_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def state():
    """Leaves of several dtypes, one of them large enough for a file of its own, and a typed key."""
    params = {**mlp_params(), "large": np.random.default_rng(0).normal(size=(64, 64))}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    extra = {"half": jnp.arange(5, dtype=jnp.bfloat16), "key": jax.random.key(3)}
    return TrainState.create(params, optax.sgd(0.1, momentum=0.9), seed=5, extra=extra)


@pytest.fixture
def saved(state, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state)
    return checkpoints


def numbers(state):
    """A state with the numbers of its typed key, which NumPy can compare."""
    return state._replace(extra={**state.extra, "key": jax.random.key_data(state.extra["key"])})


def folder_of(checkpoints):
    return checkpoints.folder / "step_00000000"


def large_file(checkpoints):
    """The file of the leaf that has one of its own."""
    files = (p for p in folder_of(checkpoints).rglob("*") if p.is_file())
    return max(files, key=lambda p: p.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_checkpoint_has_a_digest_of_every_leaf_and_no_damage(saved, state):
    manifest = read_manifest(folder_of(saved))
    assert list(manifest.digests) == list(manifest.leaves)
    assert len(manifest.digests) == len(jax.tree.leaves(state))
    damage = damage_of(folder_of(saved))
    assert (damage.files, damage.leaves, str(damage)) == ([], [], "")
    assert_bit_equal(numbers(saved.restore(state)), numbers(state))


def test_a_changed_byte_names_the_file_and_the_leaf_alone(saved, state):
    path = large_file(saved)
    flip(path)
    line = rf"damaged: file \S+{path.name} has changed since it was saved; 1 of \d+ leaves hit: "
    with pytest.raises(DamagedCheckpoint, match=line + "params/large$"):
        saved.restore(state, strict=True)
    assert damage_of(folder_of(saved)).leaves == ["params/large"]


def test_of_many_leaves_the_first_are_named_and_all_are_counted(saved, state):
    (folder_of(saved) / "state/manifest.ocdbt").unlink()
    count = len(jax.tree.leaves(state))
    names = ", ".join(list(read_manifest(folder_of(saved)).leaves)[:3])
    line = f"manifest.ocdbt is missing; {count} of {count} leaves hit: {names} and {count - 3} more"
    with pytest.raises(DamagedCheckpoint, match=line):
        saved.restore(state, strict=True)


def test_damage_that_hits_no_leaf_says_so(saved, state):
    (folder_of(saved) / "state/new").touch()
    with pytest.raises(DamagedCheckpoint, match=r"not name state.new; 0 of \d+ leaves hit$"):
        saved.restore(state, strict=True)


@pytest.mark.parametrize("read", [lambda c, s: c.restore(s, strict=True), lambda c, s: c.params()])
def test_a_misread_of_whole_files_is_damage(saved, state, monkeypatch, read):
    def misread(original):
        def function(*args):
            one = original(*args)
            leaves, tree = jax.tree.flatten(one)
            largest = max(range(len(leaves)), key=lambda i: leaves[i].size)
            leaves[largest] = leaves[largest].at[3, 4].add(1e-3)
            return jax.tree.unflatten(tree, leaves)

        return function

    for name in ("read_state", "read_arrays"):
        monkeypatch.setattr(reading_module, name, misread(getattr(reading_module, name)))
    line = r"is damaged: it is read otherwise than saved: 1 of \d+ leaves hit: "
    with pytest.raises(DamagedCheckpoint, match=line):
        read(saved, state)


def without_digests(checkpoints):
    """A checkpoint as it was written before there were digests of leaves."""
    path = folder_of(checkpoints) / "manifest.json"
    content = json.loads(path.read_text())
    del content["digests"], content["manifest"]
    path.write_text(json.dumps({**content, "manifest": digest_of(content)}))


def test_a_checkpoint_without_digests_of_leaves_is_restored_and_its_damage_named(saved, state):
    without_digests(saved)
    assert_bit_equal(numbers(saved.restore(state)), numbers(state))
    assert read_manifest(folder_of(saved)).digests == {}
    large_file(saved).unlink()  # a leaf that cannot be read is hit, digest or not
    with pytest.raises(DamagedCheckpoint, match=r"1 of \d+ leaves hit: params/large"):
        saved.restore(state, strict=True)


def test_a_digest_is_of_dtype_shape_and_bytes():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    others = [x.T, x.reshape(3, 2), x.view(np.int32), x + 1, x[:1]]
    found = [digest_of_leaf(y) for y in (x, *others)]
    assert len(set(found)) == len(found)
    assert digest_of_leaf(np.asfortranarray(x)) == digest_of_leaf(jnp.asarray(x)) == found[0]
    key = jax.random.key(3)
    assert digest_of_leaf(key) == digest_of_leaf(np.asarray(jax.random.key_data(key)))
    assert digest_of_leaf(np.float32(0.0)) != digest_of_leaf(np.float32(-0.0))


def test_a_leaf_of_which_others_hold_parts_has_no_digest_and_is_not_compared():
    elsewhere = Mock(spec=jax.Array, is_fully_addressable=False)
    assert digests({"here": np.zeros(2), "elsewhere": elsewhere}).keys() == {"here"}
    assert changed_leaves({"elsewhere": elsewhere}, {"elsewhere": "of another"}) == []


def test_strict_refuses_a_damaged_newest_and_takes_a_whole_one(state, tmp_path):
    messages = []
    saved = Checkpoints(tmp_path, warn=messages.append)
    saved.save(state)
    later = state._replace(step=jnp.int32(4))
    saved.save(later)
    assert int(saved.restore(state, strict=True).step) == 4
    flip(max((saved.folder / "step_00000004").rglob("d/*"), key=lambda p: p.stat().st_size))
    with pytest.raises(DamagedCheckpoint, match=r"step_00000004 is damaged.*: params/large$"):
        saved.restore(state, strict=True)
    assert messages == []
    assert int(saved.restore(state).step) == 0
    assert messages[0].endswith(": params/large; taking step 0 instead")


def test_strict_without_a_checkpoint_is_the_usual_line(state, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        Checkpoints(tmp_path).restore(state, strict=True)


@pytest.mark.slow
def test_every_bit_cut_and_loss_is_found():
    command = [sys.executable, str(ROOT / "benchmarks/damage.py"), "--flips", "20"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
