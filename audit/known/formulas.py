"""Rules whose formula is wrong, or that answer zero where they know no derivative."""

from __future__ import annotations

from known.finding import Finding

_LAW_DENSITY = Finding(
    slug="numpyro-power-law-log-prob",
    package="numpyro",
    function="numpyro.distributions.DoublyTruncatedPowerLaw.log_prob",
    kind="formula",
    title="DoublyTruncatedPowerLaw.log_prob: wrong gradient by low and by high",
    wrong="""
The tangents of `low` and `high` in the custom JVP of `log_prob` are those of the density, and not
of its logarithm: the division by the density is missing, and `high` has the other sign, too (its
sign is right at `alpha = -1` only). The gradients by `value` and `alpha` are right. Anything that
fits the bounds, or draws them in a sampler that follows gradients, goes the wrong way.
""",
    program="""
import jax, mpmath as mp
from numpyro.distributions import DoublyTruncatedPowerLaw as Law
mp.mp.dps = 50
f = lambda low, high: Law(0.5, low, high, validate_args=False).log_prob(2.0)
printed = jax.grad(f, (0, 1))(1.0, 3.0)
exact = lambda low, high: mp.log(1.5 * mp.sqrt(2) / (high ** mp.mpf(1.5) - low ** mp.mpf(1.5)))
true = mp.diff(exact, (1, 3), (1, 0)), mp.diff(exact, (1, 3), (0, 1))
proposed = 1.5 * 1.0**0.5 / (3.0**1.5 - 1.0), -1.5 * 3.0**0.5 / (3.0**1.5 - 1.0)
for name, p, t, q in zip(("by low", "by high"), printed, true, proposed):
    print(f"{name}: printed {p:.6g}, true {float(t):.6g}, proposed {q:.6g}")
""",
    truth="mpmath, the derivative of the logarithm of the density at 50 digits",
    formula="""
With `a = alpha + 1` and `m = high**a - low**a`: by `low` it is `a * low**alpha / m`, and by `high`
`-a * high**alpha / m`. At `alpha = -1`: `1 / (low * log(high / low))` and `-1 / (high * log(high /
low))`.
""",
)

_LAW_CDF = Finding(
    slug="numpyro-power-law-cdf",
    package="numpyro",
    function="numpyro.distributions.DoublyTruncatedPowerLaw.cdf",
    kind="formula",
    title="DoublyTruncatedPowerLaw.cdf: the gradient by high has the wrong sign at alpha = -1",
    wrong="""
In the custom JVP of `cdf`, the branch for `alpha = -1` gives the tangent of `high` without its
minus sign: the gradient says that more of the distribution lies below `value` when `high` grows. At
other `alpha` it is right.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
from numpyro.distributions import DoublyTruncatedPowerLaw as Law
mp.mp.dps = 50
printed = jax.grad(lambda high: Law(-1.0, 1.0, high).cdf(2.0))(3.0)
true = mp.diff(lambda high: mp.log(2) / mp.log(high), 3)
proposed = -jnp.log(2.0 / 1.0) / (3.0 * jnp.log(3.0 / 1.0) ** 2)
print(f"by high: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of log(value / low) / log(high / low) at 50 digits",
    formula="`-log(value / low) / (high * log(high / low)**2)` at `alpha = -1`.",
)

_QUADRATIC_FORM = Finding(
    slug="tfp-hpsd-quadratic-form-solve",
    package="tfp-nightly",
    function="tfp.math.hpsd_quadratic_form_solve",
    kind="formula",
    title="math.hpsd_quadratic_form_solve: wrong gradient by rhs unless the cotangent is symmetric",
    wrong="""
For `B^T A^-1 B` the rule pushes `2 B^T A^-1 dB`, and pulls `G` back to `2 A^-1 B G`. The product
rule gives `dB^T A^-1 B + B^T A^-1 dB`; the two agree under a symmetric `G` only. A single entry off
the diagonal, or any weights that are not symmetric, get a wrong gradient, in float64, too. A test
that sums over all entries does not see it.
""",
    program="""
import jax, jax.numpy as jnp
from tensorflow_probability.substrates.jax.math import hpsd_quadratic_form_solve
jax.config.update("jax_enable_x64", True)
a, b = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([[1.0, 2.0], [-1.0, 0.25]])
f = lambda b: hpsd_quadratic_form_solve(a, b)[0, 1]
step, g = jnp.zeros((2, 2)).at[0, 0].set(1e-6), jnp.zeros((2, 2)).at[0, 1].set(1.0)
true = (f(b + step) - f(b - step)) / 2e-6
printed, proposed = jax.grad(f)(b)[0, 0], (jnp.linalg.solve(a, b) @ (g + g.T))[0, 0]
print(f"by rhs[0, 0]: printed {printed:.6g}, true {true:.6g}, proposed {proposed:.6g}")
""",
    truth="central differences of the package's own function in float64",
    formula="The cotangent of `rhs` is `A^-1 B (G + G^T)`; forward `M + M^T`, `M = B^T A^-1 dB`.",
)

_CHI2_CDF = Finding(
    slug="tfp-noncentral-chi2-cdf",
    package="tfp-nightly",
    function="tfp.distributions.NoncentralChi2.cdf",
    kind="zero",
    title="NoncentralChi2.cdf: the gradient by df is zero, without a word",
    wrong="""
The rule of `cdf` returns None for the degrees of freedom, by which it has no formula. Under JAX a
None is a zero: whoever fits `df` gets a gradient that is exactly zero, and no error.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
from tensorflow_probability.substrates.jax.distributions import NoncentralChi2
mp.mp.dps = 50
printed = jax.grad(lambda df: NoncentralChi2(df, 1.0).cdf(2.0))(4.0)
part = lambda df, k: mp.exp(-0.5) / 2**k / mp.factorial(k) * mp.gammainc(df / 2 + k, 0, 1, True)
true = mp.diff(lambda df: sum(part(df, k) for k in range(40)), mp.mpf(4))
k = jnp.arange(30.0)
weights = jnp.exp(-0.5 - k * jnp.log(2) - jax.lax.lgamma(k + 1))
proposed = jax.grad(lambda df: weights @ jax.scipy.special.gammainc(df / 2 + k, 1.0))(4.0)
print(f"by df: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of the Poisson mixture of gamma distributions at 50 digits",
    formula="""
The distribution function is a mixture, weighted by Poisson's probabilities of `noncentrality / 2`,
of the regularized gamma functions of `df / 2 + k`, which JAX differentiates by their first
argument: so does the program. Where that is too dear, the rule should raise instead of answering
zero.
""",
)

_CHI2_QUANTILE = Finding(
    slug="tfp-noncentral-chi2-quantile",
    package="tfp-nightly",
    function="tfp.distributions.NoncentralChi2.quantile",
    kind="zero",
    title="NoncentralChi2.quantile: the gradient by noncentrality is zero, without a word",
    wrong="""
The rule of `quantile` returns None for the noncentrality. Under JAX a None is a zero, and no error.
""",
    program="""
import jax, mpmath as mp
from tensorflow_probability.substrates.jax.distributions import NoncentralChi2 as Chi2
mp.mp.dps = 30
printed = jax.grad(lambda shift: Chi2(3.0, shift).quantile(0.5))(1.0)
part = lambda x, s, k: (s / 2)**k / mp.factorial(k) * mp.gammainc(1.5 + k, 0, x / 2, True)
cdf = lambda x, s: mp.exp(-s / 2) * sum(part(x, s, k) for k in range(30))
true = mp.diff(lambda s: mp.findroot(lambda x: cdf(x, s) - 0.5, (3, 3.5), "secant"), mp.mpf(1))
x = Chi2(3.0, 1.0).quantile(0.5)
proposed = Chi2(5.0, 1.0).prob(x) / Chi2(3.0, 1.0).prob(x)
print(f"by noncentrality: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of the root of the distribution function at 30 digits",
    formula="""
By the implicit function theorem, as the derivative of the distribution function by the
noncentrality is minus the density with two more degrees of freedom: `prob(x; df + 2) / prob(x; df)`
at the quantile `x`.
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

FINDINGS = (
    _DIGAMMA,
    _XLOGY_AT_ZERO,
    _XLOGY,
    _LAW_DENSITY,
    _LAW_CDF,
    _QUADRATIC_FORM,
    _CHI2_CDF,
    _CHI2_QUANTILE,
    _HYP1F1,
)
