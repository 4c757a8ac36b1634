"""funcnn doctor: what this machine offers."""

from __future__ import annotations

import json
import os
import platform

import jax

from funcnn.commands.folder import version
from funcnn.core.errors import first_line
from funcnn.report import table

_PACKAGES = ("funcnn", "jax", "jaxlib", "numpy", "optax", "chex", "orbax-checkpoint")
_GPU_PACKAGES = ("jax-cuda13-plugin", "jax-cuda13-pjrt")


def doctor(*, as_json: bool = False) -> int:
    """Print versions, devices and settings; 1 where JAX cannot compute."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    found |= {name: version(name) for name in (*_PACKAGES, *_GPU_PACKAGES)}
    found["cores"] = str(os.cpu_count())
    code = 0
    try:
        found["devices"] = ", ".join(f"{d.platform} ({d.device_kind})" for d in jax.devices())
        total = float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((8, 8))))
        found["a matrix product"] = "right" if total == 512.0 else f"wrong: {total}"
    except RuntimeError as error:
        found["devices"] = f"none: {first_line(error)}"
    if found.get("a matrix product") != "right":
        code = 1
    found["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "not set")
    found["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "not set")
    if as_json:
        print(json.dumps(found))
    else:
        print(table([{"what": name, "found": value} for name, value in found.items()]))
    return code
