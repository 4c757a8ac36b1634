"""A whole gradient by hand beside the automatic one.

In: a loss and its arguments. Out: error, cost and times of each arm, or two trainings side by side.

compare: one gradient, the first file to read. arms: by hand, by autodiff, with checkpoints. judged:
its leaves, each with its verdict. report: what is printed. training: two trainings, and the step at
which they part. as_it_is: what compare says of a function that float64 cannot reach.
"""
