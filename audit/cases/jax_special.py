"""Special functions of jax.scipy and jax.lax, point by point against mpmath."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import jax.scipy.special as special
import mpmath as mp
from jax import lax

from cases import points

_SCIPY = "jax/_src/scipy/special.py:"
_LAX = "jax/_src/lax/special.py:"


def _faddeeva(x, y):
    z = mp.mpc(x, y)
    return mp.re(mp.exp(-z * z) * mp.erfc(-1j * z))


def _owens_t(h, a):
    f = lambda t: mp.exp(-h * h * (1 + t * t) / 2) / (1 + t * t)  # noqa: E731
    with mp.workdps(32):
        return mp.quad(f, [0, a]) / (2 * mp.pi)


def _only_fast(cases):
    """More levels try 1e-30, too, where jax.scipy.special.exp1 of an array does not return."""
    return [dataclasses.replace(case, level="fast") for case in cases]


def _zeta(s, q):
    return mp.zeta(s, q)


SITES = {
    _SCIPY + "_wofz": lambda: points(
        lambda x, y: special.wofz(lax.complex(x, y)).real,
        _faddeeva,
        [(0.5, 0.5), (1.0, 2.0), (-2.0, 1.0), (3.0, 0.25)],
        [(5.0, 1e-3), (30.0, 0.5), (-100.0, 2.0), (1e3, 1.0), (0.5, 50.0)],
    ),
    _SCIPY + "_erfcx": lambda: points(
        special.erfcx,
        lambda x: mp.exp(x * x) * mp.erfc(x),
        [-2, -0.5, 0, 0.5, 1, 2],
        [-5, 3, 5, 8, 9.3, 9.5, 20, 1e3],
    ),
    _SCIPY + "_dawsn": lambda: points(
        special.dawsn,
        lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x),
        [-2, -0.5, 0, 0.5, 1, 2],
        [3.2, 3.3, 6.2, 6.3, 10, 30, 100, 1e3, 1e4],
    ),
    _SCIPY + "logit": lambda: points(
        special.logit,
        lambda p: mp.log(p / (1 - p)),
        [0.1, 0.3, 0.5, 0.9],
        [1e-30, 1e-7, 0.999, 0.9999999],
    ),
    _SCIPY + "xlogy": lambda: points(
        special.xlogy,
        lambda x, y: x * mp.log(y),
        [(0.5, 0.5), (2.0, 3.0), (-1.0, 0.25)],
        [(0.0, 0.5), (1e-20, 1e-20), (1e10, 1.0000001), (3.0, 1e-30), (0.0, 2e-38)],
    ),
    _SCIPY + "xlog1py": lambda: points(
        special.xlog1py,
        lambda x, y: x * mp.log1p(y),
        [(0.5, 0.5), (2.0, 3.0), (-1.0, -0.25)],
        [(0.0, 0.5), (1e-20, 1e-20), (3.0, -0.9999999), (1e10, 1e-7), (2.0, 1e30)],
    ),
    _SCIPY + "_xlogx": lambda: points(
        special.entr,
        lambda x: -x * mp.log(x),
        [0.1, 0.5, 1, 3],
        [2e-38, 1e-20, 0.36787944, 0.3678, 1e30],
    ),
    _SCIPY + "zeta": lambda: points(
        special.zeta,
        _zeta,
        [(1.5, 1.0), (2.0, 1.0), (3.0, 0.5), (5.0, 2.0)],
        [(1.001, 1.0), (20.0, 1.0), (2.0, 100.0), (40.0, 0.5), (2.0, 1e-3), (30.0, 5.0)],
    ),
    _SCIPY + "log_ndtr": lambda: points(
        special.log_ndtr,
        lambda x: mp.log(mp.ncdf(x)),
        [-3, -1, 0, 0.5, 2],
        [-1e4, -1e3, -30, -11, -9.9, 4.9, 5.1, 8, 12],
    ),
    _SCIPY + "expi": lambda: _only_fast(
        points(special.expi, mp.ei, [-3, -1, -0.3, 0.3, 1, 3, 10], [0.37250742, 60, 88, -50])
    ),
    _SCIPY + "sici": lambda: (
        points(lambda x: special.sici(x)[0], mp.si, [0.1, 0.5, 2, 3], [1e-10, 4.1, 10, 100, 1e4])
        + points(lambda x: special.sici(x)[1], mp.ci, [0.1, 0.5, 2, 3], [1e-3, 4.1, 10, 100, 1e4])
    ),
    _SCIPY + "expn": lambda: _only_fast(
        points(
            lambda x: special.expn(2, x), lambda x: mp.expint(2, x), [0.2, 0.9, 1.5, 4], [0.01, 30]
        )
        + points(lambda x: special.expn(1, x), lambda x: mp.e1(x), [0.2, 0.9, 1.5, 4], [0.01, 30])
        + points(lambda x: special.expn(5, x), lambda x: mp.expint(5, x), [0.2, 0.9, 4], [0.01, 60])
    ),
    _SCIPY + "poch": lambda: points(
        special.poch,
        mp.rf,
        [(1.5, 2.0), (2.0, 0.5), (0.5, 3.0)],
        [(30.0, 0.5), (1e-3, 2.0), (2.0, 0.0), (100.0, 1.0), (5.0, -2.0), (20.0, 3.0)],
    ),
    _SCIPY + "hyp1f1": lambda: points(
        special.hyp1f1,
        mp.hyp1f1,
        [(1.5, 2.0, 0.5), (0.5, 3.0, 2.0), (2.0, 1.0, 1.0)],
        # The documentation asks for positive arguments, and says what stands at a = 0.
        [(1.0, 2.0, 20.0), (2.0, 2.0, 1.0), (0.0, 2.0, 1.0), (5.0, 0.5, 90.0)],
    ),
    _SCIPY + "hyp2f1": lambda: points(
        special.hyp2f1,
        mp.hyp2f1,
        [(0.5, 1.5, 2.5, 0.3), (1.0, 2.0, 3.5, 0.5), (0.25, 0.75, 2.0, 0.1)],
        [
            # The documentation asks for positive arguments.
            *((0.5, 1.5, 2.5, 0.95), (1.0, 2.0, 2.0, 0.5)),
            *((2.0, 1.0, 2.0, 0.5), (2.0, 3.0, 1.5, 0.5)),
        ],
    ),
    _SCIPY + "_owens_t_impl": lambda: points(
        special.owens_t,
        _owens_t,
        [(0.5, 0.5), (1.0, 2.0), (2.0, -0.75)],
        [(0.0, 1.0), (1e-6, 3.0), (6.0, 1.0), (0.5, 100.0), (3.0, 1e-6)],
    ),
    "jax/_src/third_party/scipy/special.py:fresnel": lambda: (
        points(lambda x: special.fresnel(x)[0], mp.fresnels, [0.2, 1, 1.5], [1e-3, 2, 5, 30, 1e3])
        + points(lambda x: special.fresnel(x)[1], mp.fresnelc, [0.2, 1, 1.5], [2, 5, 30, 1e3])
    ),
    _LAX + "regularized_incomplete_beta_p": lambda: points(
        lambda x: special.betainc(jnp.full_like(x, 2.5), jnp.full_like(x, 0.75), x),
        lambda x: mp.betainc(2.5, 0.75, 0, x, regularized=True),
        [0.1, 0.5, 0.9],
        [1e-10, 1e-3, 0.999, 0.999999],
    ),
    _LAX + "lgamma_p": lambda: (
        points(lax.lgamma, mp.loggamma, [0.3, 1.2, 3, 10], [1e-20, 1, 1.4616321, 2, 1e4, 1e10])
        + points(
            lax.lgamma, lambda x: mp.log(abs(mp.gamma(x))), [-0.5, -1.5, -2.3], [-0.001, -20.4]
        )
    ),
    _LAX + "digamma_p": lambda: points(
        lax.digamma, mp.digamma, [0.3, 1.2, 3, 10, -0.5], [1e-10, 1.4616321, 1e4, -3.4, -0.999]
    ),
    _LAX + "polygamma_p": lambda: points(
        lambda x: lax.polygamma(jnp.full_like(x, 2), x),
        lambda x: mp.polygamma(2, x),
        [0.3, 1.2, 3, 10],
        [1e-5, 100, 1e4],
    ),
    _LAX + "igamma_p": lambda: points(
        lax.igamma,
        lambda a, x: mp.gammainc(a, 0, x, regularized=True),
        [(0.5, 0.5), (2.0, 1.0), (3.0, 5.0), (10.0, 8.0)],
        [(1e-3, 1e-3), (0.1, 10.0), (50.0, 20.0), (100.0, 100.0), (2.0, 1e-6), (1e3, 900.0)],
    ),
    _LAX + "igammac_p": lambda: points(
        lax.igammac,
        lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
        [(0.5, 0.5), (2.0, 1.0), (3.0, 5.0), (10.0, 8.0)],
        [(0.1, 10.0), (50.0, 20.0), (100.0, 100.0), (2.0, 30.0), (1e3, 1100.0)],
    ),
    _LAX + "bessel_i0e_p": lambda: points(
        lax.bessel_i0e,
        lambda x: mp.exp(-abs(x)) * mp.besseli(0, x),
        [-2, -0.5, 0.5, 2, 5],
        [1e-6, 9, 30, 1e3, 1e5],
    ),
    _LAX + "bessel_i1e_p": lambda: points(
        lax.bessel_i1e,
        lambda x: mp.exp(-abs(x)) * mp.besseli(1, x),
        [-2, -0.5, 0.5, 2, 5],
        [0, 1e-8, 1e-6, 1e-4, 0.01, 9, 30, 1e3, 1e5],
    ),
    _LAX + "erf_p": lambda: points(lax.erf, mp.erf, [-2, 0, 0.5, 3], [1e-30, 5, 9]),
    _LAX + "erfc_p": lambda: points(lax.erfc, mp.erfc, [-2, 0, 0.5, 3], [1e-30, 5, 9]),
    _LAX + "erf_inv_p": lambda: points(
        lax.erf_inv, mp.erfinv, [-0.5, 0, 0.3, 0.9], [1e-30, 0.999, 0.9999999, -0.99999]
    ),
}
