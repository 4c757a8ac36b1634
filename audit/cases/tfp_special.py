"""TensorFlow Probability on JAX: special functions, against mpmath."""

from __future__ import annotations

import mpmath as mp
import numpy as np

from cases import Case, normal, points

ROOT = "tensorflow_probability/substrates/jax/"
_SPECIAL = ROOT + "math/special.py:"
_BESSEL = ROOT + "math/bessel.py:"
_LINALG = ROOT + "math/linalg.py:"
_MANUAL = ROOT + "experimental/math/manual_special_functions.py:"


def _math(name, exact, ordinary, difficult=()):
    def make():
        from tensorflow_probability.substrates import jax as tfp

        f = getattr(tfp.math, name, None) or getattr(tfp.math.bessel, name)
        return points(lambda *args: f(*args), exact, ordinary, difficult)

    return make


def _module(module, name, exact, ordinary, difficult=()):
    def make():
        import importlib

        f = getattr(
            importlib.import_module(f"tensorflow_probability.substrates.jax.{module}"), name
        )
        return points(lambda *args: f(*args), exact, ordinary, difficult)

    return make


def betainc(a, b, x):
    return mp.betainc(a, b, 0, x, regularized=True)


def _betaincinv(a, b, y):
    return mp.findroot(lambda x: betainc(a, b, x) - y, (mp.mpf("0.01"), mp.mpf("0.99")), "anderson")


def _gamma_upper(a, x):
    return mp.gammainc(a, x, mp.inf, regularized=True)


def gamma_lower(a, x):
    return mp.gammainc(a, 0, x, regularized=True)


def _inverse(f, a, p):
    """The x with f(a, x) = p, by bisection in the logarithm and Newton's steps."""
    low, high = mp.mpf(10) ** -30, mp.mpf(10) ** 6
    rising = f(a, high) > f(a, low)
    for _ in range(60):
        middle = mp.sqrt(low * high)
        below = (f(a, middle) < p) == rising
        low, high = (middle, high) if below else (low, middle)
    return mp.findroot(lambda x: f(a, x) - p, mp.sqrt(low * high))


def _owens_t(h, a):
    f = lambda t: mp.exp(-h * h * (1 + t * t) / 2) / (1 + t * t)  # noqa: E731
    with mp.workdps(32):
        return mp.quad(f, [0, a]) / (2 * mp.pi)


def _spd():
    a = normal(3, 3)
    return (a @ a.T + 3 * np.eye(3, dtype=np.float32)).astype(np.float32)


def _hpsd(name, *more):
    def make():
        from tensorflow_probability.substrates import jax as tfp

        f = getattr(tfp.math, name)
        return [Case("ordinary", lambda a, *b: f((a + a.T) / 2, *b), (_spd(), *more))]

    return make


def _order_fixed(name, exact, v=1.5):
    """Bessel functions by z alone: by the order they have no derivative, and say so."""

    def make():
        import jax.numpy as jnp
        from tensorflow_probability.substrates import jax as tfp

        f = getattr(tfp.math, name)
        return points(
            lambda z: f(jnp.full_like(z, v), z),
            lambda z: exact(mp.mpf(v), z),
            [0.5, 1, 3],
            [1e-3, 20, 100, 1e3, 1e4],
        )

    return make


def _by_z_alone():
    """Gauss's function by z: by the others it has no derivative, and its documentation says so."""
    import jax.numpy as jnp
    from tensorflow_probability.substrates.jax.math import hypergeometric

    def f(z):
        a, b, c = (jnp.full_like(z, v) for v in (0.5, 1.5, 2.5))
        return hypergeometric.hyp2f1_small_argument(a, b, c, z)

    return points(f, lambda z: mp.hyp2f1(0.5, 1.5, 2.5, z), [-0.5, 0.3, 0.85])


SITES = {
    _BESSEL + "_bessel_ive_custom_gradient": _order_fixed(
        "bessel_ive", lambda v, z: mp.besseli(v, z) * mp.exp(-z)
    ),
    _BESSEL + "_bessel_kve_custom_gradient": _order_fixed(
        "bessel_kve", lambda v, z: mp.besselk(v, z) * mp.exp(z)
    ),
    _BESSEL + "_log_bessel_ive_custom_gradient": _order_fixed(
        "log_bessel_ive", lambda v, z: mp.log(mp.besseli(v, z)) - z
    ),
    _BESSEL + "_log_bessel_kve_custom_gradient": _order_fixed(
        "log_bessel_kve", lambda v, z: mp.log(mp.besselk(v, z)) + z
    ),
    _BESSEL + "_bessel_iv_ratio_custom_gradient": _order_fixed(
        "bessel_iv_ratio", lambda v, z: mp.besseli(v, z) / mp.besseli(v - 1, z)
    ),
    _SPECIAL + "_betainc_custom_gradient": _math(
        "betainc",
        betainc,
        [(0.5, 2.0, 0.3), (3.0, 1.5, 0.6)],
        [(50.0, 50.0, 0.4), (1e-2, 2.0, 0.5), (2.0, 3.0, 1e-5), (200.0, 3.0, 0.99)],
    ),
    _SPECIAL + "_betaincinv_custom_gradient": _math(
        "betaincinv", _betaincinv, [(0.5, 2.0, 0.5), (3.0, 1.5, 0.4)], [(20.0, 20.0, 0.4)]
    ),
    _SPECIAL + "_dawsn_custom_gradient": _math(
        "dawsn",
        lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x),
        [-2, -0.5, 0, 0.5, 1, 2],
        [3.3, 6.3, 10, 30, 100, 1e4],
    ),
    _SPECIAL + "_erfcx_custom_gradient": _math(
        "erfcx",
        lambda x: mp.exp(x * x) * mp.erfc(x),
        [-2, -0.5, 0, 0.5, 1, 2],
        [-5, 3, 8, 9.3, 20, 1e3],
    ),
    _SPECIAL + "_igammainv_custom_gradient": _math(
        "igammainv",
        lambda a, p: _inverse(gamma_lower, a, p),
        [(0.5, 0.5), (2.0, 0.3)],
        [(30.0, 0.6), (0.1, 0.5), (2.0, 0.999)],
    ),
    _SPECIAL + "_igammacinv_custom_gradient": _math(
        "igammacinv",
        lambda a, p: _inverse(_gamma_upper, a, p),
        [(0.5, 0.5), (2.0, 0.3)],
        [(30.0, 0.6), (0.1, 0.5), (2.0, 0.999)],
    ),
    _SPECIAL + "_lambert_custom_gradient": _math(
        "lambertw",
        lambda z: mp.re(mp.lambertw(z)),
        [-0.2, 0.5, 1, 5],
        [0, 1e-20, -0.3678, -0.36787, 1e10, 1e30],
    ),
    _SPECIAL + "_log_gamma_difference_custom_gradient": _math(
        "log_gamma_difference",
        lambda x, y: mp.loggamma(y) - mp.loggamma(x + y),
        [(0.5, 2.0), (3.0, 10.0)],
        [(0.5, 1e4), (1e-5, 9.0), (2.0, 1e8)],
    ),
    _SPECIAL + "_lbeta_custom_gradient": _math(
        "lbeta",
        lambda x, y: mp.log(mp.beta(x, y)),
        [(0.5, 2.0), (3.0, 10.0)],
        [(1e4, 1e4), (0.5, 1e6), (1e-5, 2.0), (1e6, 1e8)],
    ),
    _SPECIAL + "_owens_t_custom_gradient": _math(
        "owens_t",
        _owens_t,
        [(0.5, 0.5), (1.0, 2.0), (2.0, -0.75)],
        [(0.0, 1.0), (1e-6, 3.0), (6.0, 1.0), (0.5, 100.0), (3.0, 1e-6)],
    ),
    ROOT + "math/generic.py:_log_cosh_custom_gradient": _math(
        "log_cosh", lambda x: mp.log(mp.cosh(x)), [-2, 0.5, 3], [1e-20, 1e-3, 15, 1e3]
    ),
    ROOT + "math/hypergeometric.py:hyp2f1_small_argument": _by_z_alone,
    _MANUAL + "_exp_pade_4_4_impl": _module(
        "experimental.math.manual_special_functions",
        "exp_pade_4_4",
        mp.exp,
        [-2, 0.5, 3],
        [-80, 1e-10, 80],
    ),
    _MANUAL + "_log_pade_4_4_impl": _module(
        "experimental.math.manual_special_functions",
        "log_pade_4_4",
        mp.log,
        [0.1, 0.5, 3],
        [1e-30, 1.0001, 1e30],
    ),
    _MANUAL + "_expm1_pade_4_4_impl": _module(
        "experimental.math.manual_special_functions",
        "expm1_pade_4_4",
        mp.expm1,
        [-2, 0.5, 3],
        [-30, 1e-10, 80],
    ),
    _MANUAL + "_log1p_pade_4_4_impl": _module(
        "experimental.math.manual_special_functions",
        "log1p_pade_4_4",
        mp.log1p,
        [-0.5, 0.5, 3],
        [-0.9999, 1e-10, 1e30],
    ),
    _LINALG + "_hpsd_logdet_custom_gradient": _hpsd("hpsd_logdet"),
    _LINALG + "_hpsd_solve_custom_gradient": _hpsd("hpsd_solve", normal(3, 2, seed=2)),
    _LINALG + "_hpsd_quadratic_form_solve_custom_gradient": _hpsd(
        "hpsd_quadratic_form_solve", normal(3, 2, seed=2)
    ),
    _LINALG + "_hpsd_quadratic_form_solvevec_custom_gradient": _hpsd(
        "hpsd_quadratic_form_solvevec", normal(3, seed=2)
    ),
}
