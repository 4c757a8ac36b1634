"""One layer n times over, each time with its own parameters: `repeat`, in a scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from funcnn.core.beside import apart, together
from funcnn.core.composite import Composite
from funcnn.core.layer import Apply, Layer, as_layer, constructor
from funcnn.core.parts import (
    Extras,
    Paths,
    Step,
    Taken,
    carry_given,
    compose,
    inside,
    keep,
    require_key,
    shape_of_part,
    step_back,
)
from funcnn.core.registry import Rule
from funcnn.core.removal import removal_in_force
from funcnn.core.sorting import Sorting
from funcnn.core.usage import positive_integer
from funcnn.types import Array, Function, Key, Params, PyTree, Residuals

# What the layers of a stack keep for the backward pass.
Kept = Literal["inputs", "residuals"]


@constructor
def repeat(layer: Layer | Function, n: int, *, keep: Kept = "inputs") -> Layer:
    """The layer n times over, each time with its own parameters, stacked on axis 0.

    The layers run in a `lax.scan`, so that the program does not grow with n. The layer must return
    the shape that it takes. Backward: the same scan in reverse; deltas are stacked likewise.

    What is kept for the backward pass, where the layer has hand-derived passes, is a trade. With
    "inputs" it is the input of each of the n layers, and the forward pass of each is computed again
    just before its backward pass: the least memory, for a third more products. With "residuals" it
    is what the layer's own passes keep, each array once, and its parameters not at all: nothing is
    computed again but what the layer itself computes again (`fnn.remat` of its cheap parts).
    Autodiff of a scan stacks every array that any operation inside keeps; with `jax.checkpoint` it
    keeps as little as "inputs". Where a `composite` is inside, `jax.grad` is that autodiff, with
    the rules of the parts. What stands beside x (`fnn.pass_beside`) is kept once for all layers.

    Args:
        layer: a layer that returns the shape that it takes.
        n: how many times.
        keep: "inputs" or "residuals".

    Raises:
        ValueError: n is not a positive integer, or keep none of the two; at `init`, the layer
            changes the shape.

    >>> import jax.numpy as jnp
    >>> repeat(lambda params, x: 2 * x, 3)({}, jnp.ones(2))
    Array([8., 8.], dtype=float32)
    """
    part = as_layer(layer)
    if keep not in ("inputs", "residuals"):
        raise ValueError(f"repeat: keep is 'inputs' or 'residuals', found {keep!r}")
    stack = _Stack(positive_integer("repeat", "n", n), part, part.kind)
    both_ways = (stack.back, stack.forward)
    if keep == "residuals":
        both_ways = (stack.back_from_residuals, stack.forward_with_residuals)
    parts = {stack.name: part}

    def rebuild(parts: Mapping[str, Layer]) -> Layer:
        return repeat(parts[stack.name], n, keep=keep)

    plain = compose(
        "repeat", parts, stack.init, stack.flow, *both_ways, rebuild=rebuild, stacked=True
    )
    if plain.forward is None or _may_refuse(part):
        return plain
    return dataclasses.replace(plain, apply=_with_one_rule(plain))


def _may_refuse(layer: Layer) -> bool:
    """Whether the hand-derived backward pass may meet what it cannot go through."""
    return isinstance(layer, Composite) or any(map(_may_refuse, layer.parts.values()))


@dataclasses.dataclass(frozen=True)
class _Stack:
    """The part n times over: what it draws, how x flows through it and a cotangent back."""

    n: int
    part: Layer
    name: str

    def init(self, key: Key, x: PyTree) -> Params:
        require_key(key)
        self.refuse_carry(x)
        drawn = self.drawn(key, x)
        first = jax.eval_shape(lambda drawn: jax.tree.map(lambda leaf: leaf[0], drawn), drawn)
        y = apart(shape_of_part(self.name, self.part, first, x, key))[0]
        x = apart(x)[0]
        if (y.shape, y.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"repeat: {self.name} takes {x.dtype}{x.shape} and returns {y.dtype}{y.shape}: a "
                "layer that is repeated must return what it takes"
            )
        return drawn

    def drawn(self, key: Key, x: PyTree) -> Params:
        """The params of the n layers, stacked, each drawn with its own key.

        All at once; one after the other where the layer's init cannot be traced, as in NumPy.
        """
        try:
            return jax.vmap(lambda key: self.part.init(key, x))(self.keys(key))
        except Exception:
            each = [self.part.init(jax.random.fold_in(key, i), x) for i in range(self.n)]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    def refuse_carry(self, x: PyTree) -> None:
        """A TypeError where one layer would get the carry of the layer before."""
        carried = carry_given(None, self.name, self.part, x)
        carry_given(carried, f"the next {self.name}", self.part, x)

    def keys(self, key: Key | None) -> Key | None:
        """The keys of the n layers, stacked."""
        if key is None:
            return None
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(self.n))

    def flow(self, step: Step, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Extras]:
        self.refuse_carry(x)
        x, seen = self.apart(x)

        def one(x: PyTree, layer: tuple[Params, Key | None]) -> tuple[PyTree, PyTree]:
            own, key = layer
            y, extra = step(self.part, own, together(x, seen), key)
            return y if seen is None else apart(y)[0], extra

        with inside(self.name):
            y, extra = jax.lax.scan(one, x, (params, self.keys(key)), self.n)
        return together(y, seen), {self.name: extra}

    def apart(self, x: PyTree) -> tuple[PyTree, Array | None]:
        """x and what stands beside it; a function may have pairs with another meaning."""
        return apart(x) if self.part.forward else (x, None)

    def forward(self, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        y, xs = self.flow(_keep_input, params, x, key)
        return y, (xs[self.name], self.apart(x)[1], key)

    def back(self, params: Params, res: Residuals, dy: PyTree) -> tuple[PyTree, Taken]:
        def one(
            dy: PyTree, layer: tuple[Params, PyTree, Key | None]
        ) -> tuple[PyTree, tuple[Params, Paths]]:
            own, x, key = layer
            with jax.named_scope(self.name):
                _, kept = keep(self.part, own, together(x, seen), key)
            return step_back(self.name, self.part, {self.name: own}, kept, dy)

        xs, seen, key = res
        layers = (params, xs, self.keys(key))
        dx, taken = jax.lax.scan(one, _as_pair(dy, seen), layers, self.n, reverse=True)
        return dx, {self.name: taken}

    def forward_with_residuals(
        self, params: Params, x: PyTree, key: Key | None
    ) -> tuple[PyTree, Residuals]:
        def step(
            part: Layer, own: Params, x: PyTree, key: Key | None
        ) -> tuple[PyTree, list[Array]]:
            y, res = keep(part, own, x, key)
            return y, Sorting.of(res, own, (key, self.apart(x)[1])).kept(res)

        y, kept = self.flow(step, params, x, key)
        return y, (kept[self.name], self.apart(x)[1], key)

    def back_from_residuals(
        self, params: Params, res: Residuals, dy: PyTree
    ) -> tuple[PyTree, Taken]:
        def one(
            dy: PyTree, layer: tuple[Params, list[Array], Key | None]
        ) -> tuple[PyTree, tuple[Params, Paths]]:
            own, kept, key = layer
            # A layer of a stack takes what it returns, so that dy has the shape of x.
            x = dy if seen is None else (dy[0], seen)
            res = Sorting.traced(self.part, own, x, key).together(kept, own, (key, seen))
            return step_back(self.name, self.part, {self.name: own}, res, dy)

        all_kept, seen, key = res
        layers = (params, all_kept, self.keys(key))
        dx, taken = jax.lax.scan(one, _as_pair(dy, seen), layers, self.n, reverse=True)
        return dx, {self.name: taken}


def _keep_input(part: Layer, params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, PyTree]:
    """The step of the forward pass: from its input a layer's residuals are computed again."""
    return keep(part, params, x, key)[0], apart(x)[0]


def _as_pair(dy: PyTree, seen: Array | None) -> PyTree:
    """The cotangent of what came out; JAX has zeros of a dtype of its own where ours is None."""
    return dy if seen is None else (dy[0], None)


def _with_one_rule(stack: Layer) -> Apply:
    """The apply of a stack of layers with one rule round them all."""
    plain, forward, recursion = stack.apply, stack.forward, stack.recursion
    assert forward is not None
    assert recursion is not None

    def repeat(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return plain(params, x, key)

    def saving(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        y, res = forward(params, x, key)
        return y, (params, res)

    def backward(res: Residuals, dy: PyTree) -> tuple[Params, PyTree, None]:
        params, kept = res
        return *recursion(params, kept, dy)[:2], None

    rule = Rule(repeat, "repeat")
    rule.defvjp(saving, backward)

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        # Inside, the rule would hide the layers' own from a removal that names those.
        return plain(params, x, key) if removal_in_force() else rule(params, x, key)

    return apply
