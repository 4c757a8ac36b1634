"""How many tokens a second a GPT writes, with what it keeps of those before and without.

One process, both arms in turn, at temperature 0, for one row and for batches of several, whose
prompts are of unequal length: from half of the longest to all of it. With the cache is
`fnn.generate`, which reads the prompts once and then one token of each row at a time. Without it
the model reads everything anew for each token, in one compiled loop too, its rows padded to their
final length, as causal attention allows. Both must write the same tokens, or nothing is timed.

    python benchmarks/generation.py [--rows B ...] [--prompt T] [--steps N] [--rounds N]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import funcnn as fnn
from funcnn.bench.measure import Arm, machine, measure
from funcnn.report import plain

ROOT = Path(__file__).parent.parent


def without_cache(model: fnn.Layer, steps: int) -> Callable[[Any, Any, Any], Any]:
    """The likeliest tokens (B, steps), each from all that stands before it."""

    @jax.jit
    def write(params: Any, prompt: Any, lengths: Any) -> Any:
        rows = prompt.shape[0]
        each = jnp.arange(rows)

        def one(i: Any, tokens: Any) -> Any:
            logits = model(params, tokens)  # (B, T + steps, vocabulary)
            last = logits[each, lengths + i - 1]  # (B, vocabulary)
            return tokens.at[each, lengths + i].set(jnp.argmax(last, -1).astype(tokens.dtype))

        room = jnp.zeros((rows, steps), prompt.dtype)
        tokens = jnp.concatenate([prompt, room], 1)  # (B, T + steps)
        tokens = jax.lax.fori_loop(0, steps, one, tokens)
        places = lengths[:, None] + jnp.arange(steps)[None]  # (B, steps)
        return jnp.take_along_axis(tokens, places, 1)

    return write


def arms_of(model: fnn.Layer, vocabulary: int, rows: int, prompt: int, steps: int) -> list[Arm]:
    """Both ways to write so many rows; SystemExit where they do not write the same."""
    drawn = jax.random.randint(jax.random.key(1), (rows, prompt), 0, vocabulary, jnp.int32)
    params = model.init(jax.random.key(0), drawn)
    lengths = jnp.linspace(prompt, max(1, prompt // 2), rows).astype(jnp.int32)  # (B,)
    again = without_cache(model, steps)
    options = {"lengths": lengths, "steps": steps, "temperature": 0}
    calls: dict[str, Callable[[], Any]] = {
        "with the cache": lambda: fnn.generate(model, params, drawn, **options),
        "without": lambda: again(params, drawn, lengths),
    }
    written = {name: np.asarray(call()) for name, call in calls.items()}
    if not np.array_equal(*written.values()):
        raise SystemExit(f"{rows} rows: the two do not write the same tokens")
    return [
        Arm(name, lambda call=call: jax.block_until_ready(call()), lambda n=name: written[n])
        for name, call in calls.items()
    ]


def main() -> None:
    """Measure each number of rows, a line for each arm."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16])
    sizes = {"prompt": 32, "steps": 224, "vocabulary": 65, "width": 384, "depth": 6, "heads": 6}
    for name, usual in sizes.items():
        options.add_argument(f"--{name}", type=int, default=usual)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/generation_cpu.jsonl"
    )
    asked = options.parse_args()
    length = asked.prompt + asked.steps
    model = fnn.gpt(asked.vocabulary, length, asked.width, asked.depth, asked.heads)
    lines = [json.dumps(plain({**machine(), **{name: getattr(asked, name) for name in sizes}}))]
    for rows in asked.rows:
        arms = arms_of(model, asked.vocabulary, rows, asked.prompt, asked.steps)
        for row in measure(f"generation, {rows} rows", arms, asked.rounds):
            found = dataclasses.asdict(row)
            found["tokens_a_second"] = round(1e3 * rows * asked.steps / row.median, 1)
            lines.append(json.dumps(plain(found)))
            print(lines[-1], flush=True)
        asked.out.write_text("\n".join(lines) + "\n", "utf-8")  # so far


if __name__ == "__main__":
    main()
