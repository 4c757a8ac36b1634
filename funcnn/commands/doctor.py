"""funcnn doctor: what this machine offers."""

from __future__ import annotations

import json
import os
import platform

import jax

from funcnn.core.errors import first_line
from funcnn.report import table
from funcnn.runs.folder import version

_PACKAGES = ("funcnn", "jax", "jaxlib", "numpy", "optax", "chex", "orbax-checkpoint")
_GPU_PACKAGES = ("jax-cuda13-plugin", "jax-cuda13-pjrt")


def doctor(*, as_json: bool = False) -> int:
    """Print versions, devices and settings; 1 where JAX cannot compute."""
    facts = {"python": platform.python_version(), "system": platform.platform()}
    facts |= {name: version(name) for name in (*_PACKAGES, *_GPU_PACKAGES)}
    facts["cores"] = str(os.cpu_count())
    code = 0
    try:
        facts["devices"] = ", ".join(f"{d.platform} ({d.device_kind})" for d in jax.devices())
        total = float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((8, 8))))
        facts["a matrix product"] = "right" if total == 512.0 else f"wrong: {total}"
    except RuntimeError as error:
        facts["devices"] = f"none: {first_line(error)}"
    if facts.get("a matrix product") != "right":
        code = 1
    facts["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "not set")
    facts["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "not set")
    if as_json:
        print(json.dumps(facts))
    else:
        print(table([{"what": name, "found": value} for name, value in facts.items()]))
    return code
