"""From a state dict of PyTorch to params of ours. PyTorch itself is not needed.

state_dict: import_torch, the first file to read. modules: the arrays of a state dict by module.
conversion: those of one module as params of one layer. places: the layers of a model that have
params, in the order of their use, and how torch arranges what they get.
"""
