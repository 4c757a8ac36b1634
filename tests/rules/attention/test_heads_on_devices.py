"""Attention whose samples and heads lie on eight devices, in each kind of sharding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from funcnn.rules import attention

B, T, H, K, W = 4, 9, 8, 4, 4
LAID = PartitionSpec("rows", None, "heads", None)
SETTINGS = {"causal": {"causal": True}, "window": {"window": (2, 1), "soft_cap": 2.0}}


def drawn():
    random = np.random.default_rng(0)
    shapes = [(B, T, H, W), (B, T, K, W), (B, T, K, W), (B, T, H, W)]
    return [jnp.asarray(random.standard_normal(shape)) for shape in shapes]


def mesh_of(kind):
    return jax.make_mesh((2, 4), ("rows", "heads"), axis_types=(kind, kind))


def with_gradients(f, q, k, v, dy):
    y, pullback = jax.vjp(f, q, k, v)
    return y, *pullback(dy)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["auto", "explicit", "shard_map"])
def test_each_device_has_its_own_heads(kind, name):
    f = functools.partial(attention, block=4, **SETTINGS[name])
    arguments = drawn()
    wanted = with_gradients(functools.partial(attention.reference, **f.keywords), *arguments)
    run = functools.partial(with_gradients, f)
    mesh = mesh_of(AxisType.Explicit if kind == "explicit" else AxisType.Auto)
    if kind == "shard_map":
        run = jax.shard_map(run, mesh=mesh, in_specs=LAID, out_specs=LAID)
    with jax.set_mesh(mesh):
        laid = [jax.device_put(a, NamedSharding(mesh, LAID)) for a in arguments]
        compiled = jax.jit(run).lower(*laid).compile()
        found = compiled(*laid)
    for a, b in zip(found, wanted, strict=True):
        assert a.sharding.is_equivalent_to(NamedSharding(mesh, LAID), a.ndim), a.sharding
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    # No head needs anything of another one.
    text = compiled.as_text() or ""
    assert not [word for word in ("all-gather", "all-reduce", "all-to-all") if word in text]


def test_an_operand_from_before_the_mesh_has_its_cotangent():
    q, k, v, _ = drawn()
    bias = jnp.ones((1, H, T, 1))  # which lies on no mesh
    mesh = mesh_of(AxisType.Explicit)

    def loss(q):
        y = attention(q, k, v, bias, block=4)
        return jnp.sum(jax.sharding.reshard(y, PartitionSpec()) ** 2)

    wanted = jax.grad(lambda q: jnp.sum(attention.reference(q, k, v, bias) ** 2))(q)
    with jax.set_mesh(mesh):
        found = jax.jit(jax.grad(loss))(jax.device_put(q, NamedSharding(mesh, LAID)))
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)
