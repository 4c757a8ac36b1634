"""Single operations and stacks: a gradient by hand, by autodiff, and in PyTorch."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn import layers, rules
from funcnn.bench.measure import Arm
from funcnn.bench.peers import missing
from funcnn.core.composition import chain
from funcnn.core.stack import repeat
from funcnn.gradient.cost.flops import compiled_expense, count_operations
from funcnn.gradient.program.without_rules import without_rules
from funcnn.rules.losses.cross_entropy import softmax_cross_entropy
from funcnn.types import Array, Function, Params, PyTree

Arms = tuple[list[Arm], dict[str, str]]
_PROBES = 8  # elements of each result that the arms must agree on


def gradient_arm(name: str, loss: Function, args: Sequence[PyTree]) -> Arm:
    """Value and gradient of a scalar function by all of its arguments.

    >>> arm = gradient_arm("funcnn", lambda x: (x * x).sum(), [jnp.ones(3)])
    >>> np.asarray(arm.values()).tolist()
    [3.0, 2.0, 2.0, 2.0]
    """
    return compiled_arm(name, jax.value_and_grad(loss, argnums=tuple(range(len(args)))), args)


def both_ways_arm(name: str, f: Function, args: Sequence[PyTree], dy: PyTree) -> Arm:
    """Forward and backward pass of f: y, and the cotangents of all arguments for a given dy.

    >>> arm = both_ways_arm("funcnn", lambda x: x * x, [jnp.ones(2)], jnp.array([1.0, 3.0]))
    >>> np.asarray(arm.values()).tolist()
    [1.0, 1.0, 2.0, 6.0]
    """

    def both(dy: PyTree, *args: PyTree) -> tuple[PyTree, tuple[PyTree, ...]]:
        y, pull = jax.vjp(f, *args)
        return y, pull(dy)

    return compiled_arm(name, both, [dy, *args])


def compiled_arm(
    name: str,
    work: Function,
    args: Sequence[PyTree],
    values: Callable[[Any], Any] | None = None,
) -> Arm:
    """work(*args), of whose results the arms must agree on `values`; by default on some elements.

    >>> compiled_arm("double", lambda x: 2 * x, [jnp.ones(2)], values=jnp.sum).values().item()
    4.0
    """
    compiled = jax.jit(work).lower(*args).compile()
    flops = count_operations(jax.make_jaxpr(work)(*args)).flops
    temporary = compiled_expense(compiled).temporary_bytes
    call = lambda: jax.block_until_ready(compiled(*args))  # noqa: E731
    return Arm(name, call, lambda: (values or _probe)(call()), 1, temporary, flops)


def _probe(results: PyTree) -> np.ndarray:
    """Some elements of each leaf, the same for every arm."""
    leaves = [np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(results)]
    return np.concatenate([leaf[:: max(1, leaf.size // _PROBES)] for leaf in leaves])


def _both_ways(f: Function, args: Sequence[PyTree], dy: Array) -> list[Arm]:
    arms = {"funcnn": f, "autodiff": without_rules(f)}
    return [both_ways_arm(name, arm, args, dy) for name, arm in arms.items()]


def _draw(*shape: int, scale: float = 1.0, seed: int = 0) -> Array:
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def max_pool_2() -> Arms:
    """Max pooling 2x2 by steps of 2 of 64 images 28x28x64, forward and backward."""
    return _pooling(2, 2)


def max_pool_3() -> Arms:
    """Max pooling 3x3 by steps of 2, without padding, of 64 images 28x28x64, both ways."""
    return _pooling(3, 2)


def _pooling(window: int, stride: int) -> Arms:
    x = _draw(64, 28, 28, 64)
    size = (28 - window) // stride + 1
    dy = _draw(64, size, size, 64, seed=1)

    def pool(x: Array) -> Array:
        return rules.max_pool(x, window=(window,) * 2, stride=stride, padding="VALID")

    arms = _both_ways(pool, [x], dy)
    if why := missing("PyTorch"):
        return arms, {"PyTorch": why}
    torch: Any = importlib.import_module("torch")

    def images(a: Array) -> Any:
        first = torch.tensor(np.array(a)).permute(0, 3, 1, 2)
        return first.contiguous(memory_format=torch.channels_last)

    given, cotangent = images(x).requires_grad_(True), images(dy)

    def call() -> tuple[Any, Any]:
        given.grad = None
        y = torch.nn.functional.max_pool2d(given, window, stride)
        y.backward(cotangent)
        return y.detach(), given.grad

    def values() -> np.ndarray:
        return _probe([a.permute(0, 2, 3, 1).numpy() for a in call()])

    return [*arms, Arm("PyTorch", call, values)], {}


def depthwise_32() -> Arms:
    """Depthwise convolution 3x3 of 64 images 28x28x32, forward and backward."""
    return _depthwise(64, 32), {}


def depthwise_128() -> Arms:
    """Depthwise convolution 3x3 of 32 images 28x28x128, forward and backward."""
    return _depthwise(32, 128), {}


def _depthwise(images: int, channels: int) -> list[Arm]:
    x, w = _draw(images, 28, 28, channels), _draw(3, 3, 1, channels, seed=1)
    conv = functools.partial(rules.conv, groups=channels)
    return _both_ways(conv, [x, w], _draw(*x.shape, seed=2))


def scanned_stack() -> Arms:
    """`repeat` of 12 blocks, dense 512 and gelu, on 256 rows: gradient by params and x."""
    block = chain(layers.dense(512), layers.gelu())
    model = repeat(block, 12)
    x = _draw(256, 512)
    params = model.init(jax.random.key(0), x)

    def loss(params: Params, x: Array) -> Array:
        return jnp.mean(model(params, x) ** 2)

    def checkpointed(params: Params, x: Array) -> Array:
        body = jax.checkpoint(without_rules(lambda x, p: block(p, x)))
        return jnp.mean(jax.lax.scan(lambda x, p: (body(x, p), None), x, params)[0] ** 2)

    arms = {
        "funcnn": loss,
        "autodiff": without_rules(loss),
        "autodiff + checkpoint": checkpointed,
    }
    return [gradient_arm(name, arm, [params, x]) for name, arm in arms.items()], {}


def linear_cross_entropy() -> Arms:
    """2,048 rows of width 512 into 32,000 classes and their cross entropy, by x and w."""
    x, w = _draw(2048, 512), _draw(512, 32000, scale=0.05, seed=1)
    labels = jnp.asarray(np.random.default_rng(2).integers(0, 32000, 2048), jnp.int32)

    def loss(x: Array, w: Array) -> Array:
        return rules.linear_cross_entropy(x, w, labels)

    def chunked(x: Array, w: Array) -> Array:
        @jax.checkpoint
        def rows(x: Array, labels: Array) -> Array:
            return jnp.sum(softmax_cross_entropy.reference(x @ w, labels))

        parts = x.reshape(16, 128, 512), labels.reshape(16, 128)
        total, _ = jax.lax.scan(lambda s, part: (s + rows(*part), None), jnp.zeros(()), parts)
        return total / len(labels)

    arms = [gradient_arm("funcnn", loss, [x, w])]
    plain = lambda x, w: softmax_cross_entropy.reference(x @ w, labels).mean()  # noqa: E731
    arms.append(gradient_arm("autodiff", plain, [x, w]))
    arms.append(gradient_arm("autodiff, scan + checkpoint", chunked, [x, w]))
    return arms, {}
