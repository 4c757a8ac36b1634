import numpy as np
import pytest

from funcnn.data import DataError, Split, make_batches


@pytest.fixture
def split():
    """23 rows whose numbers say which they are, so that a row is known wherever it turns up."""
    x = np.broadcast_to(np.arange(23, dtype=np.float32)[:, None, None, None], (23, 2, 2, 1))
    return Split(x=x.copy(), y=np.arange(23, dtype=np.int32))


def test_batches_are_full_and_rows_stay_together(split):
    batches = make_batches(split, 5, seed=0)
    for step in range(12):
        batch = batches(step)
        assert batch["x"].shape == (5, 2, 2, 1)
        assert batch["x"].dtype == np.float32
        assert batch["y"].shape == (5,)
        assert batch["y"].dtype == np.int32
        assert np.array_equal(batch["x"][:, 0, 0, 0], batch["y"])


def test_each_epoch_has_every_row_once(split):
    batches = make_batches(split, 5, seed=0)
    stream = np.concatenate([batches(step)["y"] for step in range(46)])  # ten epochs
    epochs = stream.reshape(10, 23)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(23), (10, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 10


def test_a_batch_depends_on_seed_and_step_alone(split):
    batches = make_batches(split, 5, seed=7)
    straight = [batches(step)["y"] for step in range(30)]
    fresh = make_batches(split, 5, seed=7)
    for step in reversed(range(30)):
        assert np.array_equal(fresh(step)["y"], straight[step])
    assert not np.array_equal(make_batches(split, 5, seed=8)(0)["y"], straight[0])
    second, first = make_batches(split, 23, seed=7)(1), make_batches(split, 23, seed=8)(0)
    assert not np.array_equal(second["y"], first["y"])  # no seed repeats the epochs of the next


@pytest.mark.parametrize(("step", "count"), [(0, 1), (3, 2), (4, 8), (2, 40)])
def test_stacked_batches_are_the_single_ones(split, step, count):
    batches = make_batches(split, 5, seed=1)
    stacked = batches(step, count)
    assert stacked["x"].shape == (count, 5, 2, 2, 1)
    for row in range(count):
        single = batches(step + row)
        assert np.array_equal(stacked["x"][row], single["x"])
        assert np.array_equal(stacked["y"][row], single["y"])


def test_steps_per_call_is_the_count_where_none_is_given(split):
    single, eight = make_batches(split, 5, seed=1), make_batches(split, 5, 1, steps_per_call=8)
    assert np.array_equal(eight(16)["y"], single(16, 8)["y"])
    assert np.array_equal(eight(16, 3)["y"], single(16, 3)["y"])


def test_steps_may_be_numpy_integers(split):
    batches = make_batches(split, 5, seed=1)
    assert np.array_equal(batches(np.int32(3))["y"], batches(3)["y"])


def test_batches_do_not_alias_the_data(split):
    batches = make_batches(split, 23, seed=0)
    batches(0)["x"][:] = -1
    assert split.x.min() == 0


@pytest.mark.parametrize("batch_size", [0, 24])
def test_batch_size_outside_the_data(split, batch_size):
    with pytest.raises(DataError, match=f"between 1 and the 23 rows, found {batch_size}$"):
        make_batches(split, batch_size, seed=0)


def test_bad_step_and_count(split):
    batches = make_batches(split, 5, seed=0)
    with pytest.raises(ValueError, match="no batches for 1 steps from step -1"):
        batches(-1)
    with pytest.raises(ValueError, match="no batches for 0 steps from step 2"):
        batches(2, 0)
    with pytest.raises(ValueError, match="steps_per_call must be at least 1, found 0"):
        make_batches(split, 5, seed=0, steps_per_call=0)


def rows_of(batches, steps):
    return [batches(step)["y"].tolist() for step in range(steps)]


def test_drop_leaves_the_rest_of_an_epoch_out(split):
    seen = rows_of(make_batches(split, 5, seed=0, last="drop"), 8)  # two epochs of four batches
    first, second = np.ravel(seen[:4]).tolist(), np.ravel(seen[4:]).tolist()
    assert len(set(first)) == len(set(second)) == 20
    assert first != second
    filled = rows_of(make_batches(split, 5, seed=0), 4)
    assert filled == seen[:4]


def test_pad_marks_the_rows_that_count(split):
    batches = make_batches(split, 5, seed=0, last="pad")
    for epoch in range(2):
        found = [batches(5 * epoch + step) for step in range(5)]
        counted = np.concatenate([batch["y"][batch["mask"]] for batch in found])
        assert sorted(counted.tolist()) == list(range(23))
        assert [int(batch["mask"].sum()) for batch in found] == [5, 5, 5, 5, 3]
    stacked = batches(3, 4)
    for place in range(4):
        single = batches(3 + place)
        assert all(np.array_equal(stacked[name][place], single[name]) for name in single)


def test_a_rest_may_be_an_error(split):
    make_batches(Split(y=np.arange(20)), 5, seed=0, last="error")
    with pytest.raises(DataError, match="leaves 3 of the 23 rows over"):
        make_batches(split, 5, seed=0, last="error")


def test_no_array_of_the_data_is_the_mask():
    taken = Split(y=np.arange(4), mask=np.ones(4, bool))
    with pytest.raises(DataError, match="the data has one: rename it"):
        make_batches(taken, 2, seed=0, last="pad")


def test_every_array_of_a_split_is_in_a_batch(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(46, dtype=np.uint16).reshape(23, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    split = Split(x=mapped, weight=np.arange(23.0), deep=np.zeros((23, 2, 3, 4)))
    batch = make_batches(split, 5, seed=0)(0)
    assert {name: array.shape for name, array in batch.items()} == {
        "x": (5, 2),
        "weight": (5,),
        "deep": (5, 2, 3, 4),
    }
    assert type(batch["x"]) is np.ndarray
    assert np.array_equal(batch["x"][:, 0], 2 * batch["weight"])
