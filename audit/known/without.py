"""Functions without a rule, of which automatic differentiation makes a wrong derivative."""

from __future__ import annotations

from known.finding import Finding

_SPENCE = Finding(
    slug="jax-spence",
    package="jax",
    function="jax.scipy.special.spence",
    kind="no rule",
    title="spence: the gradient is NaN between 1 and 2, and zero at 1",
    wrong="""
`spence` is made of `piecewise` and `where`, of which all branches are differentiated. Above 1 and
up to 2 the one with `log(1 - x)`, which is not taken, is NaN, and reaches the gradient as 0 times
NaN. At 1 the branch is the constant 0, whose derivative is 0. Near zero it is off by 1, as `log(1 -
x)` is rounded to 0.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
for x in (1e-20, 1.2, 1.7, 1.0):
    printed = jax.grad(jax.scipy.special.spence)(x)
    true = mp.log(x) / (1 - mp.mpf(x)) if x != 1 else -1  # the integrand that defines it
    y = jnp.float32(x)
    proposed = jnp.where(y == 1, -1.0, jnp.log(y) / jnp.where(y == 1, 1.0, 1 - y))
    print(f"at {x}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="the integrand in the function's definition, by mpmath at 50 digits, and its limit at 1",
    formula="`log(x) / (1 - x)`, and -1 at 1: a custom JVP of one line.",
)

_LOGSUMEXP = Finding(
    slug="jax-logsumexp-by-b",
    package="jax",
    function="jax.scipy.special.logsumexp",
    kind="no rule",
    title="logsumexp: the gradient by b is zero where b is zero",
    wrong="""
Where a weight is zero its term is replaced by minus infinity (`a = where(b != 0, a, -inf)`), and
with the term goes the derivative by the weight. The function is smooth there: `b exp(a)` is linear
in `b`.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
a = jnp.array([0.0, 1.0])
f = lambda b: jax.scipy.special.logsumexp(a, b=jnp.array([b, 1.0]))
true = mp.diff(lambda b: mp.log(b + mp.e), 0)
proposed = jnp.exp(a[0] - f(0.0))
print(f"by b[0]: printed {jax.grad(f)(0.0):.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of log(b + e) at 50 digits",
    formula="""
`exp(a - out)`, times the sign of the sum. The term must be dropped only where `exp(a)` would be
infinite or NaN beside a zero weight; else `b * exp(a)` is right as it is, and so is its derivative.
""",
)

_FOCAL = Finding(
    slug="optax-sigmoid-focal-loss",
    package="optax",
    function="optax.losses.sigmoid_focal_loss",
    kind="no rule",
    title="sigmoid_focal_loss: wrong gradient by labels at labels 0 and 1",
    wrong="""
`log(1 - p_t)` is taken by `logsumexp(..., b=[1 - labels, labels])`, whose derivative by a weight of
zero is zero in JAX. At hard labels one of the two weights is zero, and half of the derivative is
lost: at label 1 even its sign is wrong. Who learns or smooths the labels, or distills through them,
gets it.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp, optax
mp.mp.dps = 50
printed = jax.grad(lambda y: optax.losses.sigmoid_focal_loss(jnp.float32(0.5), y))(1.0)
p, q = 1 / (1 + mp.exp(-mp.mpf(0.5))), jax.nn.sigmoid(0.5)
cross = lambda y, p, m: -y * m.log(p) - (1 - y) * m.log(1 - p)
loss = lambda y, p, m: cross(y, p, m) * (y * (1 - p) + (1 - y) * p) ** 2
true, proposed = mp.diff(lambda y: loss(y, p, mp), 1), jax.grad(lambda y: loss(y, q, jnp))(1.0)
print(f"by labels: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of the documented formula at 50 digits",
    formula="""
`1 - p_t = labels (1 - p) + (1 - labels) p` needs no logarithm: `(1 - p_t) ** gamma` of that sum,
with `p = sigmoid(logits)` and `1 - p = sigmoid(-logits)`, is differentiable by the labels.
""",
)

_HYPOT = Finding(
    slug="jax-hypot",
    package="jax",
    function="jax.numpy.hypot",
    kind="no rule",
    title="hypot: wrong gradient at large and at small numbers",
    wrong="""
The value is scaled so that nothing overflows. Its automatic derivative is not: that of the quotient
`x2 / x1` squares its denominator. In float32 it is off from about 1e19 on, where the derivative by
one of the arguments comes out as 1.25 (no derivative of a norm is larger than 1), and it is NaN
below 1e-19.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
for x in ((3e25, 4e25), (3e-25, 4e-25)):
    printed = jax.grad(jnp.hypot, (0, 1))(*x)
    true = [v / mp.sqrt(mp.mpf(x[0]) ** 2 + mp.mpf(x[1]) ** 2) for v in x]
    proposed = [v / jnp.hypot(*x) for v in x]
    for name, p, t, q in zip(("first", "second"), printed, true, proposed):
        print(f"{x} by the {name}: printed {p:.6g}, true {float(t):.6g}, proposed {q:.6g}")
""",
    truth="x / sqrt(x^2 + y^2) by mpmath at 50 digits",
    formula="`x1 / hypot(x1, x2)` and `x2 / hypot(x1, x2)`: a custom JVP.",
)

_SINC = Finding(
    slug="jax-sinc",
    package="jax",
    function="jax.numpy.sinc",
    kind="digits",
    title="sinc: wrong gradient next to zero",
    wrong="""
`sinc` has a rule for exactly zero. Beside it the derivative is that of `sin(pi x) / (pi x)`, in
which two terms cancel: in float32 it is 4 times too large at 1e-4, and minus infinity at 1e-20.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 80
for x in (1e-20, 1e-4, 1e-2):
    printed = jax.grad(jnp.sinc)(x)
    t = mp.mpf(x) * mp.pi
    true = mp.pi * (t * mp.cos(t) - mp.sin(t)) / t**2
    w = (jnp.pi * jnp.float32(x)) ** 2
    proposed = -jnp.pi**2 * x / 3 * (1 - w / 10 * (1 - w / 28 * (1 - w / 54)))
    print(f"at {x}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="the derivative of sin(pi x) / (pi x) by mpmath at 80 digits",
    formula="""
Where `|x|` is below about 0.2, the series: `-pi^2 x / 3 (1 - w/10 (1 - w/28 (1 - w/54)))` with `w =
(pi x)^2`; else `(cos(pi x) - sinc(x)) / x`.
""",
)

_BOXCOX = Finding(
    slug="jax-boxcox",
    package="jax",
    function="jax.scipy.special.boxcox, jax.scipy.special.boxcox1p",
    kind="no rule",
    title="boxcox and boxcox1p: the gradient by lmbda is zero at 0, and noise next to it",
    wrong="""
At `lmbda = 0` the branch `log(x)` does not know `lmbda`, and the gradient is 0: a fit that begins
there never leaves it. The function is smooth there. Next to 0 the derivative of `expm1(lmbda
log(x)) / lmbda` cancels: at 1e-6 in float32 no digit is right.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
for name, y in (("boxcox", 2), ("boxcox1p", 3)):
    for k in (0.0, 1e-6):
        p = jax.grad(getattr(jax.scipy.special, name), 1)(2.0, k)
        terms = [mp.log(y) ** n * mp.mpf(k) ** (n - 2) for n in range(2, 30)]
        t = sum(term * (n - 1) / mp.factorial(n) for n, term in enumerate(terms, 2))
        log, u = jnp.log(y), k * jnp.log(y)
        q = log**2 * (1 / 2 + u / 3 + u**2 / 8 + u**3 / 30)
        print(f"{name} by lmbda at {k}: printed {p:.6g}, true {float(t):.6g}, proposed {q:.6g}")
""",
    truth="the derivative of the power series in lmbda, by mpmath",
    formula="""
With `L = log(x)` and `u = lmbda L`, where `|u|` is small: `L^2 (1/2 + u/3 + u^2/8 + u^3/30 + ...)`,
the series of `(u exp(u) - expm1(u)) / u^2`.
""",
)

_HARMONIC = Finding(
    slug="jax-sph-harm-y",
    package="jax",
    function="jax.scipy.special.sph_harm_y",
    kind="no rule",
    title="sph_harm_y: the gradient by theta is NaN or infinite at and near both poles",
    wrong="""
The associated Legendre functions are made from `x = cos(theta)` with `sqrt(1 - x^2)` for the sine.
At `theta = 0` the derivative of that root is infinity times 0, and in float32 it is infinite up to
about 3e-4, where `cos(theta)` rounds to 1. The harmonics are smooth at the poles. So are they by
`phi`, where the sine that is rounded to 0 takes the derivative with it.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
from jax.scipy.special import sph_harm_y
n, m, phi = jnp.array([2]), jnp.array([1]), jnp.array([0.5])
f = lambda t: sph_harm_y(n, m, t[None], phi, n_max=2)[0].real
ours = lambda t: -jnp.sqrt(15 / (8 * jnp.pi)) * jnp.cos(t) * jnp.sin(t) * jnp.cos(0.5)
for theta in (1e-6, 1e-4, 3.1415):
    true = mp.diff(lambda t: mp.re(mp.spherharm(2, 1, t, 0.5)), theta)
    print(f"by theta at {theta}: printed {jax.grad(f)(theta):.6g}, "
          f"true {float(true):.6g}, proposed {jax.grad(ours)(theta):.6g}")
""",
    truth="the derivative of the real part of mpmath's spherical harmonic",
    formula="""
`sin(theta)` itself where `sqrt(1 - cos(theta)^2)` stands: the program does it for `n = 2, m = 1`,
which is `-sqrt(15 / (8 pi)) cos(theta) sin(theta) exp(i phi)`.
""",
)

_TRUNCNORM = Finding(
    slug="jax-truncnorm",
    package="jax",
    function="jax.scipy.stats.truncnorm.cdf, jax.scipy.stats.truncnorm.sf",
    kind="no rule",
    title="truncnorm: the gradient of cdf and sf is NaN where the bounds lie in one tail",
    wrong="""
`cdf` and `sf` are the logarithm of a difference of two exponentials, chosen with `where` from forms
for the left tail, the right and the middle. The forms that are not taken are NaN there, and their
NaN reaches the gradient as 0 times NaN: by `x`, and by the bound further out. The value is right.
`logcdf`, `logsf` and, with an infinite bound, `logpdf` by the bounds have it, too.
""",
    program="""
import jax, mpmath as mp
from jax.scipy.stats import truncnorm
mp.mp.dps = 50
x = (5.5, 5.0, 6.0)
printed = jax.grad(truncnorm.cdf, (0, 1, 2))(*x)
exact = lambda x, a, b: (mp.ncdf(-a) - mp.ncdf(-x)) / (mp.ncdf(-a) - mp.ncdf(-b))
true = [mp.diff(exact, x, n) for n in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
pdf, rest, cdf = lambda v: truncnorm.pdf(v, *x[1:]), truncnorm.sf(*x), truncnorm.cdf(*x)
for name, p, t, q in zip("xab", printed, true, (pdf(x[0]), -pdf(x[1]) * rest, -pdf(x[2]) * cdf)):
    print(f"by {name}: printed {p:.6g}, true {float(t):.6g}, proposed {q:.6g}")
""",
    truth="mpmath, the derivatives of the quotient of normal probabilities at 50 digits",
    formula="""
`pdf(x)` by `x`, `-pdf(a) sf(x)` by `a`, `-pdf(b) cdf(x)` by `b`: a custom JVP, for `cdf`, with the
signs turned for `sf`; for the logarithms divided by the value.
""",
)

FINDINGS = (_BOXCOX, _TRUNCNORM, _HARMONIC, _SPENCE, _LOGSUMEXP, _FOCAL, _HYPOT, _SINC)
