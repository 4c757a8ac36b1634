"""The ordered tables: the algorithm of a shape, with shapes on either side of each threshold."""

import dataclasses
import inspect
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from funcnn.rules.convolution import choice, patches, suits
from funcnn.rules.convolution.suits import Shapes
from funcnn.rules.shared.windows import Windows

PAGE = Path(__file__).parents[3] / "docs" / "rules" / "convolution.md"


Axes = int | tuple[int, ...]


def at(images, size, inputs, outputs, window: Axes = 3, *, stride: Axes = 1, **static):
    """The shapes of a convolution; what is an integer is for each axis."""
    options = {"padding": "SAME", "dilation": 1}
    options |= {name: static.pop(name) for name in options if name in static}
    windows = Windows.of("conv", size, window, stride, **options)
    return Shapes(images, windows, inputs, outputs, **static)


OF_GROUPS = [
    (at(2, (9, 8), 4, 8, groups=4, platform="gpu"), "vendor"),
    (at(2, (9, 8), 32, 32, groups=2, platform="tpu"), "vendor"),
    (at(8, (16, 16), 32, 64, platform="gpu"), "vendor"),
    (at(2, (9, 8), 4, 16, groups=4), "depthwise"),
    (at(2, (9, 8), 4, 20, groups=4), "products"),
    (at(2, (9,), 4, 16, stride=2, groups=4), "depthwise"),
    (at(2, (9, 8), 32, 32, groups=2), "group by group"),
    (at(2, (9, 8), 30, 32, groups=2), "products"),
    (at(2, (9, 8), 32, 30, groups=2), "products"),
    (at(2, (9,), 32, 32, groups=2), "products"),
    (at(2, (9, 8), 32, 32, 1, groups=2), "products"),
    (at(2, (9,), 32, 32, 1, groups=2), "products"),
    (at(2, (3, 8, 8), 8, 8, groups=2), "products"),
]

EXAMPLES = {
    "y": [
        *OF_GROUPS,
        (at(2, (9, 8), 1, 3), "convolution"),  # one channel is no group
        (at(2, (3, 8, 8), 8, 8), "planes"),
        (at(2, (3, 8, 8), 8, 8, stride=(1, 2, 2)), "planes"),
        (at(2, (3, 8, 8), 8, 8, stride=(2, 1, 1)), "products"),
        (at(2, (3, 8, 8), 8, 8, (3, 1, 1)), "products"),
        (at(8, (16, 16), 32, 32), "winograd"),
        (at(8, (16, 16), 32, 32, dtype="float64"), "winograd"),
        (at(8, (16, 16), 32, 32, dtype="bfloat16"), "convolution"),
        (at(8, (16, 16), 31, 32), "convolution"),
        (at(8, (16, 16), 32, 31), "convolution"),
        (at(1, (23, 89), 32, 32), "convolution"),  # 511 tiles
        (at(8, (16, 16), 32, 32, (3, 4)), "convolution"),
        (at(64, (16, 16), 32, 32, stride=2), "convolution"),
        (at(8, (16, 16), 32, 32, dilation=2), "convolution"),
        (at(2, (8, 8), 16, 4, 1), "products"),
        (at(2, (8, 8), 15, 4, 1), "convolution"),
        (at(2, (8, 8), 16, 4, 1, stride=2), "convolution"),
        (at(2, (8,), 16, 4, 1), "convolution"),
        (at(2, (2, 4, 4), 1, 4, 1), "products"),
        (at(31, (8, 16, 16), 8, 8, stride=2), "products"),  # image by image, 256 rows each
        (at(31, (6, 10, 34), 8, 8, stride=2), "convolution"),  # 255
    ],
    "dx": [
        *OF_GROUPS,
        (at(4, (20, 18), 8, 40, 5, stride=2), "phases"),
        (at(4, (20, 18), 8, 40, (4, 6), stride=2), "products"),
        (at(4, (20, 18), 8, 40, 5, stride=2, dilation=2), "products"),
        (at(4, (20, 18), 8, 40, 5), "forward form"),
        (at(4, (20, 18), 8, 40, 5, stride=2, groups=4), "products"),
        (at(2, (8, 8, 8), 8, 8, stride=2), "products"),
        (at(2, (3, 8, 8), 5, 8), "planes"),
        (at(2, (3, 8, 8), 4, 8), "products"),
        (at(2, (3, 8, 8), 5, 8, stride=(1, 2, 2)), "products"),
        (at(2, (3, 8, 8), 5, 8, (3, 1, 1)), "products"),
        (at(8, (16, 16), 32, 32), "winograd"),
        (at(8, (16, 16), 32, 128), "winograd"),
        (at(8, (16, 16), 32, 31), "forward form"),
        (at(1, (23, 89), 32, 32), "forward form"),
        (at(8, (16, 16), 32, 32, dtype="float16"), "forward form"),
        (at(4, (6, 6), 64, 128), "products"),
        (at(4, (6, 6), 64, 127), "forward form"),
        (at(4, (6, 6), 127, 128), "products"),
        (at(4, (6, 6), 128, 128), "forward form"),
        (at(4, (6,), 64, 128), "forward form"),
        (at(4, (6, 6), 4, 16), "products"),
        (at(4, (6, 6), 4, 15), "forward form"),
        (at(4, (6, 6), 5, 20), "forward form"),
        (at(2, (8, 8), 16, 4, 1, stride=2), "products"),
        (at(2, (8,), 16, 4, 1), "forward form"),
        (at(31, (32, 32), 32, 8, stride=2), "products"),
        (at(31, (30, 34), 32, 8, stride=2), "forward form"),
        (at(10007, (6, 6), 3, 12), "forward form"),  # a prime number of small images
    ],
    "dw": [
        (at(2, (8, 8), 4, 8, 1), "one product"),
        (at(2, (8, 8), 4, 8, 1, platform="gpu"), "one product"),
        (at(2, (8, 8), 4, 8, 1, stride=2, platform="gpu"), "vendor"),
        (at(2, (8, 8), 4, 8, 1, stride=2), "products"),
        (at(2, (8, 8), 4, 8, 1, padding=((1, 0), (0, 0))), "products"),
        (at(2, (9, 8), 9, 9, groups=9, platform="gpu"), "vendor"),
        (at(2, (9, 8), 4, 4, groups=4, platform="gpu"), "vendor"),
        (at(2, (9, 8), 4, 8, groups=2, platform="gpu"), "vendor"),
        (at(2, (9, 8), 4, 8, stride=2, groups=2, platform="gpu"), "vendor"),
        (at(2, (3, 8, 8), 8, 8, platform="gpu"), "vendor"),
        (at(16, (16, 16), 32, 64, platform="tpu"), "vendor"),
        (at(2, (9, 8), 9, 9, groups=9), "depthwise"),
        (at(2, (9, 8), 9, 9, stride=2, groups=9), "depthwise"),
        (at(2, (9, 8), 8, 8, groups=8), "diagonal"),
        (at(2, (9, 8), 8, 8, stride=2, groups=8), "diagonal"),
        (at(2, (9, 8), 3, 12, groups=3), "depthwise"),
        (at(2, (9, 8), 3, 15, groups=3), "group by group"),
        (at(2, (9, 8), 3, 15, stride=2, groups=3), "grouped products"),
        (at(2, (9, 8), 32, 32, 1, groups=2), "grouped products"),
        (at(2, (9, 8), 4, 8, groups=2), "group by group"),
        (at(2, (3, 8, 8), 8, 8, groups=2), "group by group"),
        (at(2, (3, 8, 8), 8, 8), "planes"),
        (at(2, (3, 7, 9), 8, 8), "products"),
        (at(2, (6, 8, 8), 8, 8, stride=(2, 1, 1)), "products"),
        (at(2, (3, 8, 8), 8, 8, (3, 1, 1)), "products"),
        (at(16, (16, 16), 32, 64), "winograd"),
        (at(16, (16, 16), 31, 64), "products"),
        (at(16, (16, 16), 64, 31), "products"),
        (at(1, (16, 16), 256, 256), "winograd"),
        (at(16, (16, 16), 64, 64, dilation=2), "products"),
        (at(32, (16, 16), 64, 64, stride=2), "products"),
        (at(8, (16, 16), 32, 32), "forward form"),
        (at(1, (1, 2713), 32, 64), "winograd"),  # 50 million multiplications
        (at(1, (1, 2712), 32, 64), "forward form"),
        (at(1, (1, 2713), 32, 64, dtype="bfloat16"), "products"),
        (at(1, (1, 2712), 32, 64, dtype="bfloat16"), "forward form"),
        (at(3, (100, 100), 36, 64), "winograd"),  # 3 million elements
        (at(2, (1, 15001), 36, 64), "products"),
        (at(64, (8, 8), 32, 64, (3, 2)), "products"),
        (at(128, (7, 9), 32, 64, (3, 2)), "forward form"),
        (at(64, (16, 16), 32, 32, (3, 2)), "products"),
        (at(64, (16, 16), 32, 31, (3, 2)), "forward form"),
        (at(64, (16, 16), 64, 16, (3, 2)), "products"),  # patches of dy
        (at(4, (1, 2500), 50, 32, (2, 2)), "products"),  # patches of 4 MB for 8 bytes each
        (at(4, (1, 2501), 50, 32, (2, 2)), "forward form"),
        (at(4, (1, 2501), 50, 64, (2, 2)), "products"),
        (at(4, (1, 2501), 50, 63, (2, 2)), "forward form"),
        (at(64, (16, 16), 32, 32, (4, 6)), "products"),
        (at(64, (16, 16), 32, 32, (5, 5)), "forward form"),
        (at(64, (256,), 64, 64), "forward form"),
    ],
}


def taken(table, shapes):
    """The name that the first of a table has which suits, or None."""
    return next((entry.name for entry in table if entry.suits(shapes)), None)


def misfits(direction, table):
    """The examples that get another algorithm."""
    return [(s, name) for s, name in EXAMPLES[direction] if taken(table, s) != name]


def sample():
    """Shapes of all kinds, far from the thresholds and near to them."""
    sizes = [(9,), (8, 8), (7, 9), (16, 16), (3, 8, 8)]
    channels = [(1, 4), (4, 16), (8, 8), (16, 16), (32, 64), (64, 16), (128, 160)]
    kinds = itertools.product(
        (2, 31), sizes, channels, (1, 3, 5), (1, 2), ("cpu", "gpu"), ("one", "two", "each")
    )
    for images, size, (inputs, outputs), window, stride, platform, kind in kinds:
        groups = {"one": 1, "two": 2, "each": inputs}[kind]
        if inputs % groups == outputs % groups == 0:
            yield at(
                images,
                size,
                inputs,
                outputs,
                window,
                stride=stride,
                groups=groups,
                platform=platform,
            )


SAMPLE = list(sample())
ENTRIES = [(d, i) for d, table in choice.TABLES.items() for i in range(len(table))]
THRESHOLDS = [name for name in vars(suits) if name.isupper()]


@pytest.mark.parametrize("direction", choice.TABLES)
def test_each_example_gets_its_algorithm(direction):
    assert misfits(direction, choice.TABLES[direction]) == []
    found = {choice.algorithm(direction, shapes) for shapes, _ in EXAMPLES[direction]}
    assert found == {entry.name for entry in choice.TABLES[direction]}


def test_the_names_of_a_table_differ():
    for table in choice.TABLES.values():
        assert len({entry.name for entry in table}) == len(table)


@pytest.mark.parametrize("direction", choice.TABLES)
def test_the_last_suits_everything(direction):
    *others, last = choice.TABLES[direction]
    shapes = [*SAMPLE, *(s for examples in EXAMPLES.values() for s, _ in examples)]
    assert all(last.suits(s) for s in shapes)
    assert all(not all(entry.suits(s) for s in shapes) for entry in others)


@pytest.mark.parametrize(("direction", "i"), ENTRIES)
@pytest.mark.parametrize("answer", [True, False])
def test_a_planted_condition_is_rejected(direction, i, answer):
    table = list(choice.TABLES[direction])
    table[i] = dataclasses.replace(table[i], suits=lambda _: answer)
    if answer and i == len(table) - 1:
        assert misfits(direction, table) == []  # it says so itself
    else:
        assert misfits(direction, table)


@pytest.mark.parametrize("direction", choice.TABLES)
def test_a_planted_order_is_rejected(direction):
    """Of all exchanges of two entries the examples see each that changes the choice of a shape."""
    right, rejected = choice.TABLES[direction], 0
    for i, j in itertools.combinations(range(len(right)), 2):
        table = list(right)
        table[i], table[j] = table[j], table[i]
        if any(taken(table, s) != taken(right, s) for s in SAMPLE):
            assert misfits(direction, table), (right[i].name, right[j].name)
            rejected += 1
    assert rejected >= len(right) - 1  # the last one before any other, at least


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("way", [-1, 1])
def test_a_moved_threshold_is_seen(name, way, monkeypatch):
    value = getattr(suits, name)
    monkeypatch.setattr(suits, name, value + way * max(1, value // 1000))
    assert any(misfits(direction, table) for direction, table in choice.TABLES.items())


@pytest.mark.parametrize("way", [-1, 1])
def test_moved_rows_of_a_chunk_are_seen(way, monkeypatch):
    monkeypatch.setattr(patches, "CHUNK_ROWS", patches.CHUNK_ROWS + way)
    assert misfits("y", choice.FORWARD)
    assert misfits("dx", choice.INPUT_GRADIENT)


def arrays_of(direction, s):
    """The shapes of the two factors of a product, and its own."""
    x = (s.images, *s.windows.size, s.inputs)
    w = (*s.windows.window, s.inputs // s.groups, s.outputs)
    y = (s.images, *s.windows.output, s.outputs)
    return {"y": (x, w, y), "dx": (y, w, x), "dw": (x, y, w)}[direction]


@pytest.mark.parametrize("direction", choice.TABLES)
def test_an_algorithm_gives_what_it_is_taken_for(direction):
    """Of each algorithm the first example: its product has the shape and the dtype that it must."""
    for name in {name for _, name in EXAMPLES[direction]}:
        shapes = next(s for s, example in EXAMPLES[direction] if example == name)
        *factors, product = arrays_of(direction, shapes)
        entry = next(e for e in choice.TABLES[direction] if e.name == name)
        args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in factors]
        found = jax.eval_shape(lambda a, b: entry.run(a, b, shapes.windows, shapes.groups), *args)  # noqa: B023
        assert (found.shape, found.dtype) == (product, jnp.float32), name


PRODUCTS = {
    "y": choice.convolution,
    "dx": choice.input_gradient,
    "dw": choice.filter_gradient,
}


@pytest.mark.parametrize("direction", choice.TABLES)
@pytest.mark.parametrize("i", [0, 1, -1])
def test_the_product_runs_what_the_table_says(direction, i, monkeypatch):
    """Traced with a table whose entries say that they run: the first, the second and the last."""
    name = {"y": "FORWARD", "dx": "INPUT_GRADIENT", "dw": "FILTER_GRADIENT"}[direction]
    called = []

    def marked(entry):
        def run(a, b, windows, groups):
            called.append(entry.name)
            return entry.run(a, b, windows, groups)

        return dataclasses.replace(entry, run=run)

    table = tuple(map(marked, choice.TABLES[direction]))
    monkeypatch.setattr(choice, name, table)
    own = [s for s, example in EXAMPLES[direction] if example == table[i].name]
    shapes = dataclasses.replace(own[0], dtype="float32")
    factors = [jax.ShapeDtypeStruct(a, jnp.float32) for a in arrays_of(direction, shapes)[:2]]
    # Not through its own jit, which may have been traced with the table as it is.
    product = inspect.unwrap(PRODUCTS[direction])
    jax.eval_shape(lambda a, b: product(a, b, shapes.windows, shapes.groups), *factors)
    both = {
        choice.algorithm(direction, dataclasses.replace(shapes, platform=p)) for p in ("cpu", "gpu")
    }
    assert table[i].name in both
    assert set(called) >= both
    if table[i].name == "one product":
        assert called == ["one product"]  # no choice of platform is left to the compiler


def names_on(page):
    """Direction -> the names in the first column of its table on the page, in order."""
    parts = re.split(r"^### .*\((y|dx|dw)\)$", page, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {d: re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE) for d, text in pairs}


def test_the_page_lists_the_tables_in_order():
    tables = {d: [entry.name for entry in table] for d, table in choice.TABLES.items()}
    page = PAGE.read_text("utf-8")
    assert names_on(page) == tables
    assert names_on(page.replace("| `winograd` |", "| `Winograd` |")) != tables
