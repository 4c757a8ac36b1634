"""What everything else is made of: rules, layers, and compositions of layers.

In: functions of arrays. Out: `Rule`, `Layer`, `chain`, and the recursion of backprop over them.

registry: a rule (reference, forward, backward, cases) and the table of all; the first file to read.
contract: what holds for every rule; devices, explicit: on many devices too, in a `shard_map` and
where types say how arrays lie. removal: which rules are out of force. layer: a layer from a rule.
drawing: the init of a model as one program. parts, composition: `chain`, `residual`, `parallel`.
around: a layer round another. beside: lengths and masks that go past the layers.
stack: `repeat`; sorting: what of its residuals is kept. composite: a forward pass of one's own;
between, glue: the way back through what stands between its parts, and through one operation of it.
remat: memory for time. precision: numbers of half the width inside. summary: a table of a model.
backprop: the recursion, without automatic differentiation. errors: what an error says, in one line.
usage: what went wrong in a call of a layer, in the words of its user. given: what a tool is given,
and cannot be meant. patterns: names of arrays, which are matched and renamed. memory: what a layer
keeps of the places before; caching: a model that goes on from there.
"""
