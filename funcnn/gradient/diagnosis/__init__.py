"""Which mistake explains a wrong gradient.

In: a wrong gradient and the true one, for several cotangents. Out: one sentence.

diagnose: the order of the explanations, the first file to read. evidence: what they look at.
of_the_result: seen in the gradient alone (a sign, an order, a term). of_the_backward: a derivative
or an argument taken for another. of_the_paths: one path from argument to output is wrong.
of_one_operation: one operation's local derivative is wrong. factors: constants and their origin.
operations: the reference, operation by operation.
"""
