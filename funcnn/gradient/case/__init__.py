"""What is checked: a function at arguments.

In: a rule and its case, or any function and its arguments. Out: a `Subject` with two pullbacks.

pullbacks: the manual and the automatic gradient of a function of flat leaves; the first file to
read. bound_case: a rule or a function, bound to a case. arguments: numbers and complex arrays made
real ones. representatives: the cases that stand for their rule where a check costs compilations.
edge_values: the ends of what a function may be given. memory: what a check of them takes.
"""
