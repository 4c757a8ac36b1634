"""The same gradient taken in other ways: under jit, remat, cond, vmap, scan and shard_map.

Each `Variant` says how the gradient is taken, and what it must be in terms of plain pullbacks: a
batched program is a loop over the batch, and what is not batched collects the sum over it.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from funcnn.gradient.program.compiling import compiled
from funcnn.types import Array, ArrayLike

Function = Callable[..., list[Any]]
# pull(picks, d): the cotangents at leaf i of draw picks[i], from the cotangent of draw d.
Pull = Callable[[Sequence[int], int], list[Any]]

_REMAT = {
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "products": jax.checkpoint_policies.dots_saveable,
}


_COLLECTIVES = frozenset(
    {"psum", "pmean", "psum_scatter", "all_gather", "pmax", "pmin", "ppermute", "axis_index"}
)


class Draws(NamedTuple):
    """Stacked draws: leaf i of x has the shape (draws, *shape), as has each cotangent in dy.

    >>> Draws([np.ones((3, 2))], [np.ones((3, 2))], np.bool_(True)).n
    3
    """

    x: list[Any]
    dy: list[Any]
    on: ArrayLike  # a traced True

    @property
    def n(self) -> int:
        """How many draws there are."""
        return self.dy[0].shape[0]

    def first(self) -> tuple[list[Any], list[Any]]:
        """x and dy of the first draw."""
        return [x[0] for x in self.x], [dy[0] for dy in self.dy]

    def where(self, mapped: frozenset[int]) -> list[Any]:
        """The stacked leaf where it is mapped, else its first draw."""
        return [x if i in mapped else x[0] for i, x in enumerate(self.x)]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to take the gradient.

    Attributes:
        name: of the way.
        gradient: `gradient(f, draws)`, one cotangent for each leaf.
        expected: `expected(pull)`, the same from plain pullbacks.
        sums: whether that adds them up, which only a linear backward pass allows.
    """

    name: str
    gradient: Callable[[Function, Draws], list[Any]]
    expected: Callable[[Pull], list[Any]]
    sums: bool = False


def on_one_device(leaves: Sequence[str], draws: int) -> Iterator[Variant]:
    """The variants that need no second device.

    >>> len(list(on_one_device(("x",), 3)))
    11
    """
    n = len(leaves)
    patterns = _patterns(leaves)
    yield _wrapped("grad of jit", n, lambda f, on: jax.jit(f))
    for kept, policy in _REMAT.items():
        name = f"checkpoint that keeps {kept}"
        yield _wrapped(name, n, lambda f, on, policy=policy: jax.checkpoint(f, policy=policy))
    yield _wrapped("cond", n, _under_cond)
    if n > 1:
        yield Variant("one argument at a time", _one_at_a_time, lambda pull: pull((0,) * n, 0))
    for name, mapped in patterns.items():
        yield _vmap_of_grad(f"vmap over {name}", n, mapped, draws)
        yield _mapped(f"grad of vmap over {name}", n, mapped, draws, _under_vmap)
    yield _vmap_twice(n, draws)
    for name in dict.fromkeys(["all", "the cotangents"]):
        yield _mapped(f"scan over {name}", n, patterns[name], draws, _under_scan)


def on_two_devices(leaves: Sequence[str], axis: str) -> Iterator[Variant]:
    """shard_map over two devices, by either check_vma.

    What is not split is replicated: its gradient is the sum over the devices, which a backward pass
    that sums by itself gets twice.

    >>> [variant.name for variant in on_two_devices(("x",), "i")][0]
    'shard_map over all, check_vma=False'
    """
    mesh = jax.make_mesh((2,), (axis,), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    for check_vma in (False, True):
        under = functools.partial(_under_shard_map, mesh, check_vma)
        for name, mapped in _patterns(leaves).items():
            name = f"shard_map over {name}, check_vma={check_vma}"
            yield _mapped(name, len(leaves), mapped, 2, under)


def _patterns(leaves: Sequence[str]) -> dict[str, frozenset[int]]:
    """Which leaves are mapped: all, none (the cotangents alone), and each alone."""
    patterns = {"all": frozenset(range(len(leaves))), "the cotangents": frozenset[int]()}
    alone = {leaf: frozenset([i]) for i, leaf in enumerate(leaves)}
    return patterns | (alone if len(leaves) > 1 else {})


def _pull(f: Function, x: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
    return list(jax.vjp(lambda *x: f(*x), *x)[1](list(dy)))


def _wrapped(name: str, n: int, wrap: Callable[[Function, ArrayLike], Function]) -> Variant:
    def gradient(f: Function, draws: Draws) -> list[Any]:
        x, dy = draws.first()
        return _pull(wrap(lambda *x: f(*x), draws.on), x, dy)

    return Variant(name, gradient, lambda pull: pull((0,) * n, 0))


def _under_cond(f: Function, on: ArrayLike) -> Function:
    def zeros(*x: ArrayLike) -> list[Any]:
        return [jnp.zeros(y.shape, y.dtype) for y in jax.eval_shape(f, *x)]

    return lambda *x: jax.lax.cond(on, f, zeros, *x)


def _one_at_a_time(f: Function, draws: Draws) -> list[Any]:
    x, dy = draws.first()

    def alone(i: int) -> Array:
        return _pull(lambda xi: f(*x[:i], xi, *x[i + 1 :]), [x[i]], dy)[0]

    return [alone(i) for i in range(len(x))]


def _vmap_of_grad(name: str, n: int, mapped: frozenset[int], draws: int) -> Variant:
    def gradient(f: Function, drawn: Draws) -> list[Any]:
        axes = [0 if i in mapped else None for i in range(n)]
        batched = jax.vmap(lambda x, dy: _pull(f, x, dy), in_axes=(axes, 0))
        return batched(drawn.where(mapped), drawn.dy)

    def expected(pull: Pull) -> list[Any]:
        rows = [pull(_picks(n, mapped, b), b) for b in range(draws)]
        return [np.stack([row[i] for row in rows]) for i in range(n)]

    return Variant(name, gradient, expected)


def _vmap_twice(n: int, draws: int) -> Variant:
    """The outer axis over the arguments, the inner one over the cotangents."""

    def gradient(f: Function, drawn: Draws) -> list[Any]:
        inner = jax.vmap(lambda x, dy: _pull(f, x, dy), in_axes=(None, 0))
        return jax.vmap(inner, in_axes=(0, None))(drawn.x, drawn.dy)

    def expected(pull: Pull) -> list[Any]:
        rows = [[pull((b,) * n, d) for d in range(draws)] for b in range(draws)]
        return [np.stack([np.stack([g[i] for g in row]) for row in rows]) for i in range(n)]

    return Variant("vmap of vmap", gradient, expected)


def _mapped(
    name: str, n: int, mapped: frozenset[int], draws: int, under: Callable[..., Function]
) -> Variant:
    """The gradient of a function that maps f over its draws; `under(f, mapped, draws)` maps it."""

    def gradient(f: Function, drawn: Draws) -> list[Any]:
        x = [leaf[:draws] if i in mapped else leaf for i, leaf in enumerate(drawn.where(mapped))]
        return _pull(under(f, mapped, draws), x, [dy[:draws] for dy in drawn.dy])

    def expected(pull: Pull) -> list[Any]:
        rows = [pull(_picks(n, mapped, b), b) for b in range(draws)]
        stacks = [np.stack([row[i] for row in rows]) for i in range(n)]
        return [s if i in mapped else s.sum(0) for i, s in enumerate(stacks)]

    return Variant(name, gradient, expected, sums=len(mapped) < n)


def _under_vmap(f: Function, mapped: frozenset[int], draws: int) -> Function:
    def run(*x: ArrayLike) -> list[Any]:
        axes = [0 if i in mapped else None for i in range(len(x))]
        return jax.vmap(f, in_axes=axes, axis_size=draws)(*x)

    return run


def _under_scan(f: Function, mapped: frozenset[int], draws: int) -> Function:
    def run(*x: ArrayLike) -> list[Any]:
        def body(carry: None, row: dict[int, Any]) -> tuple[None, list[Any]]:
            return carry, f(*[row.get(i, leaf) for i, leaf in enumerate(x)])

        return jax.lax.scan(body, None, {i: x[i] for i in mapped}, length=draws)[1]

    return run


def _under_shard_map(
    mesh: Mesh, check_vma: bool, f: Function, mapped: frozenset[int], draws: int
) -> Function:
    def run(*x: Array) -> list[Any]:
        own = [leaf[0] if i in mapped else leaf for i, leaf in enumerate(x)]
        return [y[None] for y in f(*own)]

    def split(*x: Array) -> list[Any]:
        (axis,) = mesh.axis_names
        specs = [PartitionSpec(axis) if i in mapped else PartitionSpec() for i in range(len(x))]
        out = PartitionSpec(axis)
        return jax.shard_map(
            run, mesh=mesh, in_specs=tuple(specs), out_specs=out, check_vma=check_vma
        )(*x)

    return split


def _picks(n: int, mapped: frozenset[int], b: int) -> tuple[int, ...]:
    return tuple(b if i in mapped else 0 for i in range(n))


def attempt(
    variants: Sequence[Variant], f: Function, draws: Draws
) -> dict[str, list[Any] | Exception]:
    """The gradients of every variant from one compiled program; or what it raised, by name.

    >>> found = attempt(list(on_one_device(("x",), 1)), lambda x: [x * x], Draws(
    ...     [np.full((1, 2), 3.0, np.float32)], [np.ones((1, 2), np.float32)], np.bool_(True)))
    >>> found["grad of jit"]
    [Array([6., 6.], dtype=float32)]
    """
    raised: dict[str, Exception] = {}

    def battery(draws: Draws) -> dict[str, list[Any]]:
        gradients = {}
        for variant in variants:
            try:
                gradients[variant.name] = variant.gradient(f, draws)
            except Exception as error:
                raised[variant.name] = error
        return gradients

    try:
        return compiled(battery)(draws) | raised
    except Exception as error:
        if len(variants) == 1:
            return {variants[0].name: error}
        return {k: v for one in variants for k, v in attempt([one], f, draws).items()}


def axis_names(*functions: Callable[..., Any]) -> tuple[str, ...]:
    """The mesh axes that the code of these functions may sum over, ("devices",) where none.

    A rule that sums over an axis where it is bound shows it only under that name. Names are the
    strings in functions that call a collective.

    >>> axis_names(lambda x: jax.lax.psum(x, "rows")), axis_names(jnp.sin)
    (('rows',), ('devices',))
    """
    names: dict[str, None] = {}
    for function in functions:
        parts = [function, *(getattr(function, name, None) for name in ("fun", "fwd", "bwd"))]
        for part in parts:
            while isinstance(part, functools.partial):
                part = part.func
            names |= dict.fromkeys(_strings_beside_collectives(part))
    return tuple(names)[:2] or ("devices",)


def _strings_beside_collectives(function: Any) -> Iterator[str]:
    code = getattr(function, "__code__", None)
    if code is None:
        return
    pending, called, values = [code], set[str](), list[Any]()
    while pending:
        code = pending.pop()
        called |= {*code.co_names, *code.co_freevars}
        values += code.co_consts
        pending += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    values += [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    values += function.__defaults__ or ()
    if called & _COLLECTIVES:
        yield from (v for v in values if isinstance(v, str) and v.isidentifier())


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
