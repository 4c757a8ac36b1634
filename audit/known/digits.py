"""Rules whose formula is right in exact numbers, and loses the derivative in floating point."""

from __future__ import annotations

from known.finding import Finding

_LOGADDEXP = Finding(
    slug="jax-logaddexp",
    package="jax",
    function="jax.numpy.logaddexp",
    kind="digits",
    title="logaddexp: the gradients do not add up to 1 at large numbers",
    wrong="""
The rule takes `exp(x1 - out)` with `out` as it was rounded. At 1e6 in float32 `out` has a last
place of 0.06, and the derivative is off by as much as that: by 1.8 % here. The two gradients of a
smooth maximum must add up to 1; here they add up to 1.018. In float64 it is the same from about
1e13 on.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
x = (1e6, 1e6 + 4)
printed = jax.grad(jnp.logaddexp, (0, 1))(*x)
true = 1 / (1 + mp.exp(4)), 1 / (1 + mp.exp(-4))
proposed = jax.nn.sigmoid(x[0] - x[1]), jax.nn.sigmoid(x[1] - x[0])
p, t, q = sum(printed), float(sum(true)), sum(proposed)
print(f"their sum: printed {p:.6g}, true {t:.6g}, proposed {q:.6g}")
p, t, q = printed[1], float(true[1]), proposed[1]
print(f"by the second: printed {p:.6g}, true {t:.6g}, proposed {q:.6g}")
""",
    truth="1 / (1 + exp(x1 - x2)) by mpmath at 50 digits",
    formula="`sigmoid(x1 - x2)` and `sigmoid(x2 - x1)`, with 1/2 each for equal infinities.",
)

_LOG_NDTR = Finding(
    slug="jax-log-ndtr",
    package="jax",
    function="jax.scipy.special.log_ndtr",
    kind="digits",
    title="log_ndtr: wrong gradient in the lower tail",
    wrong="""
The rule takes `exp(logpdf(x) - log_ndtr(x))`, the difference of two numbers near `-x^2 / 2`. At
-1000 in float32 these have a last place of 0.03, at -1e4 one of 4: there the gradient is 2981
instead of 10000. `jax.scipy.stats.norm.logcdf` and `logsf` inherit it.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
for x in (-1e3, -1e4):
    printed = jax.grad(jax.scipy.special.log_ndtr)(x)
    true = mp.npdf(mp.mpf(x)) / mp.ncdf(mp.mpf(x))
    proposed = jnp.sqrt(2 / jnp.pi) / jax.scipy.special.erfcx(-x / jnp.sqrt(2.0))
    print(f"at {x:.0f}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="npdf(x) / ncdf(x) by mpmath at 50 digits",
    formula="`sqrt(2 / pi) / erfcx(-x / sqrt(2))`, Mills' ratio: nothing is subtracted.",
)

_DAWSN = Finding(
    slug="jax-dawsn",
    package="jax",
    function="jax.scipy.special.dawsn",
    kind="digits",
    title="dawsn: wrong gradient at large numbers in float32",
    wrong="""
The rule is the differential equation, `1 - 2 x dawsn(x)`. At large `x` the product is near 1 and
nothing is left but its rounding: at 100 three digits, at 1e4 none, and compiled not even the sign.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
for x in (100.0, 1e4):
    printed = jax.grad(jax.scipy.special.dawsn)(x)
    s = 1 / mp.mpf(x) ** 2
    true = -sum(mp.fac2(2 * k - 1) * s**k / 2**k for k in range(1, 9))  # the asymptotic series
    w = 1 / jnp.float32(x) ** 2
    proposed = -w / 2 * (1 + w * 3 / 2 * (1 + w * 5 / 2 * (1 + w * 7 / 2)))
    print(f"at {x:.0f}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="the asymptotic series of 1 - 2 x D(x), by mpmath at 50 digits, good to 1e-30 there",
    formula="""
From about `x = 10` on (float32; about 30 in float64, with more terms), the series of the
derivative: `-w/2 (1 + 3w/2 (1 + 5w/2 (1 + 7w/2)))` with `w = x^-2`.
""",
)

_I0 = Finding(
    slug="jax-numpy-i0",
    package="jax",
    function="jax.numpy.i0",
    kind="digits",
    title="numpy.i0: the gradient loses its digits near zero",
    wrong="""
The value is `exp(|x|) i0e(|x|)`, and its rule differentiates that: two terms near 1 are subtracted,
and what is left is a derivative near `x / 2`. At 1e-4 in float32 most digits are lost, at 1e-10
all.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
for x in (1e-10, 1e-6):
    printed = jax.grad(jnp.i0)(x)
    true = mp.besseli(1, mp.mpf(x))
    proposed = jnp.exp(jnp.abs(x)) * jax.scipy.special.i1e(x)
    print(f"at {x}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="the Bessel function of order 1 by mpmath at 50 digits",
    formula="`exp(|x|) i1e(x)`, which is `jax.scipy.special.i1(x)`.",
)

_TANH = Finding(
    slug="jax-saturated-units",
    package="jax",
    function="jax.numpy.tanh, jax.nn.sigmoid, jax.nn.elu",
    kind="digits",
    title="tanh, sigmoid, expm1: the gradient of a saturated unit is zero long before it is tiny",
    wrong="""
The JVPs take `1 - y` (tanh, logistic) or `y + 1` (expm1) of the rounded `y`, and `y` rounds to one
early: in float32 at about 8, 17 and -17. The true derivatives are 4.5e-7, 4e-8 and 4e-8 there, far
from the smallest float32. A sigmoid keeps its gradient on one side and has none on the other. With
`accuracy=AccuracyMode.HIGHEST` the primitives have the formula that is right; the default has not.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
cases = [("tanh at 8", jnp.tanh, 8.0, mp.sech(8) ** 2, 1 / jnp.cosh(8.0) ** 2),
         ("sigmoid at 20", jax.nn.sigmoid, 20.0, mp.exp(-20) / (1 + mp.exp(-20)) ** 2,
          jax.nn.sigmoid(20.0) * jax.nn.sigmoid(-20.0)),
         ("elu at -20", jax.nn.elu, -20.0, mp.exp(-20), jnp.exp(-20.0))]
for name, f, x, true, proposed in cases:
    print(f"{name}: printed {jax.grad(f)(x):.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="the derivatives' closed forms by mpmath at 50 digits",
    formula="`1 / cosh(x)^2`, `sigmoid(x) sigmoid(-x)` and `exp(x)`.",
)

_DIVIDE = Finding(
    slug="jax-divide",
    package="jax",
    function="jax.numpy.divide",
    kind="range",
    title="division: the gradient by the denominator overflows at 1e-20",
    wrong="""
The JVP of `div` takes `-x * y**-2`. The square leaves float32 where the derivative does not: at `x
= y = 1e-20` it is infinite instead of -1e20, and at 1e20 zero, or a number that XLA rounds to zero.
Whatever divides inherits it: `hypot`, for one.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
for x in (1e-20, 1e20):
    printed = jax.grad(jnp.divide, 1)(x, x)
    true = -mp.mpf(x) / mp.mpf(x) ** 2
    proposed = -(jnp.float32(x) / x) / x
    print(f"{x} / {x}: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="-x / y^2 by mpmath",
    formula="`-(x / y) / y`; the quotient is there already, as the value.",
)

_ARCTAN2 = Finding(
    slug="jax-arctan2",
    package="jax",
    function="jax.numpy.arctan2, jax.numpy.arcsinh",
    kind="range",
    title="arctan2 and arcsinh: the gradient overflows or is zero, because of a square",
    wrong="""
The JVP of `atan2` divides by `x^2 + y^2`, that of `asinh` takes the root of `x^2 + 1`. In float32
the squares are zero below 1e-23 and infinite above 2e19: then the derivative is infinite, or zero.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
for x in (1e-25, 1e25):
    p, t = jax.grad(jnp.arctan2)(x, x), 1 / (2 * mp.mpf(x))
    q = jnp.float32(x) / jnp.hypot(x, x) / jnp.hypot(x, x)
    print(f"arctan2 at {x}, {x}: printed {p:.6g}, true {float(t):.6g}, proposed {q:.6g}")
p, t, q = jax.grad(jnp.arcsinh)(1e25), 1 / mp.mpf(1e25), 1 / jnp.hypot(1e25, 1.0)
print(f"arcsinh at 1e25: printed {p:.6g}, true {float(t):.6g}, proposed {q:.6g}")
""",
    truth="closed forms by mpmath",
    formula="`x / hypot(x, y) / hypot(x, y)`, and `1 / hypot(x, 1)`.",
)

_ERFCX = Finding(
    slug="jax-erfcx",
    package="jax",
    function="jax.scipy.special.erfcx",
    kind="range",
    title="erfcx: zero from 9.2 to 9.4 in float32, and its gradient 175 times too large",
    wrong="""
Up to 9.4 the value is `exp(x^2) erfc(x)`, and `erfc(x)` is no normal float32 from about 9.2 on: on
a CPU it is zero. The rule, `2 x erfcx(x) - 2 / sqrt(pi)`, takes that at its word.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
mp.mp.dps = 50
p, v = jax.grad(jax.scipy.special.erfcx)(9.3), jax.scipy.special.erfcx(9.3)
exact = mp.exp(mp.mpf(9.3) ** 2) * mp.erfc(9.3)
slope = 2 * mp.mpf(9.3) * exact - 2 / mp.sqrt(mp.pi)
w = 1 / jnp.float32(9.3) ** 2
r = 1 - w * 3 / 2 * (1 - w * 5 / 2 * (1 - w * 7 / 2 * (1 - w * 9 / 2)))
value, gradient = (1 - w / 2 * r) / 9.3 / jnp.sqrt(jnp.pi), -w * r / jnp.sqrt(jnp.pi)
print(f"value: printed {v:.6g}, true {float(exact):.6g}, proposed {value:.6g}")
print(f"gradient: printed {p:.6g}, true {float(slope):.6g}, proposed {gradient:.6g}")
""",
    truth="exp(x^2) erfc(x) by mpmath at 50 digits",
    formula="""
The asymptotic series from 9 on, for the value; for the derivative from about 5 on the series of the
derivative, as the differential equation cancels.
""",
)

_RATIO = Finding(
    slug="tfp-bessel-iv-ratio",
    package="tfp-nightly",
    function="tfp.math.bessel_iv_ratio",
    kind="digits",
    title="math.bessel_iv_ratio: wrong gradient by z at large z in float32",
    wrong="""
The rule is Riccati's equation, `1 - r (2v - 1) / z - r^2`. At large `z` the ratio is near 1 and all
of it cancels: at 1e4 the gradient is 6 times too large.
""",
    program="""
import jax, jax.numpy as jnp, mpmath as mp
from tensorflow_probability.substrates import jax as tfp
mp.mp.dps = 50
printed = jax.grad(lambda z: tfp.math.bessel_iv_ratio(1.5, z))(1e4)
true = mp.diff(lambda z: mp.coth(z) - 1 / z, 1e4, h=mp.mpf("1e-10"))  # the ratio at v = 3/2
w, m, n = 1 / jnp.float32(1e4), 4 * 1.5**2, 4 * 0.5**2
proposed = w**2 * ((m - n) / 8 + 2 * w * ((m - n) * (m - 9 + n - 1) / 128 - (n - 1) * (m - n) / 64))
print(f"by z: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="mpmath, the derivative of coth(z) - 1 / z at 50 digits, which the ratio is at v = 3/2",
    formula="""
At large `z` the series of the derivative. By Hankel's expansions with `m = 4 v^2` and `n = 4 (v -
1)^2` its first term is `(m - n) / (8 z^2)`.
""",
)

_LBETA = Finding(
    slug="tfp-lbeta",
    package="tfp-nightly",
    function="tfp.math.lbeta, tfp.math.log_gamma_difference",
    kind="digits",
    title="math.lbeta and log_gamma_difference: the gradient by the larger argument is zero",
    wrong="""
Both exist to avoid the cancellation of two log-gammas, and their rules subtract two digammas:
`digamma(y) - digamma(x + y)`. At `x = 0.5`, `y = 1e6` in float32 these are the same number.
`jax.scipy.special.betaln` loses digits in the same way.
""",
    program="""
import jax, mpmath as mp
from tensorflow_probability.substrates import jax as tfp
mp.mp.dps = 50
for name, f, x, y in (("lbeta", tfp.math.lbeta, 0.5, 1e6),
                      ("log_gamma_difference", tfp.math.log_gamma_difference, 2.0, 1e8)):
    printed = jax.grad(f, 1)(x, y)
    true = mp.digamma(mp.mpf(y)) - mp.digamma(mp.mpf(x) + mp.mpf(y))
    proposed = -jax.numpy.log1p(x / y) - x / (2 * y * (x + y))
    print(f"{name} by y: printed {printed:.6g}, true {float(true):.6g}, proposed {proposed:.6g}")
""",
    truth="digamma(y) - digamma(x + y) by mpmath at 50 digits",
    formula="""
Where `y` is at least about 8: `-log1p(x / y)` and the difference of the corrections of digamma, of
which the first is `-x / (2 y (x + y))`.
""",
)

FINDINGS = (
    *(_LOGADDEXP, _LOG_NDTR, _DAWSN, _I0, _TANH, _DIVIDE, _ARCTAN2, _ERFCX),
    *(_RATIO, _LBETA),
)
