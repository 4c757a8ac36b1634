"""One call of a rule on many devices, beside the same on one: what both give, value and gradients.

Truth is the reference, without any rule, on one device; everything is in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec


def mesh_of(count, kind=AxisType.Auto):
    return jax.make_mesh((count,), ("d",), axis_types=(kind,), devices=jax.devices()[:count])


def is_float(a):
    return a is not None and jnp.issubdtype(jax.typeof(a).dtype, jnp.inexact)


def wide(a):
    return a.astype(jnp.float64) if is_float(a) else a


def weighed(y):
    """A sum of outputs in which each element has a weight of its own."""
    return sum(
        jnp.sum(
            jnp.cos(jnp.arange(1.0, leaf.size + 1)).reshape(leaf.shape).astype(leaf.dtype) * leaf
        )
        for leaf in jax.tree.leaves(y)
    )


def patterns(args):
    """Which float arguments each device has of its own: the first, the others, all, the last."""
    places = [i for i, a in enumerate(args) if is_float(a)]
    chosen = [places[:1], places[1:], places, places[-1:]]
    return [set(p) for i, p in enumerate(chosen) if p and p not in chosen[:i]]


def in_shard_map(rule, case, own, count, **options):
    """(value and gradients by hand on `count` devices, those of the reference on one).

    The devices share what is not in `own`; of each argument there, each device has another.
    """
    args = [jax.tree.map(wide, a) for a in case.args]
    places = [i for i, a in enumerate(args) if is_float(a)]
    stacked = [
        jnp.stack([args[i] * (1 + k / 10) for k in range(count)]) if i in own else args[i]
        for i in places
    ]

    def one(f, floats):
        whole = list(args)
        for place, a in zip(places, floats, strict=True):
            whole[place] = a
        return weighed(f(*whole, **case.static))

    def of_device(*floats):
        parts = [a[0] if i in own else a for i, a in zip(places, floats, strict=True)]
        return jax.lax.psum(one(rule, parts), "d")

    def on_one_device(*floats):
        parts = [
            [a[k] if i in own else a for i, a in zip(places, floats, strict=True)]
            for k in range(count)
        ]
        plain = case.reference or rule.reference  # in a tail the plain one loses its digits
        return sum(one(plain, p) for p in parts)

    specs = tuple(PartitionSpec("d") if i in own else PartitionSpec() for i in places)
    mapped = jax.shard_map(
        of_device, mesh=mesh_of(count), in_specs=specs, out_specs=PartitionSpec(), **options
    )
    numbers = tuple(range(len(places)))
    return tuple(jax.jit(jax.value_and_grad(f, numbers))(*stacked) for f in (mapped, on_one_device))


def largest_error(found, truth):
    """Of all leaves, over the largest element of each; nan where one is no number.

    A leaf counts as at least a ten-thousandth of the largest: one that is zero but for rounding
    (the gradient of a gain, where all numbers of a row are equal) is compared with the others.
    """
    found, truth = ([np.asarray(a) for a in jax.tree.leaves(tree)] for tree in (found, truth))
    floor = 1e-4 * max((float(np.max(np.abs(b))) for b in truth if b.size), default=0.0)
    errors = [0.0]
    for a, b in zip(found, truth, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if b.size:
            scale = max(float(np.max(np.abs(b))), floor, 1e-300)
            errors.append(float(np.max(np.abs(a - b))) / scale)
    return float(np.max(errors))
