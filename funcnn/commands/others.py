"""The other processes that train the same run: how many, how they are found, and when one ends."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from funcnn.config import Config, ConfigError
from funcnn.config.toml import shortened
from funcnn.core.errors import first_line
from funcnn.train.processes import are_many

_ADDRESS, _NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"
# What JAX says, on the CPU and on GPUs, where another process is not heard any more.
_NOT_HEARD = ("Gloo", "Connection reset", "heartbeat", "oordination", "remote process exited")


class ProcessEnded(RuntimeError):
    """Another process of the run has ended, and this one cannot go on.

    >>> issubclass(ProcessEnded, RuntimeError)
    True
    """


def processes_of(config: Config) -> int:
    """How many processes train together.

    Raises:
        ConfigError: the environment numbers this process, and the config does not say of how many:
            each of them would train alone.

    >>> from funcnn.config import ModelConfig
    >>> processes_of(Config(model=ModelConfig(name="mlp")))
    1
    """
    mesh = config.mesh
    said = mesh is not None and "processes" in mesh.model_fields_set
    if not said and os.environ.get(_ADDRESS) and os.environ.get(_NUMBER):
        message = (
            f"missing, and {_ADDRESS} and {_NUMBER} are set: say how many processes train together "
            f"(--set mesh.processes=2); to train alone it is 1, or unset the two"
        )
        raise ConfigError([f"mesh.processes: {message}"])
    return 1 if mesh is None else mesh.processes


def join(processes: int) -> None:
    """Find the other processes: by the environment, or by SLURM, MPI or whatever JAX knows.

    Raises:
        ConfigError: they cannot be found, or are not as many.
    """
    number = os.environ.get(_NUMBER, "")
    given: dict[str, Any] = {}
    if number:
        if not (number.isdecimal() and int(number) < processes):
            message = f"{_NUMBER} = {number!r}, and it is 0 to {processes - 1}"
            raise ConfigError([f"mesh.processes = {processes}: {message}"])
        given = {"num_processes": processes, "process_id": int(number)}
    try:
        jax.distributed.initialize(**given)
    except (RuntimeError, ValueError, TypeError) as error:
        message = (
            f"{_missing()}start each of them with {_ADDRESS}=HOST:PORT of the first and "
            f"{_NUMBER}=0 to {processes - 1}, or all by SLURM, MPI or another launcher that JAX "
            f"knows: {first_line(error)}"
        )
        raise ConfigError([f"mesh.processes = {processes}: {message}"]) from error
    if jax.process_count() != processes:
        message = f"there are {jax.process_count()}, as the launcher says"
        raise ConfigError([f"mesh.processes = {processes}: {message}"])


def _missing() -> str:
    """Which of the two variables is not set, where the other one is."""
    there = [name for name in (_ADDRESS, _NUMBER) if os.environ.get(name)]
    if len(there) != 1:
        return ""
    other = _NUMBER if there == [_ADDRESS] else _ADDRESS
    return f"{there[0]} is set, and {other} is missing: "


@contextmanager
def others_may_end() -> Iterator[None]:
    """Inside, what JAX raises where another process has ended is one line, and the exit code 1.

    Raises:
        ProcessEnded: another one has ended.

    >>> with others_may_end():
    ...     pass
    """
    try:
        yield
    except Exception as error:
        reason = not_heard(error) if are_many() else ""
        if not reason:
            raise
        # JAX would wait for the others at the end, and then abort this process.
        atexit.register(_end_now)
        message = "another process has ended; start all of them again with --resume"
        raise ProcessEnded(f"{message} ({shortened(reason, 160)})") from error


def not_heard(error: BaseException | None) -> str:
    """What JAX says of a process that is not heard any more, "" where an error is another one.

    >>> not_heard(ValueError("heartbeat"))
    ''
    """
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            line = first_line(error)
            if any(words in line for words in _NOT_HEARD):
                return line
        error = error.__cause__ or error.__context__
    return ""


def _end_now() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
