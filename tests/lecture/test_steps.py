"""Every script of the lecture runs, verifies what it says, and draws its pictures."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from formulas import FORMULAS, of_step

LECTURE = Path(__file__).parents[2] / "examples" / "lecture"
HELPERS = {"drawing", "formulas", "verified"}
SCRIPTS = [*sorted({formula.step for formula in FORMULAS}), "errata"]
QUICK = "step_03_scalar_score"
REPORT = re.compile(r"^.+: (\d+) verified", re.MULTILINE)
LINE = re.compile(r"^  (F\d+) +\S", re.MULTILINE)


def run(script, folder):
    """Run a script as a teacher does, in an empty folder."""
    return subprocess.run(
        [sys.executable, str(script), "--out", "figures"],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": ""},  # its loops are long: let XLA optimise them
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def figures_of(folder):
    """Names of the figures, each of which must be there whole as PNG and as SVG."""
    names = {}
    for path in sorted(folder.iterdir()):
        names.setdefault(path.stem, set()).add(path.suffix)
    for name, kinds in names.items():
        assert kinds == {".png", ".svg"}, f"{name} is there as {kinds}"
        png = (folder / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        assert png.rstrip().endswith(b"IEND\xaeB`\x82")
        drawing = ElementTree.parse(folder / f"{name}.svg").getroot()
        assert drawing.tag.endswith("svg")
        assert len(list(drawing.iter())) > 20, f"{name} is empty"
    return set(names)


@pytest.mark.parametrize(
    "script",
    # The others are executed as the site is built, which stops at what is wrong.
    [pytest.param(s, marks=() if s == QUICK else pytest.mark.battery) for s in SCRIPTS],
)
def test_script_runs_verifies_and_draws(script, tmp_path):
    path = LECTURE / f"{script}.py"
    assert path.exists(), f"{path.name} is missing"
    result = run(path, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Warning" not in result.stderr

    counts = REPORT.findall(result.stdout)
    assert len(counts) == 1, "one report, at the end"
    numbers = LINE.findall(result.stdout)
    assert 0 < int(counts[0]) <= len(numbers)
    assert {formula.number for formula in of_step(script)} <= set(numbers)
    assert "WRONG" not in result.stdout

    figures = figures_of(tmp_path / "figures")
    prefix = "errata" if script == "errata" else script[: len("step_00")]
    assert figures, "no figure was drawn"
    assert all(name.startswith(prefix) for name in figures)
    assert [item.name for item in tmp_path.iterdir()] == ["figures"]  # nothing elsewhere


def test_every_script_of_the_folder_is_listed():
    found = {path.stem for path in LECTURE.glob("*.py")} - HELPERS
    assert found <= set(SCRIPTS)


def planted(tmp_path, script, old, new):
    """Run a copy of a script in which one line is wrong."""
    for helper in HELPERS:
        shutil.copy(LECTURE / f"{helper}.py", tmp_path)
    source = (LECTURE / f"{script}.py").read_text()
    assert source.count(old) == 1
    copy = tmp_path / f"{script}.py"
    copy.write_text(source.replace(old, new))
    return run(copy, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        # A correction that is wrong: the third delta keeps the second weight.
        ("U[2] * f_prime(z[2])],", "U[1] * f_prime(z[2])],", "δ_3 = U_3 f'(z_3)"),
        # A slip that is none: what is called the printed form is right.
        ("lambda: delta2,", "lambda: delta1,", "not δ(2) = W(2)ᵀ δ(2) ⊙ f'(z(1))"),
        # A failure that was announced and did not come.
        ("lambda: rows(stride=0),", "lambda: rows(stride=1),", "not stride 0"),
    ],
    ids=["correction", "slip", "failure"],
)
def test_errata_notices_a_planted_mistake(tmp_path, old, new, complaint):
    result = planted(tmp_path, "errata", old, new)
    assert result.returncode != 0
    assert f"AssertionError: Errata: {complaint}" in result.stderr
