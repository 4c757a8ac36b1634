"""jax.scipy.special, by every argument of floating point."""

from __future__ import annotations

import jax.numpy as jnp
import jax.scipy.special as special
import mpmath as mp

from cases import points

_NAME = "jax.scipy.special."


def _spence(x):
    return mp.re(mp.polylog(2, 1 - x))


def _normal(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _normal_inverse(p):
    return -mp.sqrt(2) * mp.erfinv(1 - 2 * p)


def _poch(z, m):
    return mp.gammaprod([z + m], [z])


def _xlogy(x, y):
    return x * mp.log(y) if x else mp.mpf(0)


def _multigamma(a):
    return 3 * mp.log(mp.pi) / 2 + sum(mp.loggamma(a - mp.mpf(j) / 2) for j in range(3))


def _harmonic(theta, phi):
    return mp.re(mp.spherharm(2, 1, theta, phi))


_UNARY = {
    "spence": (_spence, [0.3, 0.7, 1.2, 1.7, 3], [1e-20, 0.5, 1, 1.5, 2, 1e10]),
    "expit": (lambda x: 1 / (1 + mp.exp(-x)), [-2, 0.5, 3], [-80, -15, 15, 30]),
    "gamma": (mp.gamma, [-1.5, 0.5, 3], [1e-10, -0.999, 1, 30, -20.5]),
    "gammaln": (mp.loggamma, [0.5, 1.5, 3], [1e-20, 1, 2, 1e-5, 1e6, 1e20]),
    "digamma": (mp.digamma, [-1.5, 0.5, 3], [1e-10, 1.4616321, 1e6, -20.5]),
    "erf": (mp.erf, [-2, 0.5, 3], [0, 1e-20, 5, 9, -13]),
    "erfc": (mp.erfc, [-2, 0.5, 3], [0, 5, 9, -13]),
    "erfinv": (mp.erfinv, [-0.9, 0.1, 0.5], [0, 1e-20, 0.999999, -0.99999]),
    "exp1": (mp.e1, [0.5, 1, 3], [1e-3, 30, 80]),
    "expi": (mp.ei, [-2, 0.5, 3], [1e-10, -30, 30, 0.3725074]),
    "i0": (lambda x: mp.besseli(0, x), [-2, 0.5, 3], [0, 1e-6, 20, 80]),
    "i0e": (lambda x: mp.exp(-abs(x)) * mp.besseli(0, x), [-2, 0.5, 3], [1e-6, 80, 1e4]),
    "i1e": (lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), [-2, 0.5, 3], [0, 1e-6, 80, 1e4]),
    "entr": (lambda x: -x * mp.log(x), [0.3, 1, 3], [1e-30, 1e30]),
    "factorial": (mp.factorial, [0.5, 1, 3], [0, 1e-6, 30]),
    "ndtri": (_normal_inverse, [0.1, 0.4, 0.9], [1e-30, 1e-3, 0.5, 0.999999]),
    "log_ndtr": (lambda x: mp.log(_normal(x)), [-2, 0.5, 3], [-5, -30, -300, 5, 8, 12]),
    "logit": (lambda p: mp.log(p / (1 - p)), [0.1, 0.5, 0.9], [1e-30, 0.999999]),
}
_BINARY = {
    "beta": (mp.beta, [(0.5, 2.0), (3.0, 1.5)], [(1e-5, 2.0), (30.0, 40.0), (-0.5, 2.0)]),
    "boxcox": (
        lambda x, k: (x**k - 1) / k if k else mp.log(x),
        [(2.0, 0.5), (0.3, -1.0)],
        [(2.0, 0.0), (2.0, 1e-6), (2.0, 1e-3), (1.0, 0.5), (1e-10, 0.1)],
    ),
    "boxcox1p": (
        lambda x, k: ((1 + x) ** k - 1) / k if k else mp.log1p(x),
        [(2.0, 0.5), (-0.3, -1.0)],
        [(2.0, 0.0), (2.0, 1e-6), (2.0, 1e-3), (1e-6, 0.5), (0.0, 0.5), (1e-6, 1e-6)],
    ),
    "gammainc": (
        lambda a, x: mp.gammainc(a, 0, x, regularized=True),
        [(0.5, 2.0), (3.0, 1.5)],
        [(1e-3, 0.5), (2.0, 1e-6), (50.0, 30.0), (0.5, 20.0), (1.0, 1.0)],
    ),
    "gammaincc": (
        lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
        [(0.5, 2.0), (3.0, 1.5)],
        [(1e-3, 0.5), (2.0, 1e-6), (50.0, 30.0), (0.5, 20.0), (1.0, 1.0)],
    ),
    "rel_entr": (
        lambda p, q: p * mp.log(p / q),
        [(0.5, 2.0), (0.3, 0.25)],
        [(0.5, 0.500001), (1e-20, 0.5), (0.5, 1e-20), (1e-30, 1e-30), (1e20, 1e-19)],
    ),
    "poch": (
        _poch,
        [(0.5, 2.0), (3.0, 1.5)],
        [(2.0, 0.0), (2.0, -0.5), (-0.5, 1.5), (-2.5, 1.0), (20.0, 3.0), (40.0, 2.0)],
    ),
    "xlogy": (_xlogy, [(0.5, 2.0), (-3.0, 1.5)], [(0.0, 2.0), (1e-30, 1e-30), (2.0, 1.0)]),
    "zeta": (
        lambda x, q: mp.zeta(x, q),
        [(1.5, 2.0), (3.0, 0.5)],
        [(1.001, 1.0), (20.0, 1.0), (2.0, 1e-3), (3.0, 100.0)],
    ),
}


def _unary(name, exact, ordinary, difficult):
    return lambda: points(getattr(special, name), exact, ordinary, difficult)


def _of_a_harmonic():
    n, m = jnp.array([2]), jnp.array([1])

    def f(theta, phi):
        one = lambda t, p: special.sph_harm_y(n, m, t[None], p[None], n_max=2)[0].real  # noqa: E731
        return jnp.vectorize(one)(theta, phi)

    edges = [(1e-6, 0.5), (3.14159, 1.0), (1.5707963, 0.0)]
    return points(f, _harmonic, [(0.5, 1.0), (2.0, -1.0)], edges)


def _hypergeometric():
    return points(
        jnp.vectorize(special.hyp1f1),
        lambda a, b, x: mp.hyp1f1(a, b, x),
        [(0.5, 1.5, 0.3), (2.0, 3.0, -1.0)],
        [(-1.0, 2.0, 1.0), (-0.5, 2.0, 1.0), (1.5, 1.5, 0.5), (1.0, 2.0, 0.0), (1.0, 2.0, 50.0)],
    )


def _gauss():
    return points(
        jnp.vectorize(special.hyp2f1),
        lambda a, b, c, x: mp.hyp2f1(a, b, c, x),
        [(0.5, 1.5, 2.5, 0.3), (2.0, 1.0, 3.0, -0.5)],
        [(0.0, 1.5, 2.5, 0.3), (-1.0, 1.5, 2.5, 0.3), (0.5, 1.5, 2.5, 0.0), (1.0, 2.0, 2.0, 0.5)],
    )


CASES = {
    **{_NAME + name: _unary(name, *rest) for name, rest in (_UNARY | _BINARY).items()},
    _NAME + "expn": lambda: points(
        lambda x: special.expn(3, x), lambda x: mp.expint(3, x), [0.5, 2], [1e-3, 30]
    ),
    _NAME + "polygamma": lambda: points(
        lambda x: special.polygamma(1, x),
        lambda x: mp.psi(1, x),
        [0.5, 3],
        [1e-5, 1e4, 1e8],
    ),
    _NAME + "multigammaln": lambda: points(
        lambda a: special.multigammaln(a, 3), _multigamma, [1.5, 3], [1.001, 1e4, 1e8]
    ),
    _NAME + "bessel_jn": lambda: points(
        lambda z: special.bessel_jn(z, v=2)[2],
        lambda z: mp.besselj(2, z),
        [0.5, 3],
        [1e-3, 20, 40],
    ),
    _NAME + "fresnel": lambda: points(
        lambda x: special.fresnel(x)[0], mp.fresnels, [-2, 0.5, 3], [0, 1e-6, 10, 40]
    ),
    _NAME + "sici": lambda: points(
        lambda x: special.sici(x)[0], mp.si, [-2, 0.5, 3], [0, 1e-6, 4, 100]
    ),
    _NAME + "sph_harm_y": _of_a_harmonic,
    _NAME + "hyp1f1": _hypergeometric,
    _NAME + "hyp2f1": _gauss,
}
