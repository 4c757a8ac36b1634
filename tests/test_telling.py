"""What `funcnn train` tells of a run beside its metrics: speeds, TensorBoard's files, a trace."""

import gzip
import json

import jax
import pytest

from funcnn.cli import main
from funcnn.train import read_metrics

CONFIG = """
[model]
name = "mlp"
options = {hidden = []}
[train]
steps = 12
steps_per_call = 2
log_every = 2
evaluate_every = 4
checkpoint_every = 4
"""
TEXT = """
[data]
name = "text"
options = {length = 8, limit = 2000}
batch_size = 4
[task]
name = "language"
[model]
name = "char_rnn"
options = {width = 3, hidden = [4]}
[train]
steps = 4
steps_per_call = 2
log_every = 2
"""


@pytest.fixture
def train(tmp_path, capsys, monkeypatch):
    """Exit code, stdout and the lines of stderr of `funcnn train`, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def train(config, *more):
        (tmp_path / "run.toml").write_text(config)
        code = main(["train", "run.toml", "--out", "run", *more])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return train


def test_speeds_stand_in_a_file_of_their_own_and_on_the_lines(train, tmp_path):
    code, _, stderr = train(CONFIG)
    assert code == 0
    # The first call compiles: its record has no speed.
    records = read_metrics(tmp_path / "run/speed.jsonl")
    assert [record["step"] for record in records] == [4, 6, 8, 10, 12]
    for record in records:
        assert list(record) == ["step", "seconds", "steps_per_second", "examples_per_second"]
        assert record["steps_per_second"] == pytest.approx(2 / record["seconds"])
        assert record["examples_per_second"] == pytest.approx(32 * record["steps_per_second"])
    lines = [line for line in stderr if line.startswith("step ")]
    assert [" steps/s " in line for line in lines] == [False] + [True] * 5
    names = {name for record in read_metrics(tmp_path / "run/metrics.jsonl") for name in record}
    assert not {name for name in names if "second" in name or "share" in name}


@pytest.mark.slow
def test_a_language_task_tells_its_tokens(train, tmp_path):
    code, *_ = train(TEXT)
    assert code == 0
    (record,) = read_metrics(tmp_path / "run/speed.jsonl")
    assert record["tokens_per_second"] == pytest.approx(4 * 8 * record["steps_per_second"])


@pytest.mark.slow
def test_a_trace_of_a_few_calls_lies_in_the_folder_of_the_run(train, tmp_path):
    code, _, stderr = train(CONFIG, "--profile")
    assert code == 0
    (said,) = [line for line in stderr if "perfetto" in line]
    assert said.startswith("trace of steps 3 to 8: run/profile/plugins/profile/")
    assert said.endswith("; open it at https://ui.perfetto.dev")
    path = tmp_path / said.split(": ")[1].split(";")[0]
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    assert [e["args"]["step_num"] for e in events if e.get("name") == "train"] == ["3", "5", "7"]
    # The run is what it is without one.
    plain = (tmp_path / "run/metrics.jsonl").read_bytes()
    code, _, stderr = train(CONFIG, "--resume", "--profile", "--set", "train.steps=18")
    assert code == 0
    assert any(line.startswith("trace of steps 15 to 18: ") for line in stderr)
    assert (tmp_path / "run/metrics.jsonl").read_bytes().startswith(plain)


@pytest.mark.slow
def test_a_profiler_that_fails_costs_no_run(train, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no profiler")

    monkeypatch.setattr(jax.profiler, "start_trace", fail)
    code, out, stderr = train(CONFIG, "--profile")
    assert code == 0
    assert out.startswith("test accuracy")
    assert "funcnn: warning: no trace: the profiler failed: no profiler" in stderr


def test_tensorboard_is_chosen_in_the_config_and_may_be_absent(train, tmp_path, monkeypatch):
    asked = CONFIG + "tensorboard = true\n"
    found = {}
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: found.get(name))
    code, _, stderr = train(asked)
    assert code == 2
    cure = "TensorBoardLog needs tensorboardX: pip install 'funcnn[tensorboard]'"
    assert stderr == [f"funcnn: train.tensorboard: {cure}"]
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    pytest.importorskip("tensorboardX", reason='pip install -e ".[test]" installs it')
    monkeypatch.chdir(tmp_path)
    code, *_ = train(asked)
    assert code == 0
    (path,) = (tmp_path / "run/tensorboard").iterdir()
    content = path.read_bytes()
    assert all(tag in content for tag in (b"evaluation_accuracy", b"steps_per_second"))


@pytest.mark.slow
def test_a_damaged_file_of_speeds_is_named_before_a_run_goes_on(train, tmp_path):
    assert train(CONFIG)[0] == 0
    with (tmp_path / "run/speed.jsonl").open("ab") as file:
        file.write(b"\xff\n")
    code, _, (message,) = train(CONFIG, "--resume", "--set", "train.steps=14")
    assert code == 2
    assert "run/speed.jsonl, line 6: not UTF-8" in message
