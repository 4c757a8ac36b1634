"""Optax, Flax, Equinox, and the smaller libraries."""

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
_labels = _f32([0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0])


def _weighted_logsoftmax():
    from optax.losses._classification import safe_softmax_cross_entropy, weighted_logsoftmax

    return [
        Case("ordinary", weighted_logsoftmax, (_logits[:1], _labels[:1])),
        Case("spread", weighted_logsoftmax, (_logits, _labels), elementwise=True),
        Case("loss", safe_softmax_cross_entropy, (_logits, _labels)),
    ]


def _simplex(project):
    return [
        Case("ordinary", project, (_f32(0.5, 0.2, -0.3, 0.7),)),
        Case("inside", project, (_f32(0.25, 0.25, 0.3, 0.2),)),
        Case("large", project, (_f32(1e4, 1e4 - 0.5, 3.0, -1e4),)),
    ]


def _optax_simplex():
    import optax

    return _simplex(optax.projections.projection_simplex)


def _jaxopt_simplex():
    from jaxopt.projection import projection_simplex

    return _simplex(projection_simplex)


def _jaxopt_sparse():
    from jaxopt.projection import projection_sparse_simplex

    x = _f32(0.5, 0.2, -0.3, 0.7, 0.65)
    return [Case("ordinary", lambda x: projection_sparse_simplex(x, max_nz=2), (x,))]


def _isotonic():
    from jaxopt.isotonic import isotonic_l2_pav

    x = _f32(1.0, 0.5, 2.0, 1.75, 3.0)
    return [
        Case("ordinary", isotonic_l2_pav, (x,)),
        Case("decreasing", lambda x: isotonic_l2_pav(x, increasing=False), (x,)),
    ]


def _implicit_root():
    from jaxopt.implicit_diff import custom_root

    @custom_root(lambda z, x: z**3 + z - x)
    def solve(start, x):
        del start
        return jax.lax.fori_loop(
            0, 40, lambda i, z: z - (z**3 + z - x) / (3 * z**2 + 1), jnp.zeros_like(x)
        )

    return [Case("ordinary", lambda x: solve(None, x), (_f32(0.5, -2.0, 10.0),))]


def _scale_gradient():
    import optax

    return [
        Case(
            "ordinary",
            lambda x: optax.scale_gradient(x, 0.5),
            (_f32(1.0, 2.0),),
            surrogate="scales the gradient on purpose",
        )
    ]


def _dot_with_precision():
    from flax.linen.fp8_ops import dot_general_with_precision

    dimensions = (((1,), (0,)), ((), ()))
    return [
        Case(
            "ordinary",
            lambda x, y: dot_general_with_precision(x, y, dimensions),
            (normal(3, 4), normal(4, 2, seed=1)),
        )
    ]


def _nextafter(name):
    def make():
        import equinox.internal as internal

        return [Case("ordinary", getattr(internal, name), (_f32(0.5, -3.0, 1e10),))]

    return make


def _checkpointed_loop():
    import equinox.internal as internal

    def f(x, rate):
        def body(carry):
            i, y = carry
            return i + 1, jnp.sin(y) * rate

        return internal.while_loop(
            lambda carry: carry[0] < 5,
            body,
            (jnp.array(0), x),
            kind="checkpointed",
            max_steps=8,
            checkpoints=3,
        )[1]

    return [Case("ordinary", f, (_f32(0.5, 1.5, -2.0), _f32(1.25)[0]))]


def _filter_custom_vjp():
    import equinox as eqx

    @eqx.filter_custom_vjp
    def cube(x):
        return x**3

    cube.def_fwd(lambda perturbed, x: (x**3, x))
    cube.def_bwd(lambda x, g, perturbed, same: 3 * x**2 * g)
    return [Case("a rule of our own through it", cube, (_f32(0.5, -2.0),))]


def _filter_custom_jvp():
    import equinox as eqx

    @eqx.filter_custom_jvp
    def cube(x):
        return x**3

    @cube.def_jvp
    def push(primals, tangents):
        (x,), (t,) = primals, tangents
        return x**3, 3 * x**2 * t

    del push
    return [Case("a rule of our own through it", cube, (_f32(0.5, -2.0),))]


def _lineax_norm():
    import lineax

    return [
        Case("ordinary", lineax.internal.two_norm, (_f32(3.0, 4.0, -1.0),)),
        Case("tiny", lineax.internal.two_norm, (_f32(3e-20, 4e-20),)),
        Case("large", lineax.internal.two_norm, (_f32(3e20, 4e20),)),
    ]


def _lineax_max_norm():
    import lineax

    return [Case("ordinary", lineax.internal.max_norm, (_f32(3.0, 4.5, -1.0),))]


def _lineax_asarray():
    import lineax

    return [
        Case(
            "ordinary",
            lambda x: lineax.internal.inexact_asarray(x) ** 2,
            (_f32(3.0, 4.5, -1.0),),
        )
    ]


def _optimistix_root():
    import optimistix as optx

    def f(x):
        solver = optx.Newton(rtol=1e-9, atol=1e-9)
        solution = optx.root_find(
            lambda z, x: z**3 + z - x, solver, jnp.ones_like(x), x, max_steps=64, throw=False
        )
        return solution.value

    return [Case("ordinary", f, (_f32(0.5, -2.0, 10.0),))]


def _optimistix_asarray():
    from optimistix._misc import asarray

    return [Case("ordinary", lambda x: asarray(x) ** 2, (_f32(3.0, 4.5, -1.0),))]


def _backsolve():
    import diffrax

    def f(y, rate):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, rate: -rate * y),
            *(diffrax.Dopri5(), 0.0, 1.0, 0.1, y, rate),
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
            adjoint=diffrax.BacksolveAdjoint(),
            max_steps=200,
        )
        return solution.ys

    return [Case("ordinary", f, (_f32(1.0, 0.5), _f32(2.0)[0]))]


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
    return [Case("ordinary", draw, k, truth=_mises_sample_truth(draw), elementwise=True)]


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


def _tokamax_softmax(module):
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
        return e3nn.spherical_harmonics([0, 1, 2, 3], x, normalize=False, **options).array

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


def _qwix_ragged():
    from qwix._src.core.ragged_dot_qt import RaggedDotQtConfig, ragged_dot_qt

    sizes = jnp.array([1, 3], jnp.int32)
    return [
        Case(
            "not quantized",
            lambda x, y: ragged_dot_qt(x, y, sizes, RaggedDotQtConfig()),
            (normal(4, 3), normal(2, 3, 2, seed=1)),
        )
    ]


_EQUINOX_LOOP = "equinox/internal/_loop/checkpointed.py:"

SITES = {
    "optax/losses/_classification.py:weighted_logsoftmax": _weighted_logsoftmax,
    "optax/projections/_projections.py:_projection_unit_simplex": _optax_simplex,
    "optax/_src/utils.py:_scale_gradient": _scale_gradient,
    "flax/linen/fp8_ops.py:dot_general_with_precision": _dot_with_precision,
    "equinox/internal/_nextafter.py:nextafter": _nextafter("nextafter"),
    "equinox/internal/_nextafter.py:prevbefore": _nextafter("prevbefore"),
    "equinox/_ad.py:filter_custom_jvp.__init__.fn_wrapper": _filter_custom_jvp,
    "equinox/_ad.py:filter_custom_vjp._defvjp.fn_wrapped": _filter_custom_vjp,
    _EQUINOX_LOOP + "_checkpointed_while_loop": _checkpointed_loop,
    _EQUINOX_LOOP + "_stop_gradient_on_unperturbed": _checkpointed_loop,
    "lineax/_norm.py:_two_norm": _lineax_norm,
    "lineax/_norm.py:_zero_grad_at_zero": _lineax_max_norm,
    "lineax/_misc.py:_asarray": _lineax_asarray,
    "optimistix/_ad.py:_implicit_impl": _optimistix_root,
    "optimistix/_misc.py:_asarray": _optimistix_asarray,
    "diffrax/_adjoint.py:_loop_backsolve": _backsolve,
    "jaxopt/_src/isotonic.py:_isotonic_l2_pav": _isotonic,
    "jaxopt/_src/projection.py:_projection_unit_simplex": _jaxopt_simplex,
    "jaxopt/_src/projection.py:_projection_unit_sparse_simplex": _jaxopt_sparse,
    "jaxopt/_src/implicit_diff.py:_custom_root.make_custom_vjp_solver_fun.solver_fun_flat": (
        _implicit_root
    ),
    "distrax/_src/utils/math.py:multiply_no_nan": _multiply_no_nan,
    "distrax/_src/utils/math.py:power_no_nan": _power_no_nan,
    "distrax/_src/distributions/von_mises.py:_von_mises_cdf": _von_mises_cdf,
    "distrax/_src/distributions/von_mises.py:_von_mises_sample": _von_mises_sample,
    "numpyro/distributions/truncated.py:DoublyTruncatedPowerLaw.log_prob.f": _power_law("log_prob"),
    "numpyro/distributions/truncated.py:DoublyTruncatedPowerLaw.cdf.f": _power_law("cdf"),
    "numpyro/distributions/truncated.py:DoublyTruncatedPowerLaw.icdf.f": _power_law("icdf"),
    "numpyro/distributions/util.py:log1mexp": _numpyro_log1mexp,
    "rlax/_src/clipping.py:clip_gradient": _clip_gradient,
    "tokamax/_src/ops/attention/base.py:_softmax": _tokamax_softmax(
        "tokamax._src.ops.attention.base"
    ),
    "tokamax/_src/ops/flex_attention/base.py:_softmax": _tokamax_softmax(
        "tokamax._src.ops.flex_attention.base"
    ),
    "tokamax/_src/benchmarking.py:_optimization_barrier": _barrier,
    "e3nn_jax/_src/spherical_harmonics/__init__.py:_custom_jvp_spherical_harmonics": (
        _spherical_harmonics
    ),
    "e3nn_jax/_src/utils/einsum.py:einsum": _e3nn_einsum,
    "qwix/_src/core/dot_general_qt.py:dot_general_qt_fwd_bwd": _qwix_dot,
    "qwix/_src/core/conv_general_qt.py:conv_general_qt": _qwix_conv,
    "qwix/_src/core/ragged_dot_qt.py:ragged_dot_qt": _qwix_ragged,
}
