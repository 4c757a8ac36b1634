"""`funcnn hunt`: what it prints, its exit codes, and one line for what it cannot take."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from funcnn.cli import main

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
        ("hunt --target mine_to_hunt:cube", "is a function: --target it, with --args"),
        ("hunt mine_to_hunt:cube", "is a function: --target it, with --args"),
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
