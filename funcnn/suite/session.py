"""One run of pytest: calls are recorded, and when the suite is over they are checked and shown.

JAX is imported by the project, not before: what it sets for JAX, in the environment or elsewhere,
holds. In a process of pytest-xdist the rows go to the process that shows them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from funcnn.suite.recording import Recorder
    from funcnn.suite.table import Found

_KEY = "funcnn_gradients"


class Gradients:
    """The plugin of one run.

    Args:
        config: of pytest.
        mode: "report" or "fail".
    """

    def __init__(self, config: pytest.Config, mode: str):
        self.config, self.mode = config, mode
        self.recorder: Recorder | None = None
        self.found: Found | None = None
        self._failed = ""
        self._session: pytest.Session | None = None
        self._homes: set[str] = set()
        self._parts: list[str] = []
        worker: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._worker = worker
        self._folder = worker[_KEY] if worker else tempfile.mkdtemp(prefix="funcnn-gradients-")
        self._start_if_jax()

    def _option(self, name: str) -> Any:
        return self.config.getoption(name)

    def _start_if_jax(self) -> None:
        if self.recorder is None and "jax" in sys.modules and not self._has_workers():
            self._start()

    def _start(self) -> None:
        from funcnn.suite.identity import is_named
        from funcnn.suite.recording import Recorder

        only = set(self._option("gradients_only"))
        most = self._option("gradients_megabytes") * 2**20
        with _quietly():
            self.recorder = Recorder(lambda name: not only or is_named(name, only), most)
            self.recorder.start()

    def pytest_collectreport(self) -> None:
        """A module of tests has been imported, and with it perhaps JAX."""
        self._start_if_jax()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Whose rules are the project's own: those of the packages that the tests stand in."""
        self._homes |= {_home(item.path) for item in session.items}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """JAX is there from now on, except where others run the tests."""
        if self.recorder is None and not self._has_workers():
            self._start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Calls are noted with the test that makes them."""
        if self.recorder is not None:
            # A test outside of the root, as of an installed package, has no file in its name.
            here = str(item.path) if item.nodeid.startswith("::") else ""
            self.recorder.test = here + item.nodeid
        try:
            return (yield)
        finally:
            if self.recorder is not None:
                self.recorder.test = ""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A process of pytest-xdist is told where claims are made."""
        node.workerinput[_KEY] = self._folder

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A process of pytest-xdist has ended, with what it found."""
        output = getattr(node, "workeroutput", None) or {}
        if _KEY in output:
            self._parts.append(output[_KEY])

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """The suite is over: check, and pass on or keep what was found."""
        self._session = session
        if self.recorder is not None:
            self.recorder.stop()
        if exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR):
            return
        with _quietly():
            self._check()
        assert self.found is not None
        fine = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self.mode == "fail" and self.found.findings and self._worker is None:
            self._failed = f"failed because of {self.found.counted_findings()}"
            if fine:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            else:
                self._failed += ", and because of tests"

    def _check(self) -> None:
        from funcnn.suite.distribution import from_text, merged, to_text
        from funcnn.suite.table import Found

        found, called = (Found(()), []) if self.recorder is None else self._checked(self.recorder)
        if self._worker is not None:
            vars(self.config)["workeroutput"][_KEY] = to_text(found, called)
        elif self._parts:
            found = merged([from_text(part) for part in self._parts])
        self.found = found

    def _checked(self, recorder: Recorder) -> tuple[Found, list[str]]:
        import dataclasses

        from funcnn.suite.checking import Checking, Limits
        from funcnn.suite.distribution import Claims
        from funcnn.suite.table import Found

        option, start = self._option, time.perf_counter()
        limits = Limits(
            *(option("gradients_seconds"), option("gradients_seconds_each")),
            *(option("gradients_megabytes"), option("gradients_level")),
            frozenset(option("gradients_surrogate")),
        )
        recorder.fetch(limits.seconds / 3)
        recorder.draw()
        checking = Checking(limits, Claims(self._folder))
        rows = checking.rows(list(recorder.called.values()), self._is_own)
        called = recorder.lines_called()
        never = [
            (name, self._shown(source), line)
            for line, (name, source) in recorder.defined().items()
            if line not in called and self._is_own(line.rpartition(":")[0])
        ]
        rows = [dataclasses.replace(row, source=self._shown(row.source)) for row in rows]
        seconds = time.perf_counter() - start
        said = tuple(recorder.failures), recorder.blind
        return Found(tuple(rows), tuple(never), seconds, *said), called

    def _is_own(self, file: str) -> bool:
        homes = {*self._homes, *map(_package, self._option("gradients_package"))}
        root = str(self.config.rootpath) + os.sep
        beside = file.startswith(root) and "site-packages" not in file.removeprefix(root)
        return beside or any(home and file.startswith(home + os.sep) for home in homes)

    def _shown(self, source: str) -> str:
        return source.removeprefix(str(self.config.rootpath) + os.sep)

    def _has_workers(self) -> bool:
        return self._worker is None and bool(getattr(self.config.option, "numprocesses", 0))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and one line that says it all."""
        found = self.found
        if found is None:
            return
        terminalreporter.section("gradients")
        with _quietly():
            for line in found.lines():
                terminalreporter.write_line(line)
            path = self._option("gradients_json")
            if path:
                from funcnn.report import write_json_lines

                write_json_lines(path, found.json_rows())
        terminalreporter.write_line(
            found.conclusion(), red=bool(found.findings), green=not found.findings
        )

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Why the suite failed; and nothing is left: no folder, no thread that nothing can stop."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if self._failed and reporter is not None:  # after pytest's line, which says "passed"
            reporter.write_line(self._failed, red=True)
        if self._worker is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self.recorder is not None and self._session is not None:
            from funcnn.gradient.program.answering import end_with

            end_with(int(self._session.exitstatus))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Inside, no warning is an error, whatever the project says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _home(path: Path) -> str:
    """The folder of the outermost package that a file stands in, "" where it stands in none."""
    home = ""
    for parent in path.parents:
        if not (parent / "__init__.py").exists():
            break
        home = str(parent)
    return home


def _package(name: str) -> str:
    """The folder of an installed package."""
    found = importlib.util.find_spec(name)
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise pytest.UsageError(f"--gradients-package {name}: no such package is installed")
    return str(Path(places[0]))
