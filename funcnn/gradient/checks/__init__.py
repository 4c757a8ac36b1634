"""The checks, in the order of their value; each takes a Situation and yields Results.

Those of the level "fast" prove the algebra: contract, algebra, primal, laws, finite_differences and
kink. "full" adds rounding, transforms, edge, residuals, second_order and context, "release" whether
a test would have noticed (gradient/mutation) and cost. native is for functions that call no rule.
transformed: the ways in which transforms takes a gradient. Read algebra first.
"""
