"""What several rules need. No rule stands here.

arguments: arrays of floating point, or one line that says what was given. case_data: numbers for
the cases of a rule. numerics: the dtype in which sums are taken, and what is computed with care for
its digits. windows: windows over images, their paddings and steps. chunks: sums of parts that are
small enough.
"""
