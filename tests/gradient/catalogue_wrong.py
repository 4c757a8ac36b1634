"""Wrong rules: each with the checks that must notice it, and what the diagnosis must say.

The mistakes are those that people make, from the threads of JAX, PyTorch and others: a factor of
0.1 %, one entry, a forgotten eps, a clipped cotangent, a wrong dtype, a swapped axis, a wrong
subgradient. Every one leaves shapes and trees right unless that is the mistake.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from catalogue_operations import OPERATIONS, draw, normalized, normalized_backward
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from funcnn.core.registry import Rule

O = OPERATIONS  # noqa: E741, it stands on every line below
VALUE = frozenset({"truth", "zero", "homogeneity", "dot"})


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A rule or function with one mistake.

    Attributes:
        make: what makes it: a Rule, or a function with its arguments.
        checks: at least one of these must fail.
        says: a regular expression that the diagnosis of a failure must match, or the note of a
            broken contract; None where no usual mistake explains the error.
        fast: whether the level "fast" must notice it.
        needs: how many devices.
    """

    name: str
    operation: str
    make: Callable[[], tuple[Any, tuple[Any, ...]]]
    checks: frozenset[str]
    says: str | None = None
    fast: bool = True
    needs: int = 1


WRONG: dict[str, Wrong] = {}


def rule(
    operation: str, name: str, wrong: Rule, says: str | None = None, *more: Any, **options: Any
):
    add(operation, name, lambda: (wrong, ()), says, *more, **options)


def add(
    operation: str, name: str, make: Any, says: str | None = None, checks: Any = VALUE, **more: Any
):
    key = f"{operation}: {name}"
    assert key not in WRONG
    WRONG[key] = Wrong(key, operation, make, frozenset(checks), says, **more)


def in_backward(operation, name, backward, says=None, **more):
    """The rule of the operation with another backward pass."""
    case = {k: more.pop(k) for k in ("args", "kinks", "dtypes") if k in more}
    rule(operation, name, O[operation].rule(backward=backward, **case), says, **more)


def in_result(operation, name, leaf, change, says=None, **more):
    """The right backward pass with the cotangent of one argument changed."""
    case = {k: more.pop(k) for k in ("args", "kinks", "dtypes") if k in more}
    rule(operation, name, O[operation].spoiled(leaf, change, **case), says, **more)


def in_value(operation, name, change, says=None):
    """A forward pass with another value."""
    right = O[operation].forward

    def forward(*args):
        y, res = right(*args)
        return change(y), res

    rule(operation, name, O[operation].rule(forward=forward), says, {"primal"})


def function(
    operation: str,
    name: str,
    f: Any,
    *args: Any,
    says: str | None = None,
    checks: Any = VALUE,
    **more: Any,
):
    add(operation, name, lambda: (f, args), says, checks, **more)


# linear. The mistakes of the contract are told by its message.

in_result("linear", "0.1 % too large", 1, lambda d: 1.001 * d, r"constant factor \(x 1\.001\)")
in_result(
    "linear",
    "one entry 5 % off",
    1,
    lambda d: d.at[1, 2].multiply(1.05),
    r"1 of 9 elements differs, at \[1, 2\] \(there x 1\.05\)",
)
in_result("linear", "bias times -3", 2, lambda d: -3 * d, r"x -3\).*sign is wrong|x -3")
in_result("linear", "transposed square matrix", 1, jnp.transpose, "transposed")
in_backward(
    "linear",
    "w not transposed",
    lambda res, dy: (dy @ res[1], res[0].T @ dy, dy.sum(0)),
    "takes w transposed",
)
in_backward(
    "linear",
    "batch sum missing",
    lambda res, dy: (dy @ res[1].T, res[0].T @ dy, dy[0]),
    "only the first index of axis 0 of dy counts: the sum over it is missing",
)
in_result("linear", "mean for sum", 2, lambda d: d / 4, "mean for sum over axis 0 of the output")
in_backward(
    "linear",
    "right for a cotangent of ones only",
    lambda res, dy: O["linear"].backward(
        res, jnp.broadcast_to(dy.mean(0, keepdims=True), dy.shape)
    ),
    "takes dy for its mean over axis 0|sum for mean|counts",
)
in_result(
    "linear",
    "int32 cotangent",
    2,
    lambda d: jnp.zeros(3, jnp.int32),
    r"argument b: expected float32\[3\], found int32\[3\]",
    checks={"contract"},
)
in_result(
    "linear",
    "float32 for bfloat16",
    2,
    lambda d: d.astype(jnp.result_type(float)),
    r"expected bfloat16\[3\], found float32\[3\]",
    checks={"contract"},
    dtypes=("float32", "bfloat16"),
)
in_result(
    "linear", "None for a live argument", 2, lambda d: None, "found None", checks={"contract"}
)
in_result(
    "linear", "wrong shape", 0, jnp.transpose, r"expected float32\[4, 3\]", checks={"contract"}
)
in_backward(
    "linear",
    "one cotangent too few",
    lambda res, dy: O["linear"].backward(res, dy)[:2],
    "tree of the arguments",
    checks={"contract"},
)
in_backward(
    "linear",
    "a list of cotangents",
    lambda res, dy: list(O["linear"].backward(res, dy)),
    "must return a tuple",
    checks={"contract"},
)
in_value("linear", "three times the value", lambda y: 3 * y, r"x 3\)")
in_value("linear", "a value that is 0.1 % off", lambda y: 1.001 * y, r"x 1\.001\)")
in_value("linear", "one wrong value", lambda y: y.at[2, 1].add(1e-3), r"1 of 12 elements differs")

# matmul

in_backward(
    "matmul",
    "cotangents swapped",
    lambda res, dy: O["matmul"].backward(res, dy)[::-1],
    "the cotangents of (a and b|b and a) are swapped",
)
in_result("matmul", "zeros", 1, jnp.zeros_like, "zeros: no gradient reaches this leaf")
in_result("matmul", "sign", 0, jnp.negative, r"the sign is wrong \(x -1\)")
in_result(
    "matmul",
    "rounded to bfloat16",
    0,
    lambda d: d.astype(jnp.bfloat16).astype(d.dtype),
    "rounded to bfloat16",
)
in_backward(
    "matmul",
    "pinned to float32",
    lambda res, dy: tuple(d.astype(jnp.float32) for d in O["matmul"].backward(res, dy)),
    "expected float64",
    checks={"contract"},
)
in_backward(
    "matmul",
    "a branch on a traced value",
    lambda res, dy: O["matmul"].backward(res, dy if dy[0, 0] > 0 else 2 * dy),
    "a Python if",
    checks={"contract"},
)
in_backward(
    "matmul",
    "upper half of b only",
    lambda res, dy: (dy @ res[1].T, jnp.triu(res[0].T @ dy)),
    None,
)

# Normalization


def layer_norm_backward(change):
    """`change(xh, r, g, d, dy) -> dx`, where d = dy g."""

    def backward(res, dy):
        xh, r, g = res
        _, dg, db = O["layer_norm"].backward(res, dy)
        return change(xh, r, g, dy * g[None], dy), dg, db

    return backward


def row_mean(a):
    return a.mean(1, keepdims=True)


in_backward(
    "layer_norm",
    "mean term missing",
    layer_norm_backward(lambda xh, r, g, d, dy: r * (d - xh * row_mean(d * xh))),
    "along axis 1 the error is constant: a term with a mean",
)
in_backward(
    "layer_norm",
    "norm term missing",
    layer_norm_backward(lambda xh, r, g, d, dy: r * (d - row_mean(d))),
    "along axis 1 the error is a multiple of x minus its mean",
)
in_backward(
    "layer_norm",
    "statistics taken as constants",
    layer_norm_backward(lambda xh, r, g, d, dy: r * d),
    "mean and variance taken as fixed",
)
in_backward(
    "layer_norm",
    "unbiased variance in the norm term",
    layer_norm_backward(
        lambda xh, r, g, d, dy: r * (d - row_mean(d) - xh * row_mean(d * xh) * 1.2)
    ),
    "along axis 1 the error is a multiple of x minus its mean",
)
in_backward(
    "layer_norm",
    "not multiplied by the gain",
    layer_norm_backward(lambda xh, r, g, d, dy: normalized_backward(xh, r, dy, 1)),
    "not multiplied by g",
)
in_backward(
    "layer_norm",
    "mean over the wrong axis",
    layer_norm_backward(
        lambda xh, r, g, d, dy: r * (d - d.mean(0, keepdims=True) - xh * row_mean(d * xh))
    ),
    None,
)
in_backward(
    "layer_norm",
    "gain and bias swapped",
    lambda res, dy: tuple(O["layer_norm"].backward(res, dy)[i] for i in (0, 2, 1)),
    "the cotangents of (g and b|b and g) are swapped",
)
in_result(
    "layer_norm",
    "one coordinate of the gain zero",
    1,
    lambda d: d.at[3].set(0),
    r"1 of 6 elements differs, at \[3\] \(there x 0\)",
)


def without_eps(operation, axis):
    """eps is in the forward pass, and forgotten in the factor that the backward pass takes."""

    def forward(x, *params):
        y, (_, r, *rest) = O[operation].forward(x, *params)
        xh, r = normalized(x, axis, 0) if operation != "rms_norm" else (x, r)
        if operation == "rms_norm":
            r = jax.lax.rsqrt((x * x).mean(axis, keepdims=True))
        return y, (xh, r, *rest)

    return O[operation].rule(forward=forward)


for name, axis in (("layer_norm", 1), ("rms_norm", 1), ("batch_norm", 0)):
    rule(name, "eps forgotten", without_eps(name, axis), rf"eps = 1e-05 is forgotten.*axis {axis}")

in_result(
    "rms_norm",
    "rows of the gain not added",
    1,
    lambda d: d / 4,
    r"mean for sum over axis 0 of the output.*\(x 0\.25 = 1/4\)",
)
in_backward(
    "rms_norm",
    "gain applied twice",
    lambda res, dy: (
        O["rms_norm"].backward(res, dy * res[2][None])[0],
        O["rms_norm"].backward(res, dy)[1],
    ),
    "g enters twice",
)
in_backward(
    "batch_norm",
    "batch statistics taken as constants",
    lambda res, dy: (res[1] * dy * res[2][None], (dy * res[0]).sum(0)),
    "along axis 0 the error is a constant and a multiple of the argument",
)
in_backward(
    "batch_norm",
    "the last row left out of the gain",
    lambda res, dy: (O["batch_norm"].backward(res, dy)[0], (dy * res[0])[:-1].sum(0)),
    "the last index of axis 0 of dy is left out",
)

# Softmax and losses

in_backward(
    "softmax",
    "sum over the wrong axis",
    lambda y, dy: (y * (dy - (y * dy).sum(0, keepdims=True)),),
)
in_backward(
    "softmax",
    "sum term missing",
    lambda y, dy: (y * dy,),
    "along axis 1 the error is a multiple of the output",
)
rule(
    "softmax",
    "input kept for the output",
    O["softmax"].rule(forward=lambda x: (O["softmax"].forward(x)[0], x)),
    r"the input stands where y \(dy - sum\(dy y\)\) takes the output",
)
in_backward(
    "softmax",
    "clipped cotangent",
    lambda y, dy: O["softmax"].backward(y, jnp.clip(dy, -0.5, 0.5)),
    r"clips the cotangent at 0\.5",
)
in_result("softmax", "clipped result", 0, lambda d: jnp.clip(d, -0.1, 0.1), r"^clipped at 0\.1")
in_result("softmax", "transposed", 0, jnp.transpose, "transposed")
in_result("log_softmax", "1e-4 added", 0, lambda d: d + 1e-4, "adds 0.0001 to every element")
in_backward(
    "log_softmax",
    "exp forgotten",
    lambda y, dy: (dy - y * dy.sum(1, keepdims=True),),
)
in_backward(
    "log_softmax",
    "sum of the cotangent missing, right for one-hot ones",
    lambda y, dy: (dy - jnp.exp(y),),
    "not zero for a cotangent of zero",
)
in_backward(
    "log_softmax",
    "normalised cotangent",
    lambda y, dy: O["log_softmax"].backward(y, dy / (1e-30 + jnp.sqrt((dy * dy).sum()))),
    "normalises the cotangent",
)
in_backward(
    "logsumexp",
    "cotangent not multiplied in",
    lambda res, dy: (jnp.exp(res[0] - res[1][:, None]),),
    "not multiplied by the incoming cotangent",
)
in_backward(
    "logsumexp",
    "softmax over the wrong rows",
    lambda res, dy: (dy[:, None] * jnp.roll(jnp.exp(res[0] - res[1][:, None]), 1, 0),),
    "takes x off by one along axis 0",
)
in_backward(
    "logsumexp",
    "no shift by the maximum",
    lambda res, dy: (dy[:, None] * jnp.exp(res[0]) / jnp.exp(res[0]).sum(1, keepdims=True),),
    "not finite at",
    args=(draw(4, 5) + np.float32(800),),
)
in_value("logsumexp", "half too small", lambda y: y - 0.5, "adds -0.5 to every element")
in_result(
    "cross_entropy",
    "mean over the rows",
    0,
    lambda d: d / 4,
    r"mean for sum over axis 0 of the output.*\(x 0\.25 = 1/4\)",
)
in_backward(
    "cross_entropy",
    "labels off by one",
    lambda res, dy: O["cross_entropy"].backward((res[0], (res[1] + 1) % 5), dy),
)
in_backward(
    "cross_entropy",
    "cotangent not multiplied in",
    lambda res, dy: O["cross_entropy"].backward(res, jnp.ones_like(dy)),
    "not multiplied by the incoming cotangent",
)
in_result(
    "cross_entropy",
    "zeros for integers",
    1,
    lambda d: jnp.zeros(4),
    "has no cotangent: expected None",
    checks={"contract"},
)

# attention: (q, k, v, p, scale)


def attention_backward(ds_of, dv_of=lambda p, dy: p.T @ dy):
    def backward(res, dy):
        q, k, v, p, scale = res
        ds = ds_of(p, dy @ v.T, scale)
        return ds @ k, ds.T @ q, dv_of(p, dy)

    return backward


def scores(p, dp, scale):
    return p * (dp - (p * dp).sum(1, keepdims=True)) * scale


in_backward(
    "attention",
    "scale forgotten",
    attention_backward(lambda p, dp, scale: scores(p, dp, 1)),
    r"scaled by the square root of axis 1 of",
)
in_backward(
    "attention",
    "k and v swapped",
    lambda res, dy: tuple(O["attention"].backward(res, dy)[i] for i in (0, 2, 1)),
    "the cotangents of (k and v|v and k) are swapped",
)
in_backward(
    "attention",
    "sum term of the softmax missing",
    attention_backward(lambda p, dp, scale: p * dp * scale),
)
in_backward(
    "attention",
    "sum term over the wrong axis",
    attention_backward(lambda p, dp, scale: p * (dp - (p * dp).sum(0, keepdims=True)) * scale),
)
in_backward(
    "attention",
    "p not transposed",
    attention_backward(scores, lambda p, dy: p @ dy),
    None,
)
in_backward(
    "attention",
    "p kept in bfloat16",
    attention_backward(
        lambda p, dp, scale: scores(p.astype(jnp.bfloat16).astype(p.dtype), dp, scale)
    ),
)

# Elementwise

rule(
    "sigmoid",
    "input kept for the output",
    O["sigmoid"].rule(forward=lambda x: (O["sigmoid"].forward(x)[0], x)),
    r"the input stands where dy y \(1 - y\) takes the output",
)
in_backward(
    "sigmoid",
    "derivative applied twice",
    lambda y, dy: (dy * (y * (1 - y)) ** 2,),
    "the derivative is applied twice",
)
in_backward("sigmoid", "sign inside", lambda y, dy: (dy * y * (1 + y),))
in_backward(
    "sigmoid",
    "derivative not applied",
    lambda y, dy: (dy,),
    "dy itself: the derivative is not applied",
)
in_backward(
    "sigmoid",
    "cotangent squared",
    lambda y, dy: (dy * dy * y * (1 - y),),
    "multiplied by the incoming cotangent twice",
)
in_result("sigmoid", "absolute value", 0, jnp.abs, "the absolute value of the truth")
KINK = (np.array([[-1.0, 0.0, 2.0], [0.0, 1.5, -0.5]], np.float32),)
AT_KINK = {"truth", "kink"}
rule(
    "relu",
    "1 at the kink",
    O["relu"].rule(
        forward=lambda x: (O["relu"].forward(x)[0], x),
        backward=lambda x, dy: (jnp.where(x >= 0, dy, 0),),
        args=KINK,
        kinks=True,
    ),
    "wrong where x = 0 only: another subgradient at the kink",
    AT_KINK,
)
in_backward(
    "relu",
    "mask of y >= 0",
    lambda y, dy: (jnp.where(y >= 0, dy, 0),),
    "dy itself|not zero where the truth is 0|wrong where x < 0 only",
)
in_backward(
    "leaky_relu",
    "slope forgotten",
    lambda x, dy: (jnp.where(x > 0, dy, 0),),
    r"wrong where x < 0 only \(there x 0\)",
)
in_backward(
    "leaky_relu",
    "slope twice as large",
    lambda x, dy: (jnp.where(x > 0, dy, 0.02 * dy),),
    r"wrong where x < 0 only \(there x 2\)",
)


def gelu_backward(a, three):
    c = float(np.sqrt(2 / np.pi))

    def backward(x, dy):
        t = jnp.tanh(c * (x + a * x * x * x))
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + three * a * x * x)),)

    return backward


in_backward("gelu", "0.0447 for 0.044715", gelu_backward(0.0447, 3))
in_backward("gelu", "inner derivative without its 3", gelu_backward(0.044715, 1))
in_backward(
    "softplus",
    "derivative at the output",
    lambda x, dy: (dy * 0.5 * (1 + jnp.tanh(0.5 * O["softplus"].forward(x)[0])),),
    "the derivative is taken at the output instead of the input",
)
in_backward(
    "softplus",
    "overflow in the tail",
    lambda x, dy: (dy * jnp.exp(x) / (1 + jnp.exp(x)),),
    r"not finite at 1 of 3 elements, the first at \[2\], where x is 1000",
    args=(np.array([-1.0, 0.5, 1000.0], np.float32),),
)
in_backward(
    "masked",
    "scale forgotten",
    lambda mask, dy: (jnp.where(mask, dy, 0), None),
    r"x 0\.75",
)
in_backward(
    "masked",
    "mask not applied",
    lambda mask, dy: (dy / 0.75, None),
    "not zero where the truth is 0",
)

# Reductions, windows and indices

in_backward(
    "mean",
    "sum for mean",
    lambda x, dy: (jnp.broadcast_to(dy[:, None], x.shape),),
    r"sum for mean over axis 1 of x, .*\(x 6\)",
)
in_backward(
    "mean",
    "the other length",
    lambda x, dy: (jnp.broadcast_to(dy[:, None] / x.shape[0], x.shape),),
    "a mean over .* in place of|or the reverse",
)
in_backward("cumsum", "not reversed", lambda _, dy: (jnp.cumsum(dy, 1),), "in the wrong direction")
in_backward(
    "cumsum",
    "exclusive",
    lambda _, dy: (O["cumsum"].backward(_, dy)[0] - dy,),
    "by -1 x dy",
)
in_result(
    "cumsum",
    "rows reversed",
    0,
    lambda d: jnp.flip(d, 0),
    "takes dy reversed along axis 0|reversed along axis 0",
)
TIES = (np.array([[1.0, 1.0, 2.0, -1.0], [0.5, 3.0, 0.25, 0.25]], np.float32),)
rule(
    "max_pool",
    "both of two equal ones",
    O["max_pool"].rule(
        forward=lambda x: (O["max_pool"].forward(x)[0], x),
        backward=lambda x, dy: (
            jnp.where(x == jnp.repeat(O["max_pool"].forward(x)[0], 2, 1), jnp.repeat(dy, 2, 1), 0),
        ),
        args=TIES,
        kinks=True,
    ),
    "wrong at ties of x only|not zero where the truth is 0",
    AT_KINK,
)
in_result("max_pool", "off by one", 0, lambda d: jnp.roll(d, 1, 1), "off by one along axis 1")
in_backward("max_pool", "mean pooling", lambda first, dy: (jnp.repeat(dy / 2, 2, 1),))
in_backward(
    "embedding",
    "overwritten instead of accumulated",
    lambda res, dy: (jnp.zeros_like(res[1]).at[res[0]].set(dy), None),
    "overwritten instead of accumulated|left out|only index 4",
)
in_result("embedding", "rows off by one", 0, lambda d: jnp.roll(d, 1, 0), "off by one along axis 0")
in_result(
    "embedding",
    "row 0 dropped as padding",
    0,
    lambda d: d.at[0].set(0),
    r"only index 0 of axis 0 is wrong \(there x 0\)",
)

# conv, of one spatial axis


def conv_backward(change_w=lambda w: w, shift=0):
    def backward(res, dy):
        _, w = res
        n, w = dy.shape[1], change_w(w)
        wide = jnp.pad(dy, ((0, 0), (1 + abs(shift),) * 2, (0, 0)))
        start = 2 + abs(shift) + shift
        dx = sum(wide[:, start - i : start - i + n] @ w[i].T for i in range(3))
        return dx, O["conv"].backward(res, dy)[1]

    return backward


in_backward(
    "conv", "kernel not flipped", conv_backward(lambda w: w[::-1]), "w flipped along axis 0"
)
in_backward(
    "conv",
    "channels not transposed",
    conv_backward(lambda w: jnp.swapaxes(w, 1, 2)),
    r"takes w transposed \(axes 1 and 2\)",
)
in_backward("conv", "padding off by one", conv_backward(shift=1))
in_result("conv", "kernel gradient flipped", 1, lambda d: d[::-1], "reversed along axis 0")
in_result(
    "conv",
    "mean over the images",
    1,
    lambda d: d / 2,
    r"mean for sum over .*, or a factor 2 left out",
)

# Functions with a foreign rule inside


def custom(f, forward, backward):
    function = jax.custom_vjp(f)
    function.defvjp(forward, backward)
    return function


def closure(x, s):
    """The rule closes over s, which is traced, and so has no cotangent in the backward pass."""
    scaled = custom(lambda x: x * s, lambda x: (x * s, None), lambda _, dy: (dy * s,))
    return jnp.sin(scaled(x))


function(
    "scale",
    "closure over a tracer",
    closure,
    draw(3, 4),
    np.float32(1.5) * np.ones((3, 4), np.float32),
    says="the rule closes over a tracer",
    checks={"contract", "primal"},
)

sine = custom(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, dy: (1.05 * dy * jnp.cos(x),))
function(
    "sine",
    "5 % off in a network",
    lambda p, x: sine(x @ p["w"]) @ p["v"],
    {"w": draw(3, 4), "v": draw(4, 2)},
    draw(5, 3),
    says=r"a constant factor \(x 1\.05\)",
)


@jax.custom_jvp
def cosine(x):
    return jnp.cos(x)


@cosine.defjvp
def _cosine_jvp(primals, tangents):
    return jnp.cos(*primals), jnp.sin(*primals) * tangents[0]


function("cosine", "sign of a tangent", cosine, draw(500), says=r"the sign is wrong \(x -1\)")

integral = custom(
    lambda x: x * x,
    lambda x: (x * x, x.shape),
    lambda shape, dy: (jnp.zeros(shape, jnp.int32),),
)
function("square", "foreign int32 cotangent", integral, draw(4), checks=VALUE | {"contract"})

mean_of_four = custom(
    lambda x: x.mean(0),
    lambda x: (x.mean(0), x),
    lambda x, dy: (jnp.broadcast_to(dy[None] / 4, x.shape),),
)
function(
    "mean", "right on the sample's shape only", mean_of_four, draw(4, 3), fast=False,
    checks={"edge"},
)  # fmt: skip

all_reduced = custom(
    lambda x: jax.lax.psum(x, "i"),
    lambda x: (jax.lax.psum(x, "i"), None),
    lambda _, dy: (jax.lax.psum(dy, "i"),),  # JAX has added over i already
)


def collective(x):
    return jax.vmap(lambda x: jnp.sin(all_reduced(x * x)), axis_name="i")(x)


function(
    "psum", "twice under vmap", collective, draw(3, 4), says=r"sum for mean over axis 0 .* \(x 3\)"
)


def sharded(x, w):
    """The backward pass adds over the devices what JAX has added already."""
    twice = custom(
        lambda x, w: x * w,
        lambda x, w: (x * w, (x, w)),
        lambda res, dy: (jax.lax.psum(dy * res[1], "i"), dy * res[0]),
    )
    mesh = Mesh(np.array(jax.devices()[:2]), ("i",))
    local = functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P(), P("i")), out_specs=P("i"), check_vma=False
    )
    return local(twice)(x, w)


function(
    "psum",
    "twice under shard_map",
    sharded,
    draw(1, 3),
    draw(2, 3),
    needs=2,
    says=r"sum for mean .*counted twice.* \(x 2\)",
)

hidden = custom(
    lambda x: x**3,
    lambda x: (x**3, jax.lax.stop_gradient(x)),
    lambda x, dy: (3 * x * x * dy,),
)
function(
    "cube", "wrong in the second order", hidden, draw(4), fast=False,
    checks={"second_order"},
)  # fmt: skip

imprecise = custom(
    lambda a, b: a @ b,
    lambda a, b: (a @ b, (a, b)),
    lambda res, dy: (dy @ res[1].T, res[0].T @ dy),
)
function(
    "matmul", "precision of the context lost", imprecise, draw(3, 4), draw(4, 2), fast=False,
    checks={"context"},
)  # fmt: skip
