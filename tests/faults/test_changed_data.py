"""F11: data that are not, on --resume, what the run began with."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from faulty_runs import train, write_config
from idx_folder import write_idx

ROWS = 40


def write_csv(folder, rows=None, place=None):
    numbers = np.random.default_rng(0).integers(0, 1000, (ROWS, 3))
    lines = [f"{'abc'[i % 3]},{','.join(map(str, row))}" for i, row in enumerate(numbers)]
    _write_lines(folder / "own.csv", ["kind,one,two,three"], lines, rows, place)


def _write_lines(path, head, lines, rows, place):
    lines = lines if rows is None else [lines[row] for row in rows]
    if place is not None:
        kind, _, rest = lines[place].partition(",")
        lines[place] = f"{kind},{rest}1"
    path.write_text("\n".join([*head, *lines]) + "\n")


def arrays(rows, place):
    x = np.random.default_rng(0).integers(0, 255, (ROWS, 4, 4)).astype(np.uint8)
    x, y = (a if rows is None else a[rows] for a in (x, (np.arange(ROWS) % 4).astype(np.uint8)))
    if place is not None:
        x[place, 2, 1] ^= 1
    return x, y


def write_npz(folder, rows=None, place=None):
    x, y = arrays(rows, place)
    np.savez(folder / "own.npz", x=x.astype(np.float32), y=y)


def write_images(folder, rows=None, place=None):
    (folder / "idx").mkdir(exist_ok=True)
    for kind, array in zip(("images-idx3", "labels-idx1"), arrays(rows, place), strict=True):
        write_idx(folder / f"idx/train-{kind}-ubyte", array, gz=False)


def write_text(folder, rows=None, place=None):
    words = [f"word {17 * i % 101}, " for i in range(ROWS)]
    words = words if rows is None else [words[row] for row in rows]
    if place is not None:
        words[place] = words[place].replace("w", "d")
    (folder / "own.txt").write_text("".join(words))


SETS = {
    "csv": (write_csv, "own.csv", 'name = "csv"\npath = "own.csv"\noptions = {target = "kind"}'),
    "npz": (write_npz, "own.npz", 'name = "npz"\npath = "own.npz"'),
    "idx": (write_images, "idx/train-images-idx3-ubyte", 'name = "idx"\npath = "idx"'),
    "text": (write_text, "own.txt", 'name = "text"\npath = "own.txt"\noptions = {length = 8}'),
}
ORDER = np.arange(ROWS)
ORDER[[4, 8]] = 8, 4  # two rows of one class, so that the labels stay as they are
# What has become of the rows, and what is said of it.
CHANGES = {
    "shorter": ({"rows": np.arange(ROWS - 8)}, r"train had \d+ rows and has \d+"),
    "changed": ({"place": 4}, "has the same number of rows and other values, or another order"),
    "permuted": ({"rows": ORDER}, "has the same number of rows and other values, or another order"),
    "missing": (None, ""),
}


@pytest.fixture(scope="module", params=SETS)
def begun(request, tmp_path_factory):
    """A run of one step on files of its own, and what writes them."""
    write, file, data = SETS[request.param]
    place = tmp_path_factory.mktemp(request.param)
    write(place)
    task = '[task]\nname = "language"\n' if request.param == "text" else ""
    model = (
        '"char_rnn"\noptions = {width = 3, hidden = [4]}'
        if task
        else '"mlp"\noptions = {hidden = []}'
    )
    text = f"{task}[data]\n{data}\nbatch_size = 4\n[model]\nname = {model}\n[train]\nsteps = 1\n"
    return place, write, file, write_config(place, text)


@pytest.fixture
def run(begun, tmp_path, capsys):
    place, write, _, config = begun
    if not (place / "run").exists():
        assert train(capsys, config, place / "run")[0] == 0
    yield begun
    write(place)


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_rows(change, run, capsys):
    place, write, file, config = run
    how, message = CHANGES[change]
    if how is None:
        (place / file).unlink()
    else:
        write(place, **how)
    before = contents(place / "run")
    code, out, err = train(capsys, config, place / "run", "--resume", "train.steps=2")
    assert (code, out, len(err)) == (2, "", 1), err
    line = err[0]
    assert re.search(message, line), line
    assert (file.split("/")[0] if how is None else "begin a new run with model.init_from") in line
    assert contents(place / "run") == before


def test_a_run_goes_on_where_its_files_were_written_anew(run, capsys):
    """The same rows in files with another time, and one that says nothing of its contents."""
    place, write, _, config = run
    write(place)
    folder = Path(shutil.copytree(place / "run", place / "again"))
    assert train(capsys, config, folder, "--resume", "train.steps=2")[0] == 0
    known = json.loads((folder / "data.json").read_text())
    assert {name: len(digest) for name, _, digest in known["contents"]} == {"train": 64, "test": 64}
    del known["contents"]
    (folder / "data.json").write_text(json.dumps(known))
    write(place, place=4)
    assert train(capsys, config, folder, "--resume", "train.steps=3")[0] == 0
    shutil.rmtree(folder)


FUNCTION = """
import numpy as np
seed = 0
def rows(test_fraction=0.2):
    x = np.random.default_rng(seed).normal(size=(20, 3)).astype("float32")
    return {"x": x, "y": np.arange(20) % 2}
def batches(**options):
    test = {"x": np.ones((4, 3), "float32"), "y": np.arange(4) % 2}
    return {"train": [rows(), rows()], "test": test}
"""


@pytest.mark.parametrize(("function", "code"), [("rows", 2), ("batches", 0)])
def test_rows_of_a_function_count_and_batches_of_one_do_not(
    function, code, tmp_path, capsys, monkeypatch
):
    """What batches by the step will be, nobody knows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeded_data.py").write_text(FUNCTION)
    config = write_config(
        tmp_path,
        f'[data]\nfunction = "seeded_data:{function}"\nbatch_size = 4\n[model]\nname = "mlp"\n'
        "options = {hidden = []}\n[train]\nsteps = 1\n",
    )
    assert train(capsys, config, tmp_path / "run")[0] == 0
    monkeypatch.setattr(sys.modules["seeded_data"], "seed", 1)
    found, _, err = train(capsys, config, tmp_path / "run", "--resume", "train.steps=2")
    assert found == code, err
