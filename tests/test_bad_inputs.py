"""Inputs as people get them wrong: each is one line that says what, and nothing is left behind."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from funcnn.cli import main

FUNCTIONS = """
import jax.numpy as jnp
import numpy as np
import optax
import funcnn as fnn

ROWS = np.zeros((20, 3), np.float32)
LABELS = np.arange(20, dtype=np.int32) % 2

def number(**options): return 3
def fails(): raise ValueError("no such sensor: 7")
def leaves(): raise SystemExit(0)
def text_rows(): return {"x": ["a", "b"], "y": [0, 1]}
def uneven(): return {"x": ROWS, "y": LABELS[:7]}
def with_nan(): return {"x": np.full_like(ROWS, np.nan), "y": LABELS}
def named(): return {"input": ROWS, "y": LABELS}
def floats(): return {"x": ROWS, "y": LABELS / 2}
def nothing(): return {}
def no_params(): return fnn.relu
def triple(): return 1, 2, 3
def integers(): return lambda key, x: {"w": jnp.zeros(3, jnp.int32)}, lambda params, x: x
def narrow(classes): return fnn.chain(fnn.flatten, fnn.dense(classes + 2))
def mean_loss(outputs, targets): return jnp.mean(outputs)
def one_argument(outputs): return outputs
def other_shape(): return lambda key, x: x[:, :1]
def grows(): return lambda key, x: jnp.concatenate([x, x], axis=1)
def metric_text(): return {"mine": "accuracy"}
def metric_loss(): return {"loss": lambda outputs, targets: targets}
def hook(state): return None
"""


def write_files(folder):
    """Files that are damaged, or of another kind, each in its way."""
    (folder / "functions_gone_wrong.py").write_text(FUNCTIONS)
    (folder / "pets.csv").write_text("kind,weight\ncat,4\ndog,30\n" * 1 + "cat,5\ndog,31\n" * 12)
    (folder / "gap.csv").write_text("kind,weight\n" + "cat,4\ndog,30\n" * 12 + "cat,\n")
    (folder / "short.csv").write_text("kind,weight\ncat\n")
    (folder / "header.csv").write_text("kind,weight\n")
    (folder / "words.csv").write_text("kind,weight\ncat,4\ndog,heavy\n")
    (folder / "same.csv").write_text("kind,weight\n" + "cat,4\n" * 20)
    (folder / "bytes.csv").write_bytes(b"kind,weight\ncat,\xff\n")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tiny.txt").write_text("abc")
    (folder / "long.txt").write_text(100 * "abcdefghij")
    np.savez(folder / "no_y.npz", x=np.zeros((4, 3), np.float32))
    (folder / "text.npz").write_text("no arrays")
    for name in ("images", "grey"):
        (folder / name / "a").mkdir(parents=True)
    (folder / "images" / "a" / "one.png").write_bytes(b"no image")
    idx = folder / "idx"
    idx.mkdir()
    images = struct.pack(">IIII", 0x803, 4, 2, 2) + bytes(3)
    (idx / "train-images-idx3-ubyte").write_bytes(images)
    (idx / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + bytes(4))
    cut = folder / "cut"
    cut.mkdir()
    whole = gzip.compress(struct.pack(">IIII", 0x803, 4, 2, 2) + bytes(16))
    (cut / "train-images-idx3-ubyte.gz").write_bytes(whole[:-6])
    (cut / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + bytes(4))
    (folder / "cifar").mkdir()
    (folder / "cifar" / "data_batch_1.bin").write_bytes(bytes(3073 * 2 - 1))


def csv(path, more=""):
    return f'data={{name="csv", path="{path}", options={{target="kind"{more}}}}}'


def text(path, more=""):
    return f'data={{name="text", path="{path}", options={{length=8{more}}}}}'


def function(table, name, more=""):
    return f'{table}={{function="functions_gone_wrong:{name}"{more}}}'


# What is changed of a config that is right, and what the line says.
BAD = {
    # files
    "no folder": (['data={name="idx", path="nowhere"}'], "no such file or folder in "),
    "a short idx file": (['data={name="idx", path="idx"}'], "train-images-idx3-ubyte"),
    "a cut gzip file": (['data={name="idx", path="cut"}'], "train-images-idx3-ubyte.gz"),
    "half of a row of cifar": (['data={name="cifar10", path="cifar"}'], "data_batch_1.bin"),
    "no image": (['data={name="images", path="images"}'], "one.png: no image that can be read"),
    "an empty class": (['data={name="images", path="grey"}'], "is empty"),
    "no npz file": (['data={name="npz", path="text.npz"}'], "text.npz"),
    "an npz file without y": (
        ['data={name="npz", path="no_y.npz"}'],
        "no_y.npz: needs y; it holds x",
    ),
    "a csv file of bytes": ([csv("bytes.csv")], "bytes.csv"),
    # columns
    "a row that is too short": ([csv("short.csv")], "line 2 has 1 field, and the header 2"),
    "no row": ([csv("header.csv")], "has no row under its header"),
    "a word among numbers": ([csv("words.csv")], "line 3: weight holds 'heavy', and in line 2"),
    "one class": ([csv("same.csv")], "kind is 'cat' in every row"),
    "a missing value": ([csv("gap.csv")], "line 26: weight is missing"),
    "no such target": ([csv("pets.csv", "").replace("kind", "kin")], "did you mean kind?"),
    "no such column": ([csv("pets.csv", ', columns=["wieght"]')], "did you mean weight?"),
    "no such policy": (
        [csv("pets.csv", ', missing="drpo"')],
        "missing = 'drpo': expected 'error', 'drop'",
    ),
    "a target without a table": (['data={name="csv", path="pets.csv"}'], "needs target"),
    # tokens
    "no tokenizer": ([text("tiny.txt", ', tokens="none.json"')], "none.json: no such file"),
    "another tokenizer": ([text("tiny.txt", ', tokens="tokenizer.json"')], "no tokenizer: "),
    "no such tokens": ([text("tiny.txt", ', tokens="word"')], 'tokens = "word"'),
    "no text": ([text("none.txt")], "data.path = 'none.txt': no such file or folder in "),
    "a model that sees the next tokens": (
        [
            text("long.txt"),
            "task.name=language",
            'model={name="bert", options={width=4, depth=1, heads=1, length=8}}',
        ],
        "model: it sees the next tokens, which it is to foretell: attend: ",
    ),
    "a limit of words": ([text("tiny.txt", ', limit="all"')], "limit = 'all': expected an integer"),
    "a share without a row": (
        [text("tiny.txt").replace("tiny", "long"), "data.validation_fraction=0.001"],
        "data.validation_fraction = 0.001: long.txt: validation: 1 tokens, and one row of length 8",
    ),
    "a text of three letters": ([text("tiny.txt"), "task.name=language"], "tiny.txt"),
    # options
    "no such data": (["data.name=digitz"], "digitz"),
    "no such option of data": (["data.options={side=3}"], 'data "digits" takes no side'),
    "an option of another type": (
        ['data.options={pixels="yes"}'],
        "data.options.pixels: data \"digits\": pixels = 'yes': expected true or false",
    ),
    "no such task": (["task.name=clasification"], "did you mean 'classification'?"),
    "no such loss": (["loss={name='squared'}"], "loss.name: unknown 'squared'"),
    "no such metric": (['metrics.names=["acuracy"]'], "did you mean 'accuracy'?"),
    "no such model": (["model.name=mlpp"], "did you mean 'mlp'?"),
    "no such option of a model": (["model.options={widths=[3]}"], "unknown 'widths'"),
    "a width of zero": (["model.options={hidden=[0]}"], "hidden"),
    "no such optimizer": (["optimizer.name=adan2"], "unknown optimizer 'adan2'"),
    "more rows than there are": (["data.batch_size=5000"], "between 1 and the 1437 rows"),
    "a share of all": (["data.validation_fraction=0.9999"], "data.validation_fraction = 0.9999"),
    "a path that is not used": (['data.path="here"'], 'not used by data.name = "digits"'),
    # shapes
    "labels of another task": (["task.name=regression"], "another task fits them"),
    "classes that do not fit": (["model.options={classes=3}"], "(batch, 10)"),
    "a loss of one number": ([function("loss", "mean_loss")], "must give something for each row"),
    "an image that loses rows": ([function("augment", "other_shape")], "shape and dtype must stay"),
    "an image that grows": ([function("augment", "grows")], "shape and dtype must stay"),
    "a model that is too wide": ([function("model", "narrow")], "(1, 12) for one row"),
    # functions that return something else
    "data of a number": ([function("data", "number")], "data.function"),
    "data of words": ([function("data", "text_rows")], "data.function"),
    "data of unequal lengths": ([function("data", "uneven")], "data.function"),
    "data that are not finite": ([function("data", "with_nan")], "holds nan"),
    "data of other names": (
        [function("data", "named"), "data.batch_size=4"],
        "needs 'x' of a batch",
    ),
    "labels that are no classes": (
        [function("data", "floats"), "data.batch_size=4"],
        "another task fits them",
    ),
    "no data": ([function("data", "nothing")], "data.function"),
    "data that fail": ([function("data", "fails")], "no such sensor: 7"),
    "data that leave": ([function("data", "leaves")], "called sys.exit(0)"),
    "a model of a number": ([function("model", "number")], "returned int"),
    "a model without parameters": ([function("model", "no_params")], "no parameters to train"),
    "three in place of two": ([function("model", "triple")], "returned tuple of 3"),
    "parameters of integers": ([function("model", "integers")], "every parameter must be a float"),
    "a task of a number": ([function("task", "number")], "must return funcnn.Task"),
    "an optimizer of a number": ([function("optimizer", "number")], "optax.GradientTransformation"),
    "a metric of a word": ([function("metrics", "metric_text")], "'mine' is str"),
    "a metric called loss": ([function("metrics", "metric_loss")], "'loss' is the loss itself"),
    "a loss of one argument": ([function("loss", "one_argument")], "loss: does not fit outputs"),
    "an absent function": ([function("model", "absent")], "has no attribute 'absent'"),
    "an absent module": (['model={function="no_such_module:f"}'], "No module named"),
    "a function of Python": (['model={function="os:system"}'], "os is a module of Python itself"),
    "a hook that is none": (
        ['train.hooks={on_save="functions_gone_wrong:ROWS"}'],
        "is not a function",
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_files(folder)
    (folder / "right.toml").write_text('[model]\nname = "mlp"\n[train]\nsteps = 2\n')
    return folder


def everything(folder):
    return {p for p in folder.rglob("*") if "__pycache__" not in p.parts}


def test_there_are_forty():
    assert len(BAD) >= 40


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(name, files, capsys, monkeypatch):
    changes, message = BAD[name]
    monkeypatch.chdir(files)
    before = everything(files)
    more = [part for change in changes for part in ("--set", change)]
    code = main(["train", "right.toml", "--out", "run", *more])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    (line,) = err.splitlines()
    assert message in line, line
    assert line.startswith("funcnn: ")
    assert "Traceback" not in line
    assert everything(files) == before


def test_the_config_itself_is_right(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    assert main(["train", "right.toml", "--out", str(Path("right"))]) == 0
