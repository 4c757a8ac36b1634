"""Compiled programs that are kept in a folder, for the same command later on."""

from __future__ import annotations

import os

import jax

from funcnn.config import ConfigError

# All of them: the programs of a check are many, small and quickly compiled.
_OF_JAX = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def keep_compiled(folder: str | None) -> None:
    """Keep what is compiled from now on in a folder, in the processes that begin later, too.

    Raises:
        ConfigError: no folder can be made there.

    >>> keep_compiled(None)
    >>> keep_compiled(__file__)
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: --cache ...compiled.py: no folder can be made there: File exists
    """
    if folder is None:
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        why = f"no folder can be made there: {error.strerror}"
        raise ConfigError([f"--cache {folder}: {why}"]) from error
    where = {"jax_compilation_cache_dir": os.path.abspath(folder)}
    for name, value in (where | _OF_JAX).items():
        os.environ[name.upper()] = str(value)  # for the processes that begin later
        jax.config.update(name, value)
