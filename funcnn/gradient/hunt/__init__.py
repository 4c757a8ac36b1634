"""Where a gradient that is right at the arguments given is wrong: a search, and a small example.

In: a function that calls hand-written rules, and arguments. Out: others at which it is wrong.

hunt: the whole of it, the first file to read. search: what is tried next. drawing: trials; values:
the floats of them, choices: indices, masks and cotangents, constants: the numbers of a program.
guide: which trials to go on from. place: the function at arguments of certain sizes. judging: one
trial, and check's verdict. extremes: whether float64 still holds. shrinking: fewer elements,
shorter numbers. program: the lines that repeat it. report: what is printed. check: a
short hunt as a check.
"""
