"""What the loop costs: a step in a loop by hand, and the same step in `fnn.train.fit`.

The step is that of configs/mnist_cnn.toml, on drawn images of MNIST's shape, which are ready before
anything is timed. The arms, each a run of so many steps, are timed in turn in one process:

- bare: `jax.jit` of an update written by hand with optax, which donates what it is given; no guard,
  no log, no norm of the gradient;
- step: the same loop round `fnn.train.make_step`'s step;
- fit: `fnn.train.fit` with that step and nothing else;
- told: `fit` with a log every 100 steps, its speeds, checkpoints, and the guards that come with
  both.

Each arm ends when the params of its last step are there. A ratio is that of an arm to `bare` in the
same round; of its time, and of the processor time of all threads, what is written in the background
included, which others on the machine disturb less.

    python benchmarks/overhead.py [--rounds N] [--steps N] [--checkpoint-every N] [--out FILE]
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import funcnn as fnn
from funcnn.bench.measure import PAUSE, interval, machine
from funcnn.chosen import chosen_optimizer
from funcnn.config import Config, load_config
from funcnn.data.dataset import Dataset, Split
from funcnn.data.known import Known
from funcnn.gradient.cost.timing import in_turn
from funcnn.network import network_of

ROOT = Path(__file__).parent.parent
BATCHES = 32  # so many are made, and taken in turn
LOG_EVERY = 100
UNITS = {
    "ms": "ms a step",
    "over_bare": "of bare",
    "processor_over_bare": "of its processor time",
}


def drawn(config: Config) -> Dataset:
    """A data set of MNIST's shape and classes, BATCHES batches large."""
    random, rows = np.random.default_rng(0), BATCHES * config.data.batch_size
    x = random.uniform(size=(rows, 28, 28, 1)).astype(np.float32)
    y = random.integers(0, 10, rows, dtype=np.int32)
    split = Split(x=x, y=y)
    return Dataset(split, split, "drawn", classes=10)


def arms(config: Config, checkpoint_every: int) -> dict[str, Callable[[int], Any]]:
    """The runs of so many steps, by name; each returns the params with which it ends."""
    dataset = drawn(config)
    network = network_of(config, Known.of(dataset))
    optimizer, loss = chosen_optimizer(config), network.measured.loss
    made = fnn.data.make_batches(dataset.train, config.data.batch_size, config.run.seed)
    ready = [made(i) for i in range(BATCHES)]
    step, seed = fnn.train.make_step(loss, optimizer), config.run.seed

    def batches(position: int) -> Any:
        return ready[position % BATCHES]

    def update(params: Any, state: Any, number: Any, batch: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), number)
        (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, number + 1, value

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))

    def bare(steps: int) -> Any:
        params = network.draw()
        state, number = optimizer.init(params), jax.numpy.int32(0)
        for position in range(steps):
            params, state, number, _ = compiled(params, state, number, batches(position))
        return jax.block_until_ready(params)

    def first() -> fnn.train.TrainState:
        return fnn.train.TrainState.create(network.draw(), optimizer, seed)

    def by_step(steps: int) -> Any:
        state = first()
        for position in range(steps):
            state, _ = step(state, batches(position))
        return jax.block_until_ready(state.params)

    def fit(steps: int) -> Any:
        state, _ = fnn.train.fit(step, first(), batches, steps=steps, log_every=0)
        return jax.block_until_ready(state.params)

    def told(steps: int) -> Any:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            speeds = fnn.train.MetricsLog(folder / "speed.jsonl")
            state, _ = fnn.train.fit(
                step,
                first(),
                batches,
                steps=steps,
                log_every=LOG_EVERY,
                log=fnn.train.MetricsLog(folder / "metrics.jsonl"),
                speed=fnn.train.Speed(speeds, examples=config.data.batch_size),
                checkpoints=fnn.train.Checkpoints(folder / "checkpoints"),
                checkpoint_every=checkpoint_every,
            )
            return jax.block_until_ready(state.params)

    return {"bare": bare, "step": by_step, "fit": fit, "told": told}


def agree(runs: dict[str, Callable[[int], Any]]) -> None:
    """End where the arms do not train the same: alike by hand, in equal bits by the step.

    After a few steps: rounding, which differs where XLA fuses otherwise, grows with each.
    """
    ends = {name: jax.tree.leaves(jax.device_get(run(4))) for name, run in runs.items()}
    for name, leaves in ends.items():
        for a, b in zip(leaves, ends["step"], strict=True):
            off = np.linalg.norm(a - b) / np.linalg.norm(b)
            if not off <= (1e-2 if name == "bare" else 0.0):
                raise SystemExit(f"{name} ends {off:.1e} away from the step alone")


def processor_time(run: Callable[[int], Any], steps: int, taken: list[float]) -> None:
    """Do a run, and note the seconds of all threads."""
    start = time.process_time()
    run(steps)
    taken.append(time.process_time() - start)


def row(
    name: str, taken: dict[str, list[float]], processor: dict[str, list[float]], steps: int
) -> dict[str, Any]:
    """Milliseconds a step of one arm, and the ratios to `bare`: median, and its 95 % interval."""
    times = [1e3 * seconds / steps for seconds in taken[name]]
    ratios, of_processor = (
        [a / b for a, b in zip(seconds[name], seconds["bare"], strict=True)]
        for seconds in (taken, processor)
    )
    found: dict[str, Any] = {"arm": name}
    named = {"ms": times, "over_bare": ratios, "processor_over_bare": of_processor}
    for key, values in named.items():
        found[key] = round(statistics.median(values), 4)
        found[f"{key}_interval"] = [round(end, 4) for end in interval(values)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=500, help="of each run")
    parser.add_argument("--checkpoint-every", type=int, default=250)
    parser.add_argument("--out", type=Path, help="write the results there, as JSON")
    given = parser.parse_args()
    fnn.train.keep_freed_memory()
    runs = arms(load_config(ROOT / "configs/mnist_cnn.toml"), given.checkpoint_every)
    agree(runs)
    processor: dict[str, list[float]] = {name: [] for name in runs}
    calls = {
        name: functools.partial(processor_time, run, given.steps, processor[name])
        for name, run in runs.items()
    }
    taken = in_turn(calls, given.rounds, rest=PAUSE)
    result: dict[str, Any] = {"what": "a training step of configs/mnist_cnn.toml"}
    result |= {"steps": given.steps, "log_every": LOG_EVERY}
    result |= {"checkpoint_every": given.checkpoint_every, "rounds": given.rounds, **machine()}
    processor = {name: seconds[1:] for name, seconds in processor.items()}  # less the first, cold
    result["rows"] = [row(name, taken, processor, given.steps) for name in runs]
    print(", ".join(f"{key} {value}" for key, value in result.items() if key != "rows"))
    for found in result["rows"]:
        told = [
            f"{found[key]} {unit} ({' to '.join(map(str, found[f'{key}_interval']))})"
            for key, unit in UNITS.items()
        ]
        print(f"{found['arm']:5} {', '.join(told)}")
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
