"""Programs as JAX sees them: what is inside of a jaxpr, and the same program in other ways.

In: a function and arguments. Out: a jaxpr, the rules in it, and programs that run it otherwise.

jaxprs: what an equation holds inside, loops and calls. sites: where rules stand; with jaxprs the
first to read, as they alone know how JAX writes it down. rewriting: programs with rules replaced.
without_rules: the rules taken out. forward_mode, reverse_mode: what is put in their places.
evaluation: an evaluator to build on. digits: one with mpmath's numbers. float64: the program raised
to float64, or shaken by rounding. pieces: programs that run piece by piece. remat: checkpoints.
perturbations: zeros added at each site, whose gradient is the cotangent there. operands: what flows
into each site. calls: which of the calls in a loop. influence: the rules that a gradient depends
on. loops: loops that do not end are stopped. answering: what else does not return is. compiling:
for what runs a few times only. dtypes: the precisions that a program computes in.
"""
