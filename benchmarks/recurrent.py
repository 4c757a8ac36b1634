"""Forward and backward pass of LSTM and GRU: the rules, autodiff in its best form, PyTorch.

One process, all arms in turn, after they have agreed on the loss and on every gradient. The arms:
manual, the rule; automatic, the same without rules (the plain step in a scan); hoisted, autodiff
with x w + b taken out of the loop, at three settings of `unroll`, and hoisted with a checkpoint
round the step; torch, `nn.LSTM` and `nn.GRU`, where PyTorch is installed. The best automatic form
is the fastest of the automatic ones by their medians, for each shape.

    python benchmarks/recurrent.py [--rounds N] [--threads N] [--rules lstm gru]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import funcnn as fnn
from funcnn.bench.measure import PAUSE
from funcnn.gradient.cost.timing import in_turn

# T, N, H, with D = H: each value of each size three times.
SHAPES = [
    *((64, 16, 64), (64, 32, 128), (64, 64, 256)),
    *((128, 16, 128), (128, 32, 256), (128, 64, 64)),
    *((256, 16, 256), (256, 32, 64), (256, 64, 128)),
]
GATES = {"lstm": 4, "gru": 3}
CARRIES = {"lstm": 2, "gru": 1}


def step_of(name: str, u: Any, b: Any) -> Callable[..., Any]:
    """One step `(carry, x w + b) -> (carry, y)`; b is the bias m of the GRU."""

    def lstm(carry: Any, z: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(z + h @ u, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(carry: Any, a: Any) -> Any:
        (h,) = carry
        (a_r, a_z, a_n), (s_r, s_z, m) = (jnp.split(v, 3, axis=-1) for v in (a, h @ u))
        z = jax.nn.sigmoid(a_z + s_z)
        n = jnp.tanh(a_n + jax.nn.sigmoid(a_r + s_r) * (m + b))
        h = (1 - z) * n + z * h
        return (h,), h

    return {"lstm": lstm, "gru": gru}[name]


def hoisted(name: str, unroll: int = 1, checkpoint: bool = False) -> Callable[..., Any]:
    """The scan that a user who cares would write: one product for x w, before the loop."""

    def run(x: Any, *rest: Any) -> Any:
        *carries, w, u, b = rest
        wide = w.shape[1]
        z = jnp.swapaxes(x, 0, 1) @ w + b[:wide]  # (T, N, gates * H)
        step = step_of(name, u, b[wide:])
        step = jax.checkpoint(step) if checkpoint else step
        carry, y = jax.lax.scan(step, tuple(carries), z, unroll=unroll)
        return jnp.swapaxes(y, 0, 1), *carry

    return run


def arms_of(name: str) -> dict[str, Callable[..., Any]]:
    """The functions that JAX compiles; "manual" is the rule, the others are automatic."""
    rule = fnn.rules.registered_rules()[name]
    return {
        "manual": rule,
        "automatic": fnn.without_rules(rule),
        **{f"hoisted, unroll {n}": hoisted(name, n) for n in (1, 2, 4)},
        "hoisted, checkpoint": hoisted(name, checkpoint=True),
    }


def data(name: str, steps: int, rows: int, hidden: int) -> tuple[Any, Any]:
    """The arguments and the weights of the loss, which is linear in all outputs."""
    generator = np.random.default_rng(0)
    wide, n = GATES[name] * hidden, CARRIES[name]
    state = [(rows, steps, hidden), *[(rows, hidden)] * n]
    weights = [(hidden, wide), (hidden, wide), (4 * hidden,)]

    def draw(shape: Any, scale: float = 1.0) -> Any:
        return np.asarray(scale * generator.standard_normal(shape), np.float32)

    args = (*map(draw, state), *(draw(s, hidden**-0.5) for s in weights))
    return args, tuple(map(draw, state))


def jax_arm(f: Callable[..., Any], args: Any, dys: Any) -> Callable[[], Any]:
    """A call that runs both passes; returns the loss and the gradients of all arguments."""

    def loss(args: Any, dys: Any) -> Any:
        return sum(jnp.vdot(y, dy) for y, dy in zip(f(*args), dys, strict=True))

    run = jax.jit(jax.value_and_grad(loss))
    args, dys = jax.device_put((args, dys))
    return lambda: jax.block_until_ready(run(args, dys))


def torch_arm(name: str, args: Any, dys: Any, threads: int) -> Callable[[], Any] | None:
    """The same of PyTorch, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")

    torch.set_num_threads(threads)
    x, *carries, w, u, b = map(torch.from_numpy, args)
    dy, *dcarries = map(torch.from_numpy, dys)
    hidden, wide = u.shape
    model = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name](hidden, hidden, batch_first=True)
    with torch.no_grad():
        model.weight_ih_l0.copy_(w.T)
        model.weight_hh_l0.copy_(u.T)
        model.bias_ih_l0.copy_(b[:wide])
        model.bias_hh_l0.zero_()
        model.bias_hh_l0[wide - (b.numel() - wide) :] = b[wide:]
    inputs = [x, *carries]
    for a in inputs:
        a.requires_grad_(True)

    def run() -> Any:
        for a in (*inputs, *model.parameters()):
            a.grad = None
        carry = tuple(c[None] for c in carries)
        y, last = model(x, carry if name == "lstm" else carry[0])
        lasts = last if name == "lstm" else (last,)
        outs = zip((y, *(c[0] for c in lasts)), (dy, *dcarries), strict=True)
        value: Any = sum((a * da).sum() for a, da in outs)
        value.backward()
        of_weights = (model.weight_ih_l0.grad.T, model.weight_hh_l0.grad.T, model.bias_ih_l0.grad)
        recurrent = model.bias_hh_l0.grad[wide - (b.numel() - wide) :]
        of_bias = torch.cat([of_weights[2], recurrent])
        return value.detach(), (*(a.grad for a in inputs), *of_weights[:2], of_bias)

    return run


def agree(outcomes: dict[str, Any], truth: Any) -> float:
    """The largest relative error of any loss or gradient; an error where it is too large."""
    worst = 0.0
    for arm, (value, gradients) in outcomes.items():
        leaves = zip((value, *gradients), (truth[0], *truth[1]), strict=True)
        for i, (found, expected) in enumerate(leaves):
            found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
            off = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
            if not off < 1e-4:
                raise ValueError(f"{arm} is off by {off:.1e} in leaf {i}")
            worst = max(worst, off)
    return worst


def truth_of(name: str, args: Any, dys: Any) -> Any:
    """Loss and gradients in float64, automatic."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (args, dys))
        return jax.tree.map(np.asarray, jax_arm(arms_of(name)["automatic"], *wide)())


def measure(name: str, shape: tuple[int, int, int], rounds: int, threads: int) -> dict[str, Any]:
    """One row: all arms in turn, `rounds` times."""
    args, dys = data(name, *shape)
    runs = {arm: jax_arm(f, args, dys) for arm, f in arms_of(name).items()}
    torch = torch_arm(name, args, dys, threads)
    runs |= {"torch": torch} if torch else {}
    error = agree({arm: run() for arm, run in runs.items()}, truth_of(name, args, dys))
    seconds = in_turn(runs, rounds, rest=PAUSE)
    median = {arm: statistics.median(taken) for arm, taken in seconds.items()}
    automatic = [arm for arm in runs if arm not in ("manual", "torch")]
    best = min(automatic, key=median.__getitem__)
    row: dict[str, Any] = {"rule": name, "T": shape[0], "N": shape[1], "H": shape[2]}
    row |= {"worst_relative_error": error, "best_automatic": best}
    for other in (best, "automatic", *(["torch"] if torch else [])):
        ratios = sorted(o / m for o, m in zip(seconds[other], seconds["manual"], strict=True))
        label = "best_automatic" if other == best else other
        row[f"{label}_over_manual"] = round(statistics.median(ratios), 3)
        row[f"{label}_over_manual_low_high"] = [round(ratios[0], 3), round(ratios[-1], 3)]
    if best == "automatic":
        row["automatic_over_manual"] = row["best_automatic_over_manual"]
    for arm, taken in seconds.items():
        low, high = (1e3 * q(taken) for q in (min, max))
        row[f"{arm} ms"] = [round(v, 3) for v in (1e3 * median[arm], low, high)]
    return row


def surroundings(threads: int) -> dict[str, Any]:
    """Where it was measured."""
    packages = ("jax", "jaxlib", "numpy", "torch", "funcnn")
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    return {
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "machine": platform.processor() or platform.machine(),
        "torch_threads": threads,
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in packages if p in installed},
    }


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    columns = ("manual", row["best_automatic"], *(["torch"] if "torch ms" in row else []))
    times = "  ".join(
        f"{arm} {row[f'{arm} ms'][0]:.2f} ({row[f'{arm} ms'][1]:.2f} to {row[f'{arm} ms'][2]:.2f})"
        for arm in columns
    )
    of_torch = row.get("torch_over_manual")
    print(
        f"{row['rule']:5} T {row['T']:3} N {row['N']:2} H {row['H']:3}  "
        f"x{row['best_automatic_over_manual']:.2f} of the best automatic form"
        + (f", x{of_torch:.2f} of torch" if of_torch else "")
        + f"   ms: {times}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--rules", nargs="+", default=list(GATES), choices=list(GATES))
    parser.add_argument("--shapes", type=int, nargs="+", default=list(range(len(SHAPES))))
    parser.add_argument("--out", type=Path, help="by default in benchmarks/results/")
    given = parser.parse_args()
    fnn.train.keep_freed_memory()
    rows, refused = [], []
    for name in given.rules:
        for i in given.shapes:
            try:
                row = measure(name, SHAPES[i], given.rounds, given.threads)
            except ValueError as error:
                print(f"{name} {SHAPES[i]} refused: {error}", flush=True)
                refused.append(f"{name} {SHAPES[i]}: {error}")
                continue
            rows.append(row)
            show(row)
    result: dict[str, Any] = {
        "what": "forward and backward pass, float32, D = H; [median, min, max] ms"
    }
    result |= {"rounds": given.rounds, **surroundings(given.threads)}
    for name in given.rules:
        for label in ("best_automatic", "torch"):
            key = f"{label}_over_manual"
            ratios = [row[key] for row in rows if row["rule"] == name and key in row]
            if ratios:
                result[f"{name}_{key}"] = {
                    "median": round(statistics.median(ratios), 3),
                    "smallest": min(ratios),
                }
    print(json.dumps(result, indent=2))
    folder = Path(__file__).parent / "results"
    path = given.out or folder / f"recurrent_{jax.default_backend()}.json"
    path.write_text(json.dumps({**result, "refused": refused, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
