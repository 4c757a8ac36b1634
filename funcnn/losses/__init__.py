"""Losses of rows, for a config: each is a function of its file's name, its name in a config, too.

`loss(logits, labels)` takes logits (B, C) and labels (B,), the number of the right class, and
returns the loss of each row, (B,). One that takes `smoothing` gets `loss.smoothing` of the config.
"""
