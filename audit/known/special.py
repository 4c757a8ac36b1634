"""Rules of jax.scipy.special whose formula is wrong."""

from __future__ import annotations

from known.finding import Finding

_DIGAMMA = Finding(
    slug="jax-digamma",
    package="jax",
    function="jax.scipy.special.digamma, jax.scipy.special.polygamma",
    kind="formula",
    title="digamma: wrong gradient below -7, by up to 12 orders of magnitude",
    wrong="""
`digamma` reflects negative arguments; its JVP, `polygamma(1, x)`, does not. That is a zeta
function, which sums its first terms, and then goes on with an expansion for large positive
arguments. Below about -7 it is far off and has the wrong sign, also as a value and in float64: a
trigamma function is positive.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
trigamma = jax.grad(jax.scipy.special.digamma)
for x in (-8.5, -9.5, -20.5):
    true = mp.psi(1, x)
    proposed = (jnp.pi / jnp.sin(jnp.pi * jnp.float32(x))) ** 2 - trigamma(1 - x)
    print(f"at {x}: printed {trigamma(x):.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="the trigamma function by mpmath at 50 digits",
    formula="""
For negative `x` the reflection `pi^2 / sin(pi x)^2 - polygamma(1, 1 - x)`, with `x` taken modulo 1
in the sine. In general `polygamma(n, x)` reflects with the n-th derivative of `-pi cot(pi x)`.
""",
)

_XLOGY_AT_ZERO = Finding(
    slug="jax-xlogy-at-zero",
    package="jax",
    function="jax.scipy.special.xlogy, jax.scipy.special.xlog1py, and counts in jax.scipy.stats",
    kind="formula",
    title="xlogy(0, y) at y = 0: NaN gradient, and so bernoulli, binom and poisson at their ends",
    wrong="""
The rule of `xlogy` is there so that "automatic differentiation is well-defined" at zero, and takes
`x / y` for `y`: at `x = y = 0` NaN. `xlogy(0, y)` is 0 for every `y >= 0`, as its derivative is.
The log probability of an outcome that is certain then has a NaN for a gradient:
`bernoulli.logpmf(1, 1.0)`, `binom.logpmf(0, n, 0.0)`, `geom.logpmf(1, 1.0)`,
`poisson.logpmf(0, 0.0)`, where the truth is finite.
""",
    program="""
import jax, jax.numpy as jnp
from jax.scipy import special, stats
ours = lambda x, y: 0 * y if x == 0 else x * jnp.log(y)  # by y: where(x == 0, 0, x / y)
for name, f, own, at, t in (
    ("xlogy(0, y)", lambda y: special.xlogy(0.0, y), lambda y: ours(0, y), 0.0, 0),
    ("bernoulli 1", lambda p: stats.bernoulli.logpmf(1, p), lambda p: ours(1, p), 1.0, 1),
    ("binom 0", lambda p: stats.binom.logpmf(0, 9, p), lambda p: ours(9, 1 - p), 0.0, -9),
    ("poisson 0", lambda m: stats.poisson.logpmf(0, m), lambda m: ours(0, m) - m, 0.0, -1)):
    print(f"{name} at {at}: printed {jax.grad(f)(at)}, true {t}, proposed {jax.grad(own)(at):.6g}")
""",
    truth="the derivative from inside: of 0, log(p), 9 log(1 - p) and -mu",
    formula="""
By `y`: `where(x == 0, 0, x / where(x == 0, 1, y))` in `xlogy`, and with `1 + y` in `xlog1py`.
""",
)

_XLOGY = Finding(
    slug="jax-xlogy-of-integers",
    package="jax",
    function="jax.scipy.special.xlogy, jax.scipy.special.xlog1py, jax.scipy.stats.gumbel_r.logpdf",
    kind="raises",
    title="xlogy(n, y) with a whole n has no gradient by y: TypeError; gumbel by scale, too",
    wrong="""
The JVPs of `xlogy` and `xlog1py` multiply both tangents. That of a Python integer, or of an integer
array, is a `float0`, and the product raises "Called multiply with a float0 array". JAX itself calls
`xlogy(-1, scale)`: `logpdf`, `pdf` and `ppf` of `stats.gumbel_r` and `stats.gumbel_l` cannot be
differentiated by `scale`. NaN stands for the TypeError below.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
from jax.scipy import special, stats
gumbel = lambda s, m: -m.log(s) - 0.5 / s - m.exp(-0.5 / s)
for name, f, own, t in (
    ("xlogy", lambda y: special.xlogy(3, y), lambda y: special.xlogy(3.0, y), 1.5),
    ("gumbel_r.logpdf", lambda s: stats.gumbel_r.logpdf(0.5, 0.0, s), lambda s: gumbel(s, jnp),
     mp.diff(lambda s: gumbel(s, mp), 2))):
    try: p = jax.grad(f)(2.0)
    except TypeError: p = jnp.nan
    print(f"{name}: printed {p:.6g}, true {float(t):.6g}, proposed {jax.grad(own)(2.0):.6g}")
""",
    truth="3 / y at 2, and the derivative by scale, at 2, of the log density at 0.5, by mpmath",
    formula="""
Promote before the rule: `x, y = promote_args_inexact("xlogy", x, y)` outside of the function that
has the custom JVP, so that the tangent of `x` is a float's. The program gives the integers as
floats.
""",
)

_HYP1F1 = Finding(
    slug="jax-hyp1f1",
    package="jax",
    function="jax.scipy.special.hyp1f1",
    kind="formula",
    title="hyp1f1: the gradient by a is zero at a = 0, and NaN at the negative whole numbers",
    wrong="""
`_hyp1f1_a_derivative` sums `(a)_k / (b)_k x^k / k! (digamma(a + k) - digamma(a))`. At `a = 0` each
term is 0 times infinity: its first one is 0, which ends the loop, and the sum is 0. The limit is
not; just beside it, at 1e-3, the rule gives 0.5998. At the negative whole numbers, where the
function is a polynomial, `digamma(a)` has a pole, too, and the sum is NaN.
""",
    program="""
import jax, mpmath as mp
mp.mp.dps = 50
for a in (0.0, -1.0):
    printed = jax.grad(jax.scipy.special.hyp1f1)(a, 2.0, 1.0)
    true = mp.diff(lambda a: mp.hyp1f1(a, 2, 1), a)
    proposed, term, slope = 0.0, 1.0, 0.0
    for k in range(30):  # b = 2, x = 1
        slope, term = [v / (2 + k) / (k + 1) for v in (slope * (a + k) + term, term * (a + k))]
        proposed += slope
    print(f"by a at {a}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of hyp1f1 by its first argument at 50 digits",
    formula="""
The derivative of each term of the series by the product rule, so that nothing is divided by
`(a)_k`: from `t_{k+1} = t_k (a + k) x / ((b + k) (k + 1))` comes `t_{k+1}' = (t_k' (a + k) + t_k) x
/ ((b + k) (k + 1))`. It holds at every `a`.
""",
)

_HYP2F1 = Finding(
    slug="jax-hyp2f1",
    package="jax",
    function="jax.scipy.special.hyp2f1",
    kind="formula",
    title="hyp2f1: the gradient by a is zero at a = 0, and NaN at the negative whole numbers",
    wrong="""
As in `hyp1f1`: the rule multiplies the terms of the series, which are 0 there, by differences of
digamma functions, which have a pole there. The function is a polynomial in `x` at these `a`, and
smooth in `a`.
""",
    program="""
import jax, mpmath as mp
mp.mp.dps = 50
for a in (0.0, -1.0):
    printed = jax.grad(jax.scipy.special.hyp2f1)(a, 1.5, 2.5, 0.25)
    true = mp.diff(lambda a: mp.hyp2f1(a, 1.5, 2.5, 0.25), a)
    proposed, term, slope = 0.0, 1.0, 0.0
    for k in range(40):
        r = 0.25 * (1.5 + k) / (2.5 + k) / (k + 1)
        proposed, slope, term = proposed + slope, (slope * (a + k) + term) * r, term * (a + k) * r
    print(f"by a at {a}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of hyp2f1 by its first argument at 50 digits",
    formula="""
The derivative of each term by the product rule: from
`t_{k+1} = t_k (a + k) (b + k) x / ((c + k) (k + 1))` comes
`t_{k+1}' = (t_k' (a + k) + t_k) (b + k) x / ((c + k) (k + 1))`. By `b` likewise.
""",
)

FINDINGS = (_DIGAMMA, _XLOGY_AT_ZERO, _XLOGY, _HYP1F1, _HYP2F1)
