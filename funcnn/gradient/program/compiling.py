"""Compiling what runs a few times only, and stopping it where it does not end."""

from __future__ import annotations

import functools
from typing import Any

import jax

from funcnn.gradient.program.loops import SECONDS, Ending
from funcnn.types import Function

# Compiling is most of what a check costs, and without fusion emitters it takes less than half.
_QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


def compiled(f: Function) -> Ending:
    """jax.jit; on a CPU without LLVM's optimisations, as each program runs a few times only.

    Raises:
        EndlessLoop: when called, where a loop goes on and on.

    >>> float(compiled(lambda x: x + 1)(1.0))
    2.0
    """
    quick = known_options() if jax.default_backend() == "cpu" else None
    return Ending(f, SECONDS, {"compiler_options": quick})


@functools.cache
def known_options() -> dict[str, Any]:
    """Those of the options that this XLA knows: it raises at any other, whatever is compiled.

    >>> "xla_backend_optimization_level" in known_options()
    True
    """
    if _compiles(_QUICKLY):
        return _QUICKLY
    return {name: value for name, value in _QUICKLY.items() if _compiles({name: value})}


def _compiles(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
