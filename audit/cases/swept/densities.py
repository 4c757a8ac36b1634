"""jax.scipy.stats of the normal and what is like it: every function of each by every parameter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.scipy.stats as stats
import mpmath as mp

from cases import points

_NAME = "jax.scipy.stats."


def _normal_cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _normal_pdf(x):
    return mp.npdf(x)


def _logistic(x):
    return 1 / (1 + mp.exp(-x))


def _laplace_cdf(x):
    return mp.exp(x) / 2 if x < 0 else 1 - mp.exp(-x) / 2


def _laplace_sf(x):
    return _laplace_cdf(-x)


def _cauchy_cdf(x):
    return mp.acot(-x) / mp.pi if x < 0 else 1 - mp.acot(x) / mp.pi if x else mp.mpf("0.5")


def _cauchy_sf(x):
    return mp.acot(x) / mp.pi if x > 0 else 1 - mp.acot(-x) / mp.pi if x else mp.mpf("0.5")


def _log(f):
    return lambda *x: mp.log(f(*x))


def _scaled(f):
    """With a place and a scale, of a distribution function."""
    return lambda x, loc, scale: f((x - loc) / scale)


def _density(f):
    return lambda x, loc, scale: f((x - loc) / scale) / scale


def _gumbel_cdf(x):
    return mp.exp(-mp.exp(-x))


def _gumbel_sf(x):
    return -mp.expm1(-mp.exp(-x))


def _gumbel_pdf(x):
    return mp.exp(-x - mp.exp(-x))


def _mirrored(f):
    return lambda x: f(-x)


_FAMILIES = {
    "norm": (_normal_pdf, _normal_cdf, lambda x: _normal_cdf(-x)),
    "logistic": (lambda x: _logistic(x) * _logistic(-x), _logistic, lambda x: _logistic(-x)),
    "laplace": (lambda x: mp.exp(-abs(x)) / 2, _laplace_cdf, _laplace_sf),
    "cauchy": (lambda x: 1 / (mp.pi * (1 + x * x)), _cauchy_cdf, _cauchy_sf),
    "gumbel_r": (_gumbel_pdf, _gumbel_cdf, _gumbel_sf),
    "gumbel_l": (_mirrored(_gumbel_pdf), _mirrored(_gumbel_sf), _mirrored(_gumbel_cdf)),
}
_ORDINARY = [(0.5, 0.0, 1.0), (-1.0, 0.5, 2.0)]
_TAILS = {
    "gumbel_r": [(-3.0, 0.0, 1.0), (20.0, 0.0, 1.0), (60.0, 0.0, 1.0)],
    "gumbel_l": [(3.0, 0.0, 1.0), (-20.0, 0.0, 1.0), (-60.0, 0.0, 1.0)],
    "norm": [(-6.0, 0.0, 1.0), (6.0, 0.0, 1.0), (-30.0, 0.0, 1.0), (30.0, 0.0, 1.0)],
    "cauchy": [(-1e4, 0.0, 1.0), (1e4, 0.0, 1.0), (1e10, 0.0, 1.0)],
}
_EDGES = [(-15.0, 0.0, 1.0), (15.0, 0.0, 1.0), (-60.0, 0.0, 1.0), (60.0, 0.0, 1.0)]


def of_family(
    family: str, functions: dict[str, Callable[..., Any]], ordinary: Sequence[Any], edges: Any
) -> dict[str, Any]:
    """Cases of those of the functions that the family has."""
    module = getattr(stats, family)
    return {
        f"{_NAME}{family}.{name}": functools.partial(
            points, getattr(module, name), exact, ordinary, edges
        )
        for name, exact in functions.items()
        if hasattr(module, name)
    }


def _functions(pdf, cdf, sf):
    return {
        "pdf": _density(pdf),
        "logpdf": _log(_density(pdf)),
        "cdf": _scaled(cdf),
        "logcdf": _log(_scaled(cdf)),
        "sf": _scaled(sf),
        "logsf": _log(_scaled(sf)),
    }


def _quantile(p):
    return -mp.sqrt(2) * mp.erfinv(1 - 2 * p)


_INVERSES = {
    "norm": _quantile,
    "cauchy": lambda p: mp.tan(mp.pi * (p - mp.mpf("0.5"))),
    "logistic": lambda p: mp.log(p / (1 - p)),
    "laplace": lambda p: mp.log(2 * p) if p < 0.5 else -mp.log(2 - 2 * p),
    "gumbel_r": lambda p: -mp.log(-mp.log(p)),
    "gumbel_l": lambda p: mp.log(-mp.log1p(-p)),
}


def _inverse(f):
    return {
        "ppf": lambda p, loc, scale: loc + scale * f(p),
        "isf": lambda p, loc, scale: loc + scale * f(1 - p),
    }


# The gradient of these raises a TypeError: findings/jax-xlogy-of-integers.md.
_RAISE = {f"{_NAME}gumbel_{side}.{name}" for side in "lr" for name in ("pdf", "logpdf", "ppf")}

CASES = {
    name: make
    for family, three in _FAMILIES.items()
    for name, make in {
        **of_family(family, _functions(*three), _ORDINARY, _TAILS.get(family, _EDGES)),
        **of_family(
            family,
            _inverse(_INVERSES[family]),
            [(0.3, 0.0, 1.0), (0.8, 0.5, 2.0)],
            [(1e-6, 0.0, 1.0), (0.9999, 0.0, 1.0), (1e-30, 0.0, 1.0)],
        ),
    }.items()
    if name not in _RAISE
}
