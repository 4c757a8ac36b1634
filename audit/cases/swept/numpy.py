"""jax.numpy: element by element, and functions of whole arrays where they have edges."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import mpmath as mp
import numpy as np

from cases import Case, by_mpmath, normal, points

_NAME = "jax.numpy."
_FAR = [-1e20, -1e3, 1e-20, 1e3, 1e20]

_UNARY = {
    "log1p": (mp.log1p, [-0.5, 0.5, 3], [-0.999999, 1e-20, 1e20]),
    "expm1": (mp.expm1, [-2, 0.5, 3], [-30, -15, 1e-20]),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), [-2, 0.5, 3], [-1e30, -1e-30, 1e-30, 1e30]),
    "sqrt": (mp.sqrt, [0.5, 3], [1e-30, 1e30]),
    "square": (lambda x: x * x, [-2, 0.5, 3], [-1e10, 1e-30]),
    "reciprocal": (lambda x: 1 / x, [-2, 0.5, 3], [1e-15, 1e-20, 1e15, 1e25]),
    "tan": (mp.tan, [-1, 0.5, 1.5], [1.57, 1e-20, 1e3]),
    "arcsin": (mp.asin, [-0.5, 0.1, 0.9], [1e-20, 0.9999, -0.999999]),
    "arccos": (mp.acos, [-0.5, 0.1, 0.9], [1e-20, 0.9999, -0.999999]),
    "arctan": (mp.atan, [-2, 0.5, 3], [*_FAR, 1e-4]),
    "arcsinh": (mp.asinh, [-2, 0.5, 3], _FAR),
    "arccosh": (mp.acosh, [1.5, 3], [1.00001, 1e20]),
    "arctanh": (mp.atanh, [-0.5, 0.1, 0.9], [1e-20, 0.999, -0.999999]),
    "sinh": (mp.sinh, [-2, 0.5, 3], [1e-20, -80, 80]),
    "cosh": (mp.cosh, [-2, 0.5, 3], [0, 1e-20, -80, 80]),
    "tanh": (mp.tanh, [-2, 0.5, 3], [0, 1e-20, -5, 8, 15]),
    "exp2": (lambda x: mp.mpf(2) ** x, [-2, 0.5, 3], [-100, 100]),
    "log2": (lambda x: mp.log(x, 2), [0.5, 3], [1e-30, 1, 1e30]),
    "log10": (lambda x: mp.log(x, 10), [0.5, 3], [1e-30, 1, 1e30]),
    "i0": (lambda x: mp.besseli(0, x), [-2, 0.5, 3], [0, 1e-10, 1e-6, 20, 80]),
    "deg2rad": (lambda x: x * mp.pi / 180, [-2, 30], [1e30]),
}
_BINARY = {
    "logaddexp2": (
        lambda x, y: mp.log(mp.mpf(2) ** x + mp.mpf(2) ** y, 2),
        [(0.5, 1.0), (-2.0, 0.3)],
        [(1e5, 1e5 + 3), (0.0, -40.0), (1.0, 1.0)],
    ),
    "arctan2": (
        mp.atan2,
        [(0.5, 1.0), (-2.0, -0.3)],
        [(1e-25, 1e-25), (1e25, 1e25), (1.0, 0.0), (0.0, 1.0), (1e-20, 1.0)],
    ),
    "power": (
        lambda x, y: x**y,
        [(0.5, 2.0), (3.0, -1.5)],
        [(1.0, 3.0), (2.0, 0.0), (1e-10, 1.5), (1e10, -2.0), (3.0, 1.0)],
    ),
    "float_power": (lambda x, y: x**y, [(0.5, 2.0), (3.0, -1.5)], [(2.0, 0.0), (1e-10, 1.5)]),
    "divide": (
        lambda x, y: x / y,
        [(0.5, 2.0), (3.0, -1.5)],
        [(1e-20, 1e-20), (1e20, 1e20), (1e-30, 1e5), (1e25, 1e22)],
    ),
    "remainder": (
        lambda x, y: x - y * mp.floor(x / y),
        [(5.0, 3.0), (-5.0, 3.0), (5.0, -3.0)],
        [(0.5, 3.0), (-0.5, 3.0), (1e3, 0.3)],
    ),
    "fmod": (
        lambda x, y: x - y * (mp.floor(x / y) if x / y > 0 else mp.ceil(x / y)),
        [(5.0, 3.0), (-5.0, 3.0), (5.0, -3.0)],
        [(0.5, 3.0), (-0.5, 3.0)],
    ),
    "copysign": (
        lambda x, y: abs(x) * mp.sign(y),
        [(0.5, 2.0), (3.0, -1.5), (-2.0, 1.0), (-2.0, -3.0)],
        [],
    ),
}


def _elementwise(name, exact, ordinary, difficult):
    return lambda: points(getattr(jnp, name), exact, ordinary, difficult)


def _total(f, weights=None):
    """A truth: mpmath's, of a function from an array of its numbers to an array or a number."""
    return by_mpmath(lambda *x: np.sum(np.asarray(f(*x)) * (1 if weights is None else weights)))


def _f32(*rows):
    return np.array(rows, np.float32)


def _far(shift):
    return normal(6) + np.float32(shift)


def _deviation(x, ddof=0):
    mean = sum(x) / len(x)
    return mp.sqrt(sum((x - mean) ** 2) / (len(x) - ddof))


def _variance(x):
    return _deviation(x) ** 2


def _product(x):
    return functools.reduce(lambda a, b: a * b, x)


def _products(x):
    return np.array([_product(x[: i + 1]) for i in range(len(x))], object)


def _whole(f, *cases):
    """Cases of a function of one array; mpmath's where its function is given, else float64's."""
    return lambda: [
        Case(label, f, (x,), truth=_total(exact) if exact else None) for label, x, exact in cases
    ]


def _mean_of_numbers(f):
    """Arrays with a NaN in them, which the function leaves out: the truth is that of the others."""

    def make():
        x = _f32(1.0, 2.5, np.nan, -0.5)
        kept = ~np.isnan(x)
        name = {jnp.nanmean: lambda v: sum(v) / len(v), jnp.nanstd: _deviation}.get(f, _variance)

        def truth(given):
            found = np.zeros(given.shape)
            found[kept] = _total(name)(given[kept])[0]
            return [found]

        return [Case("a NaN among them", f, (x,), truth=truth)]

    return make


def _norms():
    x = _f32([3.0, 1.0], [-1.0, 2.0])
    kinds = {"nuclear": "nuc", "spectral": 2, "smallest": -2, "by columns": 1}
    cases = [
        Case(label, functools.partial(jnp.linalg.norm, ord=kind), (x,))
        for label, kind in kinds.items()
    ]
    cube = lambda v: mp.cbrt(sum(abs(v) ** 3))  # noqa: E731
    third = functools.partial(jnp.linalg.norm, ord=3)
    cases.append(Case("cubic, with a zero", third, (_f32(1.0, 0.0, -2.0),), truth=_total(cube)))
    small = _f32(3e-15, 4e-15)
    return [*cases, Case("cubic, tiny", third, (small,), truth=_total(cube))]


def _space(f, exact):
    def make():
        weights = np.arange(1.0, 6.0)
        edges = [("ordinary", _f32(1.0), _f32(4.0)), ("far apart", _f32(1e-3), _f32(1e3))]
        return [
            Case(
                label,
                lambda a, b: f(a[0], b[0], 5) * jnp.asarray(weights, a.dtype),
                (a, b),
                truth=_total(lambda a, b: exact(a[0], b[0]), weights),
            )
            for label, a, b in edges
        ]

    return make


def _interp():
    places, values = _f32(0.0, 1.0, 3.0), _f32(1.0, -1.0, 2.0)

    def f(x, places, values):
        return jnp.interp(x, places, values)

    return [
        Case("ordinary", f, (_f32(0.3, 1.7, 2.5), places, values)),
        Case("outside", f, (_f32(-1.0, 4.0), places, values)),
        Case("at equal places", f, (_f32(0.5, 2.0), _f32(0.0, 1.0, 1.0, 3.0), normal(4))),
    ]


CASES = {
    **{_NAME + name: _elementwise(name, *rest) for name, rest in (_UNARY | _BINARY).items()},
    _NAME + "prod": _whole(
        jnp.prod,
        ("ordinary", normal(4), _product),
        ("a zero", _f32(2.0, 0.0, 3.0), _product),
        ("two zeros", _f32(2.0, 0.0, 0.0), _product),
        ("tiny", _f32(1e-20, 1e-20, 1e20), _product),
    ),
    _NAME + "cumprod": _whole(
        jnp.cumprod,
        ("ordinary", normal(4), _products),
        ("a zero", _f32(2.0, 0.0, 3.0, 0.5), _products),
        ("two zeros", _f32(2.0, 0.0, 0.0, 0.5), _products),
    ),
    _NAME + "std": _whole(
        jnp.std,
        ("ordinary", normal(6), _deviation),
        ("mean far from zero", _far(1e3), _deviation),
        ("tiny", normal(6) * np.float32(1e-25), _deviation),
    ),
    _NAME + "var": _whole(
        jnp.var, ("ordinary", normal(6), _variance), ("mean far from zero", _far(1e3), _variance)
    ),
    **{_NAME + f.__name__: _mean_of_numbers(f) for f in (jnp.nanmean, jnp.nanstd, jnp.nanvar)},
    _NAME + "linalg.norm of other orders": _norms,
    _NAME + "linspace": _space(
        jnp.linspace, lambda a, b: np.array([a + (b - a) * mp.mpf(k) / 4 for k in range(5)], object)
    ),
    _NAME + "geomspace": _space(
        jnp.geomspace,
        lambda a, b: np.array([a * (b / a) ** (mp.mpf(k) / 4) for k in range(5)], object),
    ),
    _NAME + "interp": _interp,
    _NAME + "polyval": lambda: [
        Case("ordinary", jnp.polyval, (normal(4), normal(3, seed=1))),
        Case("at zero", jnp.polyval, (normal(4), _f32(0.0, 1.0))),
    ],
    _NAME + "median": _whole(jnp.median, ("odd", normal(5), None), ("even", normal(6), None)),
    _NAME + "percentile": lambda: [
        Case("ordinary", lambda x: jnp.percentile(x, 30.0), (normal(6),)),
        Case("by the percentage", lambda q: jnp.percentile(normal(6), q), (_f32(12.0, 55.0),)),
    ],
    _NAME + "unwrap": _whole(jnp.unwrap, ("ordinary", normal(6, scale=5.0), None)),
    _NAME + "corrcoef": _whole(lambda x: jnp.corrcoef(x)[0, 1], ("ordinary", normal(2, 5), None)),
    _NAME + "trapezoid": lambda: [
        Case("ordinary", jnp.trapezoid, (normal(5), normal(5, seed=1))),
    ],
    _NAME + "cross": lambda: [Case("ordinary", jnp.cross, (normal(3), normal(3, seed=1)))],
    _NAME + "gradient": _whole(jnp.gradient, ("ordinary", normal(6), None)),
    _NAME + "nan_to_num": _whole(jnp.nan_to_num, ("ordinary", normal(4), None)),
}
