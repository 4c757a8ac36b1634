"""What the command line does: results go to stdout, everything else to stderr.

One file a command: init, train, evaluate (eval), checkpoint, predict, generate, export, visualize,
gradients (compare), census, check, hunt, bench, plan, doctor. What they share: announcing, the
first lines of a run; opened, a run with its newest or best state; options, what each takes;
platform, the device; others, the other processes of a run; stopping, signals and one voice; memory,
where it is not enough; streams, stdout and stderr where they are missing; target, a function named
`package.module:name`; compiled,
programs that are kept; values, what an option may hold.
"""
