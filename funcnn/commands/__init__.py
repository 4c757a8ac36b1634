"""What the command line does: results go to stdout, everything else to stderr.

One file a command: train (and eval), visualize, gradients (compare), census, check, bench, doctor.
What they share: folder, the run folder; lock, one process in it; platform, the device; streams,
stdout and stderr where they are missing; target, a function named `package.module:name`; values,
what an option may hold.
"""
