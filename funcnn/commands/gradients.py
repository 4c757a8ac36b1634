"""funcnn compare, and what it shares with funcnn census: a config's loss, or any function."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import jax

from funcnn.commands.platform import choose_platform
from funcnn.commands.target import (
    check_writable,
    load_arguments,
    load_target,
    refused_by,
    traced,
)
from funcnn.config import Config, ConfigError
from funcnn.experiment import build_experiment
from funcnn.gradient.comparison.compare import compare
from funcnn.gradient.program.float64 import is_float
from funcnn.report import Report
from funcnn.runs.start import starting_params


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a command looks at.

    Attributes:
        function: of JAX, not differentiated; its first argument holds the parameters.
        args: its arguments.
        has_aux: whether it returns `(value, anything)`.
        title: what it is, for the first line and the page.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    has_aux: bool
    title: str


def subject_of_config(config: Config) -> Subject:
    """The loss of a config on its first batch, at the params that its training starts from."""
    device = choose_platform(config.run.platform)
    experiment = build_experiment(config)
    batch = jax.tree.map(jax.numpy.asarray, experiment.batches()(0))
    params = starting_params(config, experiment.params)
    args = (params, batch, jax.random.key(config.run.seed))
    rows = len(jax.tree.leaves(batch)[0])
    title = f"{experiment.dataset.name}, {rows} rows, on {device}"
    return Subject(experiment.loss, args, True, title)


def subject_of_target(target: str, arguments: str | None, *, scalar: bool = False) -> Subject:
    """A function of somebody else's, `package.module:name`, with its arguments.

    Args:
        target, arguments: where they stand.
        scalar: whether it must return a scalar, alone or first in a pair.

    Raises:
        ConfigError: it cannot be loaded, it does not take these arguments, or it returns no scalar.
    """
    function, args = load_target(target), load_arguments(arguments)
    if arguments is None:
        message = "needs --args package.module:function_that_returns_a_tuple"
        raise ConfigError([f"--target {target}: {message}"])
    shapes = traced(function, args, target)
    has_aux = isinstance(shapes, tuple) and len(shapes) == 2
    if scalar and not _is_scalar(shapes[0] if has_aux else shapes):
        types = ", ".join(map(str, jax.tree.leaves(shapes)[:3])) or "nothing"
        wanted = "a floating-point scalar, alone or first in a pair"
        message = f"compare: f must return {wanted}, found {types}"
        raise ConfigError([f"--target {target}: {message}"])
    device = jax.devices()[0]
    return Subject(
        function, args, has_aux, f"{target}, on {device.platform} ({device.device_kind})"
    )


def _is_scalar(shape: Any) -> bool:
    """Whether what a function returns is one floating-point number, and no tree."""
    return hasattr(shape, "shape") and not shape.shape and is_float(shape)


def compare_gradients(subject: Subject, *, as_json: bool = False, html: str | None = None) -> int:
    """Manual against automatic gradient by the first argument. 1 where it is wrong."""
    report = compare(subject.function, *subject.args, has_aux=subject.has_aux)
    show(report, f"gradient of {subject.title}", as_json)
    if html is not None:
        report.to_html(html, title=f"funcnn: gradient of {subject.title}")
    return 0 if report.ok else 1


def run(
    command: Callable[..., int],
    config: Callable[[], Config] | None,
    target: str | None,
    arguments: str | None,
    *,
    as_json: bool,
    html: str | None,
) -> int:
    """A command, `command(subject, as_json=..., html=...)`, on a config or on a target."""
    check_writable("--html", html)
    if (config is None) == (target is None):
        raise ConfigError(["give a CONFIG, or --target with --args; one of the two"])
    if config is not None and arguments is not None:
        raise ConfigError(["--args needs --target; a config makes its own arguments"])
    if config is not None:
        return command(subject_of_config(config()), as_json=as_json, html=html)
    tool = "compare" if command is compare_gradients else "census"
    subject = subject_of_target(str(target), arguments, scalar=tool == "compare")
    with refused_by(tool, str(target)):
        return command(subject, as_json=as_json, html=html)


def show(report: Report, title: str, as_json: bool) -> None:
    """A report under a title, or as JSON lines with its conclusion on stderr."""
    if not as_json:
        print(title)
        print(report)
        return
    for row in report.rows():
        print(json.dumps(row))
    print(report.conclusion(), file=sys.stderr)
