"""What stands in jax.experimental: ODEs, references of attention, sparse matrices."""

from __future__ import annotations

import jax.numpy as jnp
import mpmath as mp
import numpy as np

from cases import Case, normal, points

_SPARSE = "jax/experimental/sparse/"


def _f32(*rows):
    return np.array(rows, np.float32)


def _odeint():
    from jax.experimental.ode import odeint

    t = _f32(0.0, 0.5, 1.0)

    def decay(y, rate):
        return odeint(lambda y, t, r: -r * y, y, t, rate, rtol=1e-7, atol=1e-9)[-1]

    def at_times(t):
        y = odeint(lambda y, t: y, jnp.ones(1, t.dtype), t, rtol=1e-7, atol=1e-9)
        return y[1:, 0].sum()

    def exact(t):
        return [np.concatenate([[np.sum(-np.exp(t[1:] - t[0]))], np.exp(t[1:] - t[0])])]

    return [
        *points(decay, lambda y, rate: y * mp.exp(-rate), [(1.0, 2.0), (0.5, 1.0), (-3.0, 0.25)]),
        Case("by the times", at_times, (t,), truth=exact, elementwise=True),
    ]


def _flash_reference():
    from jax.experimental.pallas.ops.tpu.flash_attention import _mha_reference

    q, k, v = (normal(1, 2, 4, 3, seed=i) for i in range(3))
    ab = normal(1, 2, 4, 4, seed=4)

    def attention(causal):
        return lambda q, k, v, ab: _mha_reference(q, k, v, ab, None, causal, -1e30, 1.0, False)

    # A scale other than one, and segments, are refused by the rule.
    return [
        Case("ordinary", attention(False), (q, k, v, ab)),
        Case("causal", attention(True), (q, k, v, ab)),
    ]


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
        Case("sinks", with_sinks, (q, k, v, np.array(0.5, np.float32))),
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


SITES = {
    "jax/experimental/ode.py:_odeint": _odeint,
    "jax/experimental/pallas/ops/tpu/flash_attention.py:_mha_reference": _flash_reference,
    "jax/experimental/pallas/ops/tpu/splash_attention/splash_attention_kernel.py:"
    "_attention_reference": _splash_reference,
    _SPARSE + "bcoo.py:bcoo_todense_p": _bcoo(lambda s, m, y: m.todense() @ y),
    _SPARSE + "bcoo.py:bcoo_dot_general_p": _bcoo(lambda s, m, y: m @ y),
    _SPARSE + "bcoo.py:bcoo_transpose_p": _bcoo(lambda s, m, y: y.T @ m.T.todense()),
    _SPARSE + "bcoo.py:bcoo_sort_indices_p": _bcoo(lambda s, m, y: m.sort_indices().data),
    _SPARSE + "bcoo.py:bcoo_sum_duplicates_p": _bcoo(
        lambda s, m, y: s.bcoo_sum_duplicates(m, nse=5).data
    ),
    _SPARSE + "bcoo.py:bcoo_extract_p": _bcoo(
        lambda s, m, y: (
            m.data[0] * s.bcoo_extract(m, jnp.ones((4, 1)) * y[:, 0], assume_unique=True).data
        )
    ),
    _SPARSE + "bcoo.py:bcoo_fromdense_p": _sparse(
        lambda s, dense: (
            lambda x, y: s.BCOO.fromdense(jnp.asarray(dense, x.dtype) * x[0], nse=9).data
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
