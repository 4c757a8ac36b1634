import numpy as np
import pytest
from told import told

from funcnn.data import Split, make_streams
from funcnn.data.windows import windows


@pytest.fixture
def split():
    return windows(np.arange(4 * 23 + 1), length=4)  # 23 rows


@pytest.mark.parametrize("size", [1, 3, 5, 23])
def test_each_row_goes_on_where_it_stopped_but_where_it_is_the_first(split, size):
    batches = make_streams(split, size)
    before, begun = batches(0), 1
    assert before["first"].all()
    for step in range(1, 50):
        batch = batches(step)
        goes_on = batch["x"][:, 0] == before["y"][:, -1]
        # With one stream or one row each, the end is never followed by the beginning.
        assert np.array_equal(goes_on, ~batch["first"])
        assert batch["first"].dtype == bool
        begun += batch["first"].all()
        before = batch
    assert begun == 1 + 49 // (23 // size)


def test_streams_share_no_row_and_leave_few_out(split):
    batches = make_streams(split, 3)
    rows = np.concatenate([batches(step)["x"][:, 0] for step in range(7)])
    assert sorted(rows.tolist()) == [4 * row for row in range(21)]


@pytest.mark.parametrize(("step", "count"), [(0, 1), (5, 4), (3, 20)])
def test_stacked_batches_are_the_single_ones(split, step, count):
    batches, default = make_streams(split, 3), make_streams(split, 3, steps_per_call=count)
    stacked = batches(step, count)
    assert stacked["first"].shape == (count, 3)
    for place in range(count):
        single = batches(step + place)
        assert all(np.array_equal(stacked[name][place], single[name]) for name in single)
    if count > 1:
        assert np.array_equal(default(step)["x"], stacked["x"])


def test_a_batch_depends_on_the_step_alone(split):
    straight = [make_streams(split, 3)(step)["x"] for step in range(9)]
    batches = make_streams(split, 3)
    for step in reversed(range(9)):
        assert np.array_equal(batches(np.int32(step))["x"], straight[step])


def test_bad_arguments(split):
    wanted = "batch_size must be between 1 and the 23 rows, found"
    assert told(make_streams, split, 0) == f"{wanted} 0"
    assert told(make_streams, split, 24) == f"{wanted} 24"
    taken = Split(first=np.zeros(3), x=np.zeros(3))
    wanted = "streams add an array 'first', and the data has one: rename it"
    assert told(make_streams, taken, 1) == wanted
    with pytest.raises(ValueError, match="steps_per_call must be at least 1, found 0"):
        make_streams(split, 2, steps_per_call=0)
    with pytest.raises(ValueError, match="no batches for 1 steps from step -1"):
        make_streams(split, 2)(-1)
