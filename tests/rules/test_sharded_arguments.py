"""Every rule on arrays that lie in parts on many devices, by the compiler or by their types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from on_devices import is_float, largest_error, weighed

import funcnn as fnn
from funcnn.core.explicit import placed_forward
from funcnn.core.registry import registered_rules

ROWS = 8  # of a batch: the only axis 0 of this size is split over "data"
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape)


def integers(top, *shape):
    return RANDOM.integers(0, top, shape)


ELEMENTWISE = ("relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh", "silu", "gelu")
ROWWISE = ("softmax", "log_softmax")
ARGUMENTS = {
    **{name: ((normal(ROWS, 6),), {}) for name in (*ELEMENTWISE, *ROWWISE)},
    "conv": ((normal(ROWS, 6, 5, 2), normal(3, 3, 2, 4), normal(4)), {}),
    "conv_transposed": ((normal(ROWS, 3, 4, 2), normal(3, 2, 2, 4), normal(4)), {"stride": 2}),
    "dropout": ((normal(ROWS, 6), jax.random.key(1)), {"rate": 0.5}),
    "embedding": ((normal(6, 4), integers(6, ROWS, 5)), {}),
    "linear": ((normal(ROWS, 4), normal(4, 6), normal(6)), {}),
    "softmax_cross_entropy": ((normal(ROWS, 5), integers(5, ROWS)), {}),
    "squared_error": ((normal(ROWS, 3), normal(ROWS, 3)), {}),
    "logistic": ((normal(ROWS, 3), 1 / (1 + np.exp(normal(ROWS, 3)))), {}),
    "linear_cross_entropy": ((normal(ROWS, 3), normal(3, 6), integers(6, ROWS), normal(6)), {}),
    "layer_norm": ((normal(ROWS, 6), normal(6), normal(6)), {}),
    "rms_norm": ((normal(ROWS, 6), normal(6)), {}),
    "batch_norm": ((normal(ROWS, 4), normal(4), normal(4)), {}),
    "batch_norm_evaluation": ((normal(ROWS, 4), *normal(3, 4), np.exp(normal(4))), {}),
    "group_norm": ((normal(ROWS, 3, 2, 6), normal(6), normal(6)), {"groups": 2}),
    "instance_norm": ((normal(ROWS, 3, 4, 4), normal(4), normal(4)), {}),
    "global_max_pool": ((normal(ROWS, 5, 2, 7),), {}),
    "global_average_pool": ((normal(ROWS, 5, 2, 7),), {}),
    "max_pool": ((normal(ROWS, 6, 4, 3),), {"window": 2}),
    "average_pool": ((normal(ROWS, 6, 4, 3),), {"window": 2}),
    "gru": ((normal(ROWS, 4, 3), normal(ROWS, 4), normal(3, 12), normal(4, 12), normal(16)), {}),
    "lstm": (
        (normal(ROWS, 4, 3), *normal(2, ROWS, 4), normal(3, 16), normal(4, 16), normal(16)),
        {},
    ),
    "attention": (
        (*normal(2, ROWS, 3, 4, 2), normal(ROWS, 3, 4, 2)),
        {"causal": True, "block": 2},
    ),
    "rotary": ((normal(ROWS, 3, 2, 4),), {}),
    "swiglu": ((normal(ROWS, 4), normal(ROWS, 4)), {}),
    "geglu": ((normal(ROWS, 4), normal(ROWS, 4)), {}),
    "rnn": ((normal(ROWS, 4, 3), normal(ROWS, 4), normal(3, 4), normal(4, 4), normal(4)), {}),
}
MESHES = {"two": (2, 1), "rows": (8, 1), "rows and columns": (4, 2)}


def mesh_of(shape, kind):
    devices = jax.devices()[: shape[0] * shape[1]]
    return jax.make_mesh(shape, ("data", "tensor"), axis_types=(kind,) * 2, devices=devices)


def spec_of(a, columns):
    """Rows of a batch over "data", the last axis of params, where it divides, over "tensor"."""
    if not is_float(a) and not jnp.issubdtype(a.dtype, jnp.integer):
        return PartitionSpec()  # a key
    if a.shape[0] == ROWS:
        return PartitionSpec("data")
    whole = columns == 1 or a.shape[-1] % columns
    return PartitionSpec(*[None] * (a.ndim - 1), None if whole else "tensor")


def on_mesh(f, args, mesh):
    """Value and gradients of f, of arguments that lie on a mesh, and how those lie."""
    columns = mesh.devices.shape[1]
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, NamedSharding(mesh, spec_of(a, columns))) for a in args]
        floats = [i for i, a in enumerate(args) if is_float(a)]
        return jax.jit(jax.value_and_grad(f, floats))(*placed), [placed[i] for i in floats]


def result(rule, static):
    """A scalar of the value of a rule, wherever that lies."""

    def f(*args):
        whole = jax.tree.map(
            lambda y: jax.sharding.reshard(y, PartitionSpec()), rule(*args, **static)
        )
        return weighed(whole)

    return f


def compared(rule, args, static, shape, kind):
    """(largest error, whether each gradient lies as its argument)."""
    with jax.enable_x64(True):
        args = [jnp.asarray(a) for a in args]
        floats = [i for i, a in enumerate(args) if is_float(a)]
        plain = fnn.without_rules(lambda *args: weighed(rule(*args, **static)))
        truth = jax.value_and_grad(plain, floats)(*args)
        explicit = kind is AxisType.Explicit
        f = result(rule, static) if explicit else lambda *args: weighed(rule(*args, **static))
        found, placed = on_mesh(f, args, mesh_of(shape, kind))
        alike = [jax.typeof(g) == jax.typeof(a) for g, a in zip(found[1], placed, strict=True)]
        return largest_error(found, truth), all(alike) or not explicit


def test_every_rule_is_here():
    own = {
        n for n, r in registered_rules().items() if r.reference.__module__[:13] == "funcnn.rules."
    }
    assert set(ARGUMENTS) == own


@pytest.mark.parametrize(
    "mesh", ["two", pytest.param("rows", marks=pytest.mark.slow), "rows and columns"]
)
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_value_and_gradients_are_those_of_one_device(name, kind, mesh):
    args, static = ARGUMENTS[name]
    error, alike = compared(registered_rules()[name], args, static, MESHES[mesh], kind)
    assert error < 1e-10
    assert alike


def test_what_has_the_shape_of_an_argument_lies_as_it_does():
    """A residual that is the argument itself is not gathered: its columns stay where they are."""
    mesh = mesh_of((4, 2), AxisType.Explicit)
    with jax.set_mesh(mesh):
        lying = NamedSharding(mesh, PartitionSpec(None, "tensor"))
        w = jax.device_put(jnp.ones((4, 6)), lying)
        x = jax.device_put(jnp.ones((8, 4)), NamedSharding(mesh, PartitionSpec("data")))
        _, res = placed_forward(fnn.rules.linear.forward, fnn.rules.linear.reference, (x, w, None))
    kept = [jax.typeof(a).sharding.spec for a in jax.tree.leaves(res) if a.shape == w.shape]
    assert kept == [PartitionSpec(None, "tensor")]


def test_cotangents_lie_as_their_arguments():
    """Those of a matrix of the shape of another one, too, which lies otherwise."""

    def f(x, w):
        return jnp.sum(jax.sharding.reshard(fnn.rules.linear(x, w), PartitionSpec()))

    args = [jnp.ones((ROWS, ROWS)), jnp.ones((ROWS, ROWS))]
    mesh = mesh_of((8, 1), AxisType.Explicit)
    with jax.set_mesh(mesh):
        x = jax.device_put(args[0], NamedSharding(mesh, PartitionSpec(None, "data")))
        w = jax.device_put(args[1], NamedSharding(mesh, PartitionSpec()))
        dx, dw = jax.jit(jax.grad(f, (0, 1)))(x, w)
    assert jax.typeof(dx) == jax.typeof(x)
    assert jax.typeof(dw) == jax.typeof(w)


def test_a_rule_of_ones_own_needs_to_say_nothing():
    """By itself JAX refuses the product over the rows, and a wrong one is wrong."""

    def product(x, w):
        return x @ w

    for factor in (1, 7):
        rule = fnn.Rule(product, "product")
        rule.defvjp(
            lambda x, w: (x @ w, (x, w)),
            lambda res, dy, k=factor: (dy @ res[1].T, k * (res[0].T @ dy)),
        )
        args = normal(ROWS, 4), normal(4, 6)
        error, alike = compared(rule, args, {}, (4, 2), AxisType.Explicit)
        assert (error < 1e-10) == (factor == 1)
        assert alike


def test_a_value_that_jax_cannot_place_lies_as_the_rows():
    """A row of a table for each index: by the reference, JAX would have to guess."""
    mesh = mesh_of((8, 1), AxisType.Explicit)
    (table, ids), _ = ARGUMENTS["embedding"]
    with jax.set_mesh(mesh):
        ids = jax.device_put(jnp.asarray(ids), NamedSharding(mesh, PartitionSpec("data")))
        table = jax.device_put(jnp.asarray(table), NamedSharding(mesh, PartitionSpec()))
        with pytest.raises(Exception, match="out_sharding"):
            fnn.rules.embedding.reference(table, ids)
        assert jax.typeof(fnn.rules.embedding(table, ids)).sharding.spec[0] == "data"
