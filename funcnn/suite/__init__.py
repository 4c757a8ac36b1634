"""`pytest --gradients`: every hand-written rule that a test suite calls, checked where it calls it.

In: somebody's suite, unchanged. Out: a table of its rules, right or wrong, and those that no test
reaches.

    identity      which rule it is: its name, its line, the values that it closes over
    operands      what stands behind a tracer, and numbers drawn where nothing does
    wrappers      what Equinox and Flax NNX do around a rule
    calls         the calls of one rule with operands of one kind
    running       when JAX first runs a compiled program
    programs      the operands inside compiled programs
    recording     JAX's custom_vjp and custom_jvp, whoever calls them, noted on the way
    table         what is printed, and JSON lines
    checking      which is checked first, for how long, and what was found
    distribution  several processes that share the work
    session       one run of pytest: record, check, show
    plugin        the options, and no import without the flag; read it first

Each imports from those above it alone.
"""
