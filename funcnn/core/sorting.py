"""Which of a layer's residuals it has to keep: the others are its params, or there already."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax

from funcnn.core.beside import apart
from funcnn.core.layer import Layer
from funcnn.core.parts import keep
from funcnn.types import Array, Key, Params, PyTree, Residuals


@dataclasses.dataclass(frozen=True)
class Sorting:
    """Where each array among the residuals is found again.

    The same array is often there twice, as what one part returned and the next one took, and a
    weight is among the residuals of its product. A loop that stacks residuals keeps each array
    once, and nothing of params, of the key and of what stands beside x.

    >>> w, x = jax.numpy.ones(2), jax.numpy.zeros(2)
    >>> sorting = Sorting.of({"first": (x, w), "second": x}, {"w": w}, None)
    >>> kept = sorting.kept({"first": (x, w), "second": x})
    >>> len(kept), sorting.together(kept, {"w": 2 * w}, None)["first"][1]
    (1, Array([2., 2.], dtype=float32))
    """

    tree: Any  # how the residuals are put together
    places: tuple[tuple[Literal["params", "given", "kept"], int], ...]

    @classmethod
    def of(cls, res: Residuals, params: Params, given: PyTree) -> Sorting:
        """By which arrays are the same object, while the forward pass is traced.

        `given` is what else is there in the backward pass: the key, and what stands beside x.
        """
        leaves, tree = jax.tree.flatten(res)
        places: dict[int, tuple[Literal["params", "given", "kept"], int]] = {}
        places |= {id(leaf): ("params", n) for n, leaf in enumerate(jax.tree.leaves(params))}
        places |= {id(leaf): ("given", n) for n, leaf in enumerate(jax.tree.leaves(given))}
        for leaf in leaves:
            count = sum(where == "kept" for where, _ in places.values())
            places.setdefault(id(leaf), ("kept", count))
        return cls(tree, tuple(places[id(leaf)] for leaf in leaves))

    @classmethod
    def traced(cls, part: Layer, params: Params, x: PyTree, key: Key | None) -> Sorting:
        """That of a layer's forward pass, for arguments of these shapes."""
        found: list[Sorting] = []

        def forward(params: Params, x: PyTree, key: Key | None) -> Residuals:
            _, res = keep(part, params, x, key)
            found.append(cls.of(res, params, (key, apart(x)[1])))
            return res

        jax.eval_shape(forward, params, x, key)
        return found[0]

    def kept(self, res: Residuals) -> list[Array]:
        """What is neither params nor given, each array once."""
        leaves = jax.tree.leaves(res)
        kept = {n: leaf for leaf, (of, n) in zip(leaves, self.places, strict=True) if of == "kept"}
        return list(kept.values())

    def together(self, kept: list[Array], params: Params, given: PyTree) -> Residuals:
        """The residuals again."""
        found = {"params": jax.tree.leaves(params), "given": jax.tree.leaves(given), "kept": kept}
        return jax.tree.unflatten(self.tree, [found[of][n] for of, n in self.places])
