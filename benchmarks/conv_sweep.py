"""Convolutions of many shapes: y, dx, dw and all three, by hand and by autodiff, in pairs.

For each shape both arms are compiled and have to agree; then they are called in turn, once each a
round. By hand is what `fnn.rules.conv` runs on this platform; autodiff is `jax.vjp` of its
reference, XLA's own convolution. Each is run plain and inside a `lax.scan` of 2 steps, as a loop
over layers or time steps has it. A ratio is autodiff's time by ours, above 1 ours is faster; given
are its median and the 95 % interval of the median; six pairs are enough where each is above 2.
"SLOWER" marks a plain pair whose whole interval lies below 0.95. Behind the ratios stand the
algorithms that y, dx and dw take by hand on this platform. With --torch all three are also timed in
PyTorch, eager and channels last, where it is installed.

    python benchmarks/conv_sweep.py [--rounds N] [--only TEXT] [--plain] [--torch] [--out FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import funcnn as fnn
from funcnn.bench.measure import interval, machine
from funcnn.gradient.cost.timing import seconds
from funcnn.rules.convolution.choice import (
    TABLES,
    algorithm,
    convolution,
    filter_gradient,
    input_gradient,
)
from funcnn.rules.convolution.suits import Shapes
from funcnn.rules.shared.windows import Windows
from funcnn.train.memory import keep_freed_memory

STEPS = 2  # of the loop
SHORTEST = 1e-3  # seconds; a shorter call is repeated
LIMIT = 0.95
REST = 0.05  # seconds
BLOCK = 0.06  # seconds; beside PyTorch, as long a run of calls as this is timed
FEWEST_ROUNDS, CLEAR = 6, 2.0  # after so many pairs, all of them above this ratio, no more are run
PARTS = ("y", "dx", "dw", "all")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Images (N, *size, I), a window, O outputs and the options of `conv`."""

    images: int
    size: tuple[int, ...]
    inputs: int
    outputs: int
    window: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: str = "SAME"

    @property
    def name(self) -> str:
        """For a line of the table."""
        size, window = ("x".join(map(str, v)) for v in (self.size, (self.window,) * len(self.size)))
        options = [
            f"{name} {value}"
            for name, value, usual in (
                ("stride", self.stride, 1),
                ("dilation", self.dilation, 1),
                ("groups", self.groups, 1),
                ("", self.padding, "SAME"),
            )
            if value != usual
        ]
        channels = f"{self.inputs}->{self.outputs}"
        return ", ".join([f"{self.images}x{size} {channels} {window}", *map(str.strip, options)])

    @property
    def windows(self) -> Windows:
        """Where the windows lie."""
        window = (self.window,) * len(self.size)
        return Windows.of("conv", self.size, window, self.stride, self.padding, self.dilation)


def algorithms(shape: Shape) -> dict[str, str]:
    """y, dx and dw -> the algorithm that each takes by hand on this platform."""
    shapes = Shapes(
        shape.images,
        shape.windows,
        shape.inputs,
        shape.outputs,
        shape.groups,
        platform=jax.default_backend(),
    )
    return {part: algorithm(part, shapes) for part in TABLES}


def shapes() -> Iterator[Shape]:
    """Each call of each arm takes up to some 30 ms; autodiff of many groups is slower."""
    yield from _plane()
    yield from _line_and_volume()
    yield from _grouped()


def _plane() -> Iterator[Shape]:
    for n, size, i, o in (
        *((1, 28, 1, 16), (64, 28, 1, 32), (16, 64, 3, 16), (8, 64, 16, 16), (32, 28, 8, 8)),
        *((16, 28, 16, 32), (32, 28, 32, 32), (16, 28, 32, 64), (1, 28, 64, 64), (1, 14, 256, 256)),
        *((32, 14, 64, 64), (64, 14, 32, 64), (64, 7, 64, 128), (16, 14, 128, 128)),
        *((32, 7, 256, 128), (4, 56, 32, 32), (64, 8, 16, 8), (7, 13, 48, 20), (32, 14, 64, 1)),
    ):
        yield Shape(n, (size, size), i, o, 3)
    for n, size, i, o in (
        *((64, 28, 1, 16), (64, 14, 16, 32), (16, 28, 16, 16), (16, 28, 32, 64), (32, 14, 64, 128)),
        *((32, 7, 128, 256), (1, 56, 64, 64)),
    ):
        yield Shape(n, (size, size), i, o, 3, stride=2)
    for n, size, i, o, stride in (
        *((1, 56, 64, 256, 1), (32, 28, 16, 64, 1), (16, 28, 64, 64, 1), (32, 14, 256, 64, 1)),
        *((64, 7, 256, 256, 1), (32, 28, 4, 8, 1), (32, 14, 64, 128, 2), (32, 28, 32, 64, 2)),
    ):
        yield Shape(n, (size, size), i, o, 1, stride=stride)
    yield from (
        *(Shape(64, (28, 28), 1, 8, 5), Shape(16, (28, 28), 1, 32, 5, padding="VALID")),
        *(Shape(32, (14, 14), 8, 16, 5, padding="VALID"), Shape(16, (14, 14), 32, 32, 5)),
        *(Shape(8, (28, 28), 32, 32, 5), Shape(4, (14, 14), 128, 64, 5)),
        *(Shape(4, (64, 64), 3, 32, 7, stride=2), Shape(16, (14, 14), 16, 16, 7)),
        *(Shape(16, (28, 28), 16, 32, 3, dilation=2), Shape(16, (14, 14), 64, 64, 3, dilation=3)),
        *(Shape(8, (28, 28), 32, 32, 3, padding="VALID"), Shape(32, (14, 14), 64, 32, 2, stride=2)),
    )


def _line_and_volume() -> Iterator[Shape]:
    yield from (
        *(Shape(64, (64,), 64, 64, 3), Shape(16, (64,), 256, 256, 3), Shape(64, (64,), 16, 32, 5)),
        *(Shape(32, (64,), 64, 128, 3, stride=2), Shape(32, (64,), 64, 64, 7, dilation=2)),
        *(Shape(64, (64,), 1, 16, 7), Shape(32, (64,), 128, 128, 1), Shape(1, (64,), 64, 64, 3)),
        *(Shape(64, (64,), 128, 32, 3), Shape(8, (64,), 256, 32, 5)),
        *(Shape(4, (8, 14, 14), 8, 16, 3), Shape(2, (8, 14, 14), 32, 32, 3)),
        *(Shape(8, (7, 7, 7), 32, 64, 3), Shape(4, (16, 16, 16), 1, 8, 3)),
        *(Shape(4, (8, 14, 14), 16, 32, 3, stride=2), Shape(4, (8, 14, 14), 32, 64, 1)),
    )


def _grouped() -> Iterator[Shape]:
    yield from (
        *(Shape(16, (28, 28), 32, 32, 3, groups=2), Shape(16, (14, 14), 64, 64, 3, groups=4)),
        *(Shape(8, (14, 14), 64, 128, 3, groups=8), Shape(4, (14, 14), 64, 64, 3, groups=16)),
        *(Shape(4, (14, 14), 128, 128, 3, stride=2, groups=32), Shape(64, (64,), 64, 64, 3)),
        *(Shape(16, (64,), 64, 64, 3, groups=4), Shape(16, (14, 14), 64, 64, 1, groups=4)),
        *(Shape(2, (7, 7, 7), 32, 32, 3, groups=4), Shape(16, (14, 14), 8, 8, 3, groups=2)),
    )
    for n, size, channels, options in (
        *((16, 28, 32, {}), (64, 28, 32, {}), (16, 56, 32, {}), (16, 28, 128, {})),
        *((16, 14, 256, {}), (64, 7, 64, {}), (16, 28, 32, {"stride": 2}), (1, 56, 32, {})),
        *((16, 28, 4, {}), (16, 14, 64, {"dilation": 2}), (16, 14, 128, {"stride": 2})),
    ):
        yield Shape(n, (size, size), channels, channels, 3, groups=channels, **options)
    yield from (
        *(Shape(16, (14, 14), 64, 64, 5, groups=64), Shape(16, (14, 14), 64, 64, 7, groups=64)),
        *(Shape(16, (28, 28), 16, 32, 3, groups=16), Shape(16, (14, 14), 32, 128, 3, groups=32)),
        *(Shape(16, (64,), 64, 64, 3, groups=64), Shape(32, (64,), 128, 128, 7, groups=128)),
        *(Shape(2, (8, 14, 14), 16, 16, 3, groups=16), Shape(16, (14, 14), 8, 64, 3, groups=8)),
    )


def parts_of(shape: Shape) -> dict[str, dict[str, Callable[..., Any]]]:
    """Part -> arm -> a function of (x, w, dy)."""
    windows, groups = shape.windows, shape.groups

    def automatic(x: Any, w: Any) -> Any:
        return fnn.rules.conv.reference(
            x,
            w,
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
            groups=groups,
        )

    by_hand = {
        "y": lambda x, w, dy: convolution(x, w, windows, groups),
        "dx": lambda x, w, dy: input_gradient(dy, w, windows, groups),
        "dw": lambda x, w, dy: filter_gradient(x, dy, windows, groups),
    }
    autodiff = {
        "y": lambda x, w, dy: automatic(x, w),
        "dx": lambda x, w, dy: jax.vjp(lambda x: automatic(x, w), x)[1](dy)[0],
        "dw": lambda x, w, dy: jax.vjp(lambda w: automatic(x, w), w)[1](dy)[0],
    }

    def all_of(parts: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
        return lambda *args: tuple(parts[name](*args) for name in ("y", "dx", "dw"))

    by_hand["all"], autodiff["all"] = all_of(by_hand), all_of(autodiff)
    return {part: {"by hand": by_hand[part], "autodiff": autodiff[part]} for part in PARTS}


def in_a_loop(f: Callable[..., Any]) -> Callable[..., Any]:
    """f on each of the steps of a loop."""
    return lambda *args: lax.scan(lambda carry, xs: (carry, f(*xs)), None, args)[1]


def torch_arm(shape: Shape, x: Any, w: Any, dy: Any) -> Callable[[], Any]:
    """Forward and backward pass of PyTorch's convolution, (y, dx, dw) of which are checked."""
    torch: Any = importlib.import_module("torch")
    axes = len(shape.size)
    functional = torch.nn.functional
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}.get(axes)

    def moved(a: Any, order: tuple[int, ...]) -> Any:
        tensor = torch.tensor(np.array(a)).permute(order)
        return tensor.contiguous(memory_format=layout) if layout else tensor.contiguous()

    space = tuple(range(1, axes + 1))
    first = (0, axes + 1, *space)
    x_, dy_ = moved(x, first).requires_grad_(True), moved(dy, first)
    w_ = moved(w, (axes + 1, axes, *range(axes))).requires_grad_(True)
    padding = shape.windows.padding
    even = all(lo == hi for lo, hi in padding)
    # PyTorch pads both ends alike; else the zeros are written before.
    borders = list(itertools.chain(*reversed(padding)))

    def call() -> Any:
        x_.grad = w_.grad = None
        given = x_ if even else functional.pad(x_, borders)
        y = conv(
            given,
            w_,
            stride=shape.stride,
            padding=tuple(lo for lo, _ in padding) if even else 0,
            dilation=shape.dilation,
            groups=shape.groups,
        )
        y.backward(dy_)
        return y, x_.grad, w_.grad

    y, dx, dw = (a.detach().numpy() for a in call())
    back = (0, *(a + 1 for a in space), 1)
    found = y.transpose(back), dx.transpose(back), dw.transpose(*range(2, axes + 2), 1, 0)
    _agree(found, parts_of(shape)["all"]["by hand"](x, w, dy))
    return call


def _agree(found: Any, truth: Any) -> None:
    for ours, theirs in zip(map(np.asarray, found), map(np.asarray, truth), strict=True):
        if np.linalg.norm(ours - theirs) > 1e-4 * np.linalg.norm(theirs):
            raise ValueError("the arms do not agree")


def beside_torch(shape: Shape, args: Any, rounds: int) -> dict[str, Any]:
    """Both passes by hand and in PyTorch, each after a rest, since its threads go on waiting.

    As in a training loop, a run of calls is timed: after a rest the first ones are slower.
    """
    by_hand = jax.jit(parts_of(shape)["all"]["by hand"])
    calls = {
        "by hand": lambda: jax.block_until_ready(by_hand(*args)),
        "PyTorch": torch_arm(shape, *args),
    }
    return _timed(calls, rounds, 1, "PyTorch", shortest=BLOCK, rest=REST)


def pair(arms: dict[str, Callable[..., Any]], args: Any, rounds: int, steps: int) -> dict[str, Any]:
    """Both arms called in turn: times of one step in ms, and autodiff's by ours."""
    compiled = {name: jax.jit(f) for name, f in arms.items()}
    _agree(*(jax.tree.leaves(f(*args)) for f in compiled.values()))

    def call(name: str) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(compiled[name](*args))

    return _timed({name: call(name) for name in arms}, rounds, steps, "autodiff")


def _timed(
    calls: dict[str, Callable[[], Any]],
    rounds: int,
    steps: int,
    other: str,
    shortest: float = SHORTEST,
    rest: float = 0.0,
) -> dict[str, Any]:
    for call in calls.values():
        call()
    repeats = {n: max(1, round(shortest / seconds(call))) for n, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    ratios: list[float] = []
    while len(ratios) < rounds and not (len(ratios) >= FEWEST_ROUNDS and min(ratios) > CLEAR):
        for name in list(calls)[:: 1 if len(ratios) % 2 else -1]:
            if rest:
                time.sleep(rest)
                calls[name]()
            times[name].append(1e3 * seconds(calls[name], repeats[name]) / steps)
        ratios.append(times[other][-1] / times["by hand"][-1])
    low, high = interval(ratios)
    return {
        **{name: {"median": statistics.median(t), "min": min(t)} for name, t in times.items()},
        "ratio": {"median": statistics.median(ratios), "low": low, "high": high},
        "rounds": len(ratios),
    }


def measure(shape: Shape, rounds: int, loop: bool, torch: bool) -> dict[str, Any]:
    """part -> plain, loop and PyTorch -> times and ratio."""
    generator = np.random.default_rng(0)

    def draw(*dimensions: int) -> Any:
        return jnp.asarray(generator.standard_normal(dimensions), "float32")

    window = (shape.window,) * len(shape.size)

    def arguments(*steps: int) -> tuple[Any, Any, Any]:
        x = draw(*steps, shape.images, *shape.size, shape.inputs)
        w = draw(*steps, *window, shape.inputs // shape.groups, shape.outputs)
        return x, w, draw(*steps, shape.images, *shape.windows.output, shape.outputs)

    plain, stacked = arguments(), arguments(STEPS) if loop else None
    row: dict[str, Any] = {"algorithms": algorithms(shape)}
    for part, arms in parts_of(shape).items():
        row[part] = {"plain": pair(arms, plain, rounds, 1)}
        if stacked:
            looped = {name: in_a_loop(f) for name, f in arms.items()}
            row[part]["loop"] = pair(looped, stacked, rounds, STEPS)
    if torch:
        row["all"]["PyTorch"] = beside_torch(shape, plain, rounds)
    return row


def line(shape: Shape, row: dict[str, Any]) -> str:
    """The medians of the plain pairs and of the loop, for y, dx, dw and all; the algorithms."""
    cells = []
    for part in PARTS:
        for kind in row[part]:
            ratio = row[part][kind]["ratio"]
            cells.append(f"{ratio['median']:6.2f} [{ratio['low']:5.2f}, {ratio['high']:5.2f}]")
    slower = " ".join(p for p in PARTS if row[p]["plain"]["ratio"]["high"] < LIMIT)
    named = ", ".join(f"{part} {name}" for part, name in row["algorithms"].items())
    marked = f"  SLOWER {slower}" if slower else ""
    return f"{shape.name:44s}" + " ".join(cells) + f"  {named}" + marked


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """Over the shapes: the median and the smallest of the ratios of each part and kind."""
    found = {}
    for part in PARTS:
        for kind in next(iter(rows.values()))[part]:
            ratios = [row[part][kind]["ratio"]["median"] for row in rows.values()]
            found[f"{part}, {kind}"] = {
                "median": statistics.median(ratios),
                "smallest": min(ratios),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--plain", action="store_true", help="without the loop")
    parser.add_argument("--torch", action="store_true", help="with PyTorch")
    parser.add_argument("--out", type=Path, help="by default in benchmarks/results/")
    given = parser.parse_args()
    chosen = [shape for shape in dict.fromkeys(shapes()) if given.only in shape.name]
    if not chosen:
        parser.error(
            f"no shape's name contains {given.only!r}; the names look like 16x28x28 1->8 3x3"
        )
    keep_freed_memory()
    kinds = ("plain",) if given.plain else ("plain", "loop")
    columns = [f"{part}, {kind}" for part in PARTS for kind in kinds]
    columns += ["all, PyTorch"] if given.torch else []
    print(
        "autodiff's time by ours, median [95 % interval]".ljust(44), *(c.ljust(21) for c in columns)
    )
    rows = {}
    for shape in chosen:
        rows[shape.name] = measure(shape, given.rounds, not given.plain, given.torch)
        print(line(shape, rows[shape.name]), flush=True)
    slower = {
        name: [p for p in PARTS if row[p]["plain"]["ratio"]["high"] < LIMIT]
        for name, row in rows.items()
    }
    slower = {name: parts for name, parts in slower.items() if parts}
    for name, figures in summary(rows).items():
        print(f"{name}: median {figures['median']:.2f}, smallest {figures['smallest']:.2f}")
    print(f"{len(rows)} shapes; reliably slower than {LIMIT} x autodiff: {slower or 'none'}")
    folder = Path(__file__).parent / "results"
    path = given.out or folder / f"conv_sweep_{jax.default_backend()}.json"
    what = "float32; ms of one step, and autodiff's time by ours"
    result = {"what": what, "rounds": given.rounds, **machine(), "slower": slower}
    result |= {"summary": summary(rows), "rows": rows}
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
