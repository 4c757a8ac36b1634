import jax.numpy as jnp
import numpy as np
import pytest
from train_problems import compilations

from funcnn.train import make_evaluation


def errors(params, batch):
    error = jnp.square(batch["x"] - params["mean"])
    return {"error": error, "above": batch["x"] > params["mean"]}


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 50])
def test_means_are_over_the_true_rows_whatever_the_batch_size(batch_size):
    x = np.array([1, 2, 3, 4, 5, 6, 100], np.float32)
    evaluate = make_evaluation(errors, {"x": x}, batch_size)
    result = evaluate({"mean": jnp.float32(2.5)})
    assert result == {"error": np.mean((x.astype(float) - 2.5) ** 2), "above": 5 / 7}
    assert all(type(value) is float for value in result.values())


def test_one_program_serves_every_batch_and_every_call():
    def fresh(params, batch):  # a function of its own: compiled programs are kept by function
        return errors(params, batch)

    evaluate = make_evaluation(fresh, {"x": np.arange(7, dtype=np.float32)}, batch_size=3)
    with compilations() as names:
        for mean in (0.0, 1.0):
            evaluate({"mean": np.float32(mean)})
    assert names == ["jit(fresh)"]


def test_the_mean_is_taken_in_float64():
    x = np.full(3, 1e8, np.float32)
    x[0] = 1.0
    evaluate = make_evaluation(lambda p, b: {"x": b["x"]}, {"x": x}, batch_size=2)
    assert evaluate({})["x"] == (1.0 + 2e8) / 3


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({}, "need as many rows each"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, "need as many rows each"),
        ({"x": np.zeros(())}, "need as many rows each"),
        ({"x": np.zeros((0, 2))}, "no rows"),
    ],
)
def test_arrays_that_are_no_split(arrays, line):
    with pytest.raises(ValueError, match=line):
        make_evaluation(errors, arrays, 2)


def test_what_is_no_metric_a_row_is_named():
    arrays = {"x": np.zeros(3, np.float32)}
    scalar = make_evaluation(lambda p, b: {"mean": jnp.mean(b["x"])}, arrays, 2)
    with pytest.raises(TypeError, match=r"metric 'mean' .* shape \(2,\), found shape \(\)"):
        scalar({})
    with pytest.raises(TypeError, match="metrics must return a dict"):
        make_evaluation(lambda p, b: b["x"], arrays, 2)({})
    with pytest.raises(ValueError, match="batch_size must be at least 1, found 0"):
        make_evaluation(errors, arrays, 0)
