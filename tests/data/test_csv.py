import numpy as np
import pytest
from told import told

from funcnn.chosen import chosen_data
from funcnn.config import Config, ConfigError, DataConfig, ModelConfig
from funcnn.data import load
from funcnn.data.columns import read_column, read_rows
from funcnn.data.cutting import cut_rows
from funcnn.data.sets.csv import csv

HEADER = "age,city,level,income,pet\n"
CITIES, PETS = ("Ulm", "Bonn", "Kiel"), ("dog", "cat")


def row(i, **other):
    values = {
        "age": 20 + i,
        "city": CITIES[i % 3],
        "level": 10 if i % 4 else 9,
        "income": 1.5 * i,
        "pet": PETS[i % 2],
    }
    return ",".join(str(value) for value in (values | other).values()) + "\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(HEADER + "".join(row(i) for i in range(40)))
    return path


def whole(data, name="x"):
    """All rows, in the order of the first column."""
    arrays = {key: np.concatenate([s[key] for s in data.splits().values()]) for key in "xy"}
    return arrays[name][np.argsort(arrays["x"][:, 0])]


def test_a_target_of_categories(path):
    data = csv(path, "pet")
    assert (data.classes, data.labels) == (2, ("cat", "dog"))
    assert data.train.x.dtype == np.float32
    assert data.train.y.dtype == np.int32
    assert np.bincount(data.train.y).tolist() == [16, 16]
    assert np.bincount(data.test.y).tolist() == [4, 4]
    number = np.arange(40)
    one_hot = np.eye(3)[[[2, 0, 1][i % 3] for i in number]]  # Bonn, Kiel, Ulm
    wanted = np.column_stack([20 + number, one_hot, np.where(number % 4, 10, 9), 1.5 * number])
    assert np.array_equal(whole(data), wanted)
    assert np.array_equal(whole(data, "y"), 1 - number % 2)


def test_a_target_of_numbers(path):
    data = csv(path, "income", columns=["age", "city"], encoding="codes")
    assert (data.classes, data.labels) == (None, ())
    assert data.train.y.dtype == np.float32
    number = np.arange(40)
    wanted = np.column_stack([20 + number, [[2, 0, 1][i % 3] for i in number]])
    assert np.array_equal(whole(data), wanted)
    assert np.array_equal(whole(data, "y"), 1.5 * number)


def test_numbers_that_are_names(path):
    data = csv(path, "level", columns=["age"], categorical=["level"])
    assert data.labels == ("9", "10")  # in the order of the numbers
    assert np.array_equal(whole(data, "y"), np.arange(40) % 4 > 0)


@pytest.mark.parametrize("mark", ["", "NA", "?", "nan"])
def test_missing_values(path, mark):
    lines = path.read_text().splitlines(keepends=True)
    lines[5] = row(4, income=mark)
    path.write_text("".join(lines))
    wanted = (
        f'{path}: line 6: income is missing: missing = "drop" leaves such rows out, "mean" takes '
        "that of the training rows"
    )
    assert told(csv, path, "pet") == wanted
    assert len(whole(csv(path, "pet", columns=["age"]))) == 40  # of a column that is not looked at
    dropped = whole(csv(path, "pet", missing="drop"))[:, 0]
    assert np.array_equal(dropped, [age for age in range(20, 60) if age != 24])
    lines[5] = row(4, city=mark)
    path.write_text("".join(lines))
    assert told(csv, path, "pet", missing="mean") == (
        f'{path}: line 6: city is missing, and a category has no mean: missing = "drop" leaves '
        "such rows out"
    )
    assert told(csv, path, "city", missing="mean") == (
        f'{path}: line 6: city is missing, and it is the target: missing = "drop" leaves such '
        "rows out"
    )


def test_means_and_deviations_are_those_of_the_training_rows(path):
    lines = path.read_text().splitlines(keepends=True)
    for gap in range(0, 40, 3):
        lines[gap + 1] = row(gap, income="")
    path.write_text("".join(lines))
    options = {"columns": ["age", "income"], "validation_fraction": 0.25, "seed": 1}
    plain = csv(path, "pet", missing="mean", **options)
    data = csv(path, "pet", missing="mean", standardise=True, **options)
    known = (np.round(plain.train.x[:, 0]) - 20) % 3 > 0
    mean = plain.train.x[known, 1].mean()
    for name, split in plain.splits().items():
        gap = (np.round(split.x[:, 0]) - 20) % 3 == 0
        assert gap.any(), name
        np.testing.assert_allclose(split.x[gap, 1], mean, rtol=1e-6)
        age = plain.train.x[:, 0]
        wanted = (split.x[:, 0] - age.mean()) / age.std()
        np.testing.assert_allclose(data.splits()[name].x[:, 0], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(data.splits()[name].x[gap, 1], 0, atol=1e-6)
    np.testing.assert_allclose(data.train.x[known, 1].std(), 1, rtol=1e-5)


def test_categories_and_constant_columns_are_not_standardised(path):
    path.write_text(HEADER + "".join(row(i, level=7) for i in range(40)))
    data = csv(path, "pet", columns=["city", "level"], standardise=True)
    assert set(np.unique(data.train.x[:, :3])) == {0, 1}
    assert (data.test.x[:, 3] == 0).all()


def test_load_cuts_validation_before_anything_is_fitted(path):
    data = load("csv", path=path, target="pet", validation_fraction=0.25, seed=3, standardise=True)
    assert {n: s.rows for n, s in data.splits().items()} == {
        "train": 24,
        "validation": 8,
        "test": 8,
    }
    np.testing.assert_allclose(data.train.x[:, 0].mean(), 0, atol=1e-6)
    other = load("csv", path=path, target="pet", seed=4)
    assert not np.array_equal(other.test.x, load("csv", path=path, target="pet", seed=3).test.x)


def test_quotes_separators_and_the_mark_of_utf_8(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeffa;"b";c\r\n1;"x;\ny";2\r\n\r\n3; z ;4\r\n', "utf-8")
    assert read_rows(path, ";").columns == {"a": ["1", "3"], "b": ["x;\ny", "z"], "c": ["2", "4"]}
    assert read_rows(path, ";").lines == [3, 5]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (HEADER.encode(), "has no row under its header"),
        (b"age,pet\n1,cat\n2\n", "line 3 has 1 field, and the header 2"),
        (b"age,pet\n1,cat,3\n", "line 2 has 3 fields, and the header 2"),
        (b"age,age\n1,2\n", "header: age stands there twice"),
        (b"age,,pet\n1,2,3\n", "header: column 2 has no name"),
        (b'age,pet\n1,"cat\n', "line 2: unexpected end of data"),
        (b"age,pet\n1,K\xe4tzchen\n", "not UTF-8: byte 0xe4 at position 11, in line 2"),
        (b"age,pet\n1,NA\n", "line 2: pet is missing: missing = "),
        (b"age,pet\n1,cat\n2,cat\n", "target: pet is 'cat' in every row"),
        (
            b"age,pet\n1,cat\n2,dog\nten,cat\n",
            (
                "line 4: age holds 'ten', and in line 2 a number; name it in categorical if it has "
                "categories"
            ),
        ),
        (b"age,pet\ninf,cat\n2,dog\n", "line 2: age holds 'inf', and in line 3 a number"),
        (b"age,pet\n1_0,cat\n2,dog\n", "line 2: age holds '1_0', and in line 3 a number"),
        (b"age,pet\n1,cat\n2,dog\n3,dog\n", "cannot be split: class 0 has 1 row"),
    ],
)
def test_bad_files(tmp_path, content, wanted):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    assert told(csv, path, "pet").startswith(f"{path}: {wanted}")


def test_no_file(tmp_path):
    path = tmp_path / "none.csv"
    assert told(csv, path, "pet") == f"{path}: no such file"
    assert told(csv, tmp_path, "pet") == f"{tmp_path}: cannot be read: Is a directory"


def test_numbers_with_commas_are_not_taken_for_categories(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("size;pet\n" + "".join(f"{i},5;{PETS[i % 2]}\n" for i in range(30)))
    assert told(csv, path, "pet", separator=";") == (
        f"{path}: size holds another text in each row, and no number (first '0,5'); leave it out "
        "by columns, or name it in categorical"
    )
    rows = read_rows(path, ";")
    assert len(read_column(rows, "size", categorical=True).categories) == 30


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"target": "pett"}, "target: no column pett (did you mean pet?); it has age, city"),
        ({"columns": ["age", "town"]}, "columns: no column town; it has age, city"),
        (
            {"categorical": ["cities"]},
            "categorical: no column cities (did you mean city?)",
        ),
        ({"columns": ["age", "pet"]}, "columns: pet is the target"),
        ({"columns": ["age", "age"]}, "columns: age stands there twice"),
        ({"columns": []}, "columns: there is none beside the target"),
        ({"missing": "means"}, 'missing = "means" (did you mean "mean"?) is none of error, drop'),
        ({"encoding": "code"}, 'encoding = "code" (did you mean "codes"?) is none of one_hot'),
        ({"separator": "::"}, "separator must be one character, found '::'"),
        ({"test_fraction": 1.5}, "cannot be split: 40 rows of 2 classes, a share of 1.5: "),
        ({"validation_fraction": 0.01}, "validation: cannot be split: 32 rows of 2 classes"),
    ],
)
def test_bad_options(path, options, wanted):
    assert told(csv, path, **({"target": "pet"} | options)).startswith(f"{path}: {wanted}")


def test_every_row_may_lack_something(path):
    path.write_text("age,size,pet\n" + "1,,cat\n,2,dog\n" * 10)
    wanted = f"{path}: there is no row without a missing value"
    assert told(csv, path, "pet", missing="drop") == wanted
    path.write_text("age,size,pet\n" + "1,,cat\n1,,dog\n" * 10 + "1,5,cat\n")
    y = np.array([0, 1] * 10 + [0])
    tested = {20 in cut_rows("", y, seed, 0.2)["test"]: seed for seed in range(40)}
    seen, unseen = tested[False], tested[True]
    assert (csv(path, "pet", missing="mean", seed=seen).test.x[:, 1] == 5).all()
    wanted = f"{path}: size has no value in any of the 16 rows to train"
    assert told(csv, path, "pet", missing="mean", seed=unseen) == wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "data.options.target: {path}: needs target, one of age, pet"),
        ({"target": "pett"}, "data.options.target: {path}: target: no column pett (did you"),
        ({"target": "pet"}, "data.options.missing: {path}: line 4: age is missing: missing = "),
        ({"target": "pet", "missing": 1}, "data.options.missing: data "),
        ({"target": "pet", "missin": "drop"}, "data.options.missin: data "),
    ],
)
def test_a_config_is_told_the_key_to_change(tmp_path, options, wanted):
    path = tmp_path / "pets.csv"
    path.write_text("age,pet\n3,cat\n4,dog\n,cat\n")
    chosen = DataConfig(name="csv", path=str(path), options=options)
    with pytest.raises(ConfigError) as caught:
        chosen_data(Config(model=ModelConfig(name="mlp"), data=chosen))
    assert caught.value.problems[0].startswith(wanted.format(path=path))


def test_of_many_columns_the_first_are_named(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(30)) + "\n" + ",".join("1" * 30) + "\n")
    assert told(csv, path).endswith(", c18, c19 and 10 more")
