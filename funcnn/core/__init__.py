"""What everything else is made of: rules, layers, and compositions of layers.

In: functions of arrays. Out: `Rule`, `Layer`, `chain`, and the recursion of backprop over them.

registry: a rule (reference, forward, backward, cases) and the table of all; the first file to read.
contract: what holds for every rule. errors: what an error says, in one line. usage: what went wrong
in a call of a layer, in the words of its user. layer, parts, composition: a layer from a rule, and
`chain`, `residual`, `parallel`, `repeat`. summary: a table of a model. backprop: the recursion,
without automatic differentiation.
"""
