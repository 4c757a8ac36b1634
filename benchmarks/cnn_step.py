"""A whole training step of a small CNN, with the hand-derived rules and without them.

28x28x1, batch 64: conv 32, conv 64, pool, conv 64, pool, dense 128, dense 10, 3x3 windows, Adam.
The two arms run in turn, in one process; the result is kept in benchmarks/results/.

    python benchmarks/cnn_step.py [--pairs N]
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import optax

import funcnn as fnn

model = fnn.chain(
    *(fnn.conv(32, (3, 3)), fnn.relu, fnn.conv(64, (3, 3)), fnn.relu, fnn.max_pool((2, 2))),
    *(fnn.conv(64, (3, 3)), fnn.relu, fnn.max_pool((2, 2)), fnn.flatten),
    *(fnn.dense(128), fnn.relu, fnn.dense(10)),
)


def loss(params, batch, key):
    logits = model(params, batch["x"], key=key)
    return fnn.rules.softmax_cross_entropy(logits, batch["y"]).mean()


class Arm:
    """A training run that is timed one step at a time."""

    def __init__(self, loss, batch):
        optimizer = optax.adam(1e-3)
        params = model.init(jax.random.key(0), batch["x"])
        self.state = fnn.train.TrainState.create(params, optimizer, seed=0)
        self.step, self.batch = fnn.train.make_step(loss, optimizer), batch
        self.losses = []

    def seconds(self):
        """Run one step."""
        start = time.perf_counter()
        self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready(self.state)
        self.losses.append(float(metrics["loss"]))
        return time.perf_counter() - start


def measure(pairs):
    """Interleaved pairs; the two arms must agree on the loss first."""
    random = np.random.default_rng(0)
    x = random.random((64, 28, 28, 1), dtype=np.float32)
    batch = jax.device_put({"x": x, "y": random.integers(0, 10, 64, dtype=np.int32)})
    manual, automatic = Arm(loss, batch), Arm(fnn.without_rules(loss), batch)
    for arm in (manual, automatic, manual, automatic):
        arm.seconds()  # compiling, and warming up
    seconds = [(manual.seconds(), automatic.seconds()) for _ in range(pairs)]
    # Later the two runs drift apart, as any two with another rounding do.
    np.testing.assert_allclose(manual.losses[:3], automatic.losses[:3], rtol=1e-5)
    ratios = sorted(a / m for m, a in seconds)
    return {
        "what": "CNN 28x28x1, batch 64, conv 32-64-64, dense 128-10, Adam: one training step",
        "pairs": pairs,
        "manual_ms": round(1e3 * statistics.median(m for m, _ in seconds), 1),
        "automatic_ms": round(1e3 * statistics.median(a for _, a in seconds), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_low_high": [round(ratios[0], 2), round(ratios[-1], 2)],
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    result = measure(parser.parse_args().pairs)
    print(json.dumps(result, indent=2))
    path = Path(__file__).parent / "results" / f"cnn_step_{jax.default_backend()}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
