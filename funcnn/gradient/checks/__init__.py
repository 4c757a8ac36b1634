"""The checks, in the order of their value; each takes a Situation and yields Results.

Those of the level "fast" prove the algebra, "full" adds rounding, transformations, edges and
memory, "release" whether a test would have noticed, and the cost.
"""
