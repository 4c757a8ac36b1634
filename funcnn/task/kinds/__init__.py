"""Tasks by name: each is a function of its file's name that returns a `Task`.

What it takes are its options in a config. Whoever adds one adds a file here: so far classification,
language, regression and reconstruction.
"""
