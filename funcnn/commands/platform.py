"""The device that a run asks for."""

from __future__ import annotations

import jax

from funcnn.commands.others import join
from funcnn.config import ConfigError


def choose_platform(platform: str, processes: int = 1) -> str:
    """Make JAX use "cpu", "gpu" or, for "auto", what it finds best; the device's name.

    It must be called before anything is computed. Where this is one of several processes, it waits
    for the others.

    Raises:
        ConfigError: there is no such device, or the others cannot be found.

    >>> choose_platform("auto") != ""
    True
    """
    if platform != "auto":
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[platform])
    if processes > 1:
        join(processes)
    try:
        device = jax.devices()[0]
    except (RuntimeError, AssertionError) as error:
        # JAX asserts, without a word, where no package for the platform is installed.
        reason = (str(error).splitlines() or ["no package for it is installed"])[0]
        message = (
            f'run.platform = "{platform}": JAX finds no such device here; take "cpu" or "auto", '
            f'or install the GPU packages (pip install "funcnn[cuda]"): {reason}'
        )
        raise ConfigError([message]) from error
    return f"{device.platform} ({device.device_kind})"
