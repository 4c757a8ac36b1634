"""The checks, in the order of their value; each takes a Situation and yields Results.

A check registers itself, and no other file names it: see registered. Those of the level "fast"
prove the algebra: contract, primal, algebra, alone and laws; as_given is in the dtypes that a
function was given. "full" adds rounding, transforms, finite_differences, edge, kink, residuals,
second_order and context, "release" whether a test would have noticed (gradient/mutation), cost and
whether it is wrong elsewhere (gradient/hunt).
native is for functions that call no rule. transformed:
the ways in which transforms takes a gradient. Read algebra first.
"""
