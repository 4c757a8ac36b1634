"""What a command says where its work does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from funcnn.config import Config, ConfigError
from funcnn.core.errors import first_line
from funcnn.runs.folder import RunFolder
from funcnn.train.processes import is_first


@contextmanager
def fits_into_memory(config: Config, folder: RunFolder) -> Iterator[None]:
    """Inside, a run that asks for more memory than there is ends with the keys to turn.

    A new one that has neither a state nor a record leaves nothing: what would make it fit is
    another config, with which it could not be resumed.

    Raises:
        ConfigError: there was not enough memory.

    >>> from funcnn.config import ModelConfig
    >>> with fits_into_memory(Config(model=ModelConfig(name="mlp")), RunFolder("no/such/run")):
    ...     raise MemoryError("cannot allocate memory for array")
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: does not fit into memory: cannot allocate memory for array; ...
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        reason = first_line(error)
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in reason:
            raise
        if is_first():
            folder.withdraw()
        reason = reason.removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
        cure = (
            f"lower data.batch_size = {config.data.batch_size}, cut a batch in parts with "
            f"train.accumulate, or take a smaller model; funcnn plan says what fits"
        )
        raise ConfigError([f"does not fit into memory: {reason}; {cure}"]) from error
