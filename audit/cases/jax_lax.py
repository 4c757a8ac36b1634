"""The derivatives that JAX gives its own elementwise primitives, against mpmath."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
from jax import lax

from cases import Case, columns, normal, points

_LAX = "jax/_src/lax/lax.py:"
_LOOPS = "jax/_src/lax/control_flow/loops.py:"
_AXIS = [-3, -1, -0.3, 0.2, 1, 2.5]
_TAILS = [1e-30, -1e-10, 1e-4, 15, -30, 80]


def _elementwise(f, exact, ordinary=_AXIS, difficult=_TAILS):
    return lambda: points(f, exact, ordinary, difficult)


def _sampled_gamma(key):
    """The implicit derivative of a sample: dx/da = -(dP/da) / (dP/dx) at the sample drawn."""

    def truth(a):
        x = np.asarray(jax.random.gamma(key, jnp.asarray(a, jnp.float32)), np.float64)
        with mp.workdps(60):
            return [np.array([_implicit(*pair) for pair in zip(a, x, strict=True)])]

    return truth


def _implicit(a, x):
    a, x, step = mp.mpf(float(a)), mp.mpf(float(x)), mp.mpf(10) ** -20
    p = lambda a, x: mp.gammainc(a, 0, x, regularized=True)  # noqa: E731
    by_a = (p(a + a * step, x) - p(a - a * step, x)) / (2 * a * step)
    return float(-by_a / (mp.exp((a - 1) * mp.log(x) - x) / mp.gamma(a)))


def _gamma_cases():
    key = jax.random.key(3)
    chosen = {"ordinary": [0.5, 1, 3, 10], "difficult": [0.02, 0.1, 100, 1e3]}
    return [
        Case(
            *(label, lambda a: jax.random.gamma(key, a), columns(a)),
            truth=_sampled_gamma(key),
            draws=True,
        )
        for label, a in chosen.items()
    ]


def _whole(f, *args, **more):
    return lambda: [Case("ordinary", f, args, **more)]


_x = np.array([0.5, -1.25, 2.0, 1.5, -0.75, 3.0], np.float32)
_tied = np.array([2.0, -1.0, 2.0, 0.5, 2.0], np.float32)

SITES = {
    _LAX + "exp_p": _elementwise(lax.exp, mp.exp),
    _LAX + "exp2_p": _elementwise(lax.exp2, lambda x: mp.mpf(2) ** x),
    _LAX + "log_p": _elementwise(lax.log, mp.log, [0.1, 0.5, 2, 9], [1e-37, 1, 1.0001, 1e30]),
    _LAX + "expm1_p": _elementwise(lax.expm1, mp.expm1),
    _LAX + "log1p_p": _elementwise(
        lax.log1p, mp.log1p, [-0.5, 0.2, 2, 9], [1e-30, -0.9999999, -1e-8, 1e30]
    ),
    _LAX + "tanh_p": _elementwise(lax.tanh, mp.tanh, difficult=[1e-30, 5, 8, -9, 15, 40]),
    _LAX + "logistic_p": _elementwise(
        lax.logistic, lambda x: 1 / (1 + mp.exp(-x)), difficult=[-80, -30, -10, 10, 15, 30, 80]
    ),
    _LAX + "sin_p": _elementwise(lax.sin, mp.sin, difficult=[1e-30, 1.5707964, 100, 1e4]),
    _LAX + "cos_p": _elementwise(lax.cos, mp.cos, difficult=[1e-30, 3.1415927, 100, 1e4]),
    _LAX + "tan_p": _elementwise(lax.tan, mp.tan, difficult=[1e-30, 1.5707, 1.5707964, 100]),
    _LAX + "asin_p": _elementwise(
        lax.asin, mp.asin, [-0.5, 0.2, 0.9], [1e-30, 0.999, 0.9999999, -0.99999]
    ),
    _LAX + "acos_p": _elementwise(
        lax.acos, mp.acos, [-0.5, 0.2, 0.9], [1e-30, 0.999, 0.9999999, -0.99999]
    ),
    _LAX + "atan_p": _elementwise(lax.atan, mp.atan, difficult=[1e-30, 1e4, 1e10, 1e18]),
    _LAX + "atan2_p": _elementwise(
        lax.atan2,
        mp.atan2,
        [(1.0, 2.0), (-1.0, 0.5), (0.5, -2.0)],
        [(1e-25, 1e-25), (1e25, 1e25), (1e-30, 1.0), (1.0, 1e-30), (3e-20, 4e-20)],
    ),
    _LAX + "sinh_p": _elementwise(lax.sinh, mp.sinh),
    _LAX + "cosh_p": _elementwise(lax.cosh, mp.cosh),
    _LAX + "asinh_p": _elementwise(lax.asinh, mp.asinh, difficult=[1e-30, 1e4, 1e18, 1e25]),
    _LAX + "acosh_p": _elementwise(lax.acosh, mp.acosh, [1.5, 3, 9], [1.0000001, 1.001, 1e10]),
    _LAX + "atanh_p": _elementwise(
        lax.atanh, mp.atanh, [-0.5, 0.2, 0.9], [1e-30, 0.999, 0.9999999, -0.99999]
    ),
    _LAX + "abs_p": _elementwise(lax.abs, abs, difficult=[1e-30, -1e30]),
    _LAX + "sqrt_p": _elementwise(lax.sqrt, mp.sqrt, [0.2, 1, 7], [1e-37, 1e-20, 1e30]),
    _LAX + "rsqrt_p": _elementwise(
        lax.rsqrt, lambda x: 1 / mp.sqrt(x), [0.2, 1, 7], [1e-24, 1e-10, 1e20, 1e30]
    ),
    _LAX + "cbrt_p": _elementwise(
        lax.cbrt, lambda x: mp.sign(x) * mp.cbrt(abs(x)), difficult=[1e-30, -1e-10, 1e30]
    ),
    _LAX + "square_p": _elementwise(lax.square, lambda x: x * x, difficult=[1e-30, 1e30]),
    _LAX + "pow_p": _elementwise(
        lax.pow,
        lambda x, y: x**y,
        [(0.5, 2.0), (2.0, -1.5), (3.0, 0.3)],
        [(1e-10, 0.5), (1.0000001, 1e6), (2.0, 0.0), (1e10, 3.0), (0.9, 500.0), (1e-20, 1.0)],
    ),
    _LAX + "integer_pow_p": _elementwise(
        lambda x: lax.integer_pow(x, -3), lambda x: x**-3, difficult=[1e-9, 1e9, -1e-5]
    ),
    _LAX + "div_p": _elementwise(
        lax.div,
        lambda x, y: x / y,
        [(0.5, 2.0), (2.0, -1.5), (3.0, 0.3)],
        [(1e-20, 1e-20), (1e20, 1e20), (1.0, 1e-15), (1e25, 1e22), (3e-25, 1e-22)],
    ),
    _LAX + "mul_p": _elementwise(
        lax.mul, lambda x, y: x * y, [(0.5, 2.0), (3.0, 0.3)], [(1e-30, 1e30), (0.0, 2.0)]
    ),
    _LAX + "add_p": _elementwise(lax.add, lambda x, y: x + y, [(0.5, 2.0), (3.0, 0.3)], ()),
    _LAX + "sub_p": _elementwise(lax.sub, lambda x, y: x - y, [(0.5, 2.0), (3.0, 0.3)], ()),
    _LAX + "rem_p": _elementwise(
        lax.rem,
        lambda x, y: x - y * (mp.floor if x * y > 0 else mp.ceil)(x / y),
        [(5.5, 2.0), (-5.5, 2.0), (7.25, 3.5), (0.5, 2.0)],
        [(1e5 + 0.5, 3.0), (5.5, -2.0), (1e-3, 1e3)],
    ),
    _LAX + "max_p": _elementwise(lax.max, max, [(0.5, 2.0), (3.0, 0.3)], ()),
    _LAX + "min_p": _elementwise(lax.min, min, [(0.5, 2.0), (3.0, 0.3)], ()),
    _LAX + "clamp_p": _elementwise(
        lambda x: lax.clamp(np.float32(-1), x, np.float32(1)),
        lambda x: min(max(x, -1), 1),
        [-3, -0.5, 0.2, 2],
        [0.9999999, 1.0000001],
    ),
    _LAX + "select_n_p": _whole(lambda x, y: lax.select_n(_x > 0, x, y), _x, 2 * _x),
    _LAX + "reduce_p": _whole(
        lambda x: lax.reduce(x, np.zeros((), x.dtype), lambda a, b: a + b, (0,)), _x
    ),
    _LAX + "reduce_prod_p": _whole(lambda x: jnp.prod(x), _x),
    _LAX + "reduce_max_p": _whole(lambda x: jnp.max(x), _x),
    _LAX + "reduce_min_p": _whole(lambda x: jnp.min(x), _x),
    _LAX + "sort_p": _whole(lambda x: lax.sort(x), _x),
    _LAX + "top_k_p": _whole(lambda x: lax.top_k(x, 3)[0], _x),
    _LAX + "broadcast_in_dim_p": _whole(lambda x: jnp.broadcast_to(x, (3, 6)), _x),
    _LAX + "convert_element_type_p": _whole(
        # A step function: the derivative is that of the identity, by convention.
        lambda x: x.astype(jnp.float16).astype(x.dtype),
        _x,
        truth=lambda x: [np.ones_like(x)],
    ),
    _LAX + "optimization_barrier_p": _whole(lambda x: lax.optimization_barrier(x) ** 2, _x),
    _LAX + "ragged_dot_general_p": _whole(
        lambda x, y: lax.ragged_dot(x, y, jnp.array([1, 3], jnp.int32)),
        normal(4, 3),
        normal(2, 3, 2, seed=1),
    ),
    _LOOPS + "cumlogsumexp_p": lambda: [
        Case("ordinary", lax.cumlogsumexp, (_x,), elementwise=True),
        Case(
            "spread",
            lax.cumlogsumexp,
            (np.array([-30.0, 0.0, 17.0, -5.0, 30.0], np.float32),),
            elementwise=True,
        ),
    ],
    _LOOPS + "cumprod_p": lambda: [
        Case("ordinary", lax.cumprod, (_x,)),
        Case("a zero", lax.cumprod, (np.array([0.5, 0, 2.0, -3.0], np.float32),)),
    ],
    _LOOPS + "cummax_p": _whole(lax.cummax, _x),
    _LOOPS + "cummin_p": _whole(lax.cummin, _x),
    _LOOPS + "scan_p": _whole(lambda x: lax.scan(lambda c, a: (jnp.sin(c * a), c), x[0], x)[1], _x),
    "jax/_src/lax/control_flow/conditionals.py:cond_p": _whole(
        lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), _x
    ),
    "jax/_src/lax/slicing.py:gather_p": _whole(lambda x: x[jnp.array([0, 0, 3])], _x),
    "jax/_src/lax/slicing.py:scatter_add_p": _whole(
        lambda x, y: x.at[jnp.array([0, 0, 3])].add(y), _x, _x[:3]
    ),
    "jax/_src/lax/slicing.py:scatter_sub_p": _whole(
        lambda x, y: x.at[jnp.array([0, 0, 3])].subtract(y), _x, _x[:3]
    ),
    "jax/_src/lax/slicing.py:scatter_mul_p": _whole(
        lambda x, y: x.at[jnp.array([0, 1, 3])].multiply(y, unique_indices=True), _x, _x[:3]
    ),
    "jax/_src/lax/slicing.py:scatter_p": _whole(
        lambda x, y: x.at[jnp.array([0, 1, 3])].set(y), _x, _x[:3]
    ),
    "jax/_src/lax/slicing.py:scatter_max_p": _whole(
        lambda x, y: x.at[jnp.array([0, 1, 3])].max(y), _x, 2 * _x[:3]
    ),
    "jax/_src/lax/slicing.py:scatter_min_p": _whole(
        lambda x, y: x.at[jnp.array([0, 1, 3])].min(y), _x, 2 * _x[:3]
    ),
    "jax/_src/lax/slicing.py:slice_p": _whole(lambda x: lax.slice(x, (1,), (5,), (2,)), _x),
    "jax/_src/lax/slicing.py:dynamic_slice_p": _whole(
        lambda x: lax.dynamic_slice(x, (1,), (3,)), _x
    ),
    "jax/_src/lax/slicing.py:dynamic_update_slice_p": _whole(
        lambda x, y: lax.dynamic_update_slice(x, y, (1,)), _x, _x[:2]
    ),
    "jax/_src/lax/windowed_reductions.py:reduce_window_max_p": _whole(
        lambda x: lax.reduce_window(x, -np.float32(np.inf), lax.max, (2,), (2,), "VALID"), _x
    ),
    "jax/_src/lax/windowed_reductions.py:reduce_window_min_p": _whole(
        lambda x: lax.reduce_window(x, np.float32(np.inf), lax.min, (2,), (2,), "VALID"), _x
    ),
    "jax/_src/random/core.py:random_gamma_p": _gamma_cases,
}
