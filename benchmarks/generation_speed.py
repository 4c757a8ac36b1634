"""Tokens a second that GPT-2 writes on the device at hand: with its cache, and all read anew.

Random params in bfloat16; batches of prompts of one length, the likeliest token at each step. "Read
anew" is the loop without a cache: for each token the whole row goes through the model once more.

    python benchmarks/generation_speed.py [--size 124M] [--prompt N] [--steps N] [--rows B ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpt_memory
import jax
import jax.numpy as jnp
from gpt_speed import SIZES

import funcnn as fnn
from funcnn.bench.measure import machine
from funcnn.report import plain

REPEATS = 3


def read_anew(model: fnn.Layer, params: Any, prompt: Any, steps: int) -> Any:
    """What `fnn.generate` writes at temperature 0, by whole rows."""
    length = prompt.shape[1]
    row = jnp.pad(prompt, ((0, 0), (0, steps)))

    def one(i: Any, row: Any) -> Any:
        logits = model(params, row)  # (B, T, vocabulary)
        last = jax.lax.dynamic_index_in_dim(logits, i - 1, 1, keepdims=False)
        return row.at[:, i].set(jnp.argmax(last, -1).astype(row.dtype))

    return jax.lax.fori_loop(length, length + steps, one, row)[:, length:]


def seconds_of(f: Callable[[], Any]) -> float:
    """The median time of a call, after one that compiles."""
    jax.block_until_ready(f())
    times = []
    for _ in range(REPEATS):
        at = time.perf_counter()
        jax.block_until_ready(f())
        times.append(time.perf_counter() - at)
    return statistics.median(times)


def rows_of(name: str, batches: list[int], length: int, steps: int) -> Iterator[dict[str, Any]]:
    """A row for each batch and way."""
    size = SIZES[name]
    model = gpt_memory.model_of(size)
    every = jax.random.randint(jax.random.key(1), (max(batches), length), 0, size.vocabulary)
    params = jax.jit(model.init)(jax.random.key(0), every)
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    whole = jax.jit(read_anew, static_argnums=(0, 3))
    for rows in batches:
        prompt = every[:rows].astype(jnp.int32)
        ways = {
            "with its cache": lambda p=prompt: fnn.generate(
                model, params, p, steps=steps, temperature=0.0
            ),
            "read anew": lambda p=prompt: whole(model, params, p, steps),
        }
        for way, call in ways.items():
            seconds = seconds_of(call)
            yield {
                "size": name,
                "rows": rows,
                "prompt": length,
                "steps": steps,
                "way": way,
                "seconds": seconds,
                "tokens_per_second": rows * steps / seconds,
            }


def main() -> None:
    """Measure each batch, a line for each way."""
    options = argparse.ArgumentParser()
    options.add_argument("--size", choices=SIZES, default="124M")
    options.add_argument("--prompt", type=int, default=128)
    options.add_argument("--steps", type=int, default=128)
    options.add_argument("--rows", type=int, nargs="+", default=[1, 32])
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    lines = [json.dumps(plain(machine()))]
    for row in rows_of(asked.size, asked.rows, asked.prompt, asked.steps):
        lines.append(json.dumps(plain(row)))
        print(lines[-1], flush=True)
        if asked.out is not None:
            asked.out.write_text("\n".join(lines) + "\n", "utf-8")  # so far


if __name__ == "__main__":
    main()
