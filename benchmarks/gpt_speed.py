"""Tokens a second of GPT-2's step on the device at hand, and the bytes that it really takes.

One arm a process: what a process allocates at its peak is then the arm's. The arms are those of
gpt_memory.py, on a GPU with cuDNN's attention, on a CPU with XLA's in its place; and PyTorch, where
that is installed. All start from the same params and see the same tokens.

    python benchmarks/gpt_speed.py --arm NAME [--size 124M] [--seconds S] [--out FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gpt_memory
import jax
import jax.numpy as jnp
import optax
from gpt_memory import Size
from gpt_torch import stepper

from funcnn.report import plain

SIZES = {**gpt_memory.SIZES, "tiny": Size(32, 2, 2, 2, vocabulary=64, places=32)}
CHECKED = 3  # losses that the arms are held against each other with
PYTORCH = "PyTorch compiled"
ARMS = (*gpt_memory.ARMS, PYTORCH)


class Made(NamedTuple):
    """A step that returns the loss before it, and what is known of its bytes."""

    step: Callable[[], float]
    compiler_bytes: float
    temporary_bytes: float
    peak: Callable[[], float]


def start(size: Size) -> tuple[Any, dict[str, Any]]:
    """Params and a batch."""
    shape = (size.rows, size.places + 1)
    tokens = jax.random.randint(jax.random.key(1), shape, 0, size.vocabulary, jnp.int32)
    batch = {"x": tokens[:, :-1], "y": tokens[:, 1:]}
    return gpt_memory.model_of(size).init(jax.random.key(0), batch["x"]), batch


def in_jax(size: Size, arm: str) -> Made:
    """One compiled program, whose arguments are donated."""
    params, batch = start(size)
    step = gpt_memory.step_of(gpt_memory.ARMS[arm](size))
    kept = [params, optax.adamw(gpt_memory.RATE).init(params)]
    jitted = jax.jit(step, donate_argnums=(0, 1))
    compiled = jitted.lower(*kept, batch["x"], batch["y"]).compile()
    memory = compiled.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    needed += memory.output_size_in_bytes - memory.alias_size_in_bytes

    def one() -> float:
        kept[0], kept[1], value = compiled(*kept, batch["x"], batch["y"])
        return float(value)

    def peak() -> float:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", math.nan)

    return Made(one, needed, memory.temp_size_in_bytes, peak)


def in_pytorch(size: Size) -> Made:
    """PyTorch's own; JAX makes the params on the CPU."""
    import torch

    with jax.default_device(jax.devices("cpu")[0]):
        params, batch = start(size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = stepper(size, params, batch, gpt_memory.RATE, compiled=True, device=device)
    peak = torch.cuda.max_memory_allocated if device == "cuda" else lambda: math.nan
    return Made(step, math.nan, math.nan, peak)


def measured_row(name: str, arm: str, seconds: float) -> dict[str, Any]:
    """Steps of one arm, as many as fit into the seconds."""
    size, row = SIZES[name], {"size": name, "arm": arm}
    begun = time.perf_counter()
    if arm == PYTORCH:
        if importlib.util.find_spec("torch") is None:
            return {**row, "note": "not installed: pip install torch"}
        made = in_pytorch(size)
    else:
        run = arm
        if jax.default_backend() != "gpu" and arm.replace("cuDNN", "XLA") in ARMS:
            run = arm.replace("cuDNN", "XLA")
            row["note"] = "no GPU here: XLA's attention in the place of cuDNN's"
        made = in_jax(size, run)
    losses = [made.step() for _ in range(CHECKED)]
    ready, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - ready < seconds:
        at = time.perf_counter()
        made.step()
        times.append(time.perf_counter() - at)
    median, tokens = statistics.median(times), size.rows * size.places
    return {
        **row,
        "losses": losses,
        "steps": len(times),
        "step_milliseconds": 1e3 * median,
        "fastest_milliseconds": 1e3 * min(times),
        "slowest_milliseconds": 1e3 * max(times),
        "tokens_per_second": tokens / median,
        "temporary_bytes": made.temporary_bytes,
        "compiler_bytes": made.compiler_bytes,
        "peak_bytes": made.peak(),
        "seconds_before_the_first_step_is_timed": ready - begun,
    }


def main() -> None:
    """Measure one arm, and add its line to the file."""
    options = argparse.ArgumentParser()
    options.add_argument("--arm", choices=ARMS, required=True)
    options.add_argument("--size", choices=SIZES, default="124M")
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    line = json.dumps(plain(measured_row(asked.size, asked.arm, asked.seconds)))
    print(line)
    if asked.out is not None:
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
