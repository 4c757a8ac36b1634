"""Distrax, numpyro, rlax, tokamax, e3nn and qwix."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

from cases import Case, columns, normal, points


def _f32(*rows):
    return np.array(rows, np.float32)


_logits = _f32([0.5, -1.0, 2.0, 0.25], [30.0, 0.0, -5.0, 17.0])


def _multiply_no_nan():
    from distrax._src.utils.math import multiply_no_nan

    return points(
        multiply_no_nan, lambda x, y: x * y, [(0.5, 2.0), (3.0, -1.0)], [(2.0, 0.0), (1e30, 1e-30)]
    )


def _power_no_nan():
    from distrax._src.utils.math import power_no_nan

    return points(
        power_no_nan,
        lambda x, y: x**y,
        [(0.5, 2.0), (3.0, -1.0)],
        [(2.0, 0.0), (0.5, 1.0), (1e10, 3.0), (1e-10, 0.5)],
    )


def _mises_cdf(x, k):
    density = lambda t: mp.exp(k * (mp.cos(t) - 1))  # noqa: E731
    with mp.workdps(32):
        return mp.quad(density, [-mp.pi, 0, x]) / (2 * mp.pi * mp.exp(-k) * mp.besseli(0, k))


def _von_mises_cdf():
    from distrax._src.distributions.von_mises import _von_mises_cdf

    return points(
        lambda x, k: _von_mises_cdf(x, k, jnp.dtype(x.dtype)),
        _mises_cdf,
        [(0.5, 1.0), (-1.0, 3.0), (2.0, 0.5)],
        [(0.1, 10.0), (0.5, 11.0), (-0.2, 60.0), (1.0, 1e-3), (3.0, 5.0)],
    )


def _mises_sample_truth(draw):
    def truth(k):
        x = np.asarray(draw(jnp.asarray(k, jnp.float32)), np.float64)
        return [np.array([_implicit_mises(*pair) for pair in zip(k, x, strict=True)])]

    return truth


def _implicit_mises(k, x):
    with mp.workdps(40):
        k, x, step = mp.mpf(float(k)), mp.mpf(float(x)), mp.mpf(10) ** -12
        by_k = (_mises_cdf(x, k + step) - _mises_cdf(x, k - step)) / (2 * step)
        density = mp.exp(k * (mp.cos(x) - 1)) / (2 * mp.pi * mp.exp(-k) * mp.besseli(0, k))
        return float(-by_k / density)


def _von_mises_sample():
    from distrax._src.distributions.von_mises import _von_mises_sample

    key = jax.random.key(1)

    def draw(k):
        return _von_mises_sample(k.shape, k, key, jnp.dtype("float32"))

    k = columns([0.5, 2.0, 8.0, 20.0])
    truth = _mises_sample_truth(draw)
    return [Case("ordinary", draw, k, truth=truth, elementwise=True, draws=True)]


def _power_law(method):
    def make():
        from numpyro.distributions import DoublyTruncatedPowerLaw

        def f(alpha, low, high, value):
            law = DoublyTruncatedPowerLaw(alpha, low, high, validate_args=False)
            return getattr(law, method)(value)

        def cdf(alpha, low, high, x):
            if alpha == -1:
                return mp.log(x / low) / mp.log(high / low)
            return (x ** (alpha + 1) - low ** (alpha + 1)) / (
                high ** (alpha + 1) - low ** (alpha + 1)
            )

        def log_prob(alpha, low, high, x):
            if alpha == -1:
                return -mp.log(x) - mp.log(mp.log(high / low))
            top = (alpha + 1) * x**alpha
            return mp.log(top / (high ** (alpha + 1) - low ** (alpha + 1)))

        def icdf(alpha, low, high, q):
            if alpha == -1:
                return low * (high / low) ** q
            a = alpha + 1
            return (low**a + q * (high**a - low**a)) ** (1 / a)

        exact = {"cdf": cdf, "log_prob": log_prob, "icdf": icdf}[method]
        ordinary = [(0.5, 1.0, 3.0, 0.75 if method == "icdf" else 2.0)]
        ordinary += [(-2.5, 0.5, 4.0, 0.25 if method == "icdf" else 1.0)]
        last = 0.5 if method == "icdf" else 2.0
        return points(
            f,
            exact,
            ordinary,
            [(-1.0, 1.0, 3.0, last), (-1.001, 1.0, 3.0, last), (0.0, 1.0, 3.0, last)],
        )

    return make


def _numpyro_log1mexp():
    from numpyro.distributions.util import log1mexp

    return points(
        log1mexp,
        lambda x: mp.log(-mp.expm1(x)),
        [-0.1, -0.5, -1, -3],
        [-1e-30, -1e-5, -0.6931471, -20, -80],
    )


def _clip_gradient():
    from rlax import clip_gradient

    return [
        Case(
            "ordinary",
            lambda x: clip_gradient(x, -1.0, 1.0),
            (_f32(1.0, 2.0),),
            surrogate="clips the gradient on purpose",
        )
    ]


def softmax_of_tokamax(module):
    def make():
        import importlib

        softmax = importlib.import_module(module)._softmax
        return [
            Case("normalized", lambda x: softmax(x, True)[0], (_logits,), elementwise=True),
            Case("not normalized", lambda x: softmax(x, False)[0], (_logits,)),
        ]

    return make


def _barrier():
    from tokamax._src.benchmarking import _optimization_barrier

    return [Case("ordinary", lambda x: _optimization_barrier(x) ** 2, (_f32(1.0, 2.0),))]


def _spherical_harmonics():
    import e3nn_jax as e3nn

    x = normal(3, 3)

    def f(x, **options):
        vectors = e3nn.IrrepsArray("1o", x)
        return e3nn.spherical_harmonics([0, 1, 2, 3], vectors, normalize=False, **options).array

    return [
        Case("component", functools.partial(f, normalization="component"), (x,)),
        Case("norm", functools.partial(f, normalization="norm"), (x,)),
        Case("integral", functools.partial(f, normalization="integral"), (x,)),
    ]


def _e3nn_einsum():
    from e3nn_jax._src.utils.einsum import einsum

    return [Case("ordinary", lambda x, y: einsum("ij,jk->ik", x, y), (normal(2, 3), normal(3, 2)))]


def _qwix_dot():
    from qwix._src.core.dot_general_qt import DotGeneralQtConfig, dot_general_qt

    dimensions = (((1,), (0,)), ((), ()))
    return [
        Case(
            "not quantized",
            lambda x, y: dot_general_qt(x, y, dimensions, DotGeneralQtConfig()),
            (normal(3, 4), normal(4, 2, seed=1)),
        )
    ]


def _qwix_conv():
    from qwix._src.core.conv_general_qt import ConvGeneralQtConfig, conv_general_qt

    dimensions = jax.lax.conv_dimension_numbers(
        (1, 4, 4, 2), (3, 3, 2, 2), ("NHWC", "HWIO", "NHWC")
    )

    def f(x, w):
        return conv_general_qt(
            *(x, w, ConvGeneralQtConfig(), (1, 1), "SAME", None, None, dimensions)
        )

    return [Case("not quantized", f, (normal(1, 4, 4, 2), normal(3, 3, 2, 2, seed=1)))]


SITES = {
    "distrax/_src/utils/math.py:multiply_no_nan": _multiply_no_nan,
    "distrax/_src/utils/math.py:power_no_nan": _power_no_nan,
    "distrax/_src/distributions/von_mises.py:_von_mises_cdf": _von_mises_cdf,
    "distrax/_src/distributions/von_mises.py:_von_mises_sample": _von_mises_sample,
    "numpyro/distributions/truncated.py:DoublyTruncatedPowerLaw.log_prob.f": _power_law("log_prob"),
    "numpyro/distributions/truncated.py:DoublyTruncatedPowerLaw.cdf.f": _power_law("cdf"),
    "numpyro/distributions/truncated.py:DoublyTruncatedPowerLaw.icdf.f": _power_law("icdf"),
    "numpyro/distributions/util.py:log1mexp": _numpyro_log1mexp,
    "rlax/_src/clipping.py:clip_gradient": _clip_gradient,
    "tokamax/_src/ops/attention/base.py:_softmax": softmax_of_tokamax(
        "tokamax._src.ops.attention.base"
    ),
    "tokamax/_src/ops/flex_attention/base.py:_softmax": softmax_of_tokamax(
        "tokamax._src.ops.flex_attention.base"
    ),
    "tokamax/_src/benchmarking.py:_optimization_barrier": _barrier,
    "e3nn_jax/_src/spherical_harmonics/__init__.py:_custom_jvp_spherical_harmonics": (
        _spherical_harmonics
    ),
    "e3nn_jax/_src/utils/einsum.py:einsum": _e3nn_einsum,
    "qwix/_src/core/dot_general_qt.py:dot_general_qt_fwd_bwd": _qwix_dot,
    "qwix/_src/core/conv_general_qt.py:conv_general_qt": _qwix_conv,
}
