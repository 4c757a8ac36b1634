"""funcnn check, compare and census: rules, functions of one's own, pages, and wrong options."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock, PropertyMock

import pytest

from funcnn.cli import main
from funcnn.commands.check import _was_interrupted

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/digits_cnn.toml"

OWN = """
import jax, jax.numpy as jnp
import funcnn as fnn

def make(factor):
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (factor * jnp.cos(x) * dy,))
    return sine

right, wrong = make(1.0), make(1.001)
wrong_rule = fnn.rules.tanh.replace(backward=lambda y, dy: (dy,))

def odd(x):
    return right(x)

odd.__name__ = "odd\\ud800"

def loss(params, x):
    return jnp.sum(right(x * params["w"])), {"mean": jnp.mean(x)}

def wrong_loss(params, x):
    return jnp.sum(wrong(x * params["w"]))

def arguments():
    return (jnp.linspace(0.1, 1.0, 5),)

def three(x):
    return jnp.sum(x), jnp.sum(x), x

def loss_arguments():
    return {"w": jnp.linspace(0.1, 1.0, 5)}, jnp.linspace(-1.0, 1.0, 5)

def no_tuple():
    return jnp.ones(3)

def broken():
    return 1 / 0

def nothing():
    return ()

@jax.custom_vjp
def bare(x):
    return x

number = 3
"""


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own_functions` in the current folder."""
    (tmp_path / "own_functions.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_functions", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_check_in_this_process_and_in_two_say_the_same(capsys):
    rules = ["check", "tanh", "sigmoid"]
    code, alone, _ = run(capsys, *rules, "--processes", 1, "--json")
    assert code == 0
    code, together, _ = run(capsys, *rules, "--processes", 2, "--json")
    assert code == 0
    assert alone == together
    lines = [json.loads(line) for line in alone.splitlines()]
    reports = [line for line in lines if line["kind"] == "report"]
    assert [line["target"] for line in reports] == rules[1:]
    for report in reports:
        own = [x for x in lines if x["kind"] == "result" and x["rule"] == report["target"]]
        assert report["ok"]
        assert sum(x["verdict"] == "pass" for x in own) == report["pass"] > 0


def test_one_case_with_another_seed(capsys):
    code, stdout, _ = run(capsys, "check", "relu", "--case", "cube", "--seed", 7, "--json")
    assert code == 0
    results = [json.loads(line) for line in stdout.splitlines()][:-1]
    assert {(line["case"], line["seed"]) for line in results} == {("cube", 7)}


def test_it_says_how_to_see_what_was_skipped(capsys):
    code, stdout, stderr = run(capsys, "check", "relu", "--case", "cube", "--level", "full")
    assert code == 0
    counts = stdout.splitlines()[-1]
    assert "0 skipped" not in counts
    assert stderr.endswith(": --json and --html FILE list them, with the reasons\n")
    assert len(stderr.splitlines()) == 1
    assert re.findall(r"\d+ (?:inconclusive|skipped)", counts) == re.findall(
        r"\d+ (?:inconclusive|skipped)", stderr
    )
    code, _, stderr = run(capsys, "check", "relu", "--case", "cube", "--json")
    assert (code, stderr) == (0, "")


def test_a_function_of_ones_own(capsys, own):
    given = ["--args", "own_functions:arguments"]
    code, stdout, _ = run(capsys, "check", "--target", "own_functions:right", *given)
    assert code == 0, stdout
    code, stdout, stderr = run(capsys, "check", "--target", "own_functions:wrong", *given)
    assert code == 1
    assert "1.001 x truth" in stdout
    assert stderr.startswith("wrong or not compared: ")


def test_a_name_that_is_no_text_is_printed_as_an_escape(own):
    command = [sys.executable, "-m", "funcnn", "check", "--target", "own_functions:odd"]
    command += ["--args", "own_functions:arguments"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK odd\\ud800: ")


def test_a_rule_of_ones_own_and_the_failure_on_the_page(capsys, own):
    wrong = ["check", "--target", "own_functions:wrong_rule"]
    code, stdout, _ = run(capsys, *wrong, "--html", own / "page.html")
    assert code == 1
    page = (own / "page.html").read_text(encoding="utf-8")
    assert "FAILED: 0 of 1 are right" in page
    assert "FAIL tanh truth: leaf x case normal" in stdout
    assert "FAIL tanh truth: leaf x case normal" in page
    assert "level fast, seed 0." in page
    code, stdout, _ = run(capsys, *wrong, "--case", "normal", "--json")
    assert code == 1
    assert {json.loads(line).get("case", "normal") for line in stdout.splitlines()} == {"normal"}


def test_compare_a_function_of_ones_own(capsys, own):
    given = ["--args", "own_functions:loss_arguments"]
    page = own / "page.html"
    code, stdout, _ = run(
        capsys, "compare", "--target", "own_functions:loss", *given, "--html", page
    )
    assert code == 0, stdout
    assert "<h2>Errors in ulps</h2>" in page.read_text(encoding="utf-8")
    code, stdout, stderr = run(
        capsys, "compare", "--target", "own_functions:wrong_loss", *given, "--json"
    )
    assert code == 1
    assert json.loads(stdout.splitlines()[-1])["culprits"] == ["sine"]
    assert stderr.startswith("FAILED: ")


def test_census_of_a_function_of_ones_own(capsys, own):
    given = ["--args", "own_functions:loss_arguments"]
    target = ["census", "--target", "own_functions:loss"]
    code, stdout, stderr = run(capsys, *target, *given, "--html", own / "page.html")
    assert code == 0, stderr
    assert "sine" in stdout
    assert "sine" in (own / "page.html").read_text(encoding="utf-8")
    target = ["census", "--target", "own_functions:wrong_loss"]
    code, stdout, _ = run(capsys, *target, *given, "--json")
    assert code == 1
    assert "sine" in [json.loads(line).get("name") for line in stdout.splitlines()]


MISTAKES = {
    "unknown rule": (["check", "rellu"], "did you mean relu"),
    "a rule in capitals": (["check", "Relu"], "did you mean relu"),
    "unknown case": (["check", "relu", "--case", "kinks"], "did you mean kink"),
    "case of no rule": (["check", "--case", "kink"], "--case needs one RULE"),
    "rule and target": (["check", "relu", "--target", "own_functions:right"], "not both"),
    "arguments of a rule": (["check", "relu", "--args", "own_functions:arguments"], "--target"),
    "function without arguments": (["check", "--target", "own_functions:right"], "needs --args"),
    "case of a function": (
        [
            *("check", "--target", "own_functions:right"),
            *("--args", "own_functions:arguments", "--case", "a"),
        ],
        "--case is for a Rule",
    ),
    "no colon": (["check", "--target", "own_functions.right"], "package.module:name"),
    "no module": (["check", "--target", "absent_module:right"], "absent_module"),
    "no name": (["check", "--target", "own_functions:absent"], "absent"),
    "not a function": (["check", "--target", "own_functions:number"], "not a function but int"),
    "broken module": (["check", "--target", "own_broken:f"], "ZeroDivisionError"),
    "not a tuple": (
        ["check", "--target", "own_functions:right", "--args", "own_functions:no_tuple"],
        "must return a tuple of arguments",
    ),
    "broken arguments": (
        ["compare", "--target", "own_functions:loss", "--args", "own_functions:broken"],
        "ZeroDivisionError: division by zero",
    ),
    "other arguments": (
        ["compare", "--target", "own_functions:loss", "--args", "own_functions:arguments"],
        "cannot be called with --args",
    ),
    "no scalar": (
        ["compare", "--target", "own_functions:right", "--args", "own_functions:arguments"],
        "right: compare: f must return a floating-point scalar, alone or first in a pair, found",
    ),
    "no pair": (
        ["compare", "--target", "own_functions:three", "--args", "own_functions:arguments"],
        "alone or first in a pair, found float32[], float32[], float32[",
    ),
    "check with other arguments": (
        ["check", "--target", "own_functions:loss", "--args", "own_functions:arguments"],
        "--target own_functions:loss: cannot be called with --args: loss() missing 1 required",
    ),
    "no argument": (
        ["check", "--target", "own_functions:right", "--args", "own_functions:nothing"],
        "needs an argument; --args own_functions:nothing returned none",
    ),
    "no passes": (
        ["check", "--target", "own_functions:bare", "--args", "own_functions:arguments"],
        "the jax.custom_vjp of bare has no derivative: give it one by its .defvjp(",
    ),
    "an empty name": (["check", ""], "unknown rule ''; known: relu, "),
    "an empty benchmark": (["bench", ""], "unknown benchmark ''; known: cnn_step, "),
    "compare without": (["compare"], "give a CONFIG, or --target"),
    "compare both": (["compare", str(CONFIG), "--target", "own_functions:loss"], "one of the two"),
    "compare arguments": (["compare", str(CONFIG), "--args", "own_functions:arguments"], "--args"),
    "compare no arguments": (["compare", "--target", "own_functions:loss"], "needs --args"),
    "page in no folder": (["check", "relu", "--html", "absent/page.html"], "no folder absent"),
    "page is a folder": (["check", "relu", "--html", "."], "is a folder"),
    "a cache in a file": (["check", "relu", "--cache", str(CONFIG)], "no folder can be made there"),
}


def test_what_is_compiled_is_kept_where_it_is_asked_for(tmp_path):
    folder = tmp_path / "kept"
    command = [sys.executable, "-m", "funcnn", "check", "tanh", "--case", "tail", "--cache"]
    kept = []
    for _ in range(2):
        done = subprocess.run([*command, folder], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        kept.append({file.name for file in folder.iterdir() if file.name.endswith("-cache")})
    assert len(kept[0]) > 3
    assert kept[0] == kept[1], "the second time something was compiled anew"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_2(name, capsys, own):
    arguments, message = MISTAKES[name]
    before = sorted(own.iterdir())
    code, stdout, stderr = run(capsys, *arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert len(stderr.splitlines()) == 1
    assert [p for p in sorted(own.iterdir()) if p.name != "__pycache__"] == before


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(p) for p in listed.read_text().split()] if listed.exists() else []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks into /proc")
def test_workers_that_were_interrupted_are_an_interrupt():
    """Of both, their end may be what the command sees first."""
    command = [sys.executable, "-m", "funcnn", "check", "--processes", "2"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    while process.poll() is None and len(children(process.pid)) < 3:
        time.sleep(0.02)
    for worker in children(process.pid):
        os.kill(worker, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"funcnn: interrupted\n")


@pytest.mark.parametrize("code", [-signal.SIGINT, 1])
def test_the_end_of_a_worker_is_waited_for(code):
    """Another thread has waited for it, and its exit code is known at the third look."""
    worker = Mock()
    type(worker).exitcode = PropertyMock(side_effect=[None, None, code, code])
    assert _was_interrupted(worker) == (code == -signal.SIGINT)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_command(number, tmp_path):
    command = [sys.executable, "-m", "funcnn", "check", "--processes", "2"]
    with open(tmp_path / "err", "w+") as err:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=err,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            start_new_session=True,
        )
        while process.poll() is None and len(children(process.pid)) < 3:  # with the tracker
            time.sleep(0.02)
        workers = children(process.pid)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        process.wait(timeout=60)
        for _ in range(1000):
            if not any(map(alive, workers)):
                break
            time.sleep(0.02)
        assert not any(map(alive, workers))
        err.seek(0)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert err.read() == "funcnn: interrupted\n"
