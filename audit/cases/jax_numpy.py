"""jax.nn, jax.numpy and their linear algebra."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
from jax import lax

from cases import Case, normal, points

_NN = "jax/_src/nn/functions.py:"
_NUMPY = "jax/_src/numpy/"
_LINALG = "jax/_src/lax/linalg.py:"


def _f32(*rows):
    return np.array(rows, np.float32)


def _whole(f, *args, **more):
    return lambda: [Case("ordinary", f, args, **more)]


def _positive(n, seed=0):
    a = normal(n, n, seed=seed)
    return (a @ a.T + n * np.eye(n, dtype=np.float32)).astype(np.float32)


def _symmetric(a):
    return (a + a.T) / 2


def _inverse_transposed(a):
    """The derivative of log |det a|."""
    with mp.workdps(50):
        return [np.array((mp.matrix(a.tolist()) ** -1).T.tolist(), dtype=np.float64)]


def _by_eigenvectors(a):
    """The derivative of 1, -2 and 1/2 times the eigenvalues of the symmetric part."""
    with mp.workdps(50):
        a = mp.matrix(a.astype(float).tolist())
        _, q = mp.eigsy((a + a.T) / 2)
        weighted = q * mp.diag([1, -2, mp.mpf("0.5")]) * q.T
        return [np.array(weighted.tolist(), dtype=np.float64)]


def _cofactors(a):
    """The derivative of det a, in fractions."""
    rows = [[Fraction(x) for x in row] for row in a.tolist()]
    n = range(len(rows))
    return [
        np.array(
            [[float((-1) ** (i + j) * _determinant(_without(rows, i, j))) for j in n] for i in n]
        )
    ]


def _without(rows, i, j):
    return [[x for c, x in enumerate(row) if c != j] for r, row in enumerate(rows) if r != i]


def _determinant(rows):
    if not rows:
        return Fraction(1)
    terms = ((-1) ** j * x * _determinant(_without(rows, 0, j)) for j, x in enumerate(rows[0]))
    return sum(terms, Fraction(0))


def _log2(x):
    return mp.log(x) / mp.log(2)


_square = normal(4, 4, seed=1)
_near_singular = _f32([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0001])
_logits = _f32([0.5, -1.0, 2.0, 0.25])
_spread = _f32([30.0, 0.0, -30.0, 17.0])


def _softmax(**options):
    """The rule itself: jax.nn.softmax takes it by a flag of jax.config only."""
    from jax._src.nn.functions import _softmax as softmax

    return lambda x: softmax(x, options.get("axis", -1), options.get("where"), -jnp.inf)


def _newton(x):
    """The root of z^3 + z = x, for each x."""

    def f(z):
        return z**3 + z - x

    def solve(f, start):
        return lax.fori_loop(0, 40, lambda i, z: z - f(z) / (3 * z**2 + 1), start)

    return lax.custom_root(f, jnp.zeros_like(x), solve, lambda g, y: y / g(jnp.ones_like(y)))


SITES = {
    _NN + "relu": _whole(jax.nn.relu, _f32(-2.0, -0.5, 0.5, 3.0)),
    _NN + "relu6": _whole(jax.nn.relu6, _f32(-2.0, 0.5, 3.0, 7.0)),
    _NN + "_softmax": lambda: [
        Case("ordinary", _softmax(), (_logits,), elementwise=True),
        Case("spread", _softmax(), (_spread,), elementwise=True),
        Case("axis 0", _softmax(axis=0), (normal(3, 2),), elementwise=True),
        Case(
            "where",
            _softmax(where=np.array([True, False, True, True])),
            (_logits,),
            elementwise=True,
        ),
    ],
    _NN + "log1mexp": lambda: points(
        jax.nn.log1mexp,
        lambda x: mp.log(-mp.expm1(-x)),
        [0.1, 0.5, 1, 3],
        [1e-30, 1e-5, 0.6931471, 20, 80],
    ),
    "jax/_src/lax/other.py:logaddexp": lambda: points(
        jnp.logaddexp,
        lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
        [(0.5, 1.0), (-2.0, 3.0), (1.0, 1.0)],
        [(100.0, -3.0), (1e3, 1e3), (1e4, 1e4 - 12), (-1e4, -1e4), (3.0, -80.0), (1e6, 1e6 + 4)],
    ),
    "jax/_src/lax/other.py:logaddexp2": lambda: points(
        jnp.logaddexp2,
        lambda x, y: _log2(mp.mpf(2) ** x + mp.mpf(2) ** y),
        [(0.5, 1.0), (-2.0, 3.0), (1.0, 1.0)],
        [(100.0, -3.0), (1e3, 1e3), (1e4, 1e4 - 12), (-1e4, -1e4), (3.0, -80.0), (1e6, 1e6 + 4)],
    ),
    _NUMPY + "lax_numpy.py:_i0": lambda: points(
        jnp.i0, lambda x: mp.besseli(0, x), [-2, -0.5, 0.5, 3], [0, 1e-10, 1e-3, 20, 80]
    ),
    _NUMPY + "ufuncs.py:_frexp": lambda: points(
        lambda x: jnp.frexp(x)[0],
        lambda x: x / mp.mpf(2) ** (mp.floor(_log2(abs(x))) + 1),
        [0.3, 0.7, -5, 100],
        [1e-30, 1e30, 3e38],
    ),
    _NUMPY + "ufuncs.py:_sinc_maclaurin": lambda: points(
        jnp.sinc,
        lambda x: mp.sin(mp.pi * x) / (mp.pi * x) if x else mp.mpf(1),
        [-2.3, -0.5, 0.25, 1.2],
        [0],  # where the rule is used; what is next to it stands with jax.numpy.sinc
    ),
    _NUMPY + "linalg.py:_slogdet_small": lambda: [
        Case("2x2", lambda a: jnp.linalg.slogdet(a)[1], (_f32([1.0, 2.0], [3.0, 5.0]),)),
        Case("1x1", lambda a: jnp.linalg.slogdet(a)[1], (_f32([2.5]),)),
        Case(
            "near singular",
            lambda a: jnp.linalg.slogdet(a)[1],
            (_f32([1.0, 2.0], [2.0, 4.0001]),),
            truth=_inverse_transposed,
        ),
    ],
    _NUMPY + "linalg.py:_slogdet_lu": lambda: [
        Case("ordinary", lambda a: jnp.linalg.slogdet(a)[1], (_square,)),
        Case(
            "near singular",
            lambda a: jnp.linalg.slogdet(a)[1],
            (_near_singular,),
            truth=_inverse_transposed,
        ),
    ],
    _NUMPY + "linalg.py:_slogdet_qr": _whole(
        lambda a: jnp.linalg.slogdet(a, method="qr")[1], _square
    ),
    _NUMPY + "linalg.py:_det": lambda: [
        Case("ordinary", jnp.linalg.det, (_square,)),
        Case(
            "singular",
            jnp.linalg.det,
            (np.diag(_f32(1.0, 2.0, 0.0, 3.0)) + np.eye(4, k=1, dtype=np.float32),),
            truth=_cofactors,
            elementwise=True,
        ),
        Case(
            "rank n - 2",
            jnp.linalg.det,
            (np.diag(_f32(1.0, 0.0, 0.0, 3.0)),),
            truth=_cofactors,
            elementwise=True,
        ),
        Case(
            "near singular",
            jnp.linalg.det,
            (np.pad(_near_singular, ((0, 1), (0, 1))) + np.eye(4, dtype=np.float32) * 1e-3,),
            truth=_cofactors,
        ),
    ],
    _NUMPY + "linalg.py:_pinv": lambda: [
        Case("tall", jnp.linalg.pinv, (normal(4, 3),)),
        Case("wide", jnp.linalg.pinv, (normal(2, 4),)),
        Case(
            "hermitian",
            lambda a: jnp.linalg.pinv(_symmetric(a), hermitian=True),
            (normal(3, 3),),
        ),
        Case(
            "hermitian, no symmetric input",
            lambda a: jnp.linalg.pinv(a, hermitian=True),
            (normal(3, 3),),
        ),
    ],
    _LINALG + "cholesky_p": _whole(
        lambda a: jnp.linalg.cholesky(a, symmetrize_input=True), _positive(3)
    ),
    _LINALG + "eigh_p": lambda: [
        Case("ordinary", lambda a: jnp.linalg.eigh(_symmetric(a))[0], (normal(3, 3),)),
        Case("vectors, squared", lambda a: jnp.linalg.eigh(_symmetric(a))[1] ** 2, (normal(3, 3),)),
        Case(
            "close eigenvalues",
            lambda a: jnp.linalg.eigh(_symmetric(a))[0] * jnp.array([1.0, -2.0, 0.5], a.dtype),
            (np.diag(_f32(1.0, 1.0001, 2.0)) + 0.25 * np.eye(3, k=1, dtype=np.float32) * 1e-3,),
            truth=_by_eigenvectors,
        ),
    ],
    _LINALG + "eig_p": _whole(
        lambda a: jnp.sort(jnp.linalg.eigvals(a).real), _f32([1.0, 2.0], [0.5, 4.0])
    ),
    _LINALG + "lu_p": _whole(lambda a: lax.linalg.lu(a)[0], _square),
    _LINALG + "qr_p": lambda: [
        Case("square", lambda a: jnp.linalg.qr(a), (_square,)),
        Case("tall", lambda a: jnp.linalg.qr(a), (normal(4, 2),)),
    ],
    _LINALG + "svd_p": lambda: [
        Case("values", lambda a: jnp.linalg.svd(a, compute_uv=False), (normal(4, 3),)),
        Case(
            "vectors, squared",
            lambda a: [m**2 for m in jnp.linalg.svd(a, full_matrices=False)],
            (normal(4, 3),),
        ),
    ],
    _LINALG + "triangular_solve_p": _whole(
        lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True),
        np.tril(_positive(3)).astype(np.float32),
        normal(3, 2),
    ),
    _LINALG + "tridiagonal_solve_p": _whole(
        lambda dl, d, du, b: lax.linalg.tridiagonal_solve(dl.at[0].set(0), d, du.at[-1].set(0), b),
        normal(4),
        normal(4, seed=1) + 4,
        normal(4, seed=2),
        normal(4, 2, seed=3),
    ),
    "jax/_src/lax/control_flow/solves.py:_custom_root": _whole(_newton, _f32(0.5, -2.0, 10.0)),
    "jax/_src/lax/control_flow/solves.py:linear_solve_p": _whole(
        lambda a, b: jax.scipy.sparse.linalg.cg(lambda x: a @ a.T @ x + x, b, tol=1e-7)[0],
        normal(3, 3),
        normal(3),
    ),
}
