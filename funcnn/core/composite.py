"""A layer with a forward pass of one's own: `composite`.

Its flow is a function that calls the parts by name. It is run as it stands: to apply the parts, to
find the shapes on which each is drawn, to record outputs, to take statistics and to keep residuals.
The backward pass walks back through what stands between the calls (glue.py), and through each call.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType

import jax
import jax.numpy as jnp

from funcnn.core.between import Between
from funcnn.core.contract import without_types
from funcnn.core.drawing import one_program
from funcnn.core.errors import noted, plainly
from funcnn.core.layer import Layer, Statistics, constructor, fold_path
from funcnn.core.memory import of_part
from funcnn.core.parts import (
    Extras,
    Parts,
    Paths,
    Step,
    by_path,
    init_part,
    inside,
    keep_with_output,
    name_parts,
    require_key,
    step_apply,
    step_collect,
    step_record,
)
from funcnn.core.usage import what_it_is
from funcnn.spelling import did_you_mean
from funcnn.types import (
    Array,
    ArrayLike,
    Equation,
    Function,
    Key,
    Params,
    PyTree,
    Residuals,
)

# (name of the part, name of the call, x, key of the call) -> y.
Call = Callable[[str, str, PyTree, Key | None], PyTree]


class Run:
    """What a flow calls its parts with: `run("encoder", x)` is what that part makes of x.

    `run(name, a, b)` gives the part the tuple (a, b). With a key each part has its own of it, by
    its name, and by a number from the second call on, so that two calls of one dropout differ;
    `run(name, x, key=key)` gives another one, and `key=None` asks for evaluation.

    >>> run = Run({"half": None}, None, lambda name, call, x, key: x / 2)
    >>> run("half", 4.0), run("half", 2.0), list(run.calls)
    (2.0, 1.0, ['half', 'half:1'])
    """

    def __init__(self, parts: Mapping[str, PyTree], key: Key | None, call: Call):
        self._parts, self._key, self._call = parts, key, call
        self.calls: dict[str, str] = {}  # the name of each call, and of its part

    def __call__(self, name: str, *inputs: PyTree, key: Key | EllipsisType | None = ...) -> PyTree:
        """The part called `name`, on one input or on a tuple of several.

        Raises:
            ValueError: no part has this name.
            TypeError: there is no input.
        """
        if name not in self._parts:
            raise ValueError(
                f"composite: there is no part {name!r}"
                f"{did_you_mean(name, self._parts, quote=chr(39))}, of {', '.join(self._parts)}"
            )
        if not inputs:
            raise TypeError(f"composite: a part is called on its input, run({name!r}, x)")
        times = list(self.calls.values()).count(name)
        call = f"{name}:{times}" if times else name
        self.calls[call] = name
        own = fold_path(self._key, call) if isinstance(key, EllipsisType) else key
        return self._call(name, call, inputs[0] if len(inputs) == 1 else inputs, own)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Composite(Layer):
    """A layer whose flow is any function, through which its backward pass may refuse to go.

    >>> composite(lambda run, x: run("half", x), half=lambda params, x: x / 2)
    composite(half=function)
    """


@constructor
def composite(flow: Function, /, **parts: Layer | Function) -> Layer:
    """A layer with a forward pass of one's own, which calls its parts by name.

    `flow(run, x)` or `flow(run, x, key)` returns what the layer returns, an array or a tree of
    them. In it `run("encoder", x)` applies the part of that name, `run("encoder", a, b)` applies it
    to the tuple (a, b), and between the calls may stand any JAX program. `params[name]` holds the
    parameters of a part, and a part without any has no entry; one that is called twice has them
    once. Each part is drawn from a key of its own name, on the shapes with which it is first called
    when the flow is traced, as in training, with a key; nothing is computed for that.

    In training each part has its own key, by its name, and so has the flow, where it takes one;
    `run(name, x, key=key)` gives another. The paths of a part's further calls end in ":1", ":2" in
    outputs and deltas; the statistics of a batch norm that is called twice are their mean.

    Backward: `jax.grad` goes through the flow as through any function, and through the parts by
    their rules. `fnn.backprop` goes through sums, products, exp, concatenations and what moves
    numbers between the parts, by hand, and refuses anything else, with its line in the flow.

    Args:
        flow: the forward pass, a pure function.
        parts: layers, or functions `f(params, x)`.

    Raises:
        TypeError: flow is not such a function.
        ValueError: there are no parts; when called, the flow names a part that is not there; at
            `init`, it leaves one out.

    >>> import jax, jax.numpy as jnp
    >>> import funcnn as fnn
    >>> def skipping(run, x):
    ...     return run("head", jnp.concatenate([x, run("body", x)], axis=-1))
    >>> model = fnn.composite(skipping, body=fnn.dense(3), head=fnn.dense(1))
    >>> params = model.init(jax.random.key(0), jax.ShapeDtypeStruct((2, 4), "float32"))
    >>> params["head"]["w"].shape, model(params, jnp.ones((2, 4))).shape
    ((7, 1), (2, 1))
    """
    made = _Flow(_checked(flow), name_parts([], parts))
    by_hand = all(part.forward for part in made.parts.values())
    passes = (made.forward, made.recursion) if by_hand else (None, None)
    takes = made.collect if any(part.collect for part in made.parts.values()) else None
    of_it = made.parts, made.outputs, takes
    layer = Composite("composite", one_program(made.init), made.apply, *passes, *of_it)
    return dataclasses.replace(
        layer, rebuild=lambda parts: composite(flow, **parts), flow=made.flow_of
    )


def _checked(flow: PyTree) -> Function:
    if isinstance(flow, Layer) or not callable(flow) or isinstance(flow, type):
        raise TypeError(f"composite: first a function flow(run, x), found {what_it_is(flow)}")
    signature = inspect.signature(flow)
    try:
        signature.bind(None, None, **({"key": None} if "key" in signature.parameters else {}))
    except TypeError:
        name = getattr(flow, "__name__", type(flow).__name__)
        raise TypeError(
            f"composite: {name} takes {without_types(signature)}: a flow takes (run, x) or "
            "(run, x, key)"
        ) from None
    return flow


@dataclasses.dataclass(frozen=True)
class _Flow:
    """A flow with its parts: every way to go through it."""

    flow: Function
    parts: Parts

    def run(self, call: Call, x: PyTree, key: Key | None) -> tuple[PyTree, dict[str, str]]:
        """What the flow returns, and the name of each call and of its part."""
        run = Run(self.parts, key, call)
        takes_key = "key" in inspect.signature(self.flow).parameters
        # No part has an empty name.
        own = {"key": fold_path(key, "")} if takes_key else {}
        return self.flow(run, x, **own), run.calls

    def through(
        self, step: Step, params: PyTree, x: PyTree, key: Key | None
    ) -> tuple[PyTree, Extras, dict[str, str]]:
        """The flow with one step through each part, and what the steps returned, by call."""
        extras: Extras = {}

        def call(name: str, call: str, x: PyTree, key: Key | None) -> PyTree:
            with inside(name):
                y, extras[call] = step(self.parts[name], of_part(params, name, call), x, key)
            return y

        y, calls = self.run(call, x, key)
        return y, extras, calls

    def flow_of(
        self, step: Step, params: PyTree, x: PyTree, key: Key | None
    ) -> tuple[PyTree, Extras]:
        return self.through(step, params, x, key)[:2]

    def init(self, key: Key, x: PyTree) -> Params:
        require_key(key)
        inputs: dict[str, PyTree] = {}

        def trace(init_key: Key, x: PyTree) -> PyTree:
            def call(name: str, call: str, x: PyTree, key: Key | None) -> PyTree:
                part = self.parts[name]
                with noted(name, x):
                    inputs.setdefault(name, jax.tree.map(_shape, x))
                    shapes = jax.eval_shape(part.init, init_key, inputs[name])
                    own = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
                    return part.apply(own, x, key)

            return self.run(call, x, init_key)[0]

        jax.eval_shape(trace, key, x)
        missing = [name for name in self.parts if name not in inputs]
        if missing:
            raise ValueError(
                f"composite: the flow never calls {', '.join(missing)}: call it, "
                f"run({missing[0]!r}, x), or leave it out"
            )
        drawn = {n: init_part(n, part, key, inputs[n]) for n, part in self.parts.items()}
        return {name: params for name, params in drawn.items() if params}

    def apply(self, params: Params, x: PyTree, key: Key | None) -> PyTree:
        return self.through(step_apply, params, x, key)[0]

    def outputs(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Paths]:
        y, seen, _ = self.through(step_record, params, x, key)
        return y, by_path(seen)

    def collect(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]:
        def step(
            part: Layer, params: Params, x: PyTree, own: Key | None
        ) -> tuple[PyTree, Statistics]:
            if key is not None and own is None:  # the flow asks for evaluation of this part
                return part.apply(params, x, None), {}
            return step_collect(part, params, x, own)

        y, found, calls = self.through(step, params, x, key)
        statistics: Statistics = {}
        for call, of_call in found.items():
            for path, taken in by_path({calls[call]: of_call}).items():
                before = statistics.get(path)
                statistics[path] = taken if before is None else _mean(before, taken)
        return y, statistics

    def forward(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        y, res, _ = self.through(keep_with_output, params, x, key)
        ys = tuple(own for own, _ in res.values())
        self.between(x, ys, key).check(f"composite, in {_name(self.flow)}", self.place)
        return y, (x, key, ys, tuple(kept for _, kept in res.values()))

    def between(self, x: PyTree, ys: Sequence[PyTree], key: Key | None) -> Between:
        """The flow once more, where each call returns what it has returned."""
        calls: dict[str, str] = {}

        def again(x: PyTree, ys: Sequence[PyTree], key: Key | None) -> PyTree:
            left, given = list(ys), []

            def call(name: str, call: str, x: PyTree, key: Key | None) -> PyTree:
                given.append(x)
                return left.pop(0)

            y, made = self.run(call, x, key)
            calls.update(made)
            return given, y

        with plainly("composite"):
            program, (given, y) = jax.make_jaxpr(again, return_shape=True)(x, ys, key)
        return Between(program, calls, given, y)

    def recursion(self, params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree, Paths]:
        x, key, ys, kept = res
        return self.between(x, ys, key).back(self.parts, params, (x, ys, key), kept, dy)

    def place(self, eqn: Equation) -> str:
        """The line in the flow from which an equation comes, "" where that is not known."""
        code, traceback = getattr(self.flow, "__code__", None), eqn.source_info.traceback
        if code is None or traceback is None:
            return ""
        lines = [f.line_num for f in traceback.frames if f.file_name == code.co_filename]
        return f"{code.co_filename}:{lines[0]}" if lines else ""


def _name(flow: Function) -> str:
    return getattr(flow, "__name__", type(flow).__name__)


def _shape(leaf: PyTree) -> PyTree:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else leaf


def _mean(
    one: tuple[Array, Array, ArrayLike], other: tuple[Array, Array, ArrayLike]
) -> tuple[Array, Array, Array]:
    """The statistics of one layer on two batches: each has the weight of its rows."""
    total = jnp.add(one[2], other[2])
    weight = jnp.divide(other[2], total)[..., None]  # (1,); repeated, (n, 1)
    mean, variance = (a + weight * (b - a) for a, b in zip(one[:2], other[:2], strict=True))
    return mean, variance, total
