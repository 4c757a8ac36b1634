"""Right rules as other people write them: plain JAX, none of them made for this package.

Each builder returns a function, its arguments and options of `fnn.check`. That the rules are right
is shown in test_catalogue_foreign.py by differences of the values alone.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from catalogue_wrong import custom
from jax import lax


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A right rule.

    Attributes:
        make: builds `(function, args, options)`.
        tolerance: of the differences, where the rule itself computes in a low precision.
        step: the largest step of those differences.
    """

    name: str
    make: Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]
    tolerance: float = 1e-7
    step: float = 1e-2


FOREIGN: dict[str, Foreign] = {}


def foreign(make: Any = None, **more: Any) -> Any:
    if make is None:
        return functools.partial(foreign, **more)
    FOREIGN[make.__name__] = Foreign(make.__name__, make, **more)
    return make


def draw(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def positive(seed: int, *shape: int) -> np.ndarray:
    return np.abs(draw(seed, *shape)) + np.float32(0.5)


# custom_vjp and custom_jvp in all their forms


@foreign
def plain():
    """Nothing special."""
    f = custom(lambda x: x**3, lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
    return f, (draw(0, 3, 2),), {}


@foreign
def nondiff_number():
    """nondiff_argnums: a Python number that the backward pass gets first."""
    f = jax.custom_vjp(lambda x, n: x**n, nondiff_argnums=(1,))
    f.defvjp(lambda x, n: (x**n, x), lambda n, x, g: (n * x ** (n - 1) * g,))
    return lambda x: f(x, 4), (draw(1, 4),), {}


@foreign
def nondiff_function():
    """nondiff_argnums: a function comes first."""
    f = jax.custom_vjp(lambda h, x: h(x) * 2, nondiff_argnums=(0,))

    def backward(h, x, g):
        return (2 * jax.vjp(h, x)[1](g)[0],)

    f.defvjp(lambda h, x: (h(x) * 2, x), backward)
    return functools.partial(f, jnp.sin), (draw(2, 4),), {}


@foreign
def nondiff_in_jvp():
    """custom_jvp with nondiff_argnums."""
    f = jax.custom_jvp(lambda n, x: jnp.cos(n * x), nondiff_argnums=(0,))

    @f.defjvp
    def jvp(n, primals, tangents):
        return f(n, *primals), -n * jnp.sin(n * primals[0]) * tangents[0]

    return lambda x: f(3, x), (draw(3, 4),), {}


@foreign
def one_jvp_each():
    """defjvps: a function of its own for each argument, None for one without."""
    f = jax.custom_jvp(lambda x, y: x * jnp.exp(y))
    f.defjvps(lambda t, ans, x, y: t * jnp.exp(y), lambda t, ans, x, y: ans * t)
    return f, (draw(4, 3), draw(5, 3)), {}


@foreign
def jvp_of_two_outputs():
    """custom_jvp with a tuple of outputs and symbolic zeros."""
    f = jax.custom_jvp(lambda x: (jnp.sin(x), jnp.cos(x)))

    def jvp(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        s, c = jnp.sin(x), jnp.cos(x)
        if type(t) is jax.custom_derivatives.SymbolicZero:
            return (s, c), (t, t)
        return (s, c), (c * t, -s * t)

    f.defjvp(jvp, symbolic_zeros=True)  # pyright: ignore[reportArgumentType]
    return f, (draw(6, 3),), {}


@foreign
def symbolic_zeros():
    """The forward pass is told which arguments are differentiated."""
    f = jax.custom_vjp(lambda a, b: a * b)

    def forward(a, b):
        kept = (b.value if a.perturbed else None, a.value if b.perturbed else None)
        return a.value * b.value, kept

    def backward(res, g):
        b, a = res
        return None if b is None else g * b, None if a is None else g * a

    f.defvjp(forward, backward, symbolic_zeros=True)
    return lambda x, w: f(x, w).sum(), (draw(7, 4), draw(8, 4)), {}


@foreign
def optimized_remat():
    """optimize_remat=True: the forward pass is left out under jax.checkpoint."""
    f = jax.custom_vjp(lambda x: jnp.sin(x) * 2)
    f.defvjp(lambda x: (jnp.sin(x) * 2, jnp.cos(x)), lambda c, g: (2 * g * c,), optimize_remat=True)
    return jax.checkpoint(lambda x: f(f(x))), (draw(9, 3),), {}


@foreign
def default_arguments():
    """A keyword with a default, resolved by the rule's signature."""

    def f(x, slope=0.2):
        return jnp.where(x > 0, x, slope * x)

    g = jax.custom_vjp(f, nondiff_argnums=(1,))
    g.defvjp(lambda x, slope: (f(x, slope), x), lambda s, x, d: (jnp.where(x > 0, d, s * d),))
    return lambda x: g(x), (draw(10, 3, 2),), {}


# Trees, integers, None


@foreign
def dict_in_dict_out():
    """Dicts go in and out."""

    def f(p):
        return {"y": p["w"] * p["x"] + p["b"], "norm": (p["w"] ** 2).sum()}

    def backward(p, g):
        w = g["y"] * p["x"] + 2 * p["w"] * g["norm"]
        return ({"w": w, "x": g["y"] * p["w"], "b": g["y"]},)

    tree = {"w": draw(11, 3), "x": draw(12, 3), "b": draw(13, 3)}
    return custom(f, lambda p: (f(p), p), backward), (tree,), {}


Pair = collections.namedtuple("Pair", ["left", "right"])


@foreign
def namedtuple_and_lists():
    """A namedtuple with a list inside."""

    def f(pair):
        return pair.left[0] * pair.right + pair.left[1]

    def backward(pair, g):
        return (Pair([g * pair.right, g], g * pair.left[0]),)

    pair = Pair([draw(14, 3), draw(15, 3)], draw(16, 3))
    return custom(f, lambda pair: (f(pair), pair), backward), (pair,), {}


@foreign
def float0_for_integers():
    """float0, as JAX's documentation has it, for an integer argument."""

    def backward(res, g):
        t, i = res
        return jnp.zeros_like(t).at[i].add(g), np.zeros(i.shape, jax.dtypes.float0)

    f = custom(lambda t, i: t[i], lambda t, i: (t[i], (t, i)), backward)
    return f, (draw(17, 5), np.array([0, 3, 3])), {}


@foreign
def float_zeros_for_integers():
    """Zeros of a float for an integer argument, which JAX drops."""

    def backward(res, g):
        t, i = res
        return jnp.zeros_like(t).at[i].add(g), jnp.zeros(i.shape)

    f = custom(lambda t, i: t[i], lambda t, i: (t[i], (t, i)), backward)
    return f, (draw(18, 5), np.array([1, 1, 4])), {}


@foreign
def none_for_a_mask():
    """None for a boolean argument."""
    f = custom(
        lambda x, m: jnp.where(m, jnp.exp(x), 0),
        lambda x, m: (y := jnp.where(m, jnp.exp(x), 0), y),
        lambda y, g: (g * y, None),
    )
    return f, (draw(19, 4), np.array([True, False, True, True])), {}


@foreign
def none_for_an_unused_float():
    """None for a float that the value does not depend on: a gradient of zero."""
    f = custom(lambda x, u: x * 2, lambda x, u: (x * 2, None), lambda _, g: (2 * g, None))
    return lambda x, u: f(x, u) + u, (draw(20, 3), draw(21, 3)), {}


@foreign
def integer_output_beside():
    """An integer among the outputs: its cotangent is float0, and is not looked at."""

    def f(x):
        return x**2, jnp.argmax(x)

    rule = custom(f, lambda x: (f(x), x), lambda x, g: (2 * x * g[0],))
    return rule, (draw(22, 4),), {}


@foreign
def empty_axis():
    """An axis of length 0 beside a full one."""
    f = custom(
        lambda a, b: a.sum(0) + b,
        lambda a, b: (a.sum(0) + b, a),
        lambda a, g: (jnp.broadcast_to(g, a.shape), g),
    )
    return f, (np.zeros((0, 3), np.float32), draw(23, 3)), {}


# Closures, wrappers, objects


@foreign
def closure_over_an_array():
    """A table that is closed over."""
    table = draw(24, 3, 2)
    f = custom(lambda x: x @ table, lambda x: (x @ table, None), lambda _, g: (g @ table.T,))
    return f, (draw(25, 4, 3),), {}


@foreign
def rule_inside_a_rule():
    """The outer rule calls an inner one, forward and backward."""
    sigmoid = custom(
        jax.nn.sigmoid, lambda x: (y := jax.nn.sigmoid(x), y), lambda y, g: (g * y * (1 - y),)
    )

    def backward(x, g):
        s = sigmoid(x)
        return (g * (s + x * s * (1 - s)),)

    f = custom(lambda x: x * sigmoid(x), lambda x: (x * sigmoid(x), x), backward)
    return f, (draw(26, 4),), {}


@foreign
def jitted_rule():
    """jax.jit around a rule with a static argument."""
    f = jax.custom_vjp(lambda x, k: jnp.sin(k * x), nondiff_argnums=(1,))
    f.defvjp(lambda x, k: (jnp.sin(k * x), x), lambda k, x, g: (k * g * jnp.cos(k * x),))
    jitted = jax.jit(f, static_argnums=1)
    return lambda x: jitted(x, 3), (draw(27, 4),), {}


@foreign
def vmapped_rule():
    """A rule for one row, under vmap with an argument that is not mapped."""
    f = custom(
        lambda x, w: (x * w).sum() ** 2,
        lambda x, w: ((x * w).sum() ** 2, (x, w)),
        lambda r, g: (2 * g * (r[0] * r[1]).sum() * r[1], 2 * g * (r[0] * r[1]).sum() * r[0]),
    )
    return jax.vmap(f, in_axes=(0, None)), (draw(28, 3, 2), draw(29, 2)), {}


@foreign
def partial_of_a_rule():
    """functools.partial with a keyword."""

    def scaled(x, *, by):
        f = custom(lambda x: jnp.tanh(by * x), lambda x: (y := jnp.tanh(by * x), y),
                   lambda y, g: (by * g * (1 - y * y),))  # fmt: skip
        return f(x)

    return functools.partial(scaled, by=2.0), (draw(30, 4),), {}


class Activation:
    """A class with __call__ that makes its rule once."""

    def __init__(self, beta):
        self.beta = beta
        self.rule = custom(self.value, lambda x: (self.value(x), x), self.backward)

    def value(self, x):
        return x * jax.nn.sigmoid(self.beta * x)

    def backward(self, x, g):
        s = jax.nn.sigmoid(self.beta * x)
        return (g * (s + self.beta * x * s * (1 - s)),)

    def __call__(self, x):
        return self.rule(x)


@foreign
def callable_object():
    """An object is called; its rule is made of bound methods."""
    return Activation(1.5), (draw(31, 5),), {}


@foreign
def equinox_filtered():
    """Equinox: filter_custom_vjp, with the perturbed arguments among the parameters."""
    import equinox as eqx

    @eqx.filter_custom_vjp
    def f(x, w):
        return jnp.sin(x) * w

    f.def_fwd(lambda perturbed, x, w: (jnp.sin(x) * w, None))
    f.def_bwd(lambda res, g, perturbed, x, w: g * jnp.cos(x) * w)
    w = draw(32, 4)
    return lambda x: f(x, w), (draw(33, 4),), {}


# Loops


@foreign
def loop_of_static_length():
    """fori_loop of static bounds inside."""

    def f(x):
        return lax.fori_loop(0, 3, lambda i, y: y * x, jnp.ones_like(x))

    return custom(f, lambda x: (f(x), x), lambda x, g: (3 * x * x * g,)), (draw(34, 4),), {}


@foreign
def loop_of_dynamic_length():
    """fori_loop up to an argument: what is wrapped has no reverse mode."""

    def f(x, n):
        return lax.fori_loop(0, n, lambda i, y: y * x, jnp.ones_like(x))

    def backward(res, g):
        x, n = res
        return g * n.astype(x.dtype) * f(x, n - 1), None

    return custom(f, lambda x, n: (f(x, n), (x, n)), backward), (draw(35, 4), np.array(4)), {}


@foreign
def newton_root():
    """Newton's method in a while_loop; the derivative is the implicit one."""

    def f(a):
        def step(s):
            return (s[0] + a / s[0]) / 2, s[1] + 1

        return lax.while_loop(lambda s: s[1] < 30, step, (a, 0))[0]

    return custom(f, lambda a: (y := f(a), y), lambda y, g: (g / (2 * y),)), (positive(36, 4),), {}


@foreign
def fixed_point():
    """y = cos(z y), iterated in the forward pass and, transposed, in the backward pass."""

    def solve(step, y):
        return lax.fori_loop(0, jnp.asarray(80), lambda i, y: step(y), y)

    def f(z):
        return solve(lambda y: jnp.cos(z * y), jnp.zeros_like(z))

    def backward(res, g):
        z, y = res
        u = solve(lambda u: g - z * jnp.sin(z * y) * u, jnp.zeros_like(z))
        return (-y * jnp.sin(z * y) * u,)

    args = (np.array([0.1, 0.4, 0.8], np.float32),)
    return custom(f, lambda z: (y := f(z), (z, y)), backward), args, {}


@foreign
def recurrence():
    """A linear recurrence by scan; backward the scan runs the other way."""

    def scan(a, b, reverse=False):
        def step(h, ab):
            h = ab[0] * h + ab[1]
            return h, h

        return lax.scan(step, jnp.zeros_like(b[0]), (a, b), reverse=reverse)[1]

    def backward(res, g):
        a, h = res
        later = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
        db = scan(later, g, reverse=True)
        before = jnp.concatenate([jnp.zeros_like(h[:1]), h[:-1]])
        return db * before, db

    f = custom(lambda a, b: scan(a, b), lambda a, b: (h := scan(a, b), (a, h)), backward)
    return lambda a, b: f(a, b), (draw(37, 5, 2, scale=0.5), draw(38, 5, 2)), {}


@foreign
def rule_in_a_scan():
    """A rule in the body of a scan."""
    f = custom(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    return lambda x: lax.scan(lambda c, w: (f(c * w), c), x[0], x)[0], (draw(39, 4),), {}


@foreign
def through_the_host():
    """pure_callback in the forward and in the backward pass."""

    def call(f, x):
        return jax.pure_callback(
            f, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims"
        )

    f = custom(
        lambda x: call(np.sin, x), lambda x: (call(np.sin, x), x),
        lambda x, g: (g * call(np.cos, x),),
    )  # fmt: skip
    return f, (draw(40, 3),), {}


# Linear algebra


@foreign
def solve():
    """One factorization, transposed backward."""

    def backward(res, g):
        a, x = res
        u = jnp.linalg.solve(a.T, g)
        return -jnp.outer(u, x), u

    f = custom(jnp.linalg.solve, lambda a, b: (x := jnp.linalg.solve(a, b), (a, x)), backward)
    return f, (draw(41, 3, 3) + 3 * np.eye(3, dtype=np.float32), draw(42, 3)), {}


@foreign
def slogdet():
    """The sign is an output too; its cotangent is not looked at."""
    f = custom(
        lambda a: jnp.linalg.slogdet(a)[1],
        lambda a: (jnp.linalg.slogdet(a)[1], a),
        lambda a, g: (g * jnp.linalg.inv(a).T,),
    )
    return f, (draw(43, 3, 3) + 2 * np.eye(3, dtype=np.float32),), {}


@foreign
def cholesky():
    """Of a symmetrized matrix, by Murray's formula."""

    def f(a):
        return jnp.linalg.cholesky((a + a.T) / 2, symmetrize_input=False)

    def backward(low, g):
        inner = jnp.tril(low.T @ jnp.tril(g))
        inner = inner - jnp.diag(jnp.diag(inner)) / 2
        inverse = jnp.linalg.inv(low)
        s = inverse.T @ inner @ inverse
        return ((s + s.T) / 2,)

    a = draw(44, 3, 3)
    rule = custom(f, lambda a: (low := f(a), low), backward)
    return rule, (a @ a.T + 2 * np.eye(3, dtype=np.float32),), {}


@foreign
def singular_values():
    """U diag(g) V'."""

    def f(a):
        return jnp.linalg.svd(a, compute_uv=False)

    def forward(a):
        u, s, vt = jnp.linalg.svd(a, full_matrices=False)
        return s, (u, vt)

    rule = custom(f, forward, lambda r, g: ((r[0] * g[None, :]) @ r[1],))
    return rule, (np.diag(np.array([3, 2, 1], np.float32)) + draw(45, 3, 3, scale=0.1),), {}


@foreign
def eigenvalues():
    """Of the symmetric part, by V diag(g) V'."""

    def f(a):
        return jnp.linalg.eigvalsh((a + a.T) / 2)

    def forward(a):
        w, v = jnp.linalg.eigh((a + a.T) / 2)
        return w, v

    rule = custom(f, forward, lambda v, g: ((v * g[None, :]) @ v.T,))
    return rule, (np.diag(np.array([3, 2, 1], np.float32)) + draw(46, 3, 3, scale=0.1),), {}


@foreign
def custom_root():
    """lax.custom_root inside: its derivative is the implicit one."""

    def f(a):
        return lax.custom_root(
            lambda y: y * y - a,
            jnp.ones_like(a),
            lambda g, y: lax.fori_loop(0, 30, lambda i, y: (y + a / y) / 2, y),
            lambda g, y: y / g(jnp.ones_like(y)),
        )

    rule = custom(f, lambda a: (y := f(a), y), lambda y, g: (g / (2 * y),))
    return rule, (positive(47, 3),), {}


@foreign
def custom_linear_solve():
    """lax.custom_linear_solve inside."""
    a = np.diag(np.array([2, 3, 4], np.float32)) + draw(48, 3, 3, scale=0.2)

    def f(b):
        def by(m):
            return lambda mv, b: jnp.linalg.solve(jnp.asarray(m, b.dtype), b)

        return lax.custom_linear_solve(lambda x: a.astype(x.dtype) @ x, b, by(a), by(a.T))

    rule = custom(
        f, lambda b: (f(b), None), lambda _, g: (jnp.linalg.solve(a.T.astype(g.dtype), g),)
    )
    return rule, (draw(49, 3),), {}


# Fourier, complex numbers inside


@foreign
def power_spectrum():
    """|FFT|^2, whose gradient is an inverse FFT."""

    def f(x):
        z = jnp.fft.fft(x)
        return z.real**2 + z.imag**2

    def backward(x, g):
        return ((2 * x.size * jnp.fft.ifft(g * jnp.fft.fft(x))).real.astype(x.dtype),)

    return custom(f, lambda x: (f(x), x), backward), (draw(50, 6),), {}


@foreign
def circular_convolution():
    """A product of spectra; backward correlates."""

    def convolve(a, b):
        return jnp.fft.irfft(jnp.fft.rfft(a) * jnp.fft.rfft(b), n=a.size).astype(a.dtype)

    def correlate(g, b):
        return jnp.fft.irfft(jnp.fft.rfft(g) * jnp.fft.rfft(b).conj(), n=g.size).astype(g.dtype)

    f = custom(
        convolve,
        lambda a, b: (convolve(a, b), (a, b)),
        lambda r, g: (correlate(g, r[1]), correlate(g, r[0])),
    )
    return f, (draw(51, 6), draw(52, 6)), {}


@foreign
def complex_modulus():
    """A complex number between two real arguments and a real value."""

    def f(x, y):
        z = x + 1j * y
        return jnp.abs(z * z + 1)

    def backward(res, g):
        z = res[0] + 1j * res[1]
        w = z * z + 1
        d = g * 2 * z * w.conj() / jnp.abs(w)
        return d.real.astype(g.dtype), (-d.imag).astype(g.dtype)

    return custom(f, lambda x, y: (f(x, y), (x, y)), backward), (draw(53, 3), draw(54, 3)), {}


# Attention, losses, infinities


@foreign
def attention_with_a_mask():
    """-inf where keys are masked; the backward pass keeps the weights."""
    mask = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)

    def weights(q, k):
        return jax.nn.softmax(jnp.where(mask, q @ k.T / 2.0, -jnp.inf), axis=-1)

    def backward(res, g):
        q, k, v, p = res
        dp = g @ v.T
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / 2.0
        return ds @ k, ds.T @ q, p.T @ g

    f = custom(
        lambda q, k, v: weights(q, k) @ v,
        lambda q, k, v: ((p := weights(q, k)) @ v, (q, k, v, p)),
        backward,
    )
    return f, (draw(55, 3, 4), draw(56, 3, 4), draw(57, 3, 2)), {}


@foreign
def infinite_scores():
    """The scores themselves hold -inf, as a caller has masked them: softmax, kept in its output."""
    scores = draw(58, 3, 4)
    scores[0, 1] = scores[2, 3] = -np.inf
    f = custom(
        lambda s: jax.nn.softmax(s, axis=-1),
        lambda s: (y := jax.nn.softmax(s, axis=-1), y),
        lambda y, g: (y * (g - (g * y).sum(-1, keepdims=True)),),
    )
    return f, (scores,), {}


@foreign
def recomputed_attention():
    """Causal attention that keeps logsumexp alone and computes the weights again."""
    causal = np.tril(np.ones((4, 4), bool))

    def scores(q, k):
        return jnp.where(causal, q @ k.T, -jnp.inf)

    def f(q, k, v):
        return jnp.exp(scores(q, k) - jax.nn.logsumexp(scores(q, k), 1, keepdims=True)) @ v

    def forward(q, k, v):
        o = f(q, k, v)
        return o, (q, k, v, o, jax.nn.logsumexp(scores(q, k), 1, keepdims=True))

    def backward(res, g):
        q, k, v, o, lse = res
        p = jnp.exp(scores(q, k) - lse)
        ds = p * (g @ v.T - (g * o).sum(1, keepdims=True))
        return ds @ k, ds.T @ q, p.T @ g

    return custom(f, forward, backward), (draw(59, 4, 2), draw(60, 4, 2), draw(61, 4, 3)), {}


@foreign
def ignored_labels():
    """Cross entropy, the mean over the labels that are not -100."""
    labels = np.array([1, -100, 0, 2])

    def f(z, labels):
        kept = labels != -100
        picked = jnp.take_along_axis(z, jnp.where(kept, labels, 0)[:, None], 1)[:, 0]
        return jnp.where(kept, jax.nn.logsumexp(z, 1) - picked, 0).sum() / kept.sum()

    def backward(res, g):
        z, labels = res
        kept = labels != -100
        d = jax.nn.softmax(z, 1) - jax.nn.one_hot(labels, z.shape[1], dtype=z.dtype)
        return jnp.where(kept[:, None], d, 0) * g / kept.sum(), None

    return custom(f, lambda z, n: (f(z, n), (z, n)), backward), (draw(62, 4, 3), labels), {}


@foreign
def all_labels_ignored_in_a_row():
    """A weight of zero makes a row count for nothing."""

    def f(z, w):
        return (w * jax.nn.log_softmax(z)[:, 0]).sum()

    def backward(res, g):
        z, w = res
        d = jnp.eye(z.shape[1], dtype=z.dtype)[0] - jax.nn.softmax(z)
        return g * w[:, None] * d, g * jax.nn.log_softmax(z)[:, 0]

    args = (draw(63, 3, 4), np.array([0.0, 1.0, 2.0], np.float32))
    return custom(f, lambda z, w: (f(z, w), (z, w)), backward), args, {}


# Stable forms


@foreign
def softplus():
    """Smooth, and written with max and abs; one argument is 0."""

    def f(x):
        return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))

    rule = custom(f, lambda x: (f(x), x), lambda x, g: (g * jax.nn.sigmoid(x),))
    return rule, (np.array([-3, -0.5, 0, 2, 30], np.float32),), {}


@foreign
def log_sigmoid():
    """log(1 / (1 + exp(-x))) in its stable form."""
    f = custom(
        lambda x: -jnp.logaddexp(0.0, -x), lambda x: (-jnp.logaddexp(0.0, -x), x),
        lambda x, g: (g * jax.nn.sigmoid(-x),),
    )  # fmt: skip
    return f, (np.array([-20, -1, 0.5, 3], np.float32),), {}


@foreign
def logsumexp():
    """The largest is taken out, under stop_gradient."""

    def f(x):
        m = lax.stop_gradient(x.max(-1, keepdims=True))
        return (jnp.log(jnp.exp(x - m).sum(-1, keepdims=True)) + m)[..., 0]

    rule = custom(
        f, lambda x: (y := f(x), (x, y)), lambda r, g: (g[:, None] * jnp.exp(r[0] - r[1][:, None]),)
    )
    return rule, (30 + draw(64, 3, 4),), {}


@foreign
def stable_sigmoid():
    """s(x) s(-x), which keeps the right tail that y (1 - y) loses."""
    s = jax.nn.sigmoid
    rule = custom(s, lambda x: (s(x), x), lambda x, g: (g * s(x) * s(-x),))
    return rule, (np.array([-40, -3, 0, 5, 40], np.float32),), {}


@foreign
def safe_norm():
    """The norm of rows, one of them zero: both wheres of the usual trick."""

    def f(x):
        n2 = (x * x).sum(1)
        safe = jnp.where(n2 > 0, n2, 1)
        return jnp.where(n2 > 0, jnp.sqrt(safe), 0)

    def backward(res, g):
        x, n = res
        return (jnp.where(n[:, None] > 0, x / jnp.where(n > 0, n, 1)[:, None], 0) * g[:, None],)

    x = draw(65, 3, 2)
    x[1] = 0
    return custom(f, lambda x: (n := f(x), (x, n)), backward), (x,), {}


@foreign
def logaddexp():
    """Two arguments, far apart in one place."""

    def backward(res, g):
        x, y, z = res
        return g * jnp.exp(x - z), g * jnp.exp(y - z)

    f = custom(jnp.logaddexp, lambda x, y: (z := jnp.logaddexp(x, y), (x, y, z)), backward)
    return f, (np.array([0, 1, -20], np.float32), np.array([1, 1, 20], np.float32)), {}


@foreign
def sinc_at_zero():
    """sin(x) / x with its series where x is small."""

    def f(x):
        far = jnp.sin(x) / jnp.where(x == 0, 1, x)
        return jnp.where(jnp.abs(x) < 1e-2, 1 - x**2 / 6 + x**4 / 120, far)

    def backward(x, g):
        safe = jnp.where(x == 0, 1, x)
        far = (safe * jnp.cos(safe) - jnp.sin(safe)) / safe**2
        return (g * jnp.where(jnp.abs(x) < 1e-2, -x / 3 + x**3 / 30, far),)

    return custom(f, lambda x: (f(x), x), backward), (np.array([0, 1e-3, 0.7, -2], np.float32),), {}


# Indices and order


@foreign
def maximum_by_argmax():
    """The cotangent goes to the first of the largest."""
    f = custom(
        lambda x: x.max(1),
        lambda x: (x.max(1), (x.argmax(1), x)),
        lambda r, g: (jax.nn.one_hot(r[0], r[1].shape[1], dtype=g.dtype) * g[:, None],),
    )
    return f, (draw(66, 3, 4),), {}


@foreign
def sorting():
    """The permutation is kept and inverted."""

    def forward(x):
        order = jnp.argsort(x)
        return x[order], order

    f = custom(
        lambda x: jnp.sort(x), forward, lambda order, g: (jnp.zeros_like(g).at[order].set(g),)
    )
    return f, (draw(67, 6),), {}


@foreign
def top_k():
    """The values of lax.top_k; the cotangent is scattered."""

    def forward(x):
        values, i = lax.top_k(x, 2)
        return values, (x, i)

    def backward(res, g):
        x, i = res
        return (jnp.zeros_like(x).at[jnp.arange(x.shape[0])[:, None], i].add(g),)

    return custom(lambda x: lax.top_k(x, 2)[0], forward, backward), (draw(68, 3, 5),), {}


@foreign
def segment_sum():
    """scatter-add forward, gather backward."""

    def f(x, i):
        return jnp.zeros((3, x.shape[1]), x.dtype).at[i].add(x)

    return (
        custom(f, lambda x, i: (f(x, i), i), lambda i, g: (g[i], None)),
        (draw(69, 5, 2), np.array([0, 2, 2, 1, 0])),
        {},
    )


@foreign
def interpolation():
    """jnp.interp by x and by the values at the knots."""
    knots = np.array([0, 1, 2, 4], np.float32)

    def parts(x):
        i = jnp.clip(jnp.searchsorted(knots, x, side="right") - 1, 0, 2)
        left, right = jnp.asarray(knots, x.dtype)[i], jnp.asarray(knots, x.dtype)[i + 1]
        return i, (x - left) / (right - left), right - left

    def f(x, y):
        i, t, _ = parts(x)
        return y[i] * (1 - t) + y[i + 1] * t

    def backward(res, g):
        x, y = res
        i, t, width = parts(x)
        dy = jnp.zeros_like(y).at[i].add(g * (1 - t)).at[i + 1].add(g * t)
        return g * (y[i + 1] - y[i]) / width, dy

    rule = custom(f, lambda x, y: (f(x, y), (x, y)), backward)
    return rule, (np.array([0.3, 1.6, 3.1], np.float32), draw(70, 4)), {}


@foreign
def convolution():
    """jnp.convolve; wants the second argument to be the shorter one."""

    def backward(res, g):
        x, w = res
        return jnp.convolve(g, w[::-1], mode="full"), jnp.convolve(x[::-1], g, mode="valid")

    def f(x, w):
        return jnp.convolve(x, w, mode="valid")

    return custom(f, lambda x, w: (f(x, w), (x, w)), backward), (draw(71, 8), draw(72, 3)), {}


@foreign
def cumulative_sum():
    """Backward it runs from the end."""
    f = custom(
        lambda x: jnp.cumsum(x, axis=0),
        lambda x: (jnp.cumsum(x), None),
        lambda _, g: (jnp.cumsum(g[::-1])[::-1],),
    )
    return f, (draw(73, 6),), {}


@foreign
def cumulative_product():
    """y_j / x_i, added over j >= i."""

    def backward(res, g):
        x, y = res
        return (jnp.cumsum((g * y)[::-1])[::-1] / x,)

    f = custom(lambda x: jnp.cumprod(x), lambda x: (y := jnp.cumprod(x), (x, y)), backward)
    return f, (positive(74, 5),), {}


@foreign
def trapezoid_rule():
    """The integral over uneven steps, by both arguments."""

    def f(y, t):
        return ((y[1:] + y[:-1]) * (t[1:] - t[:-1])).sum() / 2

    def backward(res, g):
        y, t = res
        d, s = t[1:] - t[:-1], y[1:] + y[:-1]
        dy = jnp.zeros_like(y).at[1:].add(d).at[:-1].add(d)
        return g * dy / 2, g * jnp.zeros_like(t).at[1:].add(s).at[:-1].add(-s) / 2

    t = np.cumsum(positive(76, 5)).astype(np.float32)
    return custom(f, lambda y, t: (f(y, t), (y, t)), backward), (draw(75, 5), t), {}


# Habits, sizes, precisions


@foreign
def numpy_habits():
    """Python floats, in-place thinking, rank promotion: x + b."""

    def f(x, b):
        return 0.5 * (x + b) ** 2.0 + 1.0

    def backward(res, g):
        x, b = res
        d = g * 1.0 * (x + b)
        return d, np.float32(1.0) * d.sum(axis=0)

    return custom(f, lambda x, b: (f(x, b), (x, b)), backward), (draw(77, 3, 2), draw(78, 2)), {}


@foreign
def huber():
    """The corners are not met by the arguments."""

    def f(x):
        a = jnp.abs(x)
        return jnp.where(a < 1.0, 0.5 * x * x, a - 0.5)

    args = (np.array([-3, -0.4, 0.2, 0.9, 1.7], np.float32),)
    return custom(f, lambda x: (f(x), x), lambda x, g: (g * jnp.clip(x, -1.0, 1.0),)), args, {}


@foreign
def even_sizes_only():
    """A gated unit that raises where the last axis is odd."""

    def halves(x):
        if x.shape[-1] % 2:
            raise ValueError("glu: the last axis must be even")
        return jnp.split(x, 2, -1)

    def f(x):
        a, b = halves(x)
        return a * jax.nn.sigmoid(b)

    def backward(x, g):
        a, b = halves(x)
        s = jax.nn.sigmoid(b)
        return (jnp.concatenate([g * s, g * a * s * (1 - s)], -1),)

    return custom(f, lambda x: (f(x), x), backward), (draw(79, 3, 4),), {}


@foreign(tolerance=2e-3, step=0.1)
def float32_inside():
    """Computes in float32, whatever it is given, and returns the dtype that it got."""

    def normalized(x):
        x = x.astype(jnp.float32)
        r = lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        return x * r, r

    def backward(res, g):
        x, w = res
        y, r = normalized(x)
        g = g.astype(jnp.float32)
        d = g * w.astype(jnp.float32)
        dx = r * (d - y * (d * y).mean(-1, keepdims=True))
        return dx.astype(x.dtype), (g * y).sum(0).astype(w.dtype)

    def f(x, w):
        return normalized(x)[0].astype(x.dtype) * w

    return custom(f, lambda x, w: (f(x, w), (x, w)), backward), (draw(80, 3, 4), draw(81, 4)), {}


@foreign
def bfloat16_arguments():
    """bfloat16 in and out, sums at least in float32."""

    def wide(a):
        return a if a.dtype == jnp.float64 else a.astype(jnp.float32)

    def f(x, w):
        return (wide(x) @ wide(w)).astype(x.dtype)

    def backward(res, g):
        x, w = res
        return (wide(g) @ wide(w).T).astype(x.dtype), (wide(x).T @ wide(g)).astype(w.dtype)

    args = (jnp.asarray(draw(82, 3, 4), jnp.bfloat16), jnp.asarray(draw(83, 4, 2), jnp.bfloat16))
    return custom(f, lambda x, w: (f(x, w), (x, w)), backward), args, {}


@foreign
def float16_arguments():
    """float16 in and out."""
    f = custom(jnp.tanh, lambda x: (y := jnp.tanh(x), y), lambda y, g: (g * (1 - y * y),))
    return f, (jnp.asarray(draw(84, 5), jnp.float16),), {}


@foreign
def batched_matmul():
    """einsum on both sides."""

    def f(a, b):
        return jnp.einsum("bij,bjk->bik", a, b)

    def backward(res, g):
        a, b = res
        return jnp.einsum("bik,bjk->bij", g, b), jnp.einsum("bij,bik->bjk", a, g)

    args = (draw(85, 2, 3, 2), draw(86, 2, 2, 3))
    return custom(f, lambda a, b: (f(a, b), (a, b)), backward), args, {}


@foreign
def layer_norm():
    """All three gradients, by the closed formula; mean far from zero."""

    def stats(x):
        c = x - x.mean(-1, keepdims=True)
        r = 1 / jnp.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)
        return c * r, r

    def f(x, g, b):
        return stats(x)[0] * g + b

    def backward(res, dy):
        x, g = res
        y, r = stats(x)
        d = dy * g
        dx = r * (d - d.mean(-1, keepdims=True) - y * (d * y).mean(-1, keepdims=True))
        return dx, (dy * y).sum(0), dy.sum(0)

    args = (5 + draw(87, 3, 4), draw(88, 4), draw(89, 4))
    return custom(f, lambda x, g, b: (f(x, g, b), (x, g)), backward), args, {}


# Gradients that differ on purpose


@foreign
def straight_through():
    """round, with the gradient of the identity."""
    f = custom(lambda x: jnp.round(x), lambda x: (jnp.round(x), None), lambda _, g: (g,))
    options = {"intent": "surrogate", "reference": lambda x: x}
    return f, (draw(90, 4, scale=3),), options


@foreign
def reversed_gradient():
    """The identity, with the gradient of its negative."""
    f = custom(lambda x: x * 1, lambda x: (x * 1, None), lambda _, g: (-g,))
    return f, (draw(91, 4),), {"intent": "surrogate", "reference": lambda x: -x}
