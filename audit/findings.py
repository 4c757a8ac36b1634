"""Write a page for each wrong derivative that is known, ready to be sent to its package's tracker.

    pip install jax mpmath numpyro optax tfp-nightly
    python audit/findings.py            # runs the programs of what is installed, writes the pages
    python audit/findings.py --only spence
    python audit/findings.py --pages    # runs nothing

The table of them is the package `known`. What each program printed, in which versions, is kept in
findings/outputs.json, so that other versions can be added by another environment. Nothing is sent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from known import ALL, Finding, Line, lines_of
from known.finding import EXACT, KINDS, LONGEST

__all__ = ["ALL", "EXACT", "LONGEST", "Finding", "lines_of"]

PAGES = Path(__file__).parent / "findings"
OUTPUTS = PAGES / "outputs.json"
_SECONDS = 600
_HEAD = """# Wrong derivatives, one page each

A page has the form of an issue for the tracker of its package: what is wrong, a program of at most
ten lines that needs nothing of funcnn, what it prints, what is true and where that comes from, and
the formula that would be right, with its value in the same output. **None of them has been sent.**
Written by `python audit/findings.py`, from `audit/known`; a test runs the programs.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="findings whose page's name holds this text")
    parser.add_argument("--pages", action="store_true", help="write the pages, run nothing")
    options = parser.parse_args()
    outputs = read()
    for finding in ALL if not options.pages else ():
        versions = finding.versions()
        if options.only not in finding.slug:
            continue
        if versions is None:
            print(f"{finding.slug}: not run, as {finding.package} is not installed")
            continue
        found = run(finding.text)
        print(f"{finding.slug}: {_verdict(lines_of(found))}\n{found}", flush=True)
        others = [o for o in outputs.get(finding.slug, []) if o["versions"] != _named(versions)]
        entry = {"versions": _named(versions), "output": found}
        outputs[finding.slug] = sorted(
            [*others, entry], key=lambda o: sorted(o["versions"].items())
        )
        write(outputs)
    write(outputs)


def _named(versions: dict[str, str]) -> dict[str, str]:
    python = ".".join(platform.python_version_tuple()[:2])
    return {**versions, "Python": python}


def run(program: str) -> str:
    """What a program prints; raises RuntimeError with its last line where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return done.stdout


def differences(written: str, found: str, exactly: bool) -> list[str]:
    """Where the output on a page and the one found differ, in words.

    Digits that are lost are others on another machine: unless `exactly`, what the package printed
    must be as wrong, or as right, as on the page, and no more.
    """
    page, now = lines_of(written), lines_of(found)
    if [line.name for line in page] != [line.name for line in now]:
        return [f"lines {[line.name for line in page]} on the page, {[line.name for line in now]}"]
    said = []
    for a, b in zip(page, now, strict=True):
        same = _near(a.printed, b.printed) if exactly else a.is_wrong == b.is_wrong
        pairs = {"printed": same, "true": _near(a.true, b.true), "proposed": b.is_right}
        said += [
            f"{a.name}: {what} {getattr(a, what):.6g} on the page, {getattr(b, what):.6g}"
            for what, agrees in pairs.items()
            if not agrees
        ]
    return said


def _near(a: float, b: float) -> bool:
    return a == b or (a != a and b != b) or abs(a - b) <= 1e-4 * abs(a)


def _verdict(lines: list[Line]) -> str:
    return "wrong" if any(line.is_wrong for line in lines) else "no longer wrong"


def read() -> dict[str, list[dict[str, Any]]]:
    """By finding, what its program printed in which versions."""
    return json.loads(OUTPUTS.read_text("utf-8")) if OUTPUTS.exists() else {}


def write(outputs: dict[str, list[dict[str, Any]]]) -> None:
    """The outputs, and all pages that have one."""
    PAGES.mkdir(exist_ok=True)
    kept = {f.slug: outputs[f.slug] for f in ALL if f.slug in outputs}
    OUTPUTS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    for name, text in pages(kept).items():
        (PAGES / name).write_text(text, "utf-8")


def pages(outputs: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """The text of each page and of the index, by the name of its file."""
    found = [finding for finding in ALL if finding.slug in outputs]
    written = {f"{f.slug}.md": page(f, outputs[f.slug]) for f in found}
    return written | {"README.md": index(found, outputs)}


def page(finding: Finding, outputs: list[dict[str, Any]]) -> str:
    """An issue for the package's tracker."""
    parts = [
        f"# {finding.title}",
        f"`{finding.function}`, package {finding.package}: {KINDS[finding.kind]}.",
        finding.wrong.strip(),
        f"```python\n{finding.text}\n```",
        *_printed(outputs),
        f"Expected is what stands after `true`: {finding.truth}.",
        f"**Proposed.** {finding.formula.strip()}",
        "The program computes that, too, and prints it after `proposed`.",
    ]
    return "\n\n".join(parts) + "\n"


def _printed(outputs: list[dict[str, Any]]) -> list[str]:
    """Each output once, with all the versions that print it."""
    by_text: dict[str, list[str]] = {}
    for entry in outputs:
        by_text.setdefault(entry["output"], []).append(_versions(entry["versions"]))
    return [
        f"{_verdict(lines_of(text)).capitalize()} with {'; and with '.join(which)}, on a CPU:\n\n"
        f"```text\n{text}```"
        for text, which in by_text.items()
    ]


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def blocks(text: str) -> tuple[str, dict[str, str]]:
    """Of a page: the program, and each output by the line of versions above it."""
    program = re.search(r"```python\n(.*?)\n```", text, re.DOTALL)
    found = re.findall(r"with ([^\n]*), on a CPU:\n\n```text\n(.*?)```", text, re.DOTALL)
    if program is None or not found:
        raise ValueError("a page has a program and an output")
    return program[1], dict(found)


def index(findings: list[Finding], outputs: dict[str, list[dict[str, Any]]]) -> str:
    """One table: a row a page, with its first wrong line, and the versions it is wrong in."""
    rows = [
        "| page | package | function | what kind | at | printed | true | wrong with |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for finding in findings:
        own = outputs[finding.slug]
        lines = [(entry, lines_of(entry["output"])) for entry in own]
        wrong = [entry for entry, found in lines if any(line.is_wrong for line in found)]
        first = next(
            (line for _, found in lines for line in found if line.is_wrong), lines[0][1][0]
        )
        cells = [
            *(f"[{finding.slug}]({finding.slug}.md)", finding.package, f"`{finding.function}`"),
            *(KINDS[finding.kind], first.name, f"{first.printed:.6g}", f"{first.true:.6g}"),
            "; ".join(_versions(entry["versions"]) for entry in wrong) or "none of those run",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    counts = {kind: sum(f.kind == kind for f in findings) for kind in KINDS}
    said = "; ".join(f"{n}: {KINDS[kind]}" for kind, n in counts.items() if n)
    return f"{_HEAD}\n{len(findings)} pages. {said}.\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
