"""The pages of wrong derivatives in other packages: what stands there is what is printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / "audit"
OUTPUTS = json.loads((AUDIT / "findings" / "outputs.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def findings():
    """The program that writes the pages; the audit is a folder of scripts and no package."""
    sys.path.insert(0, str(AUDIT))
    try:
        import findings  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(AUDIT))
    return findings


def test_each_page_is_what_the_table_and_the_outputs_make(findings):
    pages = findings.pages(OUTPUTS)
    folder = AUDIT / "findings"
    assert {path.name for path in folder.iterdir()} == {*pages, "outputs.json"}
    for name, text in pages.items():
        assert (folder / name).read_text("utf-8") == text


def test_each_finding_has_a_page(findings):
    assert set(OUTPUTS) == {finding.slug for finding in findings.ALL}


def test_a_program_is_short_and_needs_nothing_of_ours(findings):
    for finding in findings.ALL:
        lines = finding.text.splitlines()
        assert len(lines) <= findings.LONGEST, finding.slug
        assert "funcnn" not in finding.text
        assert all(len(line) <= 100 for line in lines), finding.slug


@pytest.mark.parametrize("slug", OUTPUTS)
def test_what_is_proposed_is_the_truth_and_what_is_printed_is_not(findings, slug):
    lines = [line for entry in OUTPUTS[slug] for line in findings.lines_of(entry["output"])]
    assert all(line.is_right for line in lines)
    assert any(line.is_wrong for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("slug", OUTPUTS)
def test_the_program_of_a_page_prints_what_stands_there(findings, slug):
    pytest.importorskip("mpmath", reason="the programs of audit/findings need mpmath")
    (finding,) = (f for f in findings.ALL if f.slug == slug)
    versions = finding.versions()
    if versions is None:
        pytest.skip(f"{finding.package} is not installed")
    page = (AUDIT / "findings" / f"{slug}.md").read_text("utf-8")
    program, outputs = findings.blocks(page)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    written = [text for which, text in outputs.items() if f"{named}, " in f"{which}, "]
    if not written:
        pytest.skip(f"the page was not written with {named}")
    exactly = finding.kind in findings.EXACT
    assert findings.differences(written[0], findings.run(program), exactly) == []


PAGE = "at 1: printed 0.5, true 0.25, proposed 0.25\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (PAGE.replace("0.5", "0.25"), "printed"),
        (PAGE.replace("true 0.25", "true 0.26"), "true"),
        (PAGE.replace("at 1", "at 2"), "lines"),
        (PAGE + PAGE.replace("at 1", "at 2"), "lines"),
    ],
)
def test_a_wrong_page_is_seen(findings, wrong, said):
    assert findings.differences(PAGE, PAGE, True) == []
    for exactly in (True, False):
        assert said in findings.differences(wrong, PAGE, exactly)[0]


def test_a_formula_that_is_not_the_truth_is_seen(findings):
    found = findings.differences(PAGE, PAGE.replace("proposed 0.25", "proposed 0.2501"), False)
    assert "proposed" in found[0]


def test_lost_digits_may_be_others_and_a_wrong_formula_may_not(findings):
    moved = PAGE.replace("0.5", "0.4")
    assert findings.differences(PAGE, moved, False) == []
    assert "printed 0.5 on the page, 0.4" in findings.differences(PAGE, moved, True)[0]


def test_a_program_that_fails_or_prints_something_else_is_no_page(findings):
    with pytest.raises(ValueError, match="printed P, true T, proposed Q"):
        findings.lines_of("Traceback (most recent call last):")
    with pytest.raises(RuntimeError, match="division by zero"):
        findings.run("1 / 0")


def test_what_is_mended_is_said(findings):
    right = PAGE.replace("0.5", "0.25")
    slug = findings.ALL[0].slug
    one, two = ({"versions": {"jax": v}, "output": o} for v, o in (("1", PAGE), ("2", right)))
    pages = findings.pages({slug: [one, two]})
    assert "Wrong with jax 1, on a CPU" in pages[f"{slug}.md"]
    assert "No longer wrong with jax 2, on a CPU" in pages[f"{slug}.md"]
    assert "| jax 1 |" in pages["README.md"]
    program, outputs = findings.blocks(pages[f"{slug}.md"])
    assert program == findings.ALL[0].text
    assert outputs == {"jax 1": PAGE, "jax 2": right}


def test_the_packages_that_are_absent_are_named(tmp_path):
    """Without a package its program is not run, and one line says so."""
    code = """
import sys, findings
findings.Finding.versions = lambda self: None
findings.write = print
sys.argv = ["findings.py"]
findings.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(AUDIT)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "numpyro-power-law-cdf: not run, as numpyro is not installed" in done.stdout
