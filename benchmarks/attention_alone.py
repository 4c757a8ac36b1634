"""Attention by itself, forward and backward, in rows of growing length: memory and time.

One process, the arms of each length in turn, causal. By hand is `fnn.rules.attention`; the others
are `jax.nn.dot_product_attention` and a softmax written out, with JAX's automatic backward pass. On
a GPU in bfloat16 there are both with cuDNN, too. The temporaries are those that the compiler lays
out; an arm whose temporaries would not fit into `--memory` is compiled and not run.

    python benchmarks/attention_alone.py [--places T ...] [--heads H] [--samples B]
        [--dtype float32] [--rounds N] [--memory GB]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import funcnn as fnn
from funcnn.bench.measure import Arm, Row, machine, measure
from funcnn.gradient.cost.flops import compiled_expense
from funcnn.report import plain

ROOT = Path(__file__).parent.parent
WIDTH = 64  # of a head


def by_hand(q: Any, k: Any, v: Any, implementation: Any = "blocks") -> Any:
    """The rule."""
    return fnn.rules.attention(q, k, v, causal=True, implementation=implementation)


def library(q: Any, k: Any, v: Any, implementation: Any = "xla") -> Any:
    """JAX's own function."""
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)


def written_out(q: Any, k: Any, v: Any) -> Any:
    """A product, a mask, a softmax and a product."""
    scores = jnp.einsum("bthw,bshw->bhts", q, k) * WIDTH**-0.5
    scores = jnp.where(jnp.tri(q.shape[1], dtype=bool), scores, -jnp.inf)
    return jnp.einsum("bhts,bshw->bthw", jax.nn.softmax(scores, -1), v)


ARMS: dict[str, Callable[..., Any]] = {
    "by hand": by_hand,
    "jax.nn.dot_product_attention": library,
    "written out": written_out,
}
CUDNN: dict[str, Callable[..., Any]] = {
    "by hand, cuDNN": functools.partial(by_hand, implementation="cudnn"),
    "jax.nn.dot_product_attention, cuDNN": functools.partial(library, implementation="cudnn"),
}


def made(name: str, f: Callable[..., Any], arguments: list[Any]) -> Arm:
    """The gradient of a weighed sum of the outputs, compiled."""
    *operands, weights = arguments

    def loss(q: Any, k: Any, v: Any) -> Any:
        return jnp.sum((f(q, k, v) * weights).astype(jnp.float32))

    compiled = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*operands).compile()

    def call() -> Any:
        return jax.block_until_ready(compiled(*operands))

    def values() -> Any:
        value, gradients = call()
        lengths = [jnp.linalg.norm(dx.astype(jnp.float32)) for dx in gradients]
        return np.array([value, *lengths])

    return Arm(name, call, values, 1, compiled_expense(compiled).temporary_bytes)


def rows_of(shape: tuple[int, int, int, int], dtype: str, rounds: int, memory: float) -> list[Row]:
    """What was measured at one length."""
    places = shape[1]
    keys = jax.random.split(jax.random.key(0), 4)
    arguments = [jax.random.normal(key, shape, dtype) for key in keys]
    narrow_on_gpu = jax.default_backend() == "gpu" and dtype in ("bfloat16", "float16")
    functions = {**ARMS, **(CUDNN if narrow_on_gpu else {})}
    arms = [made(name, f, arguments) for name, f in functions.items()]
    fits = [arm for arm in arms if arm.temporary_bytes < memory * 1e9]
    found = measure(f"attention {places}", fits, rounds)
    for arm in arms:
        if arm not in fits:
            note = f"not run: more than {memory:g} GB of temporaries"
            row = Row(f"attention {places}", arm.name, note=note)
            found.append(dataclasses.replace(row, temporary_bytes=arm.temporary_bytes))
    return found


def main() -> None:
    """Measure each length, a line for each arm."""
    options = argparse.ArgumentParser()
    options.add_argument("--places", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    options.add_argument("--heads", type=int, default=4)
    options.add_argument("--samples", type=int, default=1)
    options.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--memory", type=float, default=12.0, help="GB")
    out = ROOT / "benchmarks/results/attention_alone_cpu.jsonl"
    options.add_argument("--out", type=Path, default=out)
    asked = options.parse_args()
    fnn.train.keep_freed_memory()  # as `funcnn train` does; all arms have it
    of_all = {n: getattr(asked, n) for n in ("heads", "samples", "dtype")} | {"width": WIDTH}
    lines = [json.dumps(plain({**machine(), **of_all}))]
    for places in asked.places:
        shape = asked.samples, places, asked.heads, WIDTH
        for row in rows_of(shape, asked.dtype, asked.rounds, asked.memory):
            lines.append(json.dumps(plain(dataclasses.asdict(row))))
            print(lines[-1], flush=True)
        asked.out.write_text("\n".join(lines) + "\n", "utf-8")  # so far


if __name__ == "__main__":
    main()
