"""Operations with a right hand-derived gradient, none from funcnn.rules, to plant mistakes on.

Each has reference, forward and backward as a rule has them, and small arguments. The lengths of the
axes differ, so that a mean over the wrong one shows, but where a mistake needs a square matrix.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.registry import Case, Rule

EPS = 1e-5
RANDOM = np.random.default_rng(0)


def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * RANDOM.normal(size=shape)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Operation:
    name: str
    reference: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    args: tuple[Any, ...]

    def rule(
        self, *, forward: Any = None, backward: Any = None, args: Any = None, **case: Any
    ) -> Rule:
        """The rule, or a wrong one: with another pass, or on other arguments."""
        rule = Rule(self.reference, self.name)
        rule.defvjp(forward or self.forward, backward or self.backward)
        case.setdefault("dtypes", ("float32",))
        one = Case("normal", self.args if args is None else args, **case)
        rule.defcases(lambda key: iter([one]))
        return rule

    def spoiled(self, leaf: int, change: Callable[[Any], Any], **case: Any) -> Rule:
        """The right backward pass with the cotangent of one argument changed."""

        def backward(res, dy):
            cotangents = list(self.backward(res, dy))
            cotangents[leaf] = change(cotangents[leaf])
            return tuple(cotangents)

        return self.rule(backward=backward, **case)


OPERATIONS: dict[str, Operation] = {}


def operation(*args):
    """Register an operation from what makes its reference, forward and backward."""

    def register(make):
        reference, forward, backward = make()
        OPERATIONS[make.__name__] = Operation(make.__name__, reference, forward, backward, args)
        return OPERATIONS[make.__name__]

    return register


# Matrix products. x is large, so that the gradient of w drowns that of b where both are added.


@operation(draw(4, 3, scale=1e4), draw(3, 3), draw(3))
def linear():
    def reference(x, w, b):
        return x @ w + b[None]

    def forward(x, w, b):
        return x @ w + b[None], (x, w)

    def backward(res, dy):
        x, w = res
        return dy @ w.T, x.T @ dy, dy.sum(0)

    return reference, forward, backward


@operation(draw(4, 4), draw(4, 4))
def matmul():
    def reference(a, b):
        return a @ b

    def forward(a, b):
        return a @ b, (a, b)

    def backward(res, dy):
        a, b = res
        return dy @ b.T, a.T @ dy

    return reference, forward, backward


def top(x):
    """The maximum of each row, 0 where it is empty or not finite."""
    largest = x.max(1, keepdims=True, initial=-jnp.inf)
    return jnp.where(jnp.isfinite(largest), largest, 0)


@operation(draw(5, 3), draw(5, 3), draw(5, 3))
def attention():
    def reference(q, k, v):
        return jax.nn.softmax(q @ k.T / jnp.sqrt(jnp.asarray(q.shape[1], q.dtype)), axis=1) @ v

    def forward(q, k, v):
        scale = jax.lax.rsqrt(jnp.asarray(q.shape[1], q.dtype))
        s = q @ k.T * scale
        p = jnp.exp(s - top(s))
        p = p / p.sum(1, keepdims=True)
        return p @ v, (q, k, v, p, scale)

    def backward(res, dy):
        q, k, v, p, scale = res
        dp = dy @ v.T
        ds = p * (dp - (p * dp).sum(1, keepdims=True)) * scale
        return ds @ k, ds.T @ q, p.T @ dy

    return reference, forward, backward


@operation(draw(2, 7, 2), draw(3, 2, 2))
def conv():
    """One spatial axis, SAME: x (batch, length, in), w (3, in, out)."""

    def reference(x, w):
        if w.shape[0] != 3:
            raise ValueError("conv: a kernel has three elements")
        return jax.lax.conv_general_dilated(
            x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )

    def forward(x, w):
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
        return sum(padded[:, i : i + x.shape[1]] @ w[i] for i in range(3)), (padded, w)

    def backward(res, dy):
        padded, w = res
        n = dy.shape[1]
        dw = jnp.stack([jnp.einsum("bni,bno->io", padded[:, i : i + n], dy) for i in range(3)])
        wide = jnp.pad(dy, ((0, 0), (1, 1), (0, 0)))
        return sum(wide[:, 2 - i : 2 - i + n] @ w[i].T for i in range(3)), dw

    return reference, forward, backward


# Normalization


def normalized(x, axis, eps):
    """(x - mean) / sqrt(var + eps), and the factor."""
    centred = x - x.mean(axis, keepdims=True)
    r = jax.lax.rsqrt((centred * centred).mean(axis, keepdims=True) + eps)
    return centred * r, r


def normalized_backward(xh, r, d, axis):
    return r * (d - d.mean(axis, keepdims=True) - xh * (d * xh).mean(axis, keepdims=True))


@operation(draw(4, 6), 1 + draw(6, scale=0.3), draw(6))
def layer_norm():
    def reference(x, g, b):
        c = x - x.mean(1, keepdims=True)
        return c / jnp.sqrt((c * c).mean(1, keepdims=True) + EPS) * g[None] + b[None]

    def forward(x, g, b):
        xh, r = normalized(x, 1, EPS)
        return xh * g[None] + b[None], (xh, r, g)

    def backward(res, dy):
        xh, r, g = res
        return normalized_backward(xh, r, dy * g[None], 1), (dy * xh).sum(0), dy.sum(0)

    return reference, forward, backward


@operation(draw(4, 6), 1 + draw(6, scale=0.3))
def rms_norm():
    def reference(x, g):
        return x / jnp.sqrt((x * x).mean(1, keepdims=True) + EPS) * g[None]

    def forward(x, g):
        r = jax.lax.rsqrt((x * x).mean(1, keepdims=True) + EPS)
        return x * r * g[None], (x, r, g)

    def backward(res, dy):
        x, r, g = res
        d, xh = dy * g[None], x * r
        return r * (d - xh * (d * xh).mean(1, keepdims=True)), (dy * xh).sum(0)

    return reference, forward, backward


@operation(draw(8, 3), 1 + draw(3, scale=0.3))
def batch_norm():
    def reference(x, g):
        c = x - x.mean(0, keepdims=True)
        return c / jnp.sqrt((c * c).mean(0, keepdims=True) + EPS) * g[None]

    def forward(x, g):
        xh, r = normalized(x, 0, EPS)
        return xh * g[None], (xh, r, g)

    def backward(res, dy):
        xh, r, g = res
        return normalized_backward(xh, r, dy * g[None], 0), (dy * xh).sum(0)

    return reference, forward, backward


# Softmax and losses


@operation(draw(5, 5))
def softmax():
    def reference(x):
        return jax.nn.softmax(x, axis=1)

    def forward(x):
        y = jnp.exp(x - top(x))
        y = y / y.sum(1, keepdims=True)
        return y, y

    def backward(y, dy):
        return (y * (dy - (y * dy).sum(1, keepdims=True)),)

    return reference, forward, backward


@operation(draw(4, 5))
def log_softmax():
    def reference(x):
        return jax.nn.log_softmax(x, axis=1)

    def forward(x):
        shifted = x - top(x)
        y = shifted - jnp.log(jnp.exp(shifted).sum(1, keepdims=True))
        return y, y

    def backward(y, dy):
        return (dy - jnp.exp(y) * dy.sum(1, keepdims=True),)

    return reference, forward, backward


@operation(draw(4, 5))
def logsumexp():
    def reference(x):
        return jax.nn.logsumexp(x, axis=1)

    def forward(x):
        largest = top(x)
        y = (largest + jnp.log(jnp.exp(x - largest).sum(1, keepdims=True)))[:, 0]
        return y, (x, y)

    def backward(res, dy):
        x, y = res
        return (dy[:, None] * jnp.exp(x - y[:, None]),)

    return reference, forward, backward


@operation(draw(4, 5), np.array([1, 0, 4, 2], np.int32))
def cross_entropy():
    """One loss a row."""

    def reference(logits, labels):
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]

    def forward(logits, labels):
        shifted = logits - top(logits)
        y = shifted - jnp.log(jnp.exp(shifted).sum(1, keepdims=True))
        return -jnp.take_along_axis(y, labels[:, None], axis=1)[:, 0], (y, labels)

    def backward(res, dy):
        y, labels = res
        hot = jax.nn.one_hot(labels, y.shape[1], dtype=y.dtype)
        return (jnp.exp(y) - hot) * dy[:, None], None

    return reference, forward, backward


# Elementwise


@operation(draw(3, 5))
def sigmoid():
    def reference(x):
        return 1 / (1 + jnp.exp(-x))

    def forward(x):
        y = 0.5 * (1 + jnp.tanh(0.5 * x))
        return y, y

    def backward(y, dy):
        return (dy * y * (1 - y),)

    return reference, forward, backward


@operation(draw(3, 5))
def relu():
    def reference(x):
        return jnp.where(x > 0, x, 0)

    def forward(x):
        y = jnp.where(x > 0, x, 0)
        return y, y

    def backward(y, dy):
        return (jnp.where(y > 0, dy, 0),)

    return reference, forward, backward


@operation(draw(3, 5))
def leaky_relu():
    def reference(x):
        return jnp.where(x > 0, x, 0.01 * x)

    def forward(x):
        return jnp.where(x > 0, x, 0.01 * x), x

    def backward(x, dy):
        return (jnp.where(x > 0, dy, 0.01 * dy),)

    return reference, forward, backward


C, A = float(np.sqrt(2 / np.pi)), 0.044715


@operation(draw(3, 5))
def gelu():
    def reference(x):
        return 0.5 * x * (1 + jnp.tanh(C * (x + A * x**3)))

    def forward(x):
        return 0.5 * x * (1 + jnp.tanh(C * (x + A * x * x * x))), x

    def backward(x, dy):
        t = jnp.tanh(C * (x + A * x * x * x))
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * C * (1 + 3 * A * x * x)),)

    return reference, forward, backward


@operation(draw(3, 5))
def softplus():
    def reference(x):
        return jnp.logaddexp(x, jnp.zeros_like(x))

    def forward(x):
        return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))), x

    def backward(x, dy):
        return (dy * 0.5 * (1 + jnp.tanh(0.5 * x)),)

    return reference, forward, backward


@operation(draw(3, 5), RANDOM.random((3, 5)) > 0.25)
def masked():
    """Dropout with a given mask: x / 0.75 where it is kept."""

    def reference(x, mask):
        return jnp.where(mask, x / 0.75, 0)

    def forward(x, mask):
        return jnp.where(mask, x / 0.75, 0), mask

    def backward(mask, dy):
        return jnp.where(mask, dy / 0.75, 0), None

    return reference, forward, backward


# Reductions, windows and indices


@operation(draw(4, 6))
def mean():
    def reference(x):
        return jnp.mean(x, 1)

    def forward(x):
        return x.sum(1) / x.shape[1], x

    def backward(x, dy):
        return (jnp.broadcast_to(dy[:, None] / x.shape[1], x.shape),)

    return reference, forward, backward


@operation(draw(3, 7))
def cumsum():
    def reference(x):
        return jnp.cumsum(x, 1)

    def forward(x):
        return jnp.cumsum(x, 1), None

    def backward(_, dy):
        return (jnp.flip(jnp.cumsum(jnp.flip(dy, 1), 1), 1),)

    return reference, forward, backward


@operation(draw(3, 8))
def max_pool():
    """Windows of two; the first of two equal ones is taken."""

    def windows(x):
        both = x.reshape(x.shape[0], x.shape[1] // 2, 2)
        return both[..., 0], both[..., 1]

    def reference(x):
        a, b = windows(x)
        return jnp.where(a >= b, a, b)

    def forward(x):
        a, b = windows(x)
        return jnp.where(a >= b, a, b), a >= b

    def backward(first, dy):
        both = jnp.stack([jnp.where(first, dy, 0), jnp.where(first, 0, dy)], 2)
        return (both.reshape(dy.shape[0], 2 * dy.shape[1]),)

    return reference, forward, backward


@operation(draw(6, 3), np.array([4, 0, 4, 1, 4], np.int32))
def embedding():
    def reference(table, ids):
        return table[ids]

    def forward(table, ids):
        return jnp.take(table, ids, axis=0), (ids, table)

    def backward(res, dy):
        ids, table = res
        return jnp.zeros_like(table).at[ids].add(dy), None

    return reference, forward, backward
