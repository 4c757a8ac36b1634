"""`funcnn hunt`: what it prints, its exit codes, and one line for what it cannot take."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from funcnn.cli import main

ROOT = Path(__file__).parents[1]

MINE = """
import jax, jax.numpy as jnp, numpy as np
import funcnn as fnn

cube = jax.custom_vjp(lambda x: x**3)
cube.defvjp(lambda x: (x**3, x), lambda x, dy: (jnp.where(x > 40, 2, 3) * x**2 * dy,))
right = jax.custom_vjp(lambda x: x**3)
right.defvjp(lambda x: (x**3, x), lambda x, dy: (3 * x**2 * dy,))


@fnn.rule
def double(x):
    return 2 * x


double.defvjp(lambda x: (2 * x, None), lambda res, dy: (jnp.where(dy > 50, 1, 2) * dy,))
double.defcases(lambda key: iter([fnn.Case("one", (np.ones(2, np.float32),))]))


def args():
    open("begun", "w").close()  # the command stands in the test's folder
    return (np.array([0.5, -1.0], np.float32),)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_to_hunt.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield "mine_to_hunt"
    sys.modules.pop("mine_to_hunt", None)


def test_a_wrong_function_is_exit_1_with_the_program_that_repeats_it(mine, capsys):
    code = main(["hunt", "--target", f"{mine}:cube", "--args", f"{mine}:args", "--budget", "30"])
    captured = capsys.readouterr()
    assert code == 1
    assert "print(jax.vjp(f, *args(" in captured.out
    assert captured.out.splitlines()[-1].startswith("WRONG ")
    assert captured.err.startswith("wrong or not compared: ")


def test_a_rule_by_its_module_as_json_and_as_a_page(mine, tmp_path, capsys):
    page = ["--html", "page.html"]
    assert main(["hunt", f"{mine}:double", "--budget", "30", "--json", *page]) == 1
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["kind"], row["ok"]) == ("hunt", False)
    assert "jax.vjp" in row["found"]["program"]
    assert "jax.vjp" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_right_one_is_exit_0(mine, capsys):
    code = main(["hunt", "--target", f"{mine}:right", "--args", f"{mine}:args", "--budget", "4"])
    assert code == 0
    assert "NOTHING FOUND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("hunt relux", "hunt: unknown rule relux (did you mean relu?)"),
        ("hunt relu --target a:b", "hunt: name rules or give --target, not both"),
        ("hunt relu --args a:b", "hunt: --args needs --target"),
        ("hunt --target mine_to_hunt:cube", "is a function, which needs --args package.module:"),
        ("hunt mine_to_hunt:cube", "is a function: give it by --target, with --args"),
        ("hunt relu --budget 0", "expected a number above 0, found 0"),
        ("hunt relu --html no/such/page.html", "--html no/such/page.html: there is no folder"),
    ],
)
def test_what_it_cannot_take_is_exit_2(command, line, mine, capsys):
    assert main(command.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert line in captured.err


@pytest.mark.battery
@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_an_interrupt_ends_it_with_one_line(mine, tmp_path):
    target = ["--target", f"{mine}:right", "--args", f"{mine}:args"]
    command = [sys.executable, "-m", "funcnn", "hunt", *target, "--budget", "600"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    while process.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.1)  # Python and JAX are loaded first, which takes a busy machine long
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err == "funcnn: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


ENDLESS = """
import time
import jax, jax.numpy as jnp, numpy as np


def ruled(backward):
    made = jax.custom_vjp(jnp.sin)
    made.defvjp(lambda x: (jnp.sin(x), x), backward)
    return made


def on(x):
    return jax.lax.while_loop(lambda s: jnp.all(s > -jnp.inf), lambda s: s + 1, x)


def wait(x):
    open("begun", "w").close()
    while True:
        time.sleep(0.01)


def in_python(x, dy):
    while True:
        dy = 2 * dy
    return (dy,)


loop = ruled(lambda x, dy: (on(dy * 0),))
in_a_loop = ruled(lambda x, dy: (jax.lax.scan(lambda c, _: (on(c), None), dy, None, 2)[0],))
callback = ruled(lambda x, dy: (jax.pure_callback(wait, jax.typeof(x), x),))
python = ruled(in_python)


def args():
    return (np.array([0.5, -1.0], np.float32),)
"""


def funcnn(folder, *command):
    (folder / "endless.py").write_text(ENDLESS)
    target = ["--target", f"endless:{command[1]}", "--args", "endless:args"]
    return subprocess.Popen(
        [sys.executable, "-m", "funcnn", command[0], *target, *command[2:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def ended(process):
    """Exit code and outputs of a process that leaves nobody behind."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return process.returncode, out, err


@pytest.mark.skipif(os.name != "posix", reason="groups of processes")
@pytest.mark.parametrize("tool", ["check", "hunt"])
@pytest.mark.parametrize("name", ["callback", "python"])
def test_a_rule_that_does_not_return_is_stopped(tool, name, tmp_path):
    process = funcnn(tmp_path, tool, name, "--seconds-each", "8")
    code, out, err = ended(process)
    assert code == 1
    assert f"endless:{name}" in out.splitlines()[0]
    assert "no answer in 8 s" in out.splitlines()[0]
    assert err == f"wrong or not compared: endless:{name}\n"


@pytest.mark.battery
@pytest.mark.skipif(os.name != "posix", reason="groups of processes")
@pytest.mark.parametrize("name", ["loop", "in_a_loop"])
def test_a_compiled_loop_that_does_not_end_is_stopped(name, tmp_path):
    code, out, _ = ended(funcnn(tmp_path, "check", name))
    assert code == 1
    assert "a loop had not ended after 5 s" in out
    code, out, _ = ended(funcnn(tmp_path, "hunt", name))
    assert code == 1
    assert "a loop had not ended after 5 s on the way back" in out


@pytest.mark.battery  # where nothing else computes: in 240 s a busy machine may not come to it
@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
@pytest.mark.parametrize("tool", ["check", "hunt"])
def test_an_interrupt_while_nothing_returns_leaves_no_process(tool, tmp_path):
    process = funcnn(tmp_path, tool, "callback", "--seconds-each", "200")
    while process.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", "funcnn: interrupted\n")


def test_the_memory_of_a_check_is_bounded_and_said(mine, capsys):
    target = ["--target", f"{mine}:right", "--args", f"{mine}:args", "--megabytes", "0.0001"]
    line = (
        "it takes about 0.00031 MB, and 0.0001 are allowed: give smaller arguments, or megabytes=1"
    )
    assert main(["check", *target]) == 1
    assert f": leaf argument_0: {line}\n" in capsys.readouterr().out
    assert main(["hunt", *target]) == 1
    assert "beyond the memory allowed (megabytes)" in capsys.readouterr().out
