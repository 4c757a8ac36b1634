"""funcnn plan: a table, JSON lines, exit codes, and one line for each mistake."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jax
import pytest

from funcnn.bench.absent import missing_wheels
from funcnn.cli import main
from funcnn.commands.plan import size
from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.plan.chips import CHIPS
from funcnn.plan.compiling import Setting
from funcnn.plan.planning import plan

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/digits_mlp.toml")
QUICK = ["--set", "train.steps_per_call=1"]


def run(capsys, *arguments):
    jax.devices()  # it has started: a CPU plays no more devices than it does
    code = main(["plan", CONFIG, *QUICK, *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_lines(capsys):
    code, out, err = run(capsys, "--device", "cpu", "--count", "1,2", "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["count"] for row in rows] == [1, 2]
    assert [line.split(": ")[1] for line in err.splitlines()] == ["1 x cpu", "2 x cpu"]
    described = (ROOT / "docs/schema.md").read_text("utf-8").partition("## plan")[2]
    for key in rows[1]:
        assert f"`{key}`" in described, key
    assert rows[0]["jax"] == jax.__version__
    assert rows[0]["bound"] is None
    assert rows[0]["fits"] is None
    assert rows[1]["memory"]["peak"] == sum(
        sign * rows[1]["memory"][part]
        for part, sign in {"arguments": 1, "outputs": 1, "aliased": -1, "temporary": 1}.items()
    )


@pytest.mark.slow
def test_what_does_not_fit(capsys):
    code, out, _ = run(capsys, "--device", "cpu", "--count", "2", "--memory", "0.000107")
    assert code == 1
    assert "NO" in out
    assert "2: fits, at a peak of " in out or "2: nothing that was tried fits" in out
    assert '2: does not fit either: train.remat = ["*"]' in out
    assert "2: 2 all-reduces of 2 devices a step" in out or "2: 1 all-reduce of 2" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--count", "0"], "expected a number from 1, found 0"),
        (["--count", "8,8"], "expected each number once, found 8,8"),
        (["--count", "8,"], "expected a number from 1, found "),
        (["--count", "1,65537"], "expected at most 65,536 devices, found 1,65537"),
        (["--device", "h300"], "invalid choice: 'h300'"),
        (["--memory", "nan"], "expected a number above 0, found nan"),
        (["--batch-per-device", "0"], "expected a number from 1, found 0"),
        (["--device", "cpu", "--count", "4096"], "4096 devices wanted"),
        (["--device", "cpu", "--set", "train.accumulate=5"], "in accumulate = 5 equal parts"),
        (["--device", "cpu", "--set", "mesh.data=-1", "--set", "mesh.fsdp=2"], "do not divide it"),
        (["--device", "cpu", "--set", "model.name=mpl"], "model.name: unknown 'mpl'"),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, reason):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert not out
    assert reason in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("device", "cure"),
    [
        ("h200", "pip install --no-deps jax-cuda13-plugin=="),
        ("v5e", 'pip install "jax[tpu]"'),
    ],
)
def test_without_its_compiler_the_reason_is_one_line(capsys, monkeypatch, device, cure):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = run(capsys, "--device", device)
    assert (code, out) == (2, "")
    assert cure in err
    assert len(err.splitlines()) == 1


def test_sizes_in_words():
    assert [size(n) for n in (999, 999.99, 1000, 141e9)] == ["999 B", "1 kB", "1 kB", "141 GB"]


@pytest.mark.slow
def test_a_cpu_plays_as_many_devices_as_are_asked_for():
    command = [sys.executable, "-m", "funcnn", "plan", CONFIG, *QUICK, "--device", "cpu"]
    done = subprocess.run(
        [*command, "--count", "3", "--json"],
        capture_output=True,
        text=True,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] % 3 == 0


def test_each_gpu_has_its_description():
    described = {Path(str(p)).stem for p in resources.files("funcnn.bench").iterdir()}
    assert {name for name, chip in CHIPS.items() if chip.platform == "cuda"} <= described


@pytest.mark.parametrize("chip", ["h200", "h100", "a100"])
def test_plan_for_an_absent_gpu(chip):
    if reason := missing_wheels():
        pytest.skip(reason)
    experiment = build_experiment(load_config(CONFIG, QUICK[1:]), draw=False)
    params = sum(p.size * p.dtype.itemsize for p in jax.tree.leaves(experiment.params))
    found = plan(experiment, CHIPS[chip], 16)
    assert found.setting == Setting(experiment.config.data.batch_size)
    assert found.fits
    assert found.bound in ("compute", "memory", "network")
    (traffic,) = found.traffic
    assert (traffic.kind, traffic.group, traffic.nodes) == ("all-reduce", 16, 2)
    assert 0 <= traffic.bytes - params <= 8 * 4
    scalars = (3 + 7) * 4  # three counters, and what a guard keeps
    assert found.memory.aliased == 3 * params + scalars
    small = plan(experiment, CHIPS[chip]._replace(memory=found.memory.peak - 1), 16)
    assert not small.fits
    assert small.remedy is not None
    if small.remedy.setting.fsdp == 16:
        kinds = {t.kind for t in small.remedy.traffic}
        assert {"all-gather", "reduce-scatter"} <= kinds
