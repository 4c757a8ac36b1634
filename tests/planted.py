"""Plants mistakes in the package, one at a time, and says whether the tests notice each.

`python tests/planted.py` plants all of `planted_mistakes.MISTAKES`, each in a copy of the package
and its tests; `--only PATTERN` those whose file, tests or words hold a regular expression. The exit
code is 1 where one goes unnoticed, no longer applies, or is noticed by accident: a test that ends
in anything but its own assertion says nothing about the mistake.
"""

from __future__ import annotations

import argparse
import compileall
import dataclasses
import os
import queue
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from planted_mistakes import MISTAKES, Mistake

ROOT = Path(__file__).parents[1]
COPIED = ("funcnn", "tests", "configs", "conftest.py", "pyproject.toml")
SECONDS = 600  # that the tests of one mistake may take
NOTICED = "noticed"
# What pytest's short summary says of a test whose own assertion failed.
ASSERTED = re.compile(r"assert |AssertionError|Failed: |[\w.]*GradientError")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a mistake: "noticed", "UNNOTICED", "NOT APPLYING" or "PROVES NOTHING"."""

    mistake: Mistake
    verdict: str
    why: str = ""

    def __str__(self) -> str:
        text = f"{self.verdict} {self.mistake.file}: {self.mistake.what}"
        return f"{text}\n    {self.why}" if self.why else text


def environment(folder: Path, programs: Path) -> dict[str, str]:
    """The variables of a test run in a copy: its own package, compiled programs that are kept."""
    return os.environ | {
        "PYTHONPATH": str(folder),
        # A file that is planted in the second in which it was compiled would not be read again.
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "1000",
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def quick_flags(conftest: Path) -> str:
    """The compiler's flags that the tests use: found once, as each run would ask for them again."""
    names = runpy.run_path(str(conftest)) if conftest.exists() else {}
    return " ".join(filter(names["is_known"], names["QUICKLY"])) if "QUICKLY" in names else ""


def run_tests(folder: Path, programs: Path, tests: Sequence[str], *options: str) -> tuple[int, str]:
    """The exit code of pytest in a copy, and what it printed."""
    long_too = ("-m", "not slow and not battery")
    plain = ("-q", "-p", "no:cacheprovider", "--tb=no", "-rfE", *long_too)
    command = [sys.executable, "-m", "pytest", *plain, *options, *tests]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(folder, programs),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"the tests had not ended after {SECONDS} s"
    return done.returncode, done.stdout + done.stderr


def judged(code: int, printed: str) -> tuple[str, str]:
    """The verdict on a mistake, and why, from what the tests made of it.

    >>> judged(1, "FAILED tests/test_a.py::test_b - assert 1 == 2")
    ('noticed', 'tests/test_a.py::test_b')
    >>> judged(1, "FAILED tests/test_a.py::test_b - NameError: name 'x' is not defined")[0]
    'PROVES NOTHING'
    >>> judged(0, "3 passed")[0]
    'UNNOTICED'
    """
    if code == 0:
        return "UNNOTICED", ""
    lines = printed.strip().splitlines()
    summary = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if code == 1 and summary and summary[0].startswith("FAILED "):
        test, _, why = summary[0].removeprefix("FAILED ").partition(" - ")
        if ASSERTED.match(why):
            return NOTICED, test
    return "PROVES NOTHING", summary[0] if summary else f"exit code {code}: {lines[-1:]}"


def misplaced(mistake: Mistake, root: Path) -> str:
    """Why a mistake no longer applies: its text is gone or ambiguous, or a test is; or ""."""
    file = root / mistake.file
    if not file.exists():
        return "the file is not there"
    times = file.read_text("utf-8").count(mistake.old)
    if times != 1:
        return f"the old text occurs {times} times"
    for test in mistake.tests:
        path, *names = test.split("::")
        source = (root / path).read_text("utf-8") if (root / path).exists() else ""
        if not source or any(f"def {name.partition('[')[0]}(" not in source for name in names):
            return f"there is no {test}"
    return ""


def plant(mistake: Mistake, folder: Path, programs: Path) -> Outcome:
    """Plant one mistake in a copy, run its tests there, and take it out again."""
    why = misplaced(mistake, folder)
    if why:
        return Outcome(mistake, "NOT APPLYING", why)
    file = folder / mistake.file
    right = file.read_text("utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()
    try:
        file.write_text(right.replace(mistake.old, mistake.new), "utf-8")
        return Outcome(mistake, *judged(*run_tests(folder, programs, mistake.tests, "-n0", "-x")))
    finally:
        file.write_text(right, "utf-8")


def copy_of(root: Path, folder: Path) -> Path:
    """A copy of the package and its tests, compiled."""
    left_out = shutil.ignore_patterns("__pycache__", ".pytest_cache")
    folder.mkdir(parents=True)
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / name, ignore=left_out)
        elif (root / name).exists():
            shutil.copy2(root / name, folder / name)
    compileall.compile_dir(folder / "funcnn", quiet=1)
    return folder


def plant_all(
    mistakes: Sequence[Mistake], root: Path, work: Path, workers: int = 1
) -> Iterator[Outcome]:
    """What becomes of each mistake, in turn.

    Raises:
        RuntimeError: the chosen tests do not pass as they are, so that they can notice nothing.
    """
    folders: queue.Queue[Path] = queue.Queue()
    for i in range(workers):
        folders.put(copy_of(root, work / f"copy_{i}"))
    programs = work / "programs"
    applying = [m for m in mistakes if not misplaced(m, root)]
    tests = list(dict.fromkeys(test for m in applying for test in m.tests))
    if tests:
        spread = f"-n{workers if workers > 1 else 0}"
        code, printed = run_tests(work / "copy_0", programs, tests, spread)
        if code:
            raise RuntimeError(f"the tests do not pass as they are:\n{printed}")

    def planted(mistake: Mistake) -> Outcome:
        folder = folders.get()
        try:
            return plant(mistake, folder, programs)
        finally:
            folders.put(folder)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(planted, mistakes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant what is asked for, print each outcome and the count, and return the exit code."""
    parser = argparse.ArgumentParser(description="Plant mistakes; do the tests notice each?")
    parser.add_argument("--only", default="", metavar="PATTERN", help="those that hold this regex")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="copies at a time")
    options = parser.parse_args(arguments)
    chosen = [m for m in MISTAKES if re.search(options.only, f"{m.file} {m.what} {m.tests}")]
    if not chosen:
        print(f"no mistake holds {options.only!r}")
        return 1
    os.environ.setdefault("XLA_FLAGS", quick_flags(ROOT / "conftest.py"))
    begun, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory() as work:
        try:
            for outcome in plant_all(chosen, ROOT, Path(work), options.workers):
                print(outcome, flush=True)
                outcomes.append(outcome)
        except RuntimeError as error:
            print(error)
    noticed = sum(outcome.verdict == NOTICED for outcome in outcomes)
    print(f"{noticed} of {len(chosen)} noticed, {time.monotonic() - begun:.0f} s")
    return 0 if noticed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
