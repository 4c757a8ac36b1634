from collections import namedtuple

import numpy as np
import pytest
from told import told

from funcnn.data import batches_of


def batch(number, size=4):
    return np.full((size, 2), float(number), np.float32), np.full(size, number)


class Loader:
    """As PyTorch's DataLoader: begins anew at each iteration, has a length and no numbers."""

    def __init__(self, count, shuffled=False):
        self.count, self.shuffled, self.taken, self.begun = count, shuffled, 0, 0

    def __len__(self):
        return self.count

    def __iter__(self):
        epoch, self.begun = self.begun, self.begun + 1
        for number in range(self.count):
            self.taken += 1
            yield batch(100 * epoch + number if self.shuffled else number)


def seen(batches, steps):
    return [int(batches(step)["y"][0]) for step in steps]


def test_a_loader_is_taken_in_turn_and_begins_again():
    loader = Loader(3)
    batches = batches_of(loader)
    assert seen(batches, range(8)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert (loader.taken, loader.begun) == (8, 3)  # nothing was made twice
    found = batches(7)
    assert loader.taken == 8
    assert found["x"].shape == (4, 2)
    assert found["x"].dtype == np.float32


def test_each_epoch_of_a_loader_is_its_own():
    assert seen(batches_of(Loader(2, shuffled=True)), range(6)) == [0, 1, 100, 101, 200, 201]


def test_a_run_that_goes_on_passes_over_what_was_before():
    straight = seen(batches_of(Loader(3)), range(10))
    loader = Loader(3)
    assert seen(batches_of(loader), range(7, 10)) == straight[7:]
    assert loader.taken == 10
    back = batches_of(loader)
    assert seen(back, [5, 2, 2, 3]) == [straight[step] for step in (5, 2, 2, 3)]


@pytest.mark.parametrize("kind", [list, Loader])
def test_several_steps_are_the_single_ones(kind):
    source = Loader(3) if kind is Loader else [batch(number) for number in range(3)]
    batches = batches_of(source)
    assert batches(1)["y"][0] == 1
    found = batches(1, 4)
    assert found["x"].shape == (4, 4, 2)
    assert found["y"][:, 0].tolist() == [1, 2, 0, 1]
    assert batches(5, 1)["y"].shape == (1, 4)


def test_an_iterator_gives_each_step_once_and_says_so():
    batches = batches_of(batch(number) for number in range(4))
    assert seen(batches, [0, 0, 2, 2]) == [0, 0, 2, 2]  # the last as often as wanted
    assert told(batches, 1) == (
        "step 1 was asked for after step 2: an iterator cannot go back; give what can be iterated "
        "again, as a list, a DataLoader or a class with __iter__"
    )
    assert batches(2, 2)["y"][:, 0].tolist() == [2, 3]
    wanted = (
        "the iterator ended after 4 batches, and step 4 needs another; give what can be iterated "
        "again, as a list or a DataLoader"
    )
    assert told(batches, 4) == wanted
    assert seen(batches, [3]) == [3]
    assert told(batches_of(iter([])), 0).startswith("the iterator ended after 0 batches, and step")


def test_a_sequence_depends_on_the_step_alone():
    class Numbers(Loader):
        def __getitem__(self, index):
            self.taken += 1
            return batch(index) if index < self.count else [][0]

    source = Numbers(5)
    batches = batches_of(source)
    assert seen(batches, [4, 0, 12, 3]) == [4, 0, 2, 3]
    assert source.begun == 0


def test_datasets_of_grain():
    grain = pytest.importorskip("grain")
    source = grain.MapDataset.source(np.arange(12)).shuffle(seed=3)
    dataset = source.map(lambda n: {"x": np.full(2, n), "y": n}).batch(4)
    batches = batches_of(dataset)
    straight = [batches(step)["y"].tolist() for step in range(6)]
    assert sorted(np.ravel(straight[:3]).tolist()) == list(range(12))
    assert sorted(np.ravel(straight[3:]).tolist()) == list(range(12))
    assert straight[:3] != straight[3:]  # an epoch of grain has an order of its own
    fresh = batches_of(dataset)
    assert [fresh(step)["y"].tolist() for step in reversed(range(6))] == straight[::-1]
    in_turn = batches_of(dataset.to_iter_dataset())
    assert [in_turn(step)["y"].tolist() for step in range(5)] == [*straight[:3], *straight[:2]]
    assert batches(1, 2)["x"].shape == (2, 4, 2)


class Tensor:
    """As PyTorch's: no array of NumPy, and becomes one unless something forbids it."""

    def __init__(self, array, device="cpu"):
        self.array, self.device = array, device

    def __array__(self, dtype=None, copy=None):
        if self.device != "cpu":
            raise TypeError(f"can't convert {self.device} device type tensor to numpy.\nUse .cpu()")
        return self.array


Pair = namedtuple("Pair", "tokens lengths")


def test_what_a_batch_may_be():
    x, y = batch(3)
    for form in (
        (x, y),
        [x, y],
        {"x": x, "y": y},
        (Tensor(x), Tensor(y)),
        (x, y.tolist()),
    ):
        found = batches_of([form])(0)
        assert list(found) == ["x", "y"]
        assert type(found["x"]) is type(found["y"]) is np.ndarray
        assert np.array_equal(found["x"], x)
    assert np.array_equal(batches_of([(x, y)], ["image", "label"])(0)["label"], y)
    for one in (x, Tensor(x), (x,)):
        assert np.array_equal(batches_of([one], ["x"])(0)["x"], x)


def test_trees_in_a_batch():
    tree = {"x": {"a": Tensor(np.ones(3)), "b": (np.zeros(3), [np.ones(3), 7])}, "y": Pair([1], 2)}
    found = batches_of([tree])(0)
    assert isinstance(found["x"]["b"], tuple)
    assert found["x"]["b"][1][1] == 7
    assert isinstance(found["y"], Pair)
    stacked = batches_of([tree, tree])(0, 5)
    assert stacked["x"]["a"].shape == stacked["x"]["b"][1][0].shape == (5, 3)
    assert stacked["x"]["b"][1][1].shape == (5,)
    assert stacked["y"].lengths.tolist() == [2] * 5


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ((1, 2, 3), "the batch of step 0 must be a dict, or have x, y; found tuple of 3"),
        (np.zeros(3), "the batch of step 0 must be a dict, or have x, y; found ndarray"),
        (None, "the batch of step 0 must be a dict, or have x, y; found NoneType"),
        ((["a"], 1), "the batch of step 0: x/0 must be numbers, found a str, <U1 for NumPy"),
        (
            ({"q": None}, 1),
            "the batch of step 0: x/q must be numbers, found a NoneType, object for",
        ),
        (
            (1, Tensor(np.ones(2), "cuda")),
            (
                "the batch of step 0: y: makes no array of NumPy: can't convert cuda device type "
                "tensor to numpy. Use .cpu()"
            ),
        ),
    ],
)
def test_a_batch_that_is_none(form, wanted):
    assert told(batches_of([form]), 0).startswith(wanted)


def test_batches_that_cannot_be_stacked():
    batches = batches_of([batch(0), batch(1, size=3)])
    assert batches(1)["y"].shape == (3,)
    assert told(batches, 0, 2) == (
        "steps 0 to 1: x: shapes (4, 2) and (3, 2) cannot be stacked; leave out a last batch that "
        "is smaller"
    )
    for other in ({"x": [1], "z": [2]}, {"x": [1], "y": {}}):
        batches = batches_of([{"x": [1], "y": [2]}, other])
        assert told(batches, 0, 2).endswith("the batches have different parts")


def test_what_is_no_iterable_of_batches():
    assert told(batches_of, {"x": 1}) == "give an iterable of batches, found one dict"
    wanted = "give an iterable of batches, found function, which cannot be iterated"
    assert told(batches_of, batch) == wanted
    assert told(batches_of, []) == "there is no batch: the sequence is empty"
    assert told(batches_of(Loader(0)), 2) == "there is no batch: the iterable is empty"
    for step, count in ((-1, None), (0, 0)):
        with pytest.raises(ValueError, match=r"no batches for . steps from step"):
            batches_of([batch(0)])(step, count)
