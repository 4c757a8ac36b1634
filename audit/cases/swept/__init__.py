"""A sweep over the public functions of JAX that take numbers, at ordinary arguments and at edges.

special: jax.scipy.special. numpy: jax.numpy. nn: jax.nn. densities, families: jax.scipy.stats. Each
maps a function's public name to what makes its cases; where the function has a rule, or calls one,
the program says so, and else it is automatic differentiation that is held to the truth.
"""

from __future__ import annotations

from cases.swept import densities, families, nn, numpy, special

CASES = special.CASES | numpy.CASES | nn.CASES | densities.CASES | families.CASES
