"""Rules that JAX 0.12 has and 0.10 has not, most of them for what was off before."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import mpmath as mp
import numpy as np
from jax import lax

from cases import Case, by_mpmath, normal, points
from cases.distributions import softmax_of_tokamax

_LAX, _NUMPY, _SCIPY = "jax/_src/lax/", "jax/_src/numpy/", "jax/_src/scipy/special.py:"


def _erfc_inverse(y):
    return mp.erfinv(1 - y)


def _quantile(p):
    return -mp.sqrt(2) * mp.erfinv(1 - 2 * p)


def _erfcx(x):
    return mp.exp(x * x) * mp.erfc(x)


def _slope_of(exact):
    """The first derivative as a function: the truth of a second one."""
    return lambda x: mp.diff(exact, x)


def _once(f):
    """The derivative of a function of one number, element by element."""
    return lambda x: jax.vmap(jax.grad(f))(x)


def _determinant(*shape):
    def of(a):
        if len(a) == 2:
            return a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]
        signs = [1, -1, 1]
        minor = lambda j: of(np.delete(a[1:], j, axis=1))  # noqa: E731
        return sum(sign * a[0, j] * minor(j) for j, sign in enumerate(signs))

    singular = np.ones(shape, np.float32)
    return lambda: [
        Case(label, jnp.linalg.det, (a,), truth=by_mpmath(of))
        for label, a in (("ordinary", normal(*shape)), ("singular", singular))
    ]


def _rel_entr(p, q):
    return p * mp.log(p / q)


SITES = {
    _LAX + "erf.py:exp_neg_sq": lambda: points(
        _once(special.erf), _slope_of(mp.erf), [-2, -0.5, 0.5, 2], [1e-10, 0.0, 5, 8, 9]
    ),
    _LAX + "lax.py:log2_p": lambda: points(
        jnp.log2, lambda x: mp.log(x, 2), [0.1, 0.5, 2, 5], [1e-30, 1, 1e30]
    ),
    _LAX + "lax.py:one_minus_square_p": lambda: points(
        lambda x: lax.one_minus_square(x), lambda x: 1 - x * x, [-2, 0.5, 3], [0, 0.999999, 1e10]
    ),
    _LAX + "lax.py:polynomial_p": lambda: points(
        lambda x, a, b: lax.polynomial(x, [a, b, jnp.ones_like(x)]),
        lambda x, a, b: a + b * x + x * x,
        [(0.5, 2.0, -1.0), (-3.0, 0.1, 4.0)],
        [(0.0, 1.0, 1.0), (-0.5, 1.0, 1.0), (1e10, 1.0, 1.0)],
    ),
    _LAX + "lax.py:sign_p": lambda: points(
        lambda x: jnp.sign(x) * x**2, lambda x: abs(x) * x, [-2, 0.5, 3], [-1e-10, 1e10]
    ),
    _LAX + "lax.py:nextafter_p": lambda: points(
        lambda x: jnp.nextafter(x, jnp.inf) ** 2, lambda x: x * x, [-2, 0.5, 3], [-1e-10, 1e10]
    ),
    _NUMPY + "lax_numpy.py:i0_impl": lambda: points(
        jnp.i0, lambda x: mp.besseli(0, x), [-2, -0.5, 0.5, 3], [0, 1e-10, 1e-3, 20, 80]
    ),
    _NUMPY + "lax_numpy.py:_i1": lambda: points(
        _once(jnp.i0), lambda x: mp.besseli(1, x), [-2, -0.5, 0.5, 3], [1e-10, 1e-3, 20, 80]
    ),
    _NUMPY + "lax_numpy.py:_i1_maclaurin": lambda: points(
        _once(jnp.i0), lambda x: mp.besseli(1, x), [0.5], [0]
    ),
    _NUMPY + "linalg.py:_det_2x2": _determinant(2, 2),
    _NUMPY + "linalg.py:_det_3x3": _determinant(3, 3),
    _NUMPY + "ufuncs.py:_hypot": lambda: points(
        jnp.hypot,
        lambda x, y: mp.sqrt(x * x + y * y),
        [(3.0, 4.0), (-1.0, 0.5)],
        [(3e-25, 4e-25), (3e25, 4e25), (1.0, 1e-20)],
    ),
    _SCIPY + "_erfcinv": lambda: points(
        lambda y: special.erfcinv(y), _erfc_inverse, [0.2, 0.9, 1.5], [1e-20, 1e-3, 1.0, 1.999]
    ),
    _SCIPY + "_erfcinv_grad": lambda: points(
        _once(lambda y: special.erfcinv(y)), _slope_of(_erfc_inverse), [0.2, 0.9, 1.5], [0.01]
    ),
    _SCIPY + "_erfcx_grad": lambda: points(
        _once(special.erfcx), _slope_of(_erfcx), [-2, -0.5, 0.5, 2], [-5, 0, 1, 9.3, 20, 1e3]
    ),
    _SCIPY + "_expn": lambda: (
        points(
            lambda x: special.expn(2, x), lambda x: mp.expint(2, x), [0.2, 0.9, 1.5, 4], [0.01, 30]
        )
        + points(lambda x: special.expn(1, x), lambda x: mp.e1(x), [0.2, 0.9, 1.5, 4], [0.01, 30])
    ),
    _SCIPY + "_ndtri": lambda: points(
        special.ndtri, _quantile, [0.1, 0.4, 0.9], [1e-30, 1e-3, 0.5, 0.999999]
    ),
    _SCIPY + "_ndtri_grad": lambda: points(
        _once(special.ndtri), _slope_of(_quantile), [0.1, 0.4, 0.9], [1e-3, 0.5, 0.999]
    ),
    _SCIPY + "_rel_entr": lambda: points(
        special.rel_entr,
        _rel_entr,
        [(0.5, 2.0), (0.3, 0.25)],
        [(0.5, 0.500001), (1e-20, 0.5), (0.5, 1e-20), (1e-30, 1e-30), (1e20, 1e-19)],
    ),
    "tokamax/_src/ops/experimental/flex_attention/base.py:_softmax": softmax_of_tokamax(
        "tokamax._src.ops.experimental.flex_attention.base"
    ),
}
