"""The same training step in Flax NNX, Equinox and PyTorch, as their documentation writes it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnn.bench.measure import Arm
from funcnn.bench.networks import CHECKED, LEARNING_RATE, Network
from funcnn.types import Array, Function, PyTree, Shape

Weights = dict[str, np.ndarray]  # "w" and "b" of a layer, nothing of one without
MODULES = {"Flax NNX": "flax", "Equinox": "equinox", "PyTorch": "torch"}


def missing(library: str) -> str:
    """Why a library cannot be measured here, "" where it can.

    >>> isinstance(missing("PyTorch"), str)
    True
    """
    module = MODULES[library]
    spec = importlib.util.find_spec(module)
    return "" if spec else f"not installed: pip install {module}"


def _run(step: Callable[[], Any], restart: Callable[[], None]) -> Callable[[], list[float]]:
    """The losses of the first steps, after which the run starts anew."""

    def values() -> list[float]:
        losses = [float(step()) for _ in range(CHECKED)]
        restart()
        return losses

    return values


def _weights(network: Network) -> Iterator[tuple[str, Weights, Shape | None]]:
    """(kind, {"w": ..., "b": ...}, the image's shape where a dense layer takes a flattened one)."""
    params, counts = network.params, {"conv": 0, "dense": 0}
    shape: tuple[int, ...] | None = network.shape if len(network.shape) == 3 else None
    for layer in network.layers:
        kind = layer[0] if isinstance(layer, tuple) else layer
        if kind == "pool" and shape:
            shape = (shape[0] // 2, shape[1] // 2, shape[2])
        if kind in counts:
            part = {k: np.asarray(v) for k, v in params[f"{kind}_{counts[kind]}"].items()}
            counts[kind] += 1
            yield kind, part, shape if kind == "dense" else None
            shape = (*shape[:2], layer[1]) if kind == "conv" and shape else None
        else:
            yield kind, {}, None


def _channels_first(w: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """A dense layer's weights (in, out) for an input that was flattened channels first."""
    if shape is None:
        return w
    return w.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(w.shape)


def flax_nnx(network: Network, *, scanned: int = 1) -> Arm:
    """The loop of its documentation, one jitted step a call; or `scanned` steps in one scan."""
    from flax import nnx

    def layer(kind: str, part: Weights) -> Function:
        if kind == "relu":
            return nnx.relu
        if kind == "pool":
            return lambda x: nnx.max_pool(x, (2, 2), (2, 2))
        if kind == "flatten":
            return lambda x: x.reshape(x.shape[0], -1)
        (n, m), rngs = part["w"].shape[-2:], nnx.Rngs(0)
        made: Any = nnx.Linear(n, m, rngs=rngs)
        if kind == "conv":
            made = nnx.Conv(n, m, (3, 3), rngs=rngs)
        made.kernel[...], made.bias[...] = map(jnp.asarray, (part["w"], part["b"]))
        return made

    def fresh() -> tuple[nnx.Sequential, nnx.Optimizer]:
        model = nnx.Sequential(*(layer(kind, part) for kind, part, _ in _weights(network)))
        return model, nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    def update(model: nnx.Sequential, optimizer: nnx.Optimizer, x: Array, y: Array) -> Array:
        def loss(model: nnx.Sequential) -> Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    def many(model: nnx.Sequential, optimizer: nnx.Optimizer, x: Array, y: Array) -> Array:
        def body(
            carry: tuple[nnx.Sequential, nnx.Optimizer], _: Array
        ) -> tuple[tuple[nnx.Sequential, nnx.Optimizer], Array]:
            model, optimizer = carry
            return carry, update(model, optimizer, x, y)

        axes = (nnx.Carry, 0)
        scan: Any = nnx.scan(body, in_axes=axes, out_axes=axes)
        return scan((model, optimizer), jnp.arange(scanned))[1][-1]

    one: Any = nnx.jit(update)
    step: Any = one if scanned == 1 else nnx.jit(many)
    x, y = map(jnp.asarray, network.data())
    state = list(fresh())

    def restart() -> None:
        state[:] = fresh()

    values = _run(lambda: one(*state, x, y), restart)
    name = "Flax NNX" if scanned == 1 else f"Flax NNX, {scanned} steps in a scan"
    return Arm(name, lambda: jax.block_until_ready(step(*state, x, y)), values, scanned)


def equinox(network: Network) -> Arm:
    """A model over one image, under vmap; the step under eqx.filter_jit."""
    import equinox as eqx

    def layer(kind: str, part: Weights, shape: Shape | None) -> Function:
        if kind == "relu":
            return eqx.nn.Lambda(jax.nn.relu)
        if kind == "pool":
            return eqx.nn.MaxPool2d(2, 2)
        if kind == "flatten":
            return eqx.nn.Lambda(jnp.ravel)
        (n, m), key = part["w"].shape[-2:], jax.random.key(0)
        if kind == "conv":
            made = eqx.nn.Conv2d(n, m, 3, padding=1, key=key)
            new = (
                jnp.asarray(part["w"].transpose(3, 2, 0, 1)),
                jnp.asarray(part["b"])[:, None, None],
            )
        else:
            made = eqx.nn.Linear(n, m, key=key)
            new = jnp.asarray(_channels_first(part["w"], shape).T), jnp.asarray(part["b"])
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), made, new)

    optimizer = optax.adam(LEARNING_RATE)

    def fresh() -> list[Any]:
        model = eqx.nn.Sequential([layer(*each) for each in _weights(network)])
        return [model, optimizer.init(eqx.filter(model, eqx.is_array))]

    @eqx.filter_jit(donate="all-except-first")
    def step(
        batch: tuple[Array, Array], model: eqx.nn.Sequential, moments: PyTree
    ) -> tuple[eqx.nn.Sequential, PyTree, Array]:
        def loss(model: eqx.nn.Sequential) -> Array:
            logits = jax.vmap(model)(batch[0])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

        value, gradient = eqx.filter_value_and_grad(loss)(model)
        updates, moments = optimizer.update(gradient, moments)
        return eqx.apply_updates(model, updates), moments, value

    x, y = network.data()
    x = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
    batch, state = (jnp.asarray(x), jnp.asarray(y)), fresh()

    def call() -> Array:
        *state[:], value = step(batch, *state)
        return jax.block_until_ready(value)

    def restart() -> None:
        state[:] = fresh()

    return Arm("Equinox", call, _run(call, restart))


def pytorch(network: Network, *, compiled: bool = False) -> Arm:
    """Eager with channels last and the fused Adam; or the same under torch.compile."""
    torch: Any = importlib.import_module("torch")  # an extra; no type checker need find it

    def layer(kind: str, part: Weights, shape: Shape | None) -> Any:
        if kind not in ("conv", "dense"):
            nn = torch.nn
            return {"relu": nn.ReLU, "pool": lambda: nn.MaxPool2d(2), "flatten": nn.Flatten}[kind]()
        n, m = part["w"].shape[-2:]
        made: Any = torch.nn.Conv2d(n, m, 3, padding=1) if kind == "conv" else torch.nn.Linear(n, m)
        w = (
            part["w"].transpose(3, 2, 0, 1)
            if kind == "conv"
            else _channels_first(part["w"], shape).T
        )
        made.weight.data, made.bias.data = (
            torch.tensor(np.ascontiguousarray(a)) for a in (w, part["b"])
        )
        return made

    def fresh() -> list[Any]:
        model = torch.nn.Sequential(*(layer(*each) for each in _weights(network)))
        if len(network.shape) == 3:
            model = model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
        return [torch.compile(model) if compiled else model, optimizer]

    x, y = network.data()
    inputs, labels = torch.tensor(x), torch.tensor(y, dtype=torch.long)
    if inputs.ndim == 4:
        inputs = inputs.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    state = fresh()

    def call() -> float:
        model, optimizer = state
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def restart() -> None:
        state[:] = fresh()

    return Arm("PyTorch, compiled" if compiled else "PyTorch", call, _run(call, restart))


class CompilationError(RuntimeError):
    """PyTorch cannot compile here, for want of a C++ compiler for instance."""


def pytorch_compiled(network: Network) -> Arm:
    """PyTorch under torch.compile; CompilationError, with PyTorch's first line, where it fails."""
    arm = pytorch(network, compiled=True)
    try:
        arm.values()  # which leaves the run at its start
    except Exception as error:  # PyTorch's own kinds of error are no public names
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CompilationError(f"torch.compile fails here: {line[:200]}") from error
    return arm
