"""Rules of numpyro and TFP whose formula is wrong, or zero for what they do not know."""

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

FINDINGS = (_LAW_DENSITY, _LAW_CDF, _QUADRATIC_FORM, _CHI2_CDF, _CHI2_QUANTILE)
