"""jax.nn, element by element, and its functions of several numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

from cases import Case, normal, points

_NAME = "jax.nn."
_ALPHA, _SCALE = (
    mp.mpf("1.6732632423543772848170429916717"),
    mp.mpf("1.0507009873554804934193349852946"),
)


def _tanh_gelu(x):
    return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


def _sparse_plus(x):
    return mp.mpf(0) if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4


_UNARY = {
    "celu": (lambda x: x if x > 0 else mp.expm1(x), [-2, 0.5, 3], [-30, -15, -1e-5, 1e-5]),
    "selu": (
        lambda x: _SCALE * (x if x > 0 else _ALPHA * mp.expm1(x)),
        [-2, 0.5, 3],
        [-30, -15, -1e-5, 1e-5],
    ),
    "hard_tanh": (lambda x: min(max(x, -1), 1), [-2, 0.5, 3], [-0.9999, 1.0001]),
    "hard_sigmoid": (lambda x: min(max(x + 3, 0), 6) / 6, [-2, 0.5, 4], [-3.001, 2.999]),
    "hard_silu": (lambda x: x * min(max(x + 3, 0), 6) / 6, [-2, 0.5, 4], [-3.001, 2.999, -1.5]),
    "relu": (lambda x: max(x, 0), [-2, 0.5, 3], [-1e-30, 1e-30]),
    "relu6": (lambda x: min(max(x, 0), 6), [-2, 0.5, 7], [-1e-30, 1e-30, 5.999]),
    "leaky_relu": (lambda x: x if x > 0 else x / 100, [-2, 0.5, 3], [-1e-30, 1e-30]),
    "soft_sign": (lambda x: x / (1 + abs(x)), [-2, 0.5, 3], [-1e10, 1e-20, 1e20, 1e25]),
    "sparse_plus": (_sparse_plus, [-2, 0.5, 3], [-0.9999, 0.9999, -1.0001]),
    "sparse_sigmoid": (lambda x: min(max(x + 1, 0), 2) / 2, [-2, 0.5, 3], [-0.9999, 0.9999]),
    "log1mexp": (lambda x: mp.log(-mp.expm1(-x)), [0.1, 1, 3], [1e-20, 0.6931472, 20, 80]),
    "tanh": (mp.tanh, [-2, 0.5, 3], [0, -5, 8, 15]),
}


def _unary(name, exact, ordinary, difficult):
    return lambda: points(getattr(jax.nn, name), exact, ordinary, difficult)


def _logmeanexp():
    return points(
        lambda x, y: jax.nn.logmeanexp(jnp.stack([x, y], axis=-1), axis=-1),
        lambda x, y: mp.log((mp.exp(x) + mp.exp(y)) / 2),
        [(0.5, 1.0), (2.0, -1.0)],
        [(0.0, 15.0), (0.0, 30.0), (1e4, 1e4 - 12), (-80.0, 0.0)],
    )


def _gelu():
    return points(
        lambda x: jax.nn.gelu(x, approximate=True), _tanh_gelu, [-2, 0.5, 3], [-12, -6, -4, 0, 8]
    )


def _where():
    x = np.array([0.5, 200.0, -1.0], np.float32)
    kept = np.array([True, False, True])
    infinite = np.array([0.5, np.inf, -1.0], np.float32)
    kinds = {"softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax}
    weights = np.array([1.0, 0.0, 3.0])

    def of(f):
        def g(x):
            return jnp.where(kept, f(x, where=jnp.asarray(kept)) * weights.astype(x.dtype), 0)

        return g

    return [
        Case(f"{name}, {label}", of(f), (given,))
        for name, f in kinds.items()
        for label, given in (("where", x), ("where, and an infinity left out", infinite))
    ]


CASES = {
    **{_NAME + name: _unary(name, *rest) for name, rest in _UNARY.items()},
    _NAME + "logmeanexp": _logmeanexp,
    _NAME + "gelu of tanh": _gelu,
    _NAME + "glu": lambda: [Case("ordinary", jax.nn.glu, (normal(2, 6),))],
    _NAME + "softmax with where": _where,
}
