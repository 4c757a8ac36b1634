"""Attention, step by step: each script verifies what its page lists, and notices mistakes."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = sorted((ROOT / "examples" / "attention").glob("step_*.py"))
PAGE = (ROOT / "docs" / "attention" / "index.md").read_text("utf-8")
# Formula -> step, as the page lists them.
LISTED = dict(re.findall(r"^\| (A\d+) \| .+ \| (\d) \|$", PAGE, re.MULTILINE))
# How many claims each step verifies: one that gets lost is noticed.
CLAIMS = {"1": 16, "2": 16, "3": 16, "4": 17, "5": 30}
FIGURES = {"5": {"step_5_ledger", "step_5_memory"}}


def run(script, folder):
    return subprocess.run(
        [sys.executable, str(script), "--out", "figures"],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def named_in(source):
    """The formulas that calls of a verification name."""
    strings = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {s.value for s in strings if isinstance(s.value, str) and re.fullmatch(r"A\d+", s.value)}


def test_the_page_lists_what_the_steps_verify():
    assert list(LISTED) == [f"A{n}" for n in range(1, 20)]
    assert [path.stem[5] for path in STEPS] == list(CLAIMS)
    for path in STEPS:
        own = {number for number, step in LISTED.items() if step == path.stem[5]}
        assert named_in(path.read_text("utf-8")) == own, path.name


def test_a_script_reports_at_its_end():
    for path in STEPS:
        *_, last = ast.parse(path.read_text("utf-8")).body
        assert ast.unparse(last) == "verification.report()"


@pytest.mark.battery  # the site executes them all
@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_a_step_runs_verifies_and_draws(path, tmp_path):
    result = run(path, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Warning" not in result.stderr
    step = path.stem[5]
    found = re.findall(r"^Attention, step (\d), .+: (\d+) verified", result.stdout, re.MULTILINE)
    assert found == [(step, str(CLAIMS[step]))]
    printed = set(re.findall(r"^  (A\d+) ", result.stdout, re.MULTILINE))
    assert printed == {number for number, of in LISTED.items() if of == step}
    drawn = {figure.stem for figure in (tmp_path / "figures").iterdir()}
    assert drawn == FIGURES.get(step, {path.stem})
    assert [item.name for item in tmp_path.iterdir()] == ["figures"]


MISTAKES = [
    ("1", "dz = p * (dp - mean)  # (S)", "dz = p * dp  # (S)", "dz = p (dp - sum p dp)"),
    ("2", "delta = np.sum(dy * y, axis=1)", "delta = np.sum(dy * v, axis=1)", "delta = dy . y"),
    ("3", "n = n * shrink + e", "n = n + e", "y, block after block"),
    ("3", "dk[columns] += c * dz", "dk[columns] = c * dz", "dk, block after block"),
    ("4", "dk[:, h // G] += dk_h", "dk[:, h // G] = dk_h", "dk, summed over the group"),
    ("4", "turned(dq, -1), turned(dk, -1)", "turned(dq), turned(dk)", "dq with rotary places"),
    ("5", "    dz = dy + back", "    dz = back", "dx of the block"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "old", "new", "complaint"), MISTAKES)
def test_a_planted_mistake_stops_the_script(step, old, new, complaint, tmp_path):
    (path,) = (path for path in STEPS if path.stem[5] == step)
    source = path.read_text("utf-8")
    assert source.count(old) == 1
    folder = tmp_path / "attention"
    shutil.copytree(ROOT / "examples" / "lecture", tmp_path / "lecture")
    folder.mkdir()
    shutil.copy(path.with_name("the_lecture.py"), folder)
    (folder / path.name).write_text(source.replace(old, new), "utf-8")
    result = run(folder / path.name, tmp_path)
    assert result.returncode != 0
    assert complaint in result.stderr.splitlines()[-1]
