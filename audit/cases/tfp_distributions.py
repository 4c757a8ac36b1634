"""TensorFlow Probability on JAX: distributions and their samplers, against mpmath."""

from __future__ import annotations

import dataclasses

import mpmath as mp
import numpy as np

from cases import Case, columns, points
from cases.tfp_special import ROOT, betainc, gamma_lower


def _student_cdf(df, t):
    tail = betainc(df / 2, mp.mpf(1) / 2, df / (df + t * t)) / 2
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

        inputs = columns(parameters)
        return [Case("ordinary", f, inputs, truth=truth, elementwise=True, draws=True)]

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
            mp.exp(-half) * half**k / mp.factorial(k) * gamma_lower(df / 2 + k, x / 2)
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


SITES = {
    ROOT + "distributions/student_t.py:_stdtr_custom_gradient": _student,
    ROOT + "distributions/von_mises.py:von_mises_cdf": _von_mises,
    ROOT + "distributions/student_t.py:_stdtrit_custom_gradient": _student_quantile,
    ROOT + "distributions/noncentral_chi2.py:_nc2_cdf_naive": _noncentral_cdf,
    ROOT + "distributions/noncentral_chi2.py:_nc2_quantile_naive": _noncentral_quantile,
    ROOT + "distributions/gamma.py:_random_gamma_gradient": _samples(
        lambda d, key: lambda a: d.Gamma(a, 1.0).sample(seed=key),
        lambda x, a: gamma_lower(a, x),
        *(0.5, 1.0, 3.0, 10.0, 100.0),
    ),
    ROOT + "distributions/inverse_gaussian.py:_random_inverse_gaussian_gradient": _samples(
        lambda d, key: lambda mean, shape: d.InverseGaussian(mean, shape).sample(seed=key),
        _inverse_gaussian,
        *((1.0, 1.0), (0.5, 2.0), (3.0, 1.5), (2.0, 20.0)),
    ),
    ROOT + "distributions/two_piece_normal.py:_two_piece_normal_sample_with_gradient": _samples(
        lambda d, key: lambda skew: d.TwoPieceNormal(0.0, 1.0, skew).sample(seed=key),
        _two_pieces,
        *(0.5, 1.0, 2.0, 3.5),
    ),
    ROOT + "distributions/von_mises.py:_von_mises_sample_with_gradient": _samples(
        lambda d, key: lambda k: d.VonMises(0.0, k).sample(seed=key),
        _mises,
        *(0.5, 2.0, 8.0, 20.0),
    ),
}
