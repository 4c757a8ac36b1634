"""Rules over what has no reverse mode, over complex numbers, and inside shard_map.

Each builder takes whether the rule is to be right, and returns a function with its arguments. The
wrong ones are off by a factor, or make the mistake that the place invites: the conjugate that
belongs to PyTorch's convention, a collective that is forgotten or doubled.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from catalogue_wrong import custom
from jax import lax
from jax.sharding import PartitionSpec as P

Builder = Callable[[bool], tuple[Any, tuple[Any, ...]]]
PLACES: dict[str, Builder] = {}
X = np.array([0.3, 0.5, -0.7, 1.1], np.float32)
Z = np.array([1 + 2j, 0.3 - 1j, -0.4 + 0.2j], np.complex64)


def place(make: Builder) -> Builder:
    PLACES[make.__name__] = make
    return make


def times(right: bool, dy: Any) -> Any:
    """The cotangent, seven times as large where the rule is to be wrong."""
    return dy if right else 7 * dy


# What has no reverse mode


@place
def over_a_while_loop(right):
    """Newton's iteration for a square root, until it stands still."""

    def root(a):
        def step(state):
            return (state[0] + a / state[0]) / 2, state[0]

        def moves(state):
            return jnp.any(abs(state[0] - state[1]) > 1e-6 * abs(state[0]))

        return lax.while_loop(moves, step, (a, a + 1))[0]

    rule = custom(root, lambda a: (root(a),) * 2, lambda y, dy: (times(right, dy) / (2 * y),))
    return rule, (abs(X),)


@place
def over_a_loop_whose_length_is_an_argument(right):
    def power(x, n):
        def step(state):
            return state[0] + 1, state[1] * x

        start = jnp.zeros_like(n), jnp.ones_like(x)
        return lax.while_loop(lambda state: state[0] < n, step, start)[1]

    def backward(res, dy):
        x, n = res
        return times(right, dy) * n.astype(x.dtype) * power(x, n - 1), None

    return custom(power, lambda x, n: (power(x, n), (x, n)), backward), (X, np.int32(3))


def on_the_host(f, dtype=None):
    """NumPy's function of one array, in the dtype of the array or in another one."""

    def run(x):
        shape = jax.ShapeDtypeStruct(x.shape, dtype or x.dtype)
        computed = functools.partial(np.asarray, dtype=shape.dtype)
        return jax.pure_callback(lambda x: computed(f(x)), shape, x, vmap_method="sequential")

    return run


def hyperbolic(right, f):
    return custom(f, lambda x: (f(x),) * 2, lambda y, dy: (times(right, dy) * (1 - y * y),))


@place
def over_a_pure_callback(right):
    return hyperbolic(right, on_the_host(np.tanh)), (X,)


@place
def over_a_callback_in_a_scan(right):
    rule = hyperbolic(right, on_the_host(np.tanh))

    def recurrent(w, xs):
        return lax.scan(lambda h, x: (rule(w * h + x), None), jnp.zeros_like(w), xs)[0]

    return recurrent, (X, np.stack([X, 2 * X]))


@place
def over_a_foreign_function(right):
    """log det by LAPACK's Cholesky factor, which is called by `jax.ffi`."""
    jnp.linalg.cholesky(jnp.eye(2))  # JAX loads LAPACK when it first needs it

    def log_det(a):
        kind = "d" if a.dtype == jnp.float64 else "s"
        factor, _ = jax.ffi.ffi_call(
            f"lapack_{kind}potrf_ffi",
            (jax.ShapeDtypeStruct(a.shape, a.dtype), jax.ShapeDtypeStruct((), jnp.int32)),
            input_layouts=[(0, 1)],
            output_layouts=[(0, 1), ()],
            input_output_aliases={0: 0},
        )(a, uplo=np.uint8(ord("L")))
        return 2 * jnp.log(jnp.diagonal(factor)).sum()

    def backward(a, dy):  # it reads one triangle of a, as JAX stores it the upper one
        twice = 2 - jnp.eye(a.shape[0], dtype=a.dtype)
        return (times(right, dy) * jnp.triu(jnp.linalg.inv(a) * twice),)

    matrix = (2 * np.eye(3) + np.ones((3, 3)) / 3).astype(np.float32)
    return custom(log_det, lambda a: (log_det(a), a), backward), (matrix,)


# Complex numbers: the cotangent dy of y pairs with a tangent t as the real part of dy t


def squared(right, change=lambda z: z):
    def backward(z, dy):
        return (2 * (z if right else change(z)) * dy,)

    return custom(lambda z: z * z, lambda z: (z * z, z), backward)


@place
def holomorphic(right):
    """z^2, whose cotangent is 2 z dy."""
    return squared(right, lambda z: 7 * z), (Z,)


@place
def holomorphic_in_the_convention_of_pytorch(right):
    return squared(right, jnp.conj), (Z,)


@place
def real_linear(right):
    """a z + b conj(z), which is linear over the real numbers alone; dz = a dy + conj(b dy)."""

    def f(z):
        return (1 + 2j) * z + 0.5j * jnp.conj(z)

    def backward(_, dy):
        other = 0.5j * dy
        return ((1 + 2j) * dy + (jnp.conj(other) if right else other),)

    return custom(f, lambda z: (f(z), None), backward), (Z,)


@place
def from_complex_to_real(right):
    """|z|^2, whose gradient is 2 conj(z) in JAX, and 2 z elsewhere."""

    def f(z):
        return (z * jnp.conj(z)).real

    def backward(z, dy):
        return (2 * dy.astype(z.dtype) * (jnp.conj(z) if right else z),)

    return custom(f, lambda z: (f(z), z), backward), (Z,)


@place
def from_real_to_complex(right):
    """exp(i x): the cotangent of a real argument is the real part of dy times the derivative."""

    def f(x):
        return jnp.exp(lax.complex(jnp.zeros_like(x), x))

    def backward(y, dy):
        pulled = dy * 1j * y
        return (pulled.real if right else pulled.imag,)

    return custom(f, lambda x: (f(x),) * 2, backward), (X,)


# Inside shard_map, with its check that says which values differ between devices, and without


def inside(body, specs, out, checked):
    mesh = jax.make_mesh(
        (2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )
    return jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=out, check_vma=checked)


SHARDED: dict[str, Any] = {}


def sharded(make):
    """Two places: with and without the check."""
    for checked in (True, False):
        name = f"{make.__name__}_inside_shard_map" + ("" if checked else "_unchecked")
        SHARDED[name] = PLACES[name] = functools.partial(make, checked)
    return make


@sharded
def psum(checked, right):
    """The rule adds over the devices. Its cotangent is there on each of them, or a part of it."""

    def f(x):
        return jnp.sin(lax.psum(x, "i"))

    def forward(x):
        total = lax.psum(x, "i")
        return jnp.sin(total), total

    def backward(total, dy):
        d = dy * jnp.cos(total)
        if checked:
            d = lax.pcast(d, "i", to="varying")
            return (d if right else lax.pcast(lax.psum(d, "i"), "i", to="varying"),)
        return (lax.psum(d, "i") if right else d,)

    return inside(custom(f, forward, backward), P("i"), P(), checked), (X,)


@sharded
def pmean(checked, right):
    """x minus the mean over all devices."""

    def f(x):
        return x - lax.pmean(x.mean(), "i")

    def backward(_, dy):
        mean = dy.mean()
        return (dy - (lax.pmean(mean, "i") if right else mean),)

    return inside(custom(f, lambda x: (f(x), None), backward), P("i"), P("i"), checked), (X,)


@sharded
def matrix_product(checked, right):
    """The columns of x and the rows of w are distributed, and psum adds the products."""

    def f(x, w):
        return lax.psum(x @ w, "i")

    def backward(res, dy):
        x, w = res
        dy = lax.pcast(dy, "i", to="varying") if checked else lax.psum(dy, "i")
        return times(right, dy) @ w.T, x.T @ dy

    rule = custom(f, lambda x, w: (f(x, w), (x, w)), backward)
    x = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    w = np.arange(12, dtype=np.float32).reshape(4, 3) / 7 - 0.5
    return inside(rule, (P(None, "i"), P("i")), P(), checked), (x, w)


@sharded
def ppermute(checked, right):
    """Each device takes what its neighbour has; the cotangents go the other way."""
    exchange = [(0, 1), (1, 0)]

    def f(x):
        return jnp.sin(lax.ppermute(x, "i", exchange))

    def forward(x):
        moved = lax.ppermute(x, "i", exchange)
        return jnp.sin(moved), moved

    def backward(moved, dy):
        d = dy * jnp.cos(moved)
        return (lax.ppermute(d, "i", exchange) if right else d,)

    return inside(custom(f, forward, backward), P("i"), P("i"), checked), (X,)


@sharded
def psum_scatter(checked, right):
    def f(x):
        return lax.psum_scatter(jnp.sin(x), "i", tiled=True)

    def backward(x, dy):
        return (lax.all_gather(times(right, dy), "i", tiled=True) * jnp.cos(x),)

    return inside(custom(f, lambda x: (f(x), x), backward), P("i"), P("i"), checked), (X,)


@sharded
def all_to_all(checked, right):
    def f(x):
        return jnp.sin(lax.all_to_all(x, "i", 0, 0, tiled=True))

    def backward(x, dy):
        moved = lax.all_to_all(x, "i", 0, 0, tiled=True)
        return (lax.all_to_all(times(right, dy) * jnp.cos(moved), "i", 0, 0, tiled=True),)

    return inside(custom(f, lambda x: (f(x), x), backward), P("i"), P("i"), checked), (X,)


@sharded
def while_loop(checked, right):
    """Newton's iteration, until it stands still on all devices."""

    def root(a):
        def step(state):
            return (state[0] + a / state[0]) / 2, state[0]

        def moves(state):
            return lax.pmax(jnp.max(abs(state[0] - state[1])), "i") > 1e-6

        return lax.while_loop(moves, step, (a, a + 1))[0]

    rule = custom(root, lambda a: (root(a),) * 2, lambda y, dy: (times(right, dy) / (2 * y),))
    return inside(rule, P("i"), P("i"), checked), (abs(X),)


@sharded
def complex_numbers(checked, right):
    def body(z):
        return lax.psum(abs(squared(right, jnp.conj)(z)).sum(), "i")

    return inside(body, P("i"), P(), checked), (np.append(Z, Z[:1] / 3),)
