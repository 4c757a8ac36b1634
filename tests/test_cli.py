"""The command line as a user meets it: results, exit codes, and one line for each mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from idx_folder import write_idx, write_idx_folder

from funcnn.cli import main
from funcnn.train import read_metrics

ROOT = Path(__file__).parent.parent
QUICK = ("digits_mlp", "digits_cnn", "digits_vae", "diabetes_mlp")
# Those of gigabytes are compiled for an absent GPU in tests/plan.
OF_GPUS = ("gpt2_", "llama_")
CONFIGS = [p for p in sorted((ROOT / "configs").glob("*.toml")) if not p.stem.startswith(OF_GPUS)]
SHORT = ["--set", "train.steps=3", "--set", "train.steps_per_call=2", "--set", "train.log_every=1"]


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a command in this process."""
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def train_mlp(capsys, folder, *more):
    config = ROOT / "configs/digits_mlp.toml"
    return run(capsys, "train", config, "--out", folder, *SHORT, *more)


@pytest.mark.parametrize(
    "config",
    [pytest.param(c, marks=() if c.stem in QUICK else pytest.mark.slow) for c in CONFIGS],
    ids=lambda path: path.stem,
)
def test_every_config_trains(config, tmp_path, capsys):
    data = []
    if "mnist" in config.stem:
        write_idx_folder(tmp_path / "data", train=80, test=None, shape=(28, 28))
        data = ["--set", f"data.path={tmp_path / 'data'}", "--set", "data.batch_size=8"]
    if "shakespeare" in config.stem:
        (tmp_path / "text.txt").write_text("To be, or not to be, that is the question.\n" * 100)
        data = ["--set", f"data.path={tmp_path / 'text.txt'}"]
    out = tmp_path / "run"
    data += ["--set", "optimizer.warmup=0"]  # three steps are fewer than some config's
    code, stdout, stderr = run(capsys, "train", config, "--out", out, *SHORT, *data)
    assert code == 0, stderr
    assert stdout.startswith("test ")
    names = {path.name for path in out.iterdir()}
    files = {"config.toml", "versions.json", "data.json", "metrics.jsonl", "curves.png"}
    assert files | {"checkpoints"} == names
    assert [record["step"] for record in read_metrics(out / "metrics.jsonl")] == [2, 3]
    assert "parameters" in stderr  # the summary table
    assert "conv_1" in stderr or "cnn" not in config.stem


def test_train_then_eval_agree(tmp_path, capsys):
    out = tmp_path / "run"
    code, trained, _ = train_mlp(capsys, out, "--json")
    assert code == 0
    code, evaluated, _ = run(capsys, "eval", out, "--json")
    assert code == 0
    trained, evaluated = json.loads(trained), json.loads(evaluated)
    assert trained.pop("seconds") > 0
    assert trained == evaluated


@pytest.mark.slow
def test_resume_continues_and_keeps_the_record(tmp_path, capsys):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    longer = ["--set", "train.steps=7"]
    assert train_mlp(capsys, straight, *longer)[0] == 0
    assert train_mlp(capsys, stopped)[0] == 0
    code, _, stderr = train_mlp(capsys, stopped, *longer, "--resume")
    assert code == 0
    assert "resumed at step 3" in stderr
    results = [run(capsys, "eval", folder, "--json")[1] for folder in (straight, stopped)]
    losses = [json.loads(r)["test_loss"] for r in results]
    assert losses[0] == losses[1]
    last = [read_metrics(folder / "metrics.jsonl")[-1] for folder in (straight, stopped)]
    assert last[0] == last[1]


def test_resume_with_another_config_is_refused(tmp_path, capsys):
    assert train_mlp(capsys, tmp_path / "run")[0] == 0
    code, _, stderr = train_mlp(capsys, tmp_path / "run", "--resume", "--set", "run.seed=1")
    assert code == 2
    assert "run.seed was 0 in this run and is 1 now" in stderr


def test_users_own_function(tmp_path, capsys, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "import jax.numpy as jnp\n"
        "def build(width=10):\n"
        "    def init(key, x):\n"
        "        return {'w': 0.01 * jnp.ones((64, width))}\n"
        "    def apply(params, x):\n"
        "        return x.reshape(len(x), -1) @ params['w']\n"
        "    return init, apply\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    own = ["--set", "model.function=my_models:build", "--set", "model.options={}"]
    assert train_mlp(capsys, tmp_path / "run", *own)[0] == 0
    for change, message in {
        "model.function=my_models:absent": "absent",
        "model.function=no_such_module:build": "no_such_module",
        "model.function=my_models:number": "is not a function",
        "model.options={width=7}": "logits of shape (batch, 10)",
        "model.options={wdith=7}": "did you mean 'width'",
    }.items():
        code, _, stderr = train_mlp(capsys, tmp_path / "other", *own, "--set", change)
        assert code == 2
        assert message in stderr
        assert len(stderr.splitlines()) == 1
        assert not (tmp_path / "other").exists()


WRONG_CONFIGS = {
    "missing": (None, "no such file"),
    "empty": ("", "empty"),
    "not TOML": ("[model\nname = 1", "not TOML"),
    "unknown key": ('[model]\nname = "mlp"\n[train]\nstepps = 3', 'did you mean "train.steps"'),
    "unknown table": ('[model]\nname = "mlp"\n[trian]\nsteps = 3', 'did you mean "train"'),
    "wrong type": ('[model]\nname = "mlp"\n[train]\nsteps = "many"', "train.steps"),
    "unknown optimizer": (
        '[model]\nname = "mlp"\n[optimizer]\nname = "adamm"',
        "did you mean 'adam'",
    ),
    "unknown model": ('[model]\nname = "mpl"', "did you mean 'mlp'"),
    "unknown loss": (
        '[model]\nname = "mlp"\n[loss]\nname = "logistics"',
        "did you mean 'logistic'",
    ),
    "unknown option": ('[model]\nname = "mlp"\noptions = {hiden = [3]}', "did you mean 'hidden'"),
    "wrong option": ('[model]\nname = "mlp"\noptions = {hidden = ["a"]}', "positive integer"),
    "too many pools": (
        '[model]\nname = "lenet"\noptions = {channels = [2,2,2,2,2,2]}',
        "inputs of",
    ),
}


@pytest.mark.parametrize("name", WRONG_CONFIGS)
def test_wrong_config_is_one_line_and_exit_2(name, tmp_path, capsys):
    text, message = WRONG_CONFIGS[name]
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    code, stdout, stderr = run(capsys, "train", path, "--out", tmp_path / "run")
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def truncated(folder):
    images = folder / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-7])


def mislabelled(folder):
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    content = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(content)


def outside(folder):
    write_idx(folder / "train-labels-idx1-ubyte", np.full(60, 77, np.uint8), gz=False)


def not_a_number(folder):
    images = np.full((60, 8, 8), 0.5, np.float32)
    images[3, 1, 2] = np.nan
    write_idx(folder / "train-images-idx3-ubyte", images, gz=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "train-images-idx3-ubyte"),
        (mislabelled, "train-"),
        (outside, "77"),
        (not_a_number, "image 3 holds nan"),
    ],
)
def test_bad_data_is_one_line_that_names_the_key(damage, message, tmp_path, capsys):
    write_idx_folder(tmp_path / "data", gz=False)
    damage(tmp_path / "data")
    own = ["--set", "data.name=idx", "--set", f"data.path={tmp_path / 'data'}"]
    code, stdout, stderr = train_mlp(capsys, tmp_path / "run", *own)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"funcnn: data.path = '{tmp_path / 'data'}': ")
    assert message in stderr
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


WRONG_DATA = {
    "data.path=/no/such": "data.path = '/no/such': /no/such: no such folder; it must hold train-",
    "data.path=absent": "data.path = 'absent': no such file or folder in ",
    "data.test_fraction=0.001": "data.test_fraction = 0.001: ",
    "data.batch_size=1000": "data.batch_size must be between 1 and the 60 rows, found 1000",
    "data.name=digitz": "data.name: ",
    "data.test_fraction=2": "data.test_fraction: must be less than 1",
    "model.options={classes=1}": "is not one of the 1 class (0 to 0)",
}


@pytest.mark.parametrize("change", WRONG_DATA)
def test_a_wrong_choice_of_data_is_one_line_that_names_the_key(change, tmp_path, capsys):
    write_idx_folder(tmp_path / "data", test=None if "fraction" in change else 20)
    own = ["--set", "data.name=idx", "--set", f"data.path={tmp_path / 'data'}", "--set", change]
    code, stdout, stderr = train_mlp(capsys, tmp_path / "run", *own)
    assert (code, stdout) == (2, "")
    assert WRONG_DATA[change] in stderr
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_folder_that_holds_another_run(tmp_path, capsys):
    assert train_mlp(capsys, tmp_path / "run")[0] == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    code, _, stderr = train_mlp(capsys, tmp_path / "run")
    assert code == 2
    assert "already holds a run" in stderr
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


def test_a_diverging_run_stops_and_saves_nothing_broken(tmp_path, capsys):
    diverging = ["--set", "optimizer.name=sgd", "--set", "optimizer.learning_rate=1e30"]
    diverging += ["--set", "model.options.activation=softplus"]
    code, _, stderr = train_mlp(capsys, tmp_path / "run", *diverging)
    assert code == 1
    assert "step 2: loss is nan" in stderr.splitlines()[-1]
    # The state before the step that was not made.
    kept = [path.name for path in (tmp_path / "run").glob("checkpoints/*")]
    assert kept == ["step_00000001"]


def test_absent_gpu_is_one_line(tmp_path):
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU here")
    command = [sys.executable, "-m", "funcnn", "train", str(ROOT / "configs/digits_mlp.toml")]
    command += ["--out", str(tmp_path / "run"), "--set", "run.platform=gpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert 'run.platform = "gpu"' in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_resumed_run_equals_the_straight_one(number, tmp_path, capsys):
    long = ["--set", "train.steps=2003", "--set", "train.checkpoint_every=0"]
    command = [sys.executable, "-m", "funcnn", "train", str(ROOT / "configs/digits_mlp.toml")]
    command += ["--out", str(tmp_path / "run"), *SHORT, *long]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run/metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or metrics.stat().st_size < 500):
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert "go on with --resume" in stderr
    code, resumed, _ = train_mlp(capsys, tmp_path / "run", *long, "--resume", "--json")
    assert code == 0
    code, straight, _ = train_mlp(capsys, tmp_path / "straight", *long, "--json")
    assert code == 0
    assert json.loads(resumed)["test_loss"] == json.loads(straight)["test_loss"]


def test_compare_prints_a_row_for_each_leaf(capsys):
    code, stdout, _ = run(capsys, "compare", ROOT / "configs/digits_mlp.toml", "--json")
    assert code == 0
    lines = [json.loads(line) for line in stdout.splitlines()]
    leaves = [line["leaf"] for line in lines if line["kind"] == "leaf"]
    layers = ("dense_0", "dense_1", "dense_2")
    assert leaves == [f"{layer}/{name}" for layer in layers for name in ("b", "w")]
    assert [line["name"] for line in lines if line["kind"] == "arm"][-1] == "manual"
    assert lines[-1]["kind"] == "program"
    assert lines[-1]["ok"]


def test_compare_finds_one_scaled_rule(capsys, monkeypatch, tmp_path):
    (tmp_path / "scaled_models.py").write_text(
        "import jax, funcnn as fnn\n"
        "conv = fnn.rules.conv\n"
        "def backward(res, dy, **static):\n"
        "    return jax.tree.map(lambda d: 1.001 * d, conv.backward(res, dy, **static))\n"
        "def build():\n"
        "    wrong = conv.replace(backward=backward)\n"
        "    second = fnn.layer_from_rule(wrong, init=fnn.conv(4, (3, 3)).init)\n"
        "    return fnn.chain(fnn.conv(4, (3, 3)), fnn.relu, second, fnn.flatten, fnn.dense(10))\n"
    )
    monkeypatch.chdir(tmp_path)
    own = ["--set", "model.function=scaled_models:build", "--set", "model.options={}"]
    own += ["--set", "data.batch_size=4"]
    code, stdout, _ = run(capsys, "compare", ROOT / "configs/digits_cnn.toml", *own)
    assert code == 1
    assert "WRONG rule: conv in conv_1" in stdout
    assert "WRONG rule: conv in conv_0" not in stdout
    assert "WRONG conv_1/w: manual = 1.001 x truth" in stdout


def test_doctor(capsys):
    code, stdout, _ = run(capsys, "doctor", "--json")
    assert (code, json.loads(stdout)["a matrix product"]) == (0, "right")


def test_usage_errors_are_exit_2(capsys):
    assert main(["trian"]) == 2
    config = str(ROOT / "configs/digits_mlp.toml")
    for arguments in (["train", ""], ["train", config, "--out", ""], ["eval", ""], ["compare", ""]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.endswith('expected a path, found ""\n')
    assert main(["check", "--level", "some"]) == 2
    assert main(["check", "--seed", "-1"]) == 2
    assert main(["check", "--seed", str(2**32)]) == 2
    assert main(["check", "--processes", "0"]) == 2
    assert main(["--help"]) == 0
    capsys.readouterr()


def test_no_command_shows_the_commands(capsys):
    code, stdout, stderr = run(capsys)
    assert (code, stdout) == (2, "")
    for command in ("train", "eval", "visualize", "compare", "census", "check", "bench", "doctor"):
        assert f"\n    {command}" in stderr
    assert "required" not in stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder where nobody can write")
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("check relu", "--html"),
        ("check --target funcnn.rules:relu", "--html"),
        ("compare CONFIG", "--html"),
        ("census CONFIG", "--html"),
        ("bench digits_step", "--out"),
    ],
)
@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("/proc/page", "cannot be written: "),
        (300 * "a", "cannot be written: File name too long"),
        ("/dev", "is a folder; name a file"),
        ("", 'expected the name of a file, found ""'),
    ],
)
def test_a_file_that_cannot_be_written_is_noticed_before_the_work(
    command, option, file, problem, capsys, monkeypatch
):
    for work in ("check._checked", "bench.run", "gradients.compare"):
        monkeypatch.setattr(f"funcnn.commands.{work}", None)
    config = str(ROOT / "configs/digits_mlp.toml")
    arguments = [config if part == "CONFIG" else part for part in command.split()]
    code, stdout, stderr = run(capsys, *arguments, option, file)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"funcnn: {option}")
    assert problem in stderr
    assert len(stderr.splitlines()) == 1


def test_no_traceback_unless_asked(tmp_path, capsys, monkeypatch):
    (tmp_path / "broken_models.py").write_text("def build():\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    own = ["--set", "model.function=broken_models:build", "--set", "model.options={}"]
    code, _, stderr = train_mlp(capsys, tmp_path / "run", *own)
    assert code == 1
    assert stderr.splitlines() == [
        "funcnn: ZeroDivisionError: division by zero (--traceback shows where)"
    ]
    with pytest.raises(ZeroDivisionError):
        train_mlp(capsys, tmp_path / "run", *own, "--traceback")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["train", "absent.toml"]])
def test_help_and_config_errors_import_no_jax(arguments):
    code = (
        "import sys; from funcnn.cli import main; main(sys.argv[1:]); "
        "sys.exit(any(m in sys.modules for m in ('jax', 'numpy', 'optax')))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
