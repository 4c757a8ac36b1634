"""Right rules and functions that a poor checker takes for wrong ones: no false alarm may sound."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from catalogue_operations import OPERATIONS, draw
from catalogue_wrong import custom

from funcnn.core.registry import Case, Rule

O = OPERATIONS  # noqa: E741


@dataclasses.dataclass(frozen=True)
class Right:
    """A right rule, or a function with arguments; `options` of `check`."""

    name: str
    make: Callable[[], tuple[Any, tuple[Any, ...]]]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


RIGHT: dict[str, Right] = {}


def add(name, make, **options):
    assert name not in RIGHT
    RIGHT[name] = Right(name, make, options)


def rule(
    name: str,
    reference: Any,
    forward: Any,
    backward: Any,
    /,
    *args: Any,
    empty: Any = None,
    **case: Any,
):
    """A Rule with one case, and perhaps another whose arguments have axes of size 0."""
    right = Rule(reference, name.split(":")[0])
    right.defvjp(forward, backward)
    case.setdefault("dtypes", ("float32",))
    cases = [Case("normal", args, **case)]
    if empty is not None:
        cases.append(Case("empty", empty, dtypes=("float32",)))
    right.defcases(lambda key: iter(cases))
    add(name, lambda: (right, ()))


def existing(name, operation, *args, **case):
    """An operation of the catalogue on other arguments."""
    right = O[operation].rule(args=args or None, **case)
    add(name, lambda: (right, ()))


def function(name, f, *args, **options):
    add(name, lambda: (f, args), **options)


# Ill-conditioned, or far from zero

existing(
    "layer_norm: mean 1000 times the deviation", "layer_norm", 1e3 + draw(4, 6), draw(6), draw(6)
)
existing("softmax: logits near 1e4", "softmax", np.float32(1e4) + draw(3, 5))
existing("logsumexp: logits of 800", "logsumexp", 800 + draw(3, 4))
existing("linear: cancelling sums", "linear", draw(4, 3, scale=1e6), draw(3, 3), draw(3))
rule(
    "variance: large offset",
    lambda x: jnp.var(x),
    lambda x: (jnp.mean((x - x.mean()) ** 2), x),
    lambda x, dy: (2 * dy * (x - x.mean()) / x.size,),
    1e4 + draw(7),
)
rule(
    "sum: terms of both signs",
    lambda x: jnp.sum(x**3),
    lambda x: (jnp.sum(x * x * x), x),
    lambda x, dy: (3 * x * x * dy,),
    np.array([1e4, -1e4, 1.0, 1e-3], np.float32),
)

# Low precision

existing("attention: bfloat16", "attention", dtypes=("float32", "bfloat16"))


def accumulated(x, w):
    """Added up in float32 at least; jnp.promote_types raises under strict promotion."""
    wide = x.dtype if jnp.finfo(x.dtype).bits > 32 else jnp.float32
    return jnp.matmul(x, w, preferred_element_type=wide)


rule(
    "matmul: bfloat16, added in float32",
    lambda x, w: accumulated(x, w).astype(x.dtype),
    lambda x, w: (accumulated(x, w).astype(x.dtype), (x, w)),
    lambda res, dy: (
        accumulated(dy, res[1].T).astype(dy.dtype),
        accumulated(res[0].T, dy).astype(dy.dtype),
    ),
    draw(4, 6),
    draw(6, 3),
    dtypes=("float32", "bfloat16", "float16"),
)

# More accurate than autodiff of the reference

rule(
    "log1mexp: autodiff loses the small ones",
    lambda x: jnp.log(1 - jnp.exp(-x)),
    lambda x: (jnp.log(-jnp.expm1(-x)), x),
    lambda x, dy: (dy / jnp.expm1(x),),
    np.array([0.3, 1.0, 3.0], np.float32),
)
existing(
    "log_softmax: a spread of 20", "log_softmax", np.array([[0.0, 20.0], [3.0, -9.0]], np.float32)
)
rule(
    "sqrt of a square: hypot",
    lambda x, y: jnp.sqrt(x * x + y * y),
    lambda x, y: ((r := jnp.hypot(x, y)), (x / r, y / r)),
    lambda res, dy: (dy * res[0], dy * res[1]),
    3 + draw(4),
    draw(4),
)
rule(
    "sinc: series near zero",
    lambda x: jnp.sin(x) / x,
    lambda x: (jnp.sin(x) / x, x),
    lambda x, dy: (dy * (x * jnp.cos(x) - jnp.sin(x)) / (x * x),),
    0.5 + np.abs(draw(5)),
)

# Sizes of 0 and 1, scalars

rule(
    "doubled: axes of size 0",
    lambda x, w: jnp.concatenate([x.ravel(), w]) * 2,
    lambda x, w: (jnp.concatenate([x.ravel(), w]) * 2, x),
    lambda x, dy: (2 * dy[: x.size].reshape(x.shape), 2 * dy[x.size :]),
    draw(2, 3),
    draw(4),
    empty=(np.zeros((0, 3), np.float32), draw(4)),
)
rule(
    "matmul: an inner axis of size 0",
    O["matmul"].reference,
    O["matmul"].forward,
    O["matmul"].backward,
    draw(2, 3),
    draw(3, 2),
    empty=(np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32)),
)
existing("linear: one row, one column", "linear", draw(1, 1), draw(1, 1), draw(1))
existing("softmax: two classes, one row", "softmax", draw(1, 2))
existing("conv: one pixel", "conv", draw(1, 1, 2), draw(3, 2, 2))
rule(
    "scalar",
    lambda x: x**3,
    lambda x: (x**3, x),
    lambda x, dy: (3 * x * x * dy,),
    np.array(1.5, np.float32),
)

# Integers, keys, masks, None

existing("embedding: an index repeated", "embedding")
existing("cross_entropy: integer labels", "cross_entropy")
existing("masked: booleans", "masked")


def noisy(x, key):
    return x * jax.random.normal(key, x.shape, x.dtype)


rule(
    "noise: a key",
    noisy,
    lambda x, key: (noisy(x, key), key),
    lambda key, dy: (noisy(dy, key), None),
    draw(3, 2),
    jax.random.key(1),
)


def affine(params, x):
    y = params["w"] * x
    return y if params["b"] is None else y + params["b"]


rule(
    "affine: a tree with None",
    affine,
    lambda params, x: (affine(params, x), (params["w"], x)),
    lambda res, dy: ({"w": dy * res[1], "b": None}, dy * res[0]),
    {"w": draw(4), "b": None},
    draw(4),
)
rule(
    "power: an integer array beside",
    lambda x, n: x * n.astype(x.dtype),
    lambda x, n: (x * n.astype(x.dtype), n),
    lambda n, dy: (dy * n.astype(dy.dtype), None),
    draw(4),
    np.array([1, 2, 0, 3], np.int32),
)

# Several outputs, and outputs without a gradient

rule(
    "sine and cosine",
    lambda x: (jnp.sin(x), jnp.cos(x)),
    lambda x: ((jnp.sin(x), jnp.cos(x)), x),
    lambda x, dy: (dy[0] * jnp.cos(x) - dy[1] * jnp.sin(x),),
    draw(5),
)


def with_index(x):
    index = jnp.argmax(x, 1)
    return jnp.take_along_axis(x, index[:, None], 1)[:, 0], index


rule(
    "max and its index",
    with_index,
    lambda x: (with_index(x), x),
    lambda x, dy: (dy[0][:, None] * jax.nn.one_hot(jnp.argmax(x, 1), x.shape[1], dtype=x.dtype),),
    draw(3, 4),
)
rule(
    "a dict of outputs",
    lambda x: {"double": 2 * x, "square": x * x},
    lambda x: ({"double": 2 * x, "square": x * x}, x),
    lambda x, dy: (2 * dy["double"] + 2 * x * dy["square"],),
    draw(3),
)

# Surrogates, which differ from the derivative on purpose

rule(
    "straight-through: round",
    lambda x: jnp.round(x),
    lambda x: (jnp.round(x), None),
    lambda _, dy: (dy,),
    draw(5, scale=3),
    intent="surrogate",
    reference=lambda x: x,
)
rule(
    "clipped gradient",
    lambda x: x,
    lambda x: (x, None),
    lambda _, dy: (jnp.clip(dy, -0.1, 0.1),),
    draw(5),
    intent="surrogate",
)
function(
    "reversed gradient",
    custom(lambda x: 1 * x, lambda x: (1 * x, None), lambda _, dy: (-dy,)),
    draw(5),
    intent="surrogate",
)

# Kinks and ties, by the reference's convention

existing(
    "relu: at the kink", "relu", np.array([[-1.0, 0.0, 2.0, -0.5, 0.0]], np.float32), kinks=True
)
existing("max_pool: ties", "max_pool", np.array([[1.0, 1.0, 0.5, 2.0]], np.float32), kinks=True)

# Functions with foreign rules

sine = custom(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x),))
product = custom(
    lambda x, y: x * y, lambda x, y: (x * y, (x, y)), lambda r, dy: (dy * r[1], dy * r[0])
)


@jax.custom_jvp
def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


@sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return sigmoid(x), sigmoid(x) * sigmoid(-x) * dx  # y (1 - y) would lose the right tail


TABLE = draw(3, 2)
function("a custom_jvp", sigmoid, draw(4))
function("one argument used twice", lambda x: product(x, x) + sine(x), draw(3, 2))
function("a rule in a rule", lambda x: product(sine(x), sigmoid(x)), draw(4))
function("a constant closed over", lambda x: sine(x @ jnp.asarray(TABLE, x.dtype)), draw(3))
function(
    "a scan",
    lambda x: jax.lax.scan(lambda c, _: (sine(c), None), x, None, 3)[0],
    draw(3),
)
function("a checkpoint", jax.checkpoint(lambda x: sine(sine(x))), draw(3))
function("a vmap", jax.vmap(lambda x: product(x, sine(x))), draw(2, 3))
function("jit and cond", jax.jit(lambda x: jax.lax.cond(x[0] > 0, sine, sigmoid, x)), draw(3))
function("a Python number beside", lambda x, n: sine(x) * n, draw(3), 2)
function(
    "integers counted beside",
    lambda x, ids: (sine(x)[ids], ids + 1),
    draw(4),
    np.array([0, 2, 2], np.int32),
)
function("a leaf of a tree", lambda p: sine(p["a"][0]) * p["b"], {"a": [draw(3)], "b": draw(3)})
