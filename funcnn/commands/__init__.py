"""What the command line does: results go to stdout, everything else to stderr.

One file a command: init, train, evaluate (eval), predict, export, visualize, gradients (compare),
census, check, bench, doctor. What they share: opened, a run with its newest or best state; options,
what each takes; platform, the device; streams, stdout and stderr where they are missing; target, a
function named `package.module:name`; values, what an option may hold.
"""
