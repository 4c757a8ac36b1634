"""The README's quickstart and the examples run, and the CI script runs the README's command."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_quickstart_runs(capsys):
    (quickstart,) = code_blocks("python")
    assert quickstart.count("\n") <= 20
    names = {}
    exec(compile(quickstart, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "OK: 4 leaves against float64 truth" in out
    assert "OK conv:" in out
    same = jax.tree.map(lambda a, b: a.shape == b.shape, names["manual"], names["automatic"])
    assert jax.tree.all(same)


def test_two_commands_do_all_the_set_up():
    train, test = (block.strip() for block in code_blocks("bash"))
    assert train.endswith("funcnn train configs/digits_cnn.toml")
    install, _, run = test.partition(" && ")
    script = (ROOT / ".ci/run").read_text()
    assert install.removeprefix("pip install ") in script
    assert run in script


# What each example must have said, so that one which printed nothing fails.
SAID = {
    "rule_by_hand": ["OK __main__.cube", "FAILED __main__.cube", "0.666667 x truth"],
    "compose_a_network": ["body/body/conv_1", "deterministic: True", "(4, 10)"],
    "training_step": ["step  400", "test accuracy 0.9"],
    "compare_gradients": ["8 leaves against float64 truth", "WRONG rule: wrong_square in"],
    "add_your_own_rule": ["the rule is right", "at the end loss 0.0"],
}


# One of them in the quick suite.
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if p.stem == "rule_by_hand" else pytest.mark.slow) for p in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_examples_run(path):
    # As a user runs them: in a process of its own, with JAX's default settings.
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for phrase in SAID[path.stem]:
        assert phrase in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_do_nothing_on_import(path, capsys):
    runpy.run_path(str(path), run_name="imported")
    assert capsys.readouterr().out == ""
