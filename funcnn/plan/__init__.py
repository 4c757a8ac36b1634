"""Planning: what a training step takes on devices that are not here, before any is paid for.

In: an experiment of shapes alone, a chip, how many of it. Out: memory, operations and traffic of
each device, what the step is bound by, and what would make it fit.

planning: a plan for one count, the first file to read. chips: what is known of each chip, with its
sources. devices: those that the compiler is told of. compiling: the step, compiled for them.
instructions, hlo: the compiler's text, and the collectives in it. groups: which devices take part
in one. traffic: what they move, within a node and between nodes. figures: what a plan says.
changes: what to try where it does not fit.
"""
