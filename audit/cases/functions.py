"""Functions of everyday use that have no rule: here it is autodiff that is held to the truth."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
from sites import Site

from cases import Case, by_mpmath, normal, points, swept


def _f32(*rows):
    return np.array(rows, np.float32)


def _ndtr(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


_weights = np.arange(10.0).reshape(2, 5) ** 2 / 8


def mp_norm(x):
    """Of an array of mpmath numbers."""
    return mp.sqrt(sum(x.ravel() ** 2))


def _standardized(x):
    total = mp.mpf(0)
    for row, weights in zip(x, _weights, strict=True):
        mean = sum(row) / len(row)
        variance = sum((row - mean) ** 2) / len(row) + mp.mpf("1e-5")
        total += sum((row - mean) * weights) / mp.sqrt(variance)
    return total


def _two_logits(f, exact):
    """Both entries of a function of two logits: point by point."""

    def of(x, y):
        return f(jnp.stack([x, y], axis=-1))[..., 0]

    return points(
        of,
        exact,
        [(0.5, 1.0), (2.0, -1.0)],
        [(0.0, 15.0), (30.0, 0.0), (0.0, 30.0), (17.0, -3.0)],
    )


def _focal(x, y):
    p = 1 / (1 + mp.exp(-x))
    loss = y * mp.log1p(mp.exp(-x)) + (1 - y) * mp.log1p(mp.exp(x))
    return loss * (1 - (p * y + (1 - p) * (1 - y))) ** 2


def _optax(name, *more):
    def f(*args):
        import optax

        return operator.attrgetter(name)(optax)(*args, *more)

    return f


def _ctc():
    logits = normal(1, 5, 4)
    labels = np.array([[1, 2, 2]], np.int32)

    def f(x):
        return _optax("ctc_loss")(x, jnp.zeros((1, 5)), labels, jnp.zeros((1, 3)))

    return [Case("ordinary", f, (logits,)), Case("sharp", f, (logits * np.float32(20),))]


_CASES: dict[str, Callable[[], list[Case]]] = {
    "jax.nn.log_softmax": lambda: _two_logits(
        jax.nn.log_softmax, lambda x, y: -mp.log1p(mp.exp(y - x))
    ),
    "jax.nn.logsumexp": lambda: points(
        lambda x, y: jax.nn.logsumexp(jnp.stack([x, y], axis=-1), axis=-1),
        lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
        [(0.5, 1.0), (2.0, -1.0)],
        [(0.0, 15.0), (0.0, 30.0), (1e4, 1e4 - 12), (-80.0, 0.0)],
    ),
    "jax.scipy.special.logsumexp": lambda: points(
        lambda x, y, b: jax.scipy.special.logsumexp(
            jnp.stack([x, y], axis=-1), axis=-1, b=jnp.stack([b, jnp.ones_like(b)], axis=-1)
        ),
        lambda x, y, b: mp.log(b * mp.exp(x) + mp.exp(y)),
        [(0.5, 1.0, 2.0), (2.0, -1.0, 0.25)],
        [(0.0, 1.0, 0.0), (15.0, 0.0, 1e-3)],
    ),
    "jax.nn.softplus": lambda: points(
        jax.nn.softplus, lambda x: mp.log1p(mp.exp(x)), [-2, 0.5, 3], [-80, -30, 15, 30]
    ),
    "jax.nn.log_sigmoid": lambda: points(
        jax.nn.log_sigmoid, lambda x: -mp.log1p(mp.exp(-x)), [-2, 0.5, 3], [-30, 15, 30, 80]
    ),
    "jax.nn.sigmoid": lambda: points(
        jax.nn.sigmoid, lambda x: 1 / (1 + mp.exp(-x)), [-2, 0.5, 3], [-30, 10, 15, 30]
    ),
    "jax.nn.silu": lambda: points(
        jax.nn.silu, lambda x: x / (1 + mp.exp(-x)), [-2, 0.5, 3], [-30, -10, -1.2784, 15]
    ),
    "jax.nn.gelu": lambda: points(
        lambda x: jax.nn.gelu(x, approximate=False),
        lambda x: x * _ndtr(x),
        [-2, 0.5, 3],
        [-12, -6, -4, -0.7517916, 8],
    ),
    "jax.nn.mish": lambda: points(
        jax.nn.mish, lambda x: x * mp.tanh(mp.log1p(mp.exp(x))), [-2, 0.5, 3], [-30, -1.1924, 15]
    ),
    "jax.nn.elu": lambda: points(
        jax.nn.elu, lambda x: x if x > 0 else mp.expm1(x), [-2, 0.5, 3], [-30, -1e-5, 1e-5]
    ),
    "jax.nn.squareplus": lambda: points(
        jax.nn.squareplus, lambda x: (x + mp.sqrt(x * x + 4)) / 2, [-2, 0.5, 3], [-1e3, -1e5, 1e4]
    ),
    "jax.numpy.sinc": lambda: points(
        jnp.sinc,
        lambda x: mp.sin(mp.pi * x) / (mp.pi * x) if x else mp.mpf(1),
        [-2.3, -0.5, 0.25, 1.2],
        [1e-20, 1e-6, 1e-4, 1e-2, 1, 100.3],
    ),
    "jax.numpy.hypot": lambda: points(
        jnp.hypot,
        lambda x, y: mp.sqrt(x * x + y * y),
        [(3.0, 4.0), (-1.0, 0.5)],
        [(3e-25, 4e-25), (3e25, 4e25), (1.0, 1e-20)],
    ),
    "jax.numpy.linalg.norm": lambda: [
        Case("ordinary", jnp.linalg.norm, (_f32(3.0, 4.0, -1.0),)),
        Case("tiny", jnp.linalg.norm, (_f32(3e-25, 4e-25),), truth=by_mpmath(mp_norm)),
        Case("large", jnp.linalg.norm, (_f32(3e25, 4e25),)),
    ],
    "jax.nn.standardize": lambda: [
        Case("ordinary", jax.nn.standardize, (normal(2, 5),)),
        Case(
            "mean far from zero",
            lambda x: jax.nn.standardize(x) * jnp.asarray(_weights, x.dtype),
            (normal(2, 5) + np.float32(1e3),),
            truth=by_mpmath(_standardized),
        ),
    ],
    "jax.scipy.special.ndtr": lambda: points(
        jax.scipy.special.ndtr, _ndtr, [-2, 0.5, 3], [-12, -8, 8]
    ),
    "jax.scipy.special.i1": lambda: points(
        jax.scipy.special.i1, lambda x: mp.besseli(1, x), [-2, 0.5, 3], [1e-6, 20, 80]
    ),
    "jax.scipy.special.betaln": lambda: points(
        jax.scipy.special.betaln,
        lambda a, b: mp.log(mp.beta(a, b)),
        [(0.5, 2.0), (3.0, 1.5)],
        [(1e4, 1e4), (1e6, 0.5), (1e-5, 2.0)],
    ),
    "jax.scipy.special.kl_div": lambda: points(
        jax.scipy.special.kl_div,
        lambda p, q: p * mp.log(p / q) - p + q,
        [(0.5, 2.0), (0.3, 0.25)],
        [(0.5, 0.500001), (1e-20, 0.5), (0.5, 1e-20)],
    ),
    "jax.scipy.stats.norm.logsf": lambda: points(
        jax.scipy.stats.norm.logsf, lambda x: mp.log(_ndtr(-x)), [-2, 0.5, 3], [8, 30, 1e3]
    ),
    "jax.scipy.stats.norm.logcdf": lambda: points(
        jax.scipy.stats.norm.logcdf, lambda x: mp.log(_ndtr(x)), [-2, 0.5, 3], [-8, -30, -1e3]
    ),
    "optax.sigmoid_binary_cross_entropy": lambda: points(
        _optax("sigmoid_binary_cross_entropy"),
        lambda x, y: y * mp.log1p(mp.exp(-x)) + (1 - y) * mp.log1p(mp.exp(x)),
        [(0.5, 1.0), (-2.0, 0.0), (1.0, 0.3)],
        [(30.0, 1.0), (-30.0, 0.0), (15.0, 1.0), (80.0, 0.0)],
    ),
    "optax.sigmoid_focal_loss": lambda: points(
        _optax("sigmoid_focal_loss"),
        _focal,
        [(0.5, 1.0), (-2.0, 0.0), (1.0, 0.3)],
        [(10.0, 1.0), (-12.0, 0.0), (15.0, 1.0), (20.0, 0.0)],
    ),
    "optax.softmax_cross_entropy_with_integer_labels": lambda: _two_logits(
        lambda x: (
            -_optax("softmax_cross_entropy_with_integer_labels")(
                x, jnp.zeros(x.shape[:-1], jnp.int32)
            )[..., None]
        ),
        lambda x, y: -mp.log1p(mp.exp(y - x)),
    ),
    "optax.losses.sparsemax_loss": lambda: points(
        lambda x: _optax("losses.sparsemax_loss")(x, jnp.zeros(x.shape, jnp.int32)),
        lambda x: max(x, 0) if abs(x) >= 1 else (x + 1) ** 2 / 4,
        [-2, -0.5, 0.5, 3],
        [-0.9999, 0.9999],
    ),
    "optax.log_cosh": lambda: points(
        _optax("log_cosh"), lambda x: mp.log(mp.cosh(x)), [-2, 0.5, 3], [1e-20, 15, 1e3]
    ),
    "optax.cosine_similarity": lambda: [
        Case("ordinary", _optax("cosine_similarity"), (normal(2, 4), normal(2, 4, seed=1))),
    ],
    "optax.ctc_loss": _ctc,
}


def _site(name: str) -> Site:
    """The place of a function: words after its name say which of its uses is meant."""
    module, _, function = name.split(" ")[0].rpartition(".")
    found = getattr(importlib.import_module(module), function)
    found = inspect.unwrap(getattr(found, "_func", found))  # a jax.numpy.ufunc has it inside
    package = name.split(".")[0]
    file, line = inspect.getsourcefile(found) or "", inspect.getsourcelines(found)[1]
    short = file.split("site-packages/")[-1]
    return Site(package, importlib.metadata.version(package), short, line, name, "no rule")


ALL = _CASES | {name: make for name, make in swept.CASES.items() if name not in _CASES}
FUNCTIONS = tuple(map(_site, ALL))
SITES = {site.key: ALL[site.name] for site in FUNCTIONS}
