"""All cases by site, and why the other sites have none."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from sites import Site

from cases import Case
from cases.reasons import reason_for

__all__ = ["CASES", "FUNCTIONS", "reason_for"]

_MODULES = (
    *("jax_special", "jax_lax", "jax_numpy", "jax_experimental", "jax_newer", "functions"),
    *("libraries", "distributions", "tfp_special", "tfp_distributions"),
)


def _collect() -> tuple[dict[str, Callable[[], list[Case]]], tuple[Site, ...]]:
    cases: dict[str, Callable[[], list[Case]]] = {}
    functions: tuple[Site, ...] = ()
    for name in _MODULES:
        module = importlib.import_module(f"cases.{name}")
        cases |= module.SITES
        functions += getattr(module, "FUNCTIONS", ())
    return cases, functions


CASES, FUNCTIONS = _collect()
