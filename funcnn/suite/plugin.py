"""The options of `pytest --gradients`, and nothing else: without the flag nothing is imported."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; their defaults are those of `funcnn.suite.checking.Limits`."""
    group = parser.getgroup("gradients", "gradients written by hand, in JAX (funcnn)")
    # Two names, since of one with an optional value a path after it would be that value.
    for name, mode, text in (
        ("--gradients", "report", "check every hand-written rule that the suite calls, and say so"),
        ("--gradients=fail", "fail", "the same; a wrong one is a failure of the suite"),
    ):
        group.addoption(name, action="store_const", const=mode, dest="gradients", help=text)
    group.addoption(
        "--gradients-seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds for all checks, in each process (%(default)g)",
    )
    group.addoption(
        "--gradients-seconds-each",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds after which a check is stopped (%(default)g)",
    )
    group.addoption(
        "--gradients-megabytes",
        type=float,
        default=2048.0,
        metavar="MB",
        help="memory for operands that are kept, and for a check (%(default)g)",
    )
    group.addoption(
        "--gradients-level",
        choices=("fast", "full"),
        default="fast",
        help="of fnn.check (%(default)s)",
    )
    group.addoption(
        "--gradients-only",
        action="append",
        default=[],
        metavar="RULE",
        help="check the rules of this name alone; may be given several times",
    )
    group.addoption(
        "--gradients-package",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="an installed package whose rules are the project's own, as are those beside the "
        "tests; may be given several times",
    )
    group.addoption(
        "--gradients-surrogate",
        action="append",
        default=[],
        metavar="RULE",
        help="a rule that is another derivative on purpose (straight-through, clipped): its value "
        "alone is checked; may be given several times",
    )
    group.addoption(
        "--gradients-json", metavar="FILE", help="write what was found as one JSON object a line"
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """With the flag, what does the work is imported, after all that the project configures."""
    mode = config.getoption("gradients", None)
    if mode:
        from funcnn.suite.session import Gradients

        config.pluginmanager.register(Gradients(config, mode), "funcnn gradients")
