"""Gradients to be compiled for a GPU that is not there, by hand and by autodiff."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from funcnn import layers, rules
from funcnn.bench.networks import Network, loss_of
from funcnn.bench.training import CNN, MLP
from funcnn.core.composition import chain
from funcnn.core.stack import repeat
from funcnn.gradient.program.without_rules import without_rules
from funcnn.types import Array, DType, Function, Params, PyTree, Shape

# Arm -> jitted gradient, and the shapes of its arguments.
Work = tuple[dict[str, jax.stages.Wrapped], list[PyTree]]
BF16 = jnp.bfloat16


def _shapes(*leaves: tuple[Shape, DType]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves]


def _gradient(loss: Function, argnums: int | tuple[int, ...] = (0, 1)) -> jax.stages.Wrapped:
    return jax.jit(jax.value_and_grad(loss, argnums))


def network(made: Network) -> Work:
    """The gradient of a training step's loss; float32."""
    loss = loss_of(made)

    def at(params: Params, x: Array, y: Array) -> Array:
        return loss(params, {"x": x, "y": y}, None)

    params = jax.eval_shape(lambda: made.params)
    data = _shapes(((made.batch, *made.shape), jnp.float32), ((made.batch,), jnp.int32))
    arms = {"by hand": at, "autodiff": without_rules(at)}
    return {name: _gradient(f, 0) for name, f in arms.items()}, [params, *data]


def stack() -> Work:
    """`repeat` of 12 blocks, dense 512 and gelu, on 8,192 rows; bfloat16."""
    block = chain(layers.dense(512), layers.gelu())
    model = repeat(block, 12)

    def loss(params: Params, x: Array) -> Array:
        return jnp.mean(model(params, x).astype(jnp.float32) ** 2)

    def checkpointed(params: Params, x: Array) -> Array:
        body = jax.checkpoint(without_rules(lambda x, p: block(p, x)))
        y, _ = jax.lax.scan(lambda x, p: (body(x, p), None), x, params)
        return jnp.mean(y.astype(jnp.float32) ** 2)

    (x,) = _shapes(((8192, 512), BF16))
    params = jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))
    arms = {"by hand": loss, "autodiff": without_rules(loss)}
    arms["autodiff + checkpoint"] = checkpointed
    return {name: _gradient(f) for name, f in arms.items()}, [params, x]


def cross_entropy() -> Work:
    """8,192 rows of width 768 into 50,304 classes and their cross entropy; bfloat16."""

    def loss(x: Array, w: Array, labels: Array) -> Array:
        return rules.linear_cross_entropy(x, w, labels)

    def plain(x: Array, w: Array, labels: Array) -> Array:
        logits = jnp.matmul(x, w, preferred_element_type=jnp.float32)
        return without_rules(rules.softmax_cross_entropy)(logits, labels).mean()

    args = _shapes(((8192, 768), BF16), ((768, 50304), BF16), ((8192,), jnp.int32))
    return {"by hand": _gradient(loss), "autodiff": _gradient(plain)}, args


def lstm() -> Work:
    """LSTM over 128 steps of 64 sequences, 256 wide; float32."""

    def loss(x: Array, h: Array, c: Array, w: Array, u: Array, b: Array) -> Array:
        return jnp.sum(rules.lstm(x, h, c, w, u, b)[0] ** 2)

    f = jnp.float32
    args = _shapes(
        *(((64, 128, 256), f), ((64, 256), f), ((64, 256), f)),
        *(((256, 1024), f), ((256, 1024), f), ((1024,), f)),
    )
    arms = {"by hand": loss, "autodiff": without_rules(loss)}
    return {name: _gradient(g, (0, 3, 4, 5)) for name, g in arms.items()}, args


WORKS: dict[str, Callable[[], Work]] = {
    "cnn_step": lambda: network(CNN),
    "mlp_step": lambda: network(MLP),
    "scanned_stack": stack,
    "linear_cross_entropy": cross_entropy,
    "lstm": lstm,
}
