"""Truth, where the automatic gradient may itself be wrong.

In: a gradient that differs from the automatic one. Out: which of the two is wrong, or neither.

appeal: the one policy of all tools, the first file to read. contested: what it is about. kinks:
what the sides of a point allow. ties: what they allow together. hull: a mean of the gradients
beside the point. floor: what changes of the last place do. rounded: a gradient in a low precision,
and what rounding explains of it. oracle: differences of the values. richardson: differences that
say how far to trust them. coarse: differences in a low precision, where there is no float64.
many_digits: differences at 80 digits, where a function is small. branch: where autodiff and a rule
agree on a branch for one value. point: a verdict at one point.
"""
