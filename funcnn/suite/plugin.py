"""The options of `pytest --gradients`, and nothing else: without the flag nothing is imported."""

from __future__ import annotations

from typing import Any

import pytest

# What takes a value: its type, or None where it may be given several times; its default; its name
# in the help; and the help.
_OPTIONS: dict[str, tuple[type | None, object, str, str]] = {
    "seconds": (float, 120.0, "S", "seconds for all checks, in each process"),
    "seconds-each": (float, 30.0, "S", "seconds after which a check is stopped"),
    "megabytes": (float, 2048.0, "MB", "memory for operands that are kept, and for a check"),
    "level": (str, "fast", "LEVEL", "of fnn.check, fast or full"),
    "only": (None, [], "RULE", "check the rules of this name alone"),
    "package": (
        *(None, [], "PACKAGE"),
        "an installed package whose rules are the project's own, as are those beside the tests",
    ),
    "surrogate": (
        *(None, [], "RULE"),
        "a rule that is another derivative on purpose: its value alone is checked",
    ),
    "json": (str, None, "FILE", "write what was found as one JSON object a line"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; their defaults are those of `funcnn.suite.checking.Limits`."""
    group = parser.getgroup("gradients", "gradients written by hand, in JAX (funcnn)")
    # Two names, since of one with an optional value a path after it would be that value.
    for name, mode, text in (
        ("--gradients", "report", "check every hand-written rule that the suite calls, and say so"),
        ("--gradients=fail", "fail", "the same; a wrong one is a failure of the suite"),
    ):
        group.addoption(name, action="store_const", const=mode, dest="gradients", help=text)
    for name, (kind, default, value, text) in _OPTIONS.items():
        more: dict[str, Any] = {"default": default, "metavar": value, "help": text}
        if kind is None:
            more |= {"action": "append", "help": f"{text}; may be given several times"}
        else:
            shown = "" if default is None else " (%(default)s)"
            more |= {"type": kind, "help": text + shown}
        if name == "level":
            more["choices"] = ("fast", "full")
        group.addoption(f"--gradients-{name}", **more)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """With the flag, what does the work is imported, after all that the project configures."""
    mode = config.getoption("gradients", None)
    if mode:
        from funcnn.suite.session import Gradients

        config.pluginmanager.register(Gradients(config, mode), "funcnn gradients")
