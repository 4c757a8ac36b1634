"""jax.nn, jax.numpy, their linear algebra, and what stands in jax.experimental."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
from jax import lax

from cases import Case, normal, points

_NN = "jax/_src/nn/functions.py:"
_NUMPY = "jax/_src/numpy/"
_LINALG = "jax/_src/lax/linalg.py:"
_SPARSE = "jax/experimental/sparse/"


def _f32(*rows):
    return np.array(rows, np.float32)


def _whole(f, *args, **more):
    return lambda: [Case("ordinary", f, args, **more)]


def _positive(n, seed=0):
    a = normal(n, n, seed=seed)
    return (a @ a.T + n * np.eye(n, dtype=np.float32)).astype(np.float32)


def _symmetric(a):
    return (a + a.T) / 2


def _log2(x):
    return mp.log(x) / mp.log(2)


_square = normal(4, 4, seed=1)
_near_singular = _f32([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0001])
_logits = _f32([0.5, -1.0, 2.0, 0.25])
_spread = _f32([30.0, 0.0, -30.0, 17.0])


def _odeint():
    from jax.experimental.ode import odeint

    t = _f32(0.0, 0.5, 1.0)

    def oscillator(y, rate):
        return odeint(lambda y, t, r: jnp.stack([y[1], -r * y[0]]), y, t, rate, rtol=1e-6)

    def at_times(y, t):
        return odeint(lambda y, t: -y * jnp.cos(t), y, t, rtol=1e-6)

    return [
        Case("ordinary", oscillator, (_f32(1.0, 0.5), _f32(2.0)[0:1])),
        Case("by the times", at_times, (_f32(1.0, 0.5), t)),
    ]


def _flash_reference(**options):
    def make():
        from jax.experimental.pallas.ops.tpu.flash_attention import (
            _mha_reference,
            mha_reference_no_custom_vjp,
        )

        del mha_reference_no_custom_vjp
        q, k, v = (normal(1, 2, 4, 3, seed=i) for i in range(3))
        ab = normal(1, 2, 4, 4, seed=4)

        def f(q, k, v, ab):
            return _mha_reference(q, k, v, ab, None, False, -1e30, 1.0, False)

        def causal(q, k, v, ab):
            return _mha_reference(q, k, v, ab, None, True, -1e30, 1.0, False)

        def scaled(q, k, v, ab):
            return _mha_reference(q, k, v, ab, None, False, -1e30, 0.5, False)

        return [
            Case("ordinary", f, (q, k, v, ab)),
            Case("causal", causal, (q, k, v, ab)),
            Case("scaled", scaled, (q, k, v, ab)),
        ]

    return make


def _splash_reference():
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    q, k, v = normal(5, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    mask = np.tril(np.ones((5, 4), bool))
    mask[0] = True

    def of(kind, cap=None):
        return lambda q, k, v: splash.attention_reference_custom(
            mask, q, k, v, None, custom_type=kind, attn_logits_soft_cap=cap
        )

    def with_sinks(q, k, v, sinks):
        return splash.attention_reference_custom(mask, q, k, v, None, sinks, custom_type="flash")

    return [
        Case("flash", of("flash"), (q, k, v)),
        Case("vanilla", of("vanilla"), (q, k, v)),
        Case("soft cap", of("flash", 2.0), (q, k, v)),
        Case("sinks", with_sinks, (q, k, v, _f32(0.5)[0])),
    ]


def _sparse(make):
    """A case of a function of a matrix and a vector, through a sparse form of the matrix."""

    def cases():
        from jax.experimental import sparse

        dense = normal(4, 3) * (normal(4, 3, seed=5) > 0)
        return [Case("ordinary", make(sparse, dense.astype(np.float32)), (normal(5), normal(3, 2)))]

    return cases


_rows = np.array([0, 0, 1, 3, 3], np.int32)
_columns = np.array([0, 2, 1, 0, 2], np.int32)
_pairs = np.stack([_rows, _columns], axis=1)


def _bcoo(use):
    def make(sparse, dense):
        del dense
        return lambda data, y: use(
            sparse, sparse.BCOO((data, jnp.asarray(_pairs)), shape=(4, 3)), y
        )

    return _sparse(make)


def _coo(use):
    def make(sparse, dense):
        del dense
        return lambda data, y: use(
            sparse.COO((data, jnp.asarray(_rows), jnp.asarray(_columns)), shape=(4, 3)), y
        )

    return _sparse(make)


def _csr(use):
    pointers = np.array([0, 2, 3, 3, 5], np.int32)

    def make(sparse, dense):
        del dense
        return lambda data, y: use(
            sparse.CSR((data, jnp.asarray(_columns), jnp.asarray(pointers)), shape=(4, 3)), y
        )

    return _sparse(make)


def _bcsr(use):
    pointers = np.array([0, 2, 3, 3, 5], np.int32)

    def make(sparse, dense):
        del dense
        return lambda data, y: use(
            sparse.BCSR((data, jnp.asarray(_columns), jnp.asarray(pointers)), shape=(4, 3)), y
        )

    return _sparse(make)


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
        Case("ordinary", lambda x: jax.nn.softmax(x), (_logits,), elementwise=True),
        Case("spread", lambda x: jax.nn.softmax(x), (_spread,), elementwise=True),
        Case("axis 0", lambda x: jax.nn.softmax(x, axis=0), (normal(3, 2),), elementwise=True),
        Case(
            "where",
            lambda x: jax.nn.softmax(x, where=jnp.array([True, False, True, True])),
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
        [0, 1e-20, 1e-6, 1e-4, 1e-2, 1, 100.3],
    ),
    _NUMPY + "linalg.py:_slogdet_small": lambda: [
        Case("2x2", lambda a: jnp.linalg.slogdet(a)[1], (_f32([1.0, 2.0], [3.0, 5.0]),)),
        Case("1x1", lambda a: jnp.linalg.slogdet(a)[1], (_f32([2.5]),)),
        Case(
            "near singular",
            lambda a: jnp.linalg.slogdet(a)[1],
            (_f32([1.0, 2.0], [2.0, 4.0001]),),
        ),
    ],
    _NUMPY + "linalg.py:_slogdet_lu": lambda: [
        Case("ordinary", lambda a: jnp.linalg.slogdet(a)[1], (_square,)),
        Case("near singular", lambda a: jnp.linalg.slogdet(a)[1], (_near_singular,)),
    ],
    _NUMPY + "linalg.py:_slogdet_qr": _whole(
        lambda a: jnp.linalg.slogdet(a, method="qr")[1], _square
    ),
    _NUMPY + "linalg.py:_det": lambda: [
        Case("ordinary", jnp.linalg.det, (_square,)),
        Case("singular", jnp.linalg.det, (np.diag(_f32(1.0, 2.0, 0.0, 3.0)) + np.float32(0),)),
        Case(
            "rank n - 2",
            jnp.linalg.det,
            (np.diag(_f32(1.0, 0.0, 0.0, 3.0)) + np.float32(0),),
        ),
        Case(
            "near singular",
            jnp.linalg.det,
            (np.pad(_near_singular, ((0, 1), (0, 1))) + np.eye(4, k=0, dtype=np.float32) * 1e-3,),
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
            lambda a: jnp.linalg.eigh(_symmetric(a))[0],
            (np.diag(_f32(1.0, 1.0001, 2.0)) + 0.25 * np.eye(3, k=1, dtype=np.float32) * 1e-3,),
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
    "jax/experimental/ode.py:_odeint": _odeint,
    "jax/experimental/pallas/ops/tpu/flash_attention.py:_mha_reference": _flash_reference(),
    "jax/experimental/pallas/ops/tpu/splash_attention/splash_attention_kernel.py:"
    "_attention_reference": _splash_reference,
    _SPARSE + "bcoo.py:bcoo_todense_p": _bcoo(lambda s, m, y: m.todense() @ y),
    _SPARSE + "bcoo.py:bcoo_dot_general_p": _bcoo(lambda s, m, y: m @ y),
    _SPARSE + "bcoo.py:bcoo_transpose_p": _bcoo(lambda s, m, y: y.T @ m.T.todense()),
    _SPARSE + "bcoo.py:bcoo_sort_indices_p": _bcoo(lambda s, m, y: m.sort_indices().data),
    _SPARSE + "bcoo.py:bcoo_sum_duplicates_p": _bcoo(
        lambda s, m, y: s.bcoo_sum_duplicates(m, nse=5).data
    ),
    _SPARSE + "bcoo.py:bcoo_spdot_general_p": _bcoo(lambda s, m, y: (m @ m.T).todense()),
    _SPARSE + "bcoo.py:bcoo_extract_p": _bcoo(
        lambda s, m, y: s.bcoo_extract(m, jnp.ones((4, 1)) * y[:, 0]).data
    ),
    _SPARSE + "bcoo.py:bcoo_fromdense_p": _sparse(
        lambda s, dense: (
            lambda x, y: s.BCOO.fromdense(jnp.asarray(dense), nse=9).data * x[0] @ jnp.ones(9)
        )
    ),
    _SPARSE + "bcoo.py:bcoo_dot_general_sampled_p": _sparse(
        lambda s, dense: (
            lambda x, y: s.bcoo_dot_general_sampled(
                y, y.T, jnp.asarray(_pairs[:3]), dimension_numbers=(((1,), (0,)), ((), ()))
            )
        )
    ),
    _SPARSE + "coo.py:coo_todense_p": _coo(lambda m, y: m.todense() @ y),
    _SPARSE + "coo.py:coo_matvec_p": _coo(lambda m, y: m @ y[:, 0]),
    _SPARSE + "coo.py:coo_matmat_p": _coo(lambda m, y: m @ y),
    _SPARSE + "csr.py:csr_todense_p": _csr(lambda m, y: m.todense() @ y),
    _SPARSE + "csr.py:csr_matvec_p": _csr(lambda m, y: m @ y[:, 0]),
    _SPARSE + "csr.py:csr_matmat_p": _csr(lambda m, y: m @ y),
    _SPARSE + "bcsr.py:bcsr_todense_p": _bcsr(lambda m, y: m.todense() @ y),
    _SPARSE + "bcsr.py:bcsr_dot_general_p": _bcsr(lambda m, y: m @ y),
    _SPARSE + "linalg.py:spsolve_p": _sparse(
        lambda s, dense: (
            lambda x, y: __import__("jax.experimental.sparse.linalg", fromlist=["spsolve"]).spsolve(
                x + 3,
                jnp.array([0, 1, 1, 2, 0]) * 0 + jnp.array([0, 2, 1, 0, 2]),
                jnp.array([0, 2, 3, 5]),
                y[:, 0],
            )
        )
    ),
}
