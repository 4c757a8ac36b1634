"""The data sets: each is a function of its file's name, and that is its name in a config, too.

It returns a `Dataset`. What it takes are the options of a config; seed, test_fraction and
validation_fraction, where it takes them, are those of the run. What it reads, it checks, and says
in one line what is wrong.

On every machine: digits, and the tables iris, wine, breast_cancer and diabetes, all of them
scikit-learn's; text, which without a path is Python's own sources. In the files of others: idx,
MNIST and its relatives; cifar10. In files of one's own: images, csv, npz, tokens.
"""
