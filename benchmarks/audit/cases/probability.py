"""TensorFlow Probability on JAX: special functions and distributions, against mpmath."""

from __future__ import annotations

import dataclasses

import mpmath as mp
import numpy as np

from cases import Case, columns, normal, points

_ROOT = "tensorflow_probability/substrates/jax/"
_SPECIAL = _ROOT + "math/special.py:"
_BESSEL = _ROOT + "math/bessel.py:"
_LINALG = _ROOT + "math/linalg.py:"
_MANUAL = _ROOT + "experimental/math/manual_special_functions.py:"


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


def _betainc(a, b, x):
    return mp.betainc(a, b, 0, x, regularized=True)


def _betaincinv(a, b, y):
    return mp.findroot(
        lambda x: _betainc(a, b, x) - y, (mp.mpf("0.01"), mp.mpf("0.99")), "anderson"
    )


def _gamma_upper(a, x):
    return mp.gammainc(a, x, mp.inf, regularized=True)


def _gamma_lower(a, x):
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


def _student_cdf(df, t):
    tail = _betainc(df / 2, mp.mpf(1) / 2, df / (df + t * t)) / 2
    return tail if t < 0 else 1 - tail


def _student():
    from tensorflow_probability.substrates import jax as tfp

    def f(df, t):
        return tfp.distributions.StudentT(df, 0.0, 1.0).cdf(t)

    return points(f, _student_cdf, [(2.0, 0.5), (5.0, -1.0)], [(0.5, 2.0), (50.0, 3.0), (1.0, 1e3)])


def _mises(x, k):
    density = lambda t: mp.exp(k * (mp.cos(t) - 1))  # noqa: E731
    with mp.workdps(32):
        return mp.quad(density, [-mp.pi, 0, x]) / (2 * mp.pi * mp.exp(-k) * mp.besseli(0, k))


def _von_mises():
    from tensorflow_probability.substrates.jax.distributions.von_mises import von_mises_cdf

    return points(
        von_mises_cdf,
        _mises,
        [(0.5, 1.0), (-1.0, 3.0), (2.0, 0.5)],
        [(0.1, 10.0), (0.5, 11.0), (-0.2, 60.0), (1.0, 1e-3), (3.0, 5.0)],
    )


def _spd():
    a = normal(3, 3)
    return (a @ a.T + 3 * np.eye(3, dtype=np.float32)).astype(np.float32)


def _hpsd(name, *more):
    def make():
        from tensorflow_probability.substrates import jax as tfp

        f = getattr(tfp.math, name)
        return [Case("ordinary", lambda a, *b: f((a + a.T) / 2, *b), (_spd(), *more))]

    return make


def _softplus():
    from tensorflow_probability.substrates import jax as tfp

    b = tfp.bijectors.Softplus()
    return points(b.forward, lambda x: mp.log1p(mp.exp(x)), [-2, 0.5, 3], [-80, -30, 15, 30])


def _sigmoid():
    from tensorflow_probability.substrates import jax as tfp

    def f(x):
        return tfp.bijectors.Sigmoid().forward_log_det_jacobian(x)

    def exact(x):
        return -mp.log1p(mp.exp(-x)) - mp.log1p(mp.exp(x))

    return points(f, exact, [-2, 0.5, 3], [-80, -30, 15, 30])


def _phi(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _inverse_gaussian(x, mean, shape):
    root = mp.sqrt(shape / x)
    first = _phi(root * (x / mean - 1))
    return first + mp.exp(2 * shape / mean) * _phi(-root * (x / mean + 1))


def _two_pieces(x, skew):
    if x < 0:
        return 2 / (1 + skew**2) * _phi(skew * x)
    return 1 - 2 * skew**2 / (1 + skew**2) * _phi(-x / skew)


def _samples(draw, cdf, *parameters):
    """A sampler whose derivative is implicit: dx/da = -(dF/da) / (dF/dx) at the sample drawn.

    Args:
        draw: `(distributions, key) -> f`, where f draws a sample for each tuple of parameters.
        cdf: `(x, *parameters)` of mpmath.
        parameters: tuples of numbers.
    """

    def make():
        import jax
        from tensorflow_probability.substrates import jax as tfp

        f = draw(tfp.distributions, jax.random.key(3))

        def truth(*rows):
            x = np.asarray(f(*(np.asarray(row, np.float32) for row in rows)), np.float64)
            points = list(zip(x, *rows, strict=True))
            return [
                np.array([_implicit(cdf, point, i) for point in points])
                for i in range(1, len(rows) + 1)
            ]

        return [Case("ordinary", f, columns(parameters), truth=truth, elementwise=True)]

    return make


def _implicit(cdf, point, i):
    with mp.workdps(50):
        by = [_slope(cdf, [mp.mpf(float(v)) for v in point], j) for j in (0, i)]
        return float(-by[1] / by[0])


def _slope(f, point, i):
    step, ends = abs(point[i]) * mp.mpf(10) ** -12, []
    for sign in (1, -1):
        moved = list(point)
        moved[i] += sign * step
        ends.append(f(*moved))
    return (ends[0] - ends[1]) / (2 * step)


def _noncentral(x, df, shift):
    """The distribution of the noncentral chi square: gamma distributions weighted by Poisson's."""
    terms = int(30 + 4 * shift)
    with mp.workdps(45):
        half = shift / 2
        return mp.fsum(
            mp.exp(-half) * half**k / mp.factorial(k) * _gamma_lower(df / 2 + k, x / 2)
            for k in range(terms)
        )


def _noncentral_cdf():
    from tensorflow_probability.substrates import jax as tfp

    def f(x, shift):
        return tfp.distributions.NoncentralChi2(3.0, shift).cdf(x)

    def by_degrees(df):
        return tfp.distributions.NoncentralChi2(df, 1.0).cdf(2.0)

    cases = points(
        f, lambda x, shift: _noncentral(x, 3, shift), [(2.0, 1.0), (5.0, 3.0)], [(30.0, 8.0)]
    )
    degrees = points(by_degrees, lambda df: _noncentral(2, df, mp.mpf(1)), [2.5, 4])
    return [*cases, *(dataclasses.replace(case, label="by the degrees") for case in degrees)]


def _noncentral_quantile():
    from tensorflow_probability.substrates import jax as tfp

    def f(p, shift):
        return tfp.distributions.NoncentralChi2(3.0, shift).quantile(p)

    def exact(p, shift):
        with mp.workdps(40):
            return mp.findroot(lambda x: _noncentral(x, 3, shift) - p, (1, 6), "anderson")

    return points(f, exact, [(0.5, 1.0), (0.3, 3.0)])


def _student_quantile():
    from tensorflow_probability.substrates import jax as tfp

    def f(df, p):
        return tfp.distributions.StudentT(df, 0.0, 1.0).quantile(p)

    def exact(df, p):
        with mp.workdps(40):
            return mp.findroot(lambda t: _student_cdf(df, t) - p, (0.1, 2), "anderson")

    return points(f, exact, [(2.0, 0.6), (5.0, 0.75)], [(0.5, 0.8), (50.0, 0.99)])


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
        _betainc,
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
        lambda a, p: _inverse(_gamma_lower, a, p),
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
    _ROOT + "math/generic.py:_log_cosh_custom_gradient": _math(
        "log_cosh", lambda x: mp.log(mp.cosh(x)), [-2, 0.5, 3], [1e-20, 1e-3, 15, 1e3]
    ),
    _ROOT + "math/hypergeometric.py:hyp2f1_small_argument": _module(
        "math",
        "hyp2f1_small_argument",
        mp.hyp2f1,
        [(0.5, 1.5, 2.5, 0.3), (1.0, 2.0, 3.5, 0.5)],
        [(0.5, 1.5, 2.5, 0.85), (0.5, 0.5, 3.0, -0.5)],
    ),
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
    _ROOT + "distributions/student_t.py:_stdtr_custom_gradient": _student,
    _ROOT + "distributions/von_mises.py:von_mises_cdf": _von_mises,
    _ROOT + "distributions/student_t.py:_stdtrit_custom_gradient": _student_quantile,
    _ROOT + "distributions/noncentral_chi2.py:_nc2_cdf_naive": _noncentral_cdf,
    _ROOT + "distributions/noncentral_chi2.py:_nc2_quantile_naive": _noncentral_quantile,
    _ROOT + "distributions/gamma.py:_random_gamma_gradient": _samples(
        lambda d, key: lambda a: d.Gamma(a, 1.0).sample(seed=key),
        lambda x, a: _gamma_lower(a, x),
        *(0.5, 1.0, 3.0, 10.0, 100.0),
    ),
    _ROOT + "distributions/inverse_gaussian.py:_random_inverse_gaussian_gradient": _samples(
        lambda d, key: lambda mean, shape: d.InverseGaussian(mean, shape).sample(seed=key),
        _inverse_gaussian,
        *((1.0, 1.0), (0.5, 2.0), (3.0, 1.5), (2.0, 20.0)),
    ),
    _ROOT + "distributions/two_piece_normal.py:_two_piece_normal_sample_with_gradient": _samples(
        lambda d, key: lambda skew: d.TwoPieceNormal(0.0, 1.0, skew).sample(seed=key),
        _two_pieces,
        *(0.5, 1.0, 2.0, 3.5),
    ),
    _ROOT + "distributions/von_mises.py:_von_mises_sample_with_gradient": _samples(
        lambda d, key: lambda k: d.VonMises(0.0, k).sample(seed=key),
        _mises,
        *(0.5, 2.0, 8.0, 20.0),
    ),
    _ROOT + "bijectors/softplus.py:_stable_grad_softplus": _softplus,
    _ROOT + "bijectors/sigmoid.py:_stable_grad_softplus": _sigmoid,
}
