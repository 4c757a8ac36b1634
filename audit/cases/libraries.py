"""Optax, Flax, Equinox, and the smaller libraries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

from cases import Case, by_mpmath, normal, points
from cases.functions import mp_norm


def _f32(*rows):
    return np.array(rows, np.float32)


_logits = _f32([0.5, -1.0, 2.0, 0.25], [30.0, 0.0, -5.0, 17.0])
_labels = _f32([0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0])


def _weighted_logsoftmax():
    from optax.losses._classification import safe_softmax_cross_entropy, weighted_logsoftmax

    return [
        Case("ordinary", weighted_logsoftmax, (_logits[:1], _labels[:1])),
        Case("spread", lambda x: weighted_logsoftmax(x, _labels), (_logits,), elementwise=True),
        Case("by the labels", weighted_logsoftmax, (_logits, _labels)),
        Case("loss", safe_softmax_cross_entropy, (_logits, _labels)),
    ]


def _simplex(project):
    return [
        Case("ordinary", project, (_f32(0.5, 0.2, -0.3, 0.7),)),
        Case("inside", project, (_f32(0.25, 0.25, 0.3, 0.2),)),
        Case(
            "large",
            lambda x: project(x) * jnp.array([1.0, -2.0, 0.5, 3.0], x.dtype),
            (_f32(1e4, 1e4 - 0.5, 3.0, -1e4),),
            truth=lambda x: [np.array([1.5, -1.5, 0.0, 0.0])],  # the first two stay positive
        ),
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

    return [Case("ordinary", f, (_f32(0.5, 1.5, -2.0), np.array(1.25, np.float32)))]


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
        Case("tiny", lineax.internal.two_norm, (_f32(3e-20, 4e-20),), truth=by_mpmath(mp_norm)),
        Case("large", lineax.internal.two_norm, (_f32(3e20, 4e20),)),
    ]


def _lineax_max_norm():
    import lineax

    return [Case("ordinary", lineax.internal.max_norm, (_f32(3.0, 4.5, -1.0),))]


def _lineax_asarray():
    from lineax._misc import inexact_asarray

    return [
        Case(
            "ordinary",
            lambda x: inexact_asarray(x) ** 2,
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
            *(diffrax.Dopri5(), 0.0, 1.0, 0.02, y, rate),
            adjoint=diffrax.BacksolveAdjoint(),
            max_steps=200,
        )
        return solution.ys[0]

    return points(f, lambda y, rate: y * mp.exp(-rate), [(1.0, 2.0), (0.5, 1.0), (-3.0, 0.25)])


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
}
