"""PyTorch's own DataLoader as the batches of a run, where PyTorch is installed."""

import numpy as np
import pytest

import funcnn as fnn
from funcnn.data import batches_of

torch = pytest.importorskip("torch")


def loader():
    x = torch.arange(24, dtype=torch.float32).reshape(12, 2)
    y = torch.arange(12)
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y),
        batch_size=4,
        shuffle=True,
        generator=torch.Generator().manual_seed(3),
    )


def rows(batches, steps):
    return [batches(step)["y"].tolist() for step in steps]


def test_its_tensors_are_the_batches_and_each_epoch_is_shuffled_anew():
    batches = batches_of(loader())
    found = batches(0)
    assert {name: (type(a), a.dtype, a.shape) for name, a in found.items()} == {
        "x": (np.ndarray, np.dtype("float32"), (4, 2)),
        "y": (np.ndarray, np.dtype("int64"), (4,)),
    }
    np.testing.assert_array_equal(found["x"][:, 0], 2 * found["y"])
    first, second = rows(batches, range(3)), rows(batches, range(3, 6))
    epochs = [sorted(row for batch in epoch for row in batch) for epoch in (first, second)]
    assert epochs == [list(range(12))] * 2
    assert first != second


def test_with_a_seeded_generator_a_run_goes_on_exactly():
    straight = rows(batches_of(loader()), range(8))
    assert rows(batches_of(loader()), range(5, 8)) == straight[5:]


def test_fit_trains_on_it_and_resumes():
    import jax.numpy as jnp
    import optax

    def loss(params, batch, key):
        return jnp.mean(jnp.square(batch["x"] @ params["w"] - batch["y"][:, None]))

    def train(state, steps):
        batches = batches_of(loader())
        narrow = lambda i: {k: a.astype(np.float32) for k, a in batches(i).items()}  # noqa: E731
        return fnn.train.fit(step, state, narrow, steps=steps)[0]

    optimizer = optax.sgd(1e-3)
    step = fnn.train.make_step(loss, optimizer)

    def start():
        return fnn.train.TrainState.create({"w": jnp.zeros((2, 1))}, optimizer, seed=0)

    whole = train(start(), 8)
    parts = train(train(start(), 5), 8)
    np.testing.assert_array_equal(whole.params["w"], parts.params["w"])
    assert float(whole.params["w"].sum()) > 0
