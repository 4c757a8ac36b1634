"""A training step of a small GPT on a CPU: by hand, by autodiff, in Flax NNX and in PyTorch.

One process, all arms in turn, after they have agreed on the losses of the first steps. All start
from the same params, with AdamW and float32. The arms: by hand, `fnn.gpt` with what the loop over
its blocks keeps, "residuals" or "inputs", head and loss in one; autodiff, plain JAX with
`jax.nn.dot_product_attention`, its blocks written out one after the other; Flax NNX and PyTorch
(scaled_dot_product_attention, eager and compiled), as their documentation writes them.

    python benchmarks/gpt_step.py [--rounds N] [--places T] [--rows B] [--arms NAME ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from gpt_torch import stepper

import funcnn as fnn
from funcnn.bench.measure import Arm, machine, measure
from funcnn.core.stack import Kept
from funcnn.report import plain
from funcnn.task.kinds.language import language
from funcnn.task.losses.softmax_cross_entropy import softmax_cross_entropy
from funcnn.task.measured import Measured

ROOT = Path(__file__).parent.parent
CHECKED, RATE, EPSILON = 3, 1e-3, 1e-5


class Size(NamedTuple):
    """A GPT and its batch."""

    vocabulary: int
    width: int
    depth: int
    heads: int
    places: int
    rows: int


class Step(NamedTuple):
    """One way to make a step, which returns the loss before it."""

    call: Callable[[], float]
    temporary_bytes: float = math.nan


def model_of(size: Size, keep: Kept = "residuals") -> fnn.Layer:
    """The model by hand."""
    return fnn.gpt(size.vocabulary, size.places, size.width, size.depth, size.heads, keep=keep)


def jitted(loss: Callable[..., Any], params: Any, batch: dict[str, Any]) -> Step:
    """Steps of one compiled program, whose arguments are donated."""
    optimizer = optax.adamw(RATE)

    def step(params: Any, state: Any, batch: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    kept = [jax.tree.map(jnp.array, params), optimizer.init(params)]
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*kept, batch).compile()

    def one() -> float:
        kept[0], kept[1], value = compiled(*kept, batch)
        return float(value)

    return Step(one, compiled.memory_analysis().temp_size_in_bytes)


def by_hand(size: Size, params: Any, batch: dict[str, Any], keep: Kept) -> Step:
    """The rules, head and loss in one."""
    measured = Measured(model_of(size, keep), language(fused=True), softmax_cross_entropy, {})
    return jitted(lambda params, batch: measured.loss(params, batch, None)[0], params, batch)


def autodiff(size: Size, params: Any, batch: dict[str, Any]) -> Step:
    """Plain JAX, with XLA's attention; blocks one after the other."""

    def norm(x: Any, own: Any) -> Any:
        mean = jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean((x - mean) ** 2, -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * own["scale"] + own["bias"]

    def dense(x: Any, own: Any) -> Any:
        return x @ own["w"] + own["b"]

    def block(x: Any, own: Any) -> Any:
        of_heads, of_mlp = own["attention"]["body"], own["mlp"]["body"]
        n = norm(x, of_heads["inputs"]["norm"])
        apart = (*x.shape[:2], size.heads, size.width // size.heads)
        q, k, v = (dense(n, of_heads["inputs"]["heads"][name]).reshape(apart) for name in "qkv")
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + dense(y.reshape(x.shape), of_heads["out"])
        u = dense(norm(x, of_mlp["inputs"]["norm"]), of_mlp["inputs"]["up"])
        return x + dense(jax.nn.gelu(u), of_mlp["out"]["dense"])

    def loss(params: Any, batch: Any) -> Any:
        table, places = params["tokens"]["table"], params["places"]["table"]
        h = table[batch["x"]] + places[: size.places]
        for own in params["blocks"]:
            h = block(h, own)
        logits = norm(h, params["norm"]) @ table.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    apart = [jax.tree.map(lambda a, i=i: a[i], params["blocks"]) for i in range(size.depth)]
    return jitted(loss, {**params, "blocks": apart}, batch)


def flax_nnx(size: Size, params: Any, batch: dict[str, Any]) -> Step:
    """Modules, `nnx.MultiHeadAttention` with a causal mask, `nnx.Optimizer`, `nnx.jit`."""
    from flax import nnx

    rngs, width, heads = nnx.Rngs(0), size.width, size.heads

    class Block(nnx.Module):
        def __init__(self) -> None:
            self.norms = nnx.List(
                [nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs) for _ in range(2)]
            )
            self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
            self.up = nnx.Linear(width, 4 * width, rngs=rngs)
            self.down = nnx.Linear(4 * width, width, rngs=rngs)

        def __call__(self, x: Any, mask: Any) -> Any:
            x = x + self.attention(self.norms[0](x), mask=mask)
            return x + self.down(nnx.gelu(self.up(self.norms[1](x))))

    class Gpt(nnx.Module):
        def __init__(self) -> None:
            self.tokens = nnx.Embed(size.vocabulary, width, rngs=rngs)
            self.places = nnx.Embed(size.places, width, rngs=rngs)
            self.blocks = nnx.List([Block() for _ in range(size.depth)])
            self.norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            h = self.tokens(x) + self.places(jnp.arange(x.shape[1]))
            mask = nnx.make_causal_mask(x)
            for block in self.blocks:
                h = block(h, mask)
            return self.tokens.attend(self.norm(h))

    model = Gpt()

    def put(variable: Any, value: Any) -> None:
        variable[...] = jnp.asarray(value).reshape(variable.shape)

    def put_norm(norm: Any, own: Any) -> None:
        put(norm.scale, own["scale"])
        put(norm.bias, own["bias"])

    def put_dense(layer: Any, own: Any) -> None:
        put(layer.kernel, own["w"])
        put(layer.bias, own["b"])

    put(model.tokens.embedding, params["tokens"]["table"])
    put(model.places.embedding, params["places"]["table"])
    put_norm(model.norm, params["norm"])
    for i, block in enumerate(model.blocks):
        own = jax.tree.map(lambda a, i=i: a[i], params["blocks"])
        of_heads, of_mlp = own["attention"]["body"], own["mlp"]["body"]
        put_norm(block.norms[0], of_heads["inputs"]["norm"])
        put_norm(block.norms[1], of_mlp["inputs"]["norm"])
        for name, to in {"q": "query", "k": "key", "v": "value"}.items():
            put_dense(getattr(block.attention, to), of_heads["inputs"]["heads"][name])
        put_dense(block.attention.out, of_heads["out"])
        put_dense(block.up, of_mlp["inputs"]["up"])
        put_dense(block.down, of_mlp["out"]["dense"])
    optimizer = nnx.Optimizer(model, optax.adamw(RATE), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        def loss(model: Any) -> Any:
            logits = model(batch["x"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    return Step(lambda: float(step(model, optimizer, batch)))


def pytorch(size: Size, params: Any, batch: dict[str, Any], compiled: bool) -> Step:
    """As gpt_torch.py has it."""
    return Step(stepper(size, params, batch, RATE, compiled))


ARMS: dict[str, Callable[..., Step]] = {
    "by hand, residuals": lambda *given: by_hand(*given, "residuals"),
    "by hand, inputs": lambda *given: by_hand(*given, "inputs"),
    "autodiff": autodiff,
    "Flax NNX": flax_nnx,
    "PyTorch eager": lambda *given: pytorch(*given, False),
    "PyTorch compiled": lambda *given: pytorch(*given, True),
}
NEEDED = {"Flax NNX": "flax", "PyTorch eager": "torch", "PyTorch compiled": "torch"}


def made_arms(size: Size, asked: list[str]) -> tuple[list[Arm], dict[str, str]]:
    """The arms, and why those that are missing are."""
    tokens = jax.random.randint(
        jax.random.key(1), (size.rows, size.places + 1), 0, size.vocabulary, jnp.int32
    )
    batch = {"x": tokens[:, :-1], "y": tokens[:, 1:]}
    params = model_of(size).init(jax.random.key(0), batch["x"])
    arms, absent = [], {}
    for name in asked:
        module = NEEDED.get(name)
        if module and importlib.util.find_spec(module) is None:
            absent[name] = f"not installed: pip install {module}"
            continue
        step = ARMS[name](size, params, batch)
        losses = [step.call() for _ in range(CHECKED)]
        arms.append(Arm(name, step.call, losses.copy, temporary_bytes=step.temporary_bytes))
    return arms, absent


def main() -> None:
    """Measure the arms, one line each."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=10)
    for name, usual in Size(65, 384, 6, 6, 256, 8)._asdict().items():
        options.add_argument(f"--{name}", type=int, default=usual)
    options.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gpt_step_cpu.jsonl")
    asked = options.parse_args()
    fnn.train.keep_freed_memory()  # as `funcnn train` does; all arms have it
    size = Size(*(getattr(asked, name) for name in Size._fields))
    arms, absent = made_arms(size, asked.arms)
    rows = measure("gpt_step", arms, asked.rounds, absent)
    lines = [json.dumps(plain({**machine(), **size._asdict()}))]
    lines += [json.dumps(plain(dataclasses.asdict(row))) for row in rows]
    print("\n".join(lines))
    asked.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
