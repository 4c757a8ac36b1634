"""The gradient laboratory: take rules out, check them, compare them with automatic differentiation.

In: a program, or a rule, and arguments. Out: a verdict for each gradient, with the reason.

    program     what a jaxpr is: its rules taken out, raised to float64, run as a loop that ends
    cost        FLOPs, bytes and times
    verdict     two gradients and their rounding: pass, fail, inconclusive
    case        a function at arguments, with its manual and its automatic pullback
    truth       when truth is in doubt: kinks, lost digits, loops; differences decide
    checks      is this rule right: one file a check
    mutation    would a mistake have been noticed
    hunt        where a gradient that is right at some arguments is wrong
    diagnosis   which mistake it is
    sites       every rule in a program, at the operands that flow there
    comparison  the whole gradient by hand, by autodiff and with checkpoints; whole trainings
    check.py    all checks on one rule, from the first to the last line of the report; read it first

Each room imports from those above it alone.
"""
