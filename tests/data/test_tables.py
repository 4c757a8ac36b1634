import numpy as np
import pytest
import sklearn.datasets
from told import told

from funcnn.data import load

TABLES = {"iris": 3, "wine": 3, "breast_cancer": 2, "diabetes": None}


@pytest.mark.parametrize(("name", "classes"), TABLES.items())
def test_a_table_is_that_of_scikit_learn(name, classes):
    unscaled = {"scaled": False} if name == "diabetes" else {}
    table = getattr(sklearn.datasets, f"load_{name}")(**unscaled)
    data = load(name, seed=2, test_fraction=0.3, validation_fraction=0.1)
    assert data.classes == classes
    assert list(data.labels) == list(map(str, table.get("target_names", [])))
    assert data.train.y.dtype == (np.float32 if classes is None else np.int32)
    found = [np.column_stack([split.x, split.y]) for split in data.splits().values()]
    found, wanted = np.concatenate(found), np.column_stack([table.data, table.target])
    wanted = wanted.astype(np.float32)
    # As multisets of rows with their targets: nothing lost, doubled or given another target.
    assert np.array_equal(found[np.lexsort(found.T)], wanted[np.lexsort(wanted.T)])
    assert data.test.rows == pytest.approx(0.3 * len(wanted), abs=1)


@pytest.mark.parametrize("name", TABLES)
def test_standardised_by_the_training_rows(name):
    plain, data = load(name, seed=1), load(name, seed=1, standardise=True)
    mean, deviation = (
        plain.train.x.mean(axis=0, dtype=float),
        plain.train.x.std(axis=0, dtype=float),
    )
    wanted = (plain.test.x - mean) / deviation
    np.testing.assert_allclose(data.test.x, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(data.train.x.std(axis=0), 1, rtol=1e-4)
    assert np.abs(data.test.x.mean(axis=0)).max() > 1e-3
    assert np.array_equal(data.test.y, plain.test.y)


def test_bad_options():
    wanted = 'data "wine" takes no standardize (did you mean standardise?); it takes standardise'
    assert told(load, "wine", standardize=True) == wanted
    text = told(load, "iris", test_fraction=0.01)
    assert text.startswith("iris: cannot be split: 150 rows of 3 classes, a share of 0.01: ")
    text = told(load, "diabetes", test_fraction=1.0)
    assert text.startswith("diabetes: cannot be split: 442 rows, a share of 1.0: ")
    text = told(load, "wine", standardise="often")
    assert text.startswith("data \"wine\": standardise = 'often': expected true or false")
