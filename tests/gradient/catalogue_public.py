"""Public functions that nobody here wrote, at ordinary arguments: what `check` must say of each.

A finding stands with what mpmath, differences or the documentation say of it; everything else is
right, and no tool may call it wrong.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox
import flax.linen
import haiku
import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
import optax
from jax import lax, nn
from jax.experimental.ode import odeint

RANDOM = np.random.default_rng(10)


def draw(*shape, scale=1.0):
    return np.asarray(scale * RANDOM.normal(size=shape), np.float32)


def positive(*shape):
    return np.asarray(RANDOM.uniform(0.5, 2.0, shape), np.float32)


def unit(*shape):
    return np.asarray(RANDOM.uniform(0.1, 0.9, shape), np.float32)


def definite(n):
    a = draw(n, n)
    return np.asarray(a @ a.T + n * np.eye(n), np.float32)


@dataclasses.dataclass(frozen=True)
class Public:
    """A function at arguments; `says`, a pattern of the report where it is not OK, and `why`."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    says: str = ""
    why: str = ""


PUBLIC: dict[str, Public] = {}


def add(name, f, *args, says="", why=""):
    assert name not in PUBLIC
    PUBLIC[name] = Public(f, args, says, why)


# jax.nn

for name in (
    *("relu", "relu6", "sigmoid", "softplus", "silu", "mish", "gelu", "elu", "celu", "selu"),
    *("leaky_relu", "log_sigmoid", "soft_sign", "hard_tanh", "hard_sigmoid", "hard_silu"),
    *("squareplus", "softmax", "log_softmax", "logsumexp", "standardize", "glu", "identity"),
    *("sparse_plus", "sparse_sigmoid", "tanh"),
):
    add(f"nn.{name}", getattr(nn, name), draw(3, 4))
add("nn.gelu exact", lambda x: nn.gelu(x, approximate=False), draw(5))
add("nn.logmeanexp", nn.logmeanexp, draw(3, 4))
add("nn.log1mexp", nn.log1mexp, positive(4))
add(
    "nn.dot_product_attention",
    nn.dot_product_attention,
    draw(1, 3, 2, 4),
    draw(1, 3, 2, 4),
    draw(1, 3, 2, 4),
)
add(
    "nn.dot_product_attention causal",
    lambda q, k, v: nn.dot_product_attention(q, k, v, is_causal=True),
    *(draw(1, 3, 1, 4) for _ in range(3)),
)

# jax.scipy

for name, args in {
    "erf": (draw(4),),
    "erfc": (draw(4),),
    "erfinv": (0.8 * unit(4),),
    "expit": (draw(4),),
    "logit": (unit(4),),
    "gammaln": (positive(4),),
    "digamma": (1 + positive(4),),
    "gamma": (1 + positive(4),),
    "i0": (draw(4),),
    "i0e": (draw(4),),
    "i1": (draw(4),),
    "i1e": (draw(4),),
    "ndtr": (draw(4),),
    "ndtri": (unit(4),),
    "log_ndtr": (draw(4),),
    "xlogy": (positive(4), positive(4)),
    "xlog1py": (positive(4), positive(4)),
    "entr": (positive(4),),
    "rel_entr": (positive(4), positive(4)),
    "kl_div": (positive(4), positive(4)),
    "betaln": (positive(4), positive(4)),
    "logsumexp": (draw(3, 4),),
    "exp1": (positive(4),),
}.items():
    add(f"scipy.special.{name}", getattr(jsp.special, name), *args)
refused = "JAX documents no derivative by the order"
add(
    "scipy.special.betainc",
    jsp.special.betainc,
    positive(2),
    positive(2),
    unit(2),
    says="not differentiable with respect to argument_0",
    why=refused,
)
add("scipy.special.gammainc", jsp.special.gammainc, 1 + positive(3), positive(3))
add("scipy.special.gammaincc", jsp.special.gammaincc, 1 + positive(3), positive(3))
add(
    "scipy.special.polygamma",
    lambda x: jsp.special.polygamma(1, x),
    1 + positive(3),
)
add("scipy.special.zeta", lambda q: jsp.special.zeta(2.5, q), 1 + positive(3))
for name, args in {
    "norm": (draw(4),),
    "laplace": (draw(4),),
    "logistic": (draw(4),),
    "cauchy": (draw(4),),
    "expon": (positive(4),),
    "gamma": (positive(4), 1 + positive(4)),
    "beta": (unit(4), 1 + positive(4), 1 + positive(4)),
    "t": (draw(4), 2 + positive(4)),
}.items():
    add(f"scipy.stats.{name}.logpdf", getattr(jsp.stats, name).logpdf, *args)
add("scipy.stats.norm.logcdf", jsp.stats.norm.logcdf, draw(4))
add("scipy.ndimage.map_coordinates", lambda x, c: jsp.ndimage.map_coordinates(x, [c], 1),
    draw(6), np.array([0.3, 2.6, 4.2], np.float32))  # fmt: skip
add("scipy.signal.convolve", jsp.signal.convolve, draw(6), draw(3))
add("scipy.linalg.expm", jsp.linalg.expm, draw(3, 3, scale=0.3))
add("scipy.linalg.cho_solve", lambda a, b: jsp.linalg.cho_solve(jsp.linalg.cho_factor(a), b),
    definite(3), draw(3),
    says="FAIL .* finite differences",
    why="cho_factor reads one triangle of the matrix, and its derivative takes it for symmetric: "
    "along directions that are not symmetric, differences are right")  # fmt: skip
add("scipy.linalg.solve_triangular", jsp.linalg.solve_triangular, np.triu(definite(3)), draw(3))
add("scipy.linalg.sqrtm", lambda a: jnp.real(jsp.linalg.sqrtm(a)), definite(3),
    says="not differentiable", why="JAX has no derivative of the Schur form")  # fmt: skip

# jnp.linalg

add("linalg.solve", jnp.linalg.solve, definite(3), draw(3))
add("linalg.inv", jnp.linalg.inv, definite(3))
add("linalg.det", jnp.linalg.det, definite(3))
add("linalg.slogdet", lambda a: jnp.linalg.slogdet(a)[1], definite(3))
add("linalg.cholesky", jnp.linalg.cholesky, definite(3))
add("linalg.qr", lambda a: jnp.linalg.qr(a)[1], draw(4, 3))
add("linalg.eigvalsh", jnp.linalg.eigvalsh, definite(3))
add("linalg.eigh", lambda a: jnp.abs(jnp.linalg.eigh(a)[1]), definite(3))
add("linalg.svd", lambda a: jnp.linalg.svd(a, compute_uv=False), draw(4, 3))
add("linalg.norm", jnp.linalg.norm, draw(3, 4))
add("linalg.norm nuclear", lambda a: jnp.linalg.norm(a, "nuc"), draw(3, 4))
add("linalg.pinv", jnp.linalg.pinv, draw(4, 3))
add("linalg.matrix_power", lambda a: jnp.linalg.matrix_power(a, 3), draw(3, 3))
add("linalg.lstsq", lambda a, b: jnp.linalg.lstsq(a, b)[0], draw(5, 3), draw(5))
add("linalg.multi_dot", lambda a, b, c: jnp.linalg.multi_dot([a, b, c]),
    draw(2, 3), draw(3, 4), draw(4, 2))  # fmt: skip
add("linalg.cond", jnp.linalg.cond, definite(3))

# jnp, jax.lax, jax.image

add("interp", jnp.interp, unit(4), np.linspace(0, 1, 5, dtype=np.float32), draw(5))
add("convolve", jnp.convolve, draw(6), draw(3))
add("cumsum", jnp.cumsum, draw(5))
add("cumprod", jnp.cumprod, positive(5))
add("prod", jnp.prod, positive(5))
add("var", jnp.var, draw(5))
add("std", jnp.std, draw(5))
add("median", jnp.median, draw(5))
add("quantile", lambda x: jnp.quantile(x, 0.3), draw(6))
add("sort", jnp.sort, draw(5))
add("max", jnp.max, draw(3, 4))
add("logaddexp", jnp.logaddexp, draw(4), draw(4))
add("hypot", jnp.hypot, draw(4), draw(4))
add("arctan2", jnp.arctan2, draw(4), draw(4))
add("sinc", jnp.sinc, draw(4))
add("power", jnp.power, positive(4), draw(4))
add("einsum", lambda a, b: jnp.einsum("ij,jk->ik", a, b), draw(2, 3), draw(3, 2))
add("where of sqrt", lambda x: jnp.where(x > 0, jnp.sqrt(jnp.abs(x) + 1), x), draw(5))
add("fft", lambda x: jnp.abs(jnp.fft.fft(x)), draw(6))
add("rfft2", lambda x: jnp.real(jnp.fft.rfft2(x)), draw(4, 4))
add("take_along_axis", lambda x: jnp.take_along_axis(x, jnp.array([[1], [0]]), 1), draw(2, 3))
add("top_k", lambda x: lax.top_k(x, 2)[0], draw(5))
add("segment_sum", lambda x: jax.ops.segment_sum(x, jnp.array([0, 1, 0, 2]), 3), draw(4))
add("associative_scan", lambda x: lax.associative_scan(jnp.multiply, x), positive(5))
add("conv_general_dilated", lambda x, w: lax.conv(x, w, (1, 1), "SAME"),
    draw(1, 2, 4, 4), draw(3, 2, 3, 3))  # fmt: skip
add("reduce_window", lambda x: lax.reduce_window(x, 0.0, lax.add, (2,), (1,), "VALID"), draw(6))
add("avg_pool by scan", lambda x: lax.scan(lambda c, v: (0.9 * c + v, c), 0.0, x)[1], draw(5))
add("lgamma", lax.lgamma, positive(4))
add("custom_root", lambda a: lax.custom_root(
        lambda y: y * y - a,
        jnp.ones_like(a),
        lambda g, y: lax.fori_loop(0, 20, lambda i, y: (y + a / y) / 2, y),
        lambda g, y: y / g(jnp.ones_like(y)),
    ), positive(3))  # fmt: skip
add("image.resize", lambda x: jax.image.resize(x, (6, 6), "bilinear"), draw(4, 4))
add("image.resize cubic", lambda x: jax.image.resize(x, (3, 3), "cubic"), draw(4, 4))
add("image.scale_and_translate", lambda x, s: jax.image.scale_and_translate(
        x, (4, 4), (0, 1), s, jnp.zeros(2), "linear"
    ), draw(4, 4), np.array([1.2, 0.9], np.float32))  # fmt: skip
add("spence", jsp.special.spence, 1 + positive(3))
add("spence below 1", jsp.special.spence, unit(3))
add("spence at 1", jsp.special.spence, np.array([1.0, 0.5], np.float32),
    says="NOT COMPARED|FAIL",
    why="log(x) / (1 - x) is 0/0 at 1, where it is -1 (mpmath): JAX gives NaN")  # fmt: skip

# optax losses

LOGITS, LABELS = draw(4, 3), np.array([0, 2, 1, 2])
add("optax.l2_loss", optax.l2_loss, draw(4), draw(4))
add("optax.huber_loss", optax.huber_loss, draw(4, scale=2), draw(4))
add("optax.log_cosh", optax.log_cosh, draw(4), draw(4))
add("optax.cosine_similarity", optax.cosine_similarity, draw(3, 4), draw(3, 4))
add("optax.sigmoid_binary_cross_entropy", optax.sigmoid_binary_cross_entropy, draw(4), unit(4))
add("optax.softmax_cross_entropy", optax.softmax_cross_entropy, LOGITS, nn.softmax(draw(4, 3)))
add("optax.softmax_cross_entropy_with_integer_labels",
    lambda x: optax.softmax_cross_entropy_with_integer_labels(x, LABELS), LOGITS)  # fmt: skip
add("optax.kl_divergence", lambda x, t: optax.kl_divergence(nn.log_softmax(x), t), draw(4), unit(4))
add("optax.hinge_loss", optax.hinge_loss, draw(4), np.array([1.0, -1.0, 1.0, -1.0], "f"))
add("optax.sigmoid_focal_loss", optax.sigmoid_focal_loss, draw(4), np.array([1, 0, 1, 0], "f"))
add("optax.smooth_labels", lambda x: optax.smooth_labels(nn.softmax(x), 0.1), draw(3, 4))
add("optax.ctc_loss", lambda x: optax.ctc_loss(
        x, jnp.zeros((1, 5)), jnp.array([[1, 2]]), jnp.zeros((1, 2))
    ), draw(1, 5, 4))  # fmt: skip
add("optax.safe_norm", lambda x: optax.safe_norm(x, 0.1), draw(3))

# Layers of other libraries, and their attention

X, ROWS = draw(3, 4), draw(1, 3, 4)


def linen(module, *x):
    """A module of Linen, as a function of its parameters and arguments."""
    params = module.init(jax.random.key(0), *x)
    return lambda params, *x: module.apply(params, *x), params, *x


def haiku_function(make, *x):
    """A module of Haiku, likewise."""
    init, apply = haiku.without_apply_rng(haiku.transform(lambda *x: make()(*x)))
    return apply, init(jax.random.key(0), *x), *x


def of_equinox(module, *x):
    """A module of Equinox, likewise."""
    params, static = equinox.partition(module, equinox.is_inexact_array)
    return lambda params, *x: equinox.combine(params, static)(*x), params, *x


LINEN = {
    "Dense": linen(flax.linen.Dense(3), X),
    "Conv": linen(flax.linen.Conv(2, (3,)), ROWS),
    "LayerNorm": linen(flax.linen.LayerNorm(), X),
    # Of two features in a group nothing is left but the digits that cancel: here there are four.
    "GroupNorm": linen(flax.linen.GroupNorm(2), draw(3, 8)),
    "MultiHeadDotProductAttention": linen(flax.linen.MultiHeadDotProductAttention(2), ROWS),
}
HAIKU = {
    "Linear": haiku_function(lambda: haiku.Linear(3), X),
    "LayerNorm": haiku_function(lambda: haiku.LayerNorm(-1, True, True), X),
    "MultiHeadAttention": haiku_function(
        lambda: haiku.MultiHeadAttention(2, 2, w_init=haiku.initializers.VarianceScaling()),
        ROWS,
        ROWS,
        ROWS,
    ),
}
EQUINOX = {
    "Linear": of_equinox(equinox.nn.Linear(4, 3, key=jax.random.key(0)), X[0]),
    "LayerNorm": of_equinox(equinox.nn.LayerNorm(4), X[0]),
    "MLP": of_equinox(equinox.nn.MLP(4, 2, 3, 1, key=jax.random.key(0)), X[0]),
    "MultiheadAttention": of_equinox(
        equinox.nn.MultiheadAttention(2, 4, key=jax.random.key(0)), X, X, X
    ),
    "GRUCell": of_equinox(equinox.nn.GRUCell(4, 3, key=jax.random.key(0)), X[0], draw(3)),
}
for library, layers in {"linen": LINEN, "haiku": HAIKU, "equinox": EQUINOX}.items():
    for name, (f, *args) in layers.items():
        add(f"{library}.{name}", f, *args)
add("odeint", lambda w: odeint(lambda s, t, w: jnp.tanh(w @ s), jnp.ones(2), jnp.arange(3.0), w),
    draw(2, 2, scale=0.3))  # fmt: skip
