"""jax.scipy.stats of other families, by their values and their parameters."""

from __future__ import annotations

import jax.numpy as jnp
import jax.scipy.stats as stats
import mpmath as mp
import numpy as np

from cases import Case, normal, points
from cases.swept.densities import of_family

_NAME = "jax.scipy.stats."


def _log(f):
    return lambda *x: mp.log(f(*x))


def _all(pdf, cdf, sf):
    return {"logpdf": _log(pdf), "cdf": cdf, "logcdf": _log(cdf), "sf": sf, "logsf": _log(sf)}


def _beta_cdf(x, a, b):
    return mp.betainc(a, b, 0, x, regularized=True)


def _beta_sf(x, a, b):
    return mp.betainc(a, b, x, 1, regularized=True)


def _gamma_cdf(x, a):
    return mp.gammainc(a, 0, x, regularized=True)


def _gamma_sf(x, a):
    return mp.gammainc(a, x, mp.inf, regularized=True)


def _t_pdf(x, df):
    top = mp.gammaprod([(df + 1) / 2], [df / 2])
    return top / mp.sqrt(mp.pi * df) * (1 + x * x / df) ** (-(df + 1) / 2)


def _gennorm_cdf(x, p):
    tail = mp.gammainc(1 / p, abs(x) ** p, mp.inf, regularized=True) / 2
    return tail if x < 0 else 1 - tail


def _truncated(x, a, b):
    return (mp.ncdf(x) - mp.ncdf(a)) / (mp.ncdf(b) - mp.ncdf(a))


def _truncated_sf(x, a, b):
    return (mp.ncdf(b) - mp.ncdf(x)) / (mp.ncdf(b) - mp.ncdf(a))


def _truncated_pdf(x, a, b):
    return mp.npdf(x) / (mp.ncdf(b) - mp.ncdf(a))


def _poisson_cdf(k):
    return lambda mu: mp.gammainc(k + 1, mu, mp.inf, regularized=True)


def _wrapped(x, c):
    return (1 - c * c) / (2 * mp.pi * (1 + c * c - 2 * c * mp.cos(x)))


_FAMILIES = {
    "beta": (
        {"logpdf": lambda x, a, b: mp.log(x ** (a - 1) * (1 - x) ** (b - 1) / mp.beta(a, b))},
        [(0.3, 0.5, 2.0), (0.6, 3.0, 1.5)],
        [(1e-6, 2.0, 3.0), (0.9999, 2.0, 3.0), (0.5, 1.0, 1.0), (0.5, 200.0, 100.0)],
    ),
    "gamma": (
        _all(lambda x, a: x ** (a - 1) * mp.exp(-x) / mp.gamma(a), _gamma_cdf, _gamma_sf),
        [(0.5, 2.0), (3.0, 1.5)],
        [(1e-6, 2.0), (40.0, 2.0), (1.0, 1.0), (0.5, 1e-3)],
    ),
    "chi2": (
        _all(
            lambda x, k: (
                x ** (k / 2 - 1) * mp.exp(-x / 2) / (mp.mpf(2) ** (k / 2) * mp.gamma(k / 2))
            ),
            lambda x, k: _gamma_cdf(x / 2, k / 2),
            lambda x, k: _gamma_sf(x / 2, k / 2),
        ),
        [(0.5, 2.0), (3.0, 1.5)],
        [(1e-6, 2.0), (60.0, 2.0), (1.0, 2.0)],
    ),
    "expon": (
        _all(lambda x: mp.exp(-x), lambda x: -mp.expm1(-x), lambda x: mp.exp(-x)),
        [0.5, 3],
        [1e-10, 40],
    ),
    "t": (
        {"logpdf": _log(_t_pdf), "pdf": _t_pdf},
        [(0.5, 2.0), (-3.0, 1.5)],
        [(0.5, 1e4), (0.5, 1e8), (1e10, 3.0), (1e-20, 3.0), (1e20, 3.0)],
    ),
    "gennorm": (
        {
            "logpdf": lambda x, p: mp.log(p / 2) - mp.loggamma(1 / p) - abs(x) ** p,
            "cdf": _gennorm_cdf,
        },
        [(0.5, 2.0), (-1.0, 1.5)],
        [(1e-10, 2.0), (3.0, 4.0), (-3.0, 4.0), (0.5, 30.0)],
    ),
    "pareto": (
        _all(lambda x, b: b * x ** (-b - 1), lambda x, b: 1 - x**-b, lambda x, b: x**-b),
        [(1.5, 2.0), (3.0, 0.5)],
        [(1.00001, 2.0), (1e10, 3.0)],
    ),
    "truncnorm": (
        _all(_truncated_pdf, _truncated, _truncated_sf),
        [(0.5, -1.0, 2.0), (-0.5, -2.0, 0.5)],
        [(5.5, 5.0, 6.0), (-5.5, -6.0, -5.0), (0.5, -20.0, 20.0), (21.0, 20.0, 30.0)],
    ),
    "vonmises": (
        {"logpdf": lambda x, k: k * mp.cos(x) - mp.log(2 * mp.pi * mp.besseli(0, k))},
        [(0.5, 2.0), (-1.0, 0.5)],
        [(0.5, 1e-10), (0.5, 50.0), (0.5, 200.0), (1e-4, 1e4)],
    ),
    "wrapcauchy": (
        {"logpdf": _log(_wrapped), "pdf": _wrapped},
        [(0.5, 0.3), (2.0, 0.9)],
        [(0.5, 1e-6), (1e-3, 0.999)],
    ),
}


def _betas():
    """By x alone: by the parameters the incomplete beta function raises, and says so."""
    exact = _all(None, lambda x: _beta_cdf(x, 2, 3), lambda x: _beta_sf(x, 2, 3))
    return {
        f"{_NAME}beta.{name}": _beta_of(name, f) for name, f in exact.items() if name != "logpdf"
    }


def _beta_of(name, exact):
    f = getattr(stats.beta, name)
    return lambda: points(lambda x: f(x, 2.0, 3.0), exact, [0.3, 0.6], [1e-6, 0.01, 0.9999])


def _of_counts(name, f, exact, ordinary, edges):
    return {f"{_NAME}{name}": lambda: points(f, exact, ordinary, edges)}


def _whole(name, f, *cases):
    return {f"{_NAME}{name}": lambda: [Case(label, f, args) for label, *args in _tuples(cases)]}


def _tuples(cases):
    return [(label, *map(np.asarray, args)) for label, *args in cases]


def _f32(*rows):
    return np.array(rows, np.float32)


def _mixtures():
    simplex, weights = _f32(0.2, 0.3, 0.5), _f32(0.5, 1.0, 3.0)
    cov = _f32([2.0, 0.5], [0.5, 1.0])

    def gaussian(x, mean, factor):
        return stats.multivariate_normal.logpdf(x, mean, factor @ factor.T)

    def dirichlet(x, alpha):
        return stats.dirichlet.logpdf(x / x.sum(), alpha)

    def kernels(data, x):
        return stats.gaussian_kde(data).logpdf(x)

    return {
        "multivariate_normal.logpdf": (gaussian, (normal(2), normal(2, seed=1), cov)),
        "dirichlet.logpdf": (dirichlet, (simplex, weights)),
        "gaussian_kde": (kernels, (normal(6), normal(2, seed=1))),
    }


def _case(f, args):
    return lambda: [Case("ordinary", f, args)]


CASES = {
    **{
        name: make
        for family, (functions, ordinary, edges) in _FAMILIES.items()
        for name, make in of_family(family, functions, ordinary, edges).items()
    },
    **_betas(),
    **{_NAME + name: _case(*rest) for name, rest in _mixtures().items()},
    **_of_counts(
        "poisson.logpmf",
        lambda mu: stats.poisson.logpmf(3, mu),
        lambda mu: 3 * mp.log(mu) - mu - mp.log(6),
        [0.5, 3],
        [1e-10, 1e4],
    ),
    **_of_counts(
        "poisson.logpmf of zero",
        lambda mu: stats.poisson.logpmf(0, mu),
        lambda mu: -mu,
        [0.5, 3],
        [0, 1e-10, 1e4],
    ),
    **_of_counts(
        "poisson.cdf", lambda mu: stats.poisson.cdf(3, mu), _poisson_cdf(3), [0.5, 3], [1e-3, 30]
    ),
    **_of_counts(
        "binom.logpmf",
        lambda p: stats.binom.logpmf(3, 10, p),
        lambda p: mp.log(mp.binomial(10, 3)) + 3 * mp.log(p) + 7 * mp.log1p(-p),
        [0.3, 0.8],
        [1e-6, 0.9999],
    ),
    **_of_counts(
        "binom.logpmf at both ends",
        lambda p: stats.binom.logpmf(0, 10, p),
        lambda p: 10 * mp.log1p(-p),
        [0.3],
        [0, 1e-6],
    ),
    **_of_counts(
        "nbinom.logpmf",
        lambda n, p: stats.nbinom.logpmf(3, n, p),
        lambda n, p: (
            mp.loggamma(n + 3) - mp.loggamma(n) - mp.log(6) + n * mp.log(p) + 3 * mp.log1p(-p)
        ),
        [(2.0, 0.3), (0.5, 0.8)],
        [(1e4, 0.9), (1e6, 0.99)],
    ),
    **_of_counts(
        "geom.logpmf",
        lambda p: stats.geom.logpmf(3, p),
        lambda p: 2 * mp.log1p(-p) + mp.log(p),
        [0.3, 0.8],
        [1e-6, 0.9999],
    ),
    **_of_counts(
        "geom.logpmf of one", lambda p: stats.geom.logpmf(1, p), mp.log, [0.3], [1, 0.9999]
    ),
    **_of_counts(
        "bernoulli.logpmf",
        lambda p: stats.bernoulli.logpmf(jnp.array([1, 1, 1]), p),
        mp.log,
        [0.3, 0.8, 0.5],
        [1, 1e-6, 0.9999],
    ),
    **_of_counts(
        "betabinom.logpmf",
        lambda a, b: stats.betabinom.logpmf(3, 10, a, b),
        lambda a, b: mp.log(mp.binomial(10, 3) * mp.beta(a + 3, b + 7) / mp.beta(a, b)),
        [(0.5, 2.0), (3.0, 1.5)],
        [(1e4, 1e4), (1e6, 1.0)],
    ),
}
