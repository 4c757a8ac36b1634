"""A run comes out again: loaded, predicting, exported, and a new one that starts from it."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import funcnn as fnn
from funcnn.cli import main
from funcnn.config import ConfigError, load_config
from funcnn.experiment import build_experiment
from funcnn.runs.loaded import load_run

TABLE = """
[data]
name = "csv"
path = "pets.csv"
options = {{target = "{target}", missing = "mean", standardise = true}}
[task]
name = "{task}"
[model]
name = "mlp"
options = {{hidden = [4]{classes}}}
[train]
steps = 6
steps_per_call = 2
average = 0.5
"""
NETS = """
import funcnn as fnn
def net(classes):
    body = fnn.conv(4, (3, 3)), fnn.batch_norm(), fnn.relu
    return fnn.chain(*body, fnn.flatten, fnn.dense(classes))
"""


def command(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def trained(folder, config, *more):
    assert main(["train", str(config), "--out", str(folder), *more]) == 0
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A run with batch norm and averages, of a model of somebody's own, and its last state."""
    place = tmp_path_factory.mktemp("images")
    (place / "loaded_nets.py").write_text(NETS)
    config = place / "net.toml"
    config.write_text(
        '[model]\nfunction = "loaded_nets:net"\n[augment]\nnames = ["normalise"]\n'
        "[augment.options.normalise]\nmean = 0.3\nstd = 0.5\n"
        "[train]\nsteps = 6\nsteps_per_call = 2\naverage = 0.5\n"
    )
    return trained(place / "run", config)


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A table of pets with gaps, a run that tells their kind and one that says their weight."""
    place = tmp_path_factory.mktemp("pets")
    rows = [
        f"{['cat', 'dog'][i % 2]},{'' if i == 5 else 4 + i % 7},{'ab'[i % 3 % 2]}"
        for i in range(60)
    ]
    (place / "pets.csv").write_text("\n".join(["kind,weight,home", *rows]) + "\n")
    for task, target in (("classification", "kind"), ("regression", "weight")):
        text = TABLE.format(
            target=target, task=task, classes="" if task[0] == "c" else ", classes = 1"
        )
        if target == "weight":
            text = text.replace('missing = "mean"', 'missing = "drop"')
        (place / f"{task}.toml").write_text(text)
        trained(place / task, place / f"{task}.toml")
    return place


def test_a_loaded_run_predicts_as_the_evaluation_that_was_reported(images, capsys):
    run = fnn.load_run(images)
    test = fnn.data.digits(seed=0).test
    code, out, _ = command(capsys, "eval", images, "--json")
    right = (run.predict(test.x).argmax(1) == test.y).mean()
    assert code == 0
    assert right == json.loads(out)["test_accuracy"]
    assert run.step == 6
    assert run.config.train.average == 0.5
    # The model is not given what the config does to its inputs; predict does it.
    scaled = (test.x[:5] - np.float32(0.3)) / np.float32(0.5)
    np.testing.assert_allclose(run.model(run.params, scaled), run.predict(test.x[:5]), rtol=1e-4)


def test_the_size_of_what_is_predicted_together_decides_nothing(images):
    run = fnn.load_run(images)
    x = fnn.data.digits(seed=0).train.x[:600]
    whole = run.predict(x)
    np.testing.assert_allclose(whole[599:], run.predict(x[599:]), rtol=1e-5, atol=1e-6)
    assert whole.shape == (600, 10)


def test_a_run_of_somebody_else_is_announced_or_refused(images, capsys):
    fnn.load_run(images)
    line = capsys.readouterr().err
    assert "imports loaded_nets:net, which this run names" in line
    assert line.endswith("; trust=False refuses it\n")
    with pytest.raises(ConfigError, match="refused, as foreign code"):
        load_run(images, trust=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 8, 8), np.float32), r"x is float32 \(N, 8, 8, 1\), a row for each example"),
        (np.zeros((8, 8, 1), np.float32), r"found float32 \(8, 8, 1\)"),
        (np.zeros((0, 8, 8, 1), np.float32), "x has no rows"),
        (np.full((1, 8, 8, 1), "a"), "found <U1"),
    ],
)
def test_rows_that_do_not_fit_are_one_line(images, x, message):
    with pytest.raises(ValueError, match=message):
        fnn.load_run(images).predict(x)


def test_a_tree_in_place_of_an_array_is_one_line(images):
    with pytest.raises(TypeError, match="x is an array with a row for each example, found dict"):
        fnn.load_run(images).predict({"x": np.zeros((1, 8, 8, 1))})


def test_predictions_of_a_file_are_lines_or_an_array(images, tmp_path, capsys):
    x = fnn.data.digits(seed=0).test.x[:3]
    np.save(tmp_path / "x.npy", x)
    expected = fnn.load_run(images).predict(x)
    assert (
        command(capsys, "predict", images, tmp_path / "x.npy", "--out", tmp_path / "y.npy")[0] == 0
    )
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    code, out, _ = command(capsys, "predict", images, tmp_path / "x.npy")
    header, *rows = out.splitlines()
    assert (code, header) == (0, "prediction,probability")
    assert [int(row.split(",")[0]) for row in rows] == expected.argmax(1).tolist()
    np.savez(tmp_path / "x.npz", x=x)
    code, out, _ = command(capsys, "predict", images, tmp_path / "x.npz", "--json")
    best = jax.nn.softmax(expected).max(1)
    np.testing.assert_allclose(
        [json.loads(r)["probability"] for r in out.splitlines()], best, rtol=1e-5
    )


def test_a_table_is_read_as_in_training(pets, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("home,weight\na,5\nb,\n")
    code, out, _ = command(
        capsys, "predict", pets / "classification", tmp_path / "new.csv", "--json"
    )
    assert code == 0
    assert {json.loads(row)["prediction"] for row in out.splitlines()} <= {"cat", "dog"}
    run = fnn.load_run(pets / "classification")
    train = fnn.data.csv(pets / "pets.csv", target="kind", missing="mean").train.x
    mean, deviation = train[:, 0].mean(), train[:, 0].std()  # of the weights that are there
    x = np.array([[(5 - mean) / deviation, 1, 0], [0, 0, 1]], np.float32)
    share = jax.nn.softmax(run.predict(x)).max(1)
    found = [json.loads(row)["probability"] for row in out.splitlines()]
    np.testing.assert_allclose(found, share, rtol=1e-4)
    code, out, _ = command(capsys, "predict", pets / "regression", pets / "pets.csv")
    assert len(out.splitlines()) == 61
    assert out.splitlines()[0] == "prediction"


def test_a_table_that_has_changed_since_reads_no_further_rows(pets, tmp_path, capsys):
    """Its columns would be moved and scaled, and its categories numbered, otherwise."""
    (tmp_path / "new.csv").write_text("home,weight\na,5\n")
    table, run = pets / "pets.csv", pets / "classification"
    whole = table.read_text()
    try:
        table.write_text(whole.replace(",4,", ",40,"))  # as many rows, the same categories
        code, out, err = command(capsys, "predict", run, tmp_path / "new.csv")
        assert (code, out, len(err)) == (2, "", 1)
        assert "'csv' are no longer those that the run was trained on" in err[0]
        table.write_text(whole)
        assert command(capsys, "predict", run, tmp_path / "new.csv")[0] == 0
    finally:
        table.write_text(whole)


def test_an_unknown_category_and_a_gap_are_one_line_each(pets, tmp_path, capsys):
    for task, text, message in (
        ("classification", "home,weight\nc,5\n", "line 2: home holds 'c', and was one of a, b"),
        ("classification", "home,weight\na,x\n", "line 2: weight holds 'x', and was a number"),
        ("classification", "home\na\n", "columns: no column weight"),
        ("regression", "home,kind\n,cat\n", "line 2: home is missing"),
    ):
        (tmp_path / "new.csv").write_text(text)
        code, out, err = command(capsys, "predict", pets / task, tmp_path / "new.csv")
        assert (code, out, len(err)) == (2, "", 1)
        assert message in err[0]


def test_what_cannot_be_predicted_is_one_line(images, pets, tmp_path, capsys):
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "z.npz", z=np.zeros(3))
    x = tmp_path / "x.npy"
    np.save(x, np.zeros((1, 8, 8, 1), np.float32))
    for arguments, message in (
        ((images, tmp_path / "absent.npy"), "absent.npy: no such file"),
        ((images, tmp_path / "text.npy"), "text.npy: not a NumPy file of numbers"),
        ((images, tmp_path / "z.npz"), "has no array 'x'; it has z"),
        ((images, images / "config.toml"), "give the rows as .npy or .npz; data 'digits'"),
        (
            (images, x, "--out", tmp_path / "y.txt"),
            "a name that ends in .npy, .csv, .jsonl",
        ),
        ((tmp_path, x), "holds no run"),
        ((images, x, "--no-foreign-code"), "refused, as foreign code"),
    ):
        code, out, err = command(capsys, "predict", *arguments)
        own = [line for line in err if not line.startswith("imports loaded_nets")]
        assert (code, out, len(own)) == (2, "", 1), (arguments, err)
        assert message in own[0]
    assert not (tmp_path / "y.txt").exists()


STRANGER = """
import sys
from pathlib import Path
import jax, numpy as np
x = np.load(sys.argv[2])
y = jax.export.deserialize(Path(sys.argv[1]).read_bytes()).call(x)
assert "funcnn" not in sys.modules
np.save(sys.argv[3], y)
"""


def test_exported_files_predict_as_the_run(images, tmp_path, capsys):
    import onnxruntime

    x = fnn.data.digits(seed=0).test.x[:4]
    run = fnn.load_run(images)
    expected = run.predict(x)
    for form in ("safetensors", "stablehlo", "onnx"):
        code, out, _ = command(capsys, "export", images, "--format", form, "--out", tmp_path / form)
        assert (code, out) == (0, f"{tmp_path / form}: step 6 of {images}\n")
    params = fnn.load_weights(tmp_path / "safetensors", run.params)
    jax.tree.map(np.testing.assert_array_equal, params, run.params)
    np.save(tmp_path / "x.npy", x)
    files = [tmp_path / "stablehlo", tmp_path / "x.npy", tmp_path / "y.npy"]
    subprocess.run([sys.executable, "-c", STRANGER, *map(str, files)], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-5)
    session = onnxruntime.InferenceSession((tmp_path / "onnx").read_bytes())
    np.testing.assert_allclose(
        np.asarray(session.run(["y"], {"x": x})[0]), expected, rtol=1e-4, atol=1e-5
    )


def test_an_export_goes_into_the_run_and_what_cannot_be_is_one_line(images, tmp_path, capsys):
    code, out, _ = command(capsys, "export", images, "--format", "safetensors", "--json")
    assert json.loads(out)["file"] == str(images / "model.safetensors")
    assert code == 0
    (images / "model.safetensors").unlink()
    nowhere = tmp_path / "no" / "file"
    code, out, err = command(capsys, "export", images, "--format", "onnx", "--out", nowhere)
    assert (code, out, len(err)) == (2, "", 1)
    assert "there is no folder" in err[0]


START = ["--set", "train.steps=1", "--set", "train.steps_per_call=1", "--set", "train.average=0.0"]


def test_a_run_starts_from_another_with_a_new_head(images, tmp_path, capsys):
    config = images.parent / "net.toml"
    old = fnn.load_run(images).params
    names = ["--set", "model.init_from={path='run', only=['conv_0/*', 'batch_norm_0/*']}"]
    slow = ["--set", "optimizer.learning_rate=1e-9"]
    new = trained(tmp_path / "new", config, *START, *names, *slow)
    params = fnn.load_run(new).params
    for name in ("w", "b"):
        np.testing.assert_allclose(params["conv_0"][name], old["conv_0"][name], atol=1e-7)
    drawn = build_experiment(load_config(config)).params["dense_0"]["w"]
    np.testing.assert_allclose(params["dense_0"]["w"], drawn, atol=1e-7)
    assert np.abs(drawn - old["dense_0"]["w"]).max() > 1e-3
    # A run that has begun goes on from its own state, whatever has become of the other.
    more = ["--set", "train.steps=2", "--resume"]
    (tmp_path / "elsewhere").mkdir()
    assert main(["train", str(config), "--out", str(new), *START, *names, *slow, *more]) == 0


def test_weights_that_do_not_fit_leave_no_run(images, tmp_path, capsys):
    config = images.parent / "net.toml"
    fnn.save_weights(tmp_path / "w.safetensors", {"conv_0": {"w": np.zeros(3, np.float32)}})
    for start, message in (
        ("path='no.safetensors'", "there is no file"),
        (
            f"path='{tmp_path}/w.safetensors', only=['conv_0/w']",
            "conv_0/w is float32[3] and",
        ),
        (f"path='{tmp_path}/w.safetensors'", "has no"),
        (f"path='{tmp_path}'", "nor the folder of a run"),
    ):
        change = f"model.init_from={{{start}}}"
        code, _, err = command(capsys, "train", config, "--out", tmp_path / "r", "--set", change)
        assert code == 2, err
        assert [line for line in err if "model.init_from" in line and message in line], err
        assert not (tmp_path / "r").exists()


def test_init_lists_the_configs_and_writes_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command(capsys, "init")
    assert code == 0
    assert "digits_mlp: " in out
    assert not list(tmp_path.iterdir())
    code, out, _ = command(capsys, "init", "digits_mlp")
    assert (code, out) == (0, "digits_mlp.toml: funcnn train digits_mlp.toml\n")
    text = (tmp_path / "digits_mlp.toml").read_text()
    assert "funcnn train digits_mlp.toml" in text
    assert main(["train", "digits_mlp.toml", "--set", "train.steps=2", "--out", "run"]) == 0
    capsys.readouterr()
    for arguments, message in (
        (["digits_mlp"], "digits_mlp.toml: is there already"),
        (["digits_mlq"], "did you mean 'digits_mlp'?"),
        (["digits_mlp", "--out", "no/where.toml"], "there is no folder no"),
    ):
        code, _, err = command(capsys, "init", *arguments)
        assert (code, len(err)) == (2, 1)
        assert message in err[0]
    assert (tmp_path / "digits_mlp.toml").read_text() == text


def test_a_module_of_the_same_name_elsewhere_is_not_taken_for_the_one_of_a_run(images, tmp_path):
    fnn.load_run(images)  # which imports the module loaded_nets beside its config
    (tmp_path / "loaded_nets.py").write_text("net = 3")
    (tmp_path / "net.toml").write_text('[model]\nfunction = "loaded_nets:net"\n')
    with pytest.raises(ConfigError, match="another module loaded_nets is imported already, from"):
        build_experiment(load_config(tmp_path / "net.toml"))
