"""funcnn: backprop that you can read, check and beat.

A model is a pure function `f(params, x)`; every operation carries two derivatives, the one derived
by hand and the one that JAX derives; the tools compare the two.

core, rules, layers and models are what a network is made of; generation writes text with one;
augment, data, task, train and pictures are for training it; exchange takes networks out and in;
gradient compares, testing does so in your tests, suite in all tests of a package, bench measures.
experiment makes all of it from a config, network the model on shapes alone, chosen what the config
chooses, foreign finds what it names and modules says where that is; runs has what a training leaves
behind, commands and cli are the command line, report prints. types has the words of signatures,
names finds what has a name, spelling what was meant by one that nobody knows, version the version.

The public names stand in `__init__.pyi`. Each is resolved when it is first used, so that `import
funcnn`, and the command line's help and errors, do not import jax.
"""

from funcnn.names import lazily
from funcnn.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazily(__name__, f"{__file__}i")
