"""Params in a file of safetensors and back: the same bits, or one line that says what is wrong."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import funcnn as fnn


def tree():
    return {
        "encoder": {
            "conv_0": {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.array([0.1, jnp.nan])},
            "half": jnp.array([1.5, -3.0e38, 1e-40], jnp.bfloat16),
        },
        "head": {
            "w": jnp.arange(3, dtype=jnp.int32),
            "mask": jnp.array(True),
            "empty": jnp.ones((0, 2)),
        },
    }


def zeros(params):
    return jax.tree.map(jnp.zeros_like, params)


def bits(params):
    return jax.tree.map(lambda a: (a.shape, str(a.dtype), np.asarray(a).tobytes()), params)


@pytest.fixture
def path(tmp_path):
    fnn.save_weights(tmp_path / "net.safetensors", tree())
    return tmp_path / "net.safetensors"


@pytest.fixture
def fails(path):
    """The one line that loading ends with."""

    def line(like, kind=ValueError, of=path, **options):
        with pytest.raises(kind) as caught:
            fnn.load_weights(of, like, **options)
        text = str(caught.value)
        assert text.startswith("load_weights: ")
        assert "\n" not in text
        return text

    return line


def test_what_was_saved_comes_back_bit_for_bit(path):
    shapes = jax.eval_shape(tree)
    assert bits(fnn.load_weights(path, shapes)) == bits(tree())
    assert bits(fnn.load_weights(path, zeros(tree()))) == bits(tree())


def test_arrays_in_any_order_of_memory_and_of_numpy(tmp_path):
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    params = {"t": a.T, "cut": a[:, ::2], "backwards": a[::-1], "one": 2.0}
    fnn.save_weights(tmp_path / "f", params)
    loaded = fnn.load_weights(
        tmp_path / "f", jax.eval_shape(lambda: jax.tree.map(jnp.asarray, params))
    )
    for name, given in params.items():
        np.testing.assert_array_equal(loaded[name], given)


def test_others_read_what_we_write_and_the_other_way_round(path, tmp_path):
    assert sorted(load_file(path))[:2] == ["encoder/conv_0/b", "encoder/conv_0/w"]
    save_file({"layers.0.weight": np.ones((2, 2), np.float32)}, tmp_path / "theirs")
    loaded = fnn.load_weights(
        tmp_path / "theirs",
        {"dense_0": {"w": jnp.zeros((2, 2))}},
        rename={"layers.*.weight": "dense_*/w"},
    )
    assert loaded["dense_0"]["w"].sum() == 4


def test_a_part_is_loaded_and_the_rest_stays_as_it_is(path):
    like = zeros(tree())
    loaded = fnn.load_weights(path, like, only="encoder/*")
    assert bits(loaded["encoder"]) == bits(tree()["encoder"])
    assert loaded["head"]["w"] is like["head"]["w"]
    one = fnn.load_weights(path, like, only=["*/w"])
    assert bits(one["head"]["w"]) == bits(tree()["head"]["w"])
    assert one["encoder"]["half"] is like["encoder"]["half"]


def test_renamed_by_patterns_the_first_that_matches_decides(path):
    like = {"a": {"conv_0": zeros(tree()["encoder"]["conv_0"]), "second": jnp.zeros(3, "bfloat16")}}
    rename = {"encoder/half": "a/second", "encoder/*": "a/*"}
    loaded = fnn.load_weights(path, like, rename=rename, only="a/*")
    assert bits(loaded["a"]["conv_0"]) == bits(tree()["encoder"]["conv_0"])
    assert bits(loaded["a"]["second"]) == bits(tree()["encoder"]["half"])


def test_not_strict_what_is_missing_stays_and_what_has_no_place_is_left_out(path):
    like = {"head": {"w": jnp.zeros(3, "int32"), "new": jnp.full(2, 7.0)}}
    loaded = fnn.load_weights(path, like, strict=False)
    assert loaded["head"]["w"].tolist() == [0, 1, 2]
    assert loaded["head"]["new"] is like["head"]["new"]


def test_an_array_goes_where_the_one_of_like_was_put(path):
    cpus = jax.devices("cpu")
    like = {"w": jax.device_put(jnp.zeros(3, "int32"), cpus[-1])}
    assert len(cpus) > 1
    loaded = fnn.load_weights(path, like, rename={"head/w": "w"}, only="w")
    assert loaded["w"].devices() == {cpus[-1]}
    free = fnn.load_weights(path, {"head": {"w": jnp.zeros(3, "int32")}}, only="head/w")
    assert not free["head"]["w"].committed


def test_names_that_are_missing_or_have_no_place(fails, path):
    like = zeros(tree())
    like["head"]["v"] = like["head"].pop("w")
    assert f"{path} has no head/v (did you mean head/w?); it has" in fails(like)
    assert fails({"head": {"w": jnp.zeros(3, "int32")}}).startswith(
        "load_weights: in like there is no place for encoder/conv_0/b, encoder/conv_0/w, "
        "encoder/half and 2 more of"
    )
    assert "has no x; it has" in fails({"x": jnp.ones(1)}, strict=False)
    assert "give arrays" in fails(jax.eval_shape(tree), only="head/w")
    assert fails(like, only="heads/*").startswith("load_weights: the pattern heads/* matches none")
    assert "(did you mean head/w?)" in fails(zeros(tree()), rename={"head/W": "w"})
    assert "with as many stars" in fails(like, rename={"head/*": "w"})
    assert "are both called" in fails(like, rename={"head/w": "head/mask"})
    assert "a pattern is a text" in fails(like, kind=TypeError, only=[3])
    assert "rename is a dict" in fails(like, kind=TypeError, rename="a")


def test_shapes_and_dtypes_that_differ(fails):
    like = zeros(tree())
    like["head"]["w"] = jnp.zeros(4, "int32")
    assert "head/w is int32[3] and in like int32[4]" in fails(like)
    like["head"]["w"] = jnp.zeros(3, "float32")
    assert "head/w is int32[3] and in like float32[3]" in fails(like, strict=False)


def test_files_that_are_none(fails, path, tmp_path):
    like = tree()
    assert fails(like, kind=FileNotFoundError, of=tmp_path / "no") == (
        f"load_weights: there is no file {tmp_path / 'no'}"
    )
    assert "is a folder" in fails(like, kind=IsADirectoryError, of=tmp_path)
    whole = path.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    cut = tmp_path / "cut"
    for size in (0, 5, 8, 8 + header // 2, 8 + header, len(whole) - 1):
        cut.write_bytes(whole[:size])
        assert f"{cut} is no safetensors file, or a part of one" in fails(like, of=cut)
    entry = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    cut.write_bytes(struct.pack("<Q", len(entry)) + entry + b"\0")
    assert "float8" in fails({"a": jnp.ones(1)}, of=cut)


def test_a_file_is_written_whole_or_not_at_all(path, tmp_path):
    before = path.read_bytes()
    for wrong, kind in (
        ({"a": jnp.ones(2), "b": "text"}, TypeError),
        ({"k": jax.random.key(0)}, TypeError),
        ({"__metadata__": jnp.ones(2)}, ValueError),
        ({"a": jnp.ones(2, "int4")}, ValueError),
    ):
        with pytest.raises(kind, match=r"^save_weights: ") as caught:
            fnn.save_weights(path, wrong)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before
    with pytest.raises(OSError, match="nowhere"):
        fnn.save_weights(tmp_path / "nowhere" / "f", {"a": jnp.ones(2)})
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
