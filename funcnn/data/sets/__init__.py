"""The data sets: each is a function of its file's name, and that is its name in a config, too.

It returns a `Dataset` and takes what it needs of path, test_fraction, seed and classes. A set that
takes no classes is used where the model tells as many apart as the set has.
"""
