"""funcnn hunt: arguments at which a hand-written gradient is wrong, rule after rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from funcnn.commands.target import (
    check_writable,
    load_arguments,
    load_target,
    refused_by,
    traced,
)
from funcnn.config import ConfigError
from funcnn.core.registry import Rule
from funcnn.gradient.hunt.hunt import HuntReport, hunt
from funcnn.report import write_page
from funcnn.rules import registered_rules
from funcnn.spelling import did_you_mean


def hunt_rules(
    names: Sequence[str],
    *,
    budget: float,
    seed: int = 0,
    target: str | None = None,
    arguments: str | None = None,
    as_json: bool = False,
    html: str | None = None,
) -> int:
    """Hunt in registered rules, all of them where none is named, or in one target. 1 where found.

    A name with a colon is a rule of somebody else's, module:name.

    Raises:
        ConfigError: an unknown rule, a target that cannot be loaded, options that do not go
            together.
    """
    check_writable("--html", html)
    if target is not None and names:
        raise ConfigError(["hunt: name rules or give --target, not both"])
    if target is None and arguments is not None:
        raise ConfigError(["hunt: --args needs --target; a rule has its own cases"])
    chosen = _chosen(names) if target is None else [(target, load_target(target))]
    args = load_arguments(arguments)
    reports: list[HuntReport] = []
    for report in _hunted(chosen, args, budget, seed):
        reports.append(report)
        for text in map(json.dumps, report.rows()) if as_json else [str(report)]:
            print(text, flush=True)
    if html is not None:
        write_page(html, reports, facts={"budget": f"{budget:g} s", "seed": str(seed)})
    wrong = [report.target for report in reports if not report.ok]
    if wrong:
        print(f"wrong or not compared: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _chosen(names: Sequence[str]) -> list[tuple[str, Any]]:
    rules = registered_rules()
    chosen: list[tuple[str, Any]] = []
    for name in names or rules:
        if name not in rules and ":" not in name:
            hint = did_you_mean(name, list(rules))
            known = ", ".join(rules)
            raise ConfigError([f"hunt: unknown rule {name or repr(name)}{hint}; known: {known}"])
        chosen.append((name, rules[name] if name in rules else load_target(name)))
    return chosen


def _hunted(
    chosen: list[tuple[str, Any]], args: tuple[Any, ...], budget: float, seed: int
) -> Iterator[HuntReport]:
    for path, subject in chosen:
        if not isinstance(subject, Rule):
            if not args:
                needs = "is a function: --target it, with --args module:function_of_a_tuple"
                raise ConfigError([f"hunt: {path} {needs}"])
            traced(subject, args, path)
        with refused_by("hunt", path):
            yield hunt(subject, *args, budget=budget, seed=seed)
