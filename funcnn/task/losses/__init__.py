"""Losses by name, for a config: each is a function of its file's name.

`loss(outputs, targets, ...)` returns the loss of each row, or of each token or number of it. What
it takes beside is in `loss.options`; one that takes `ignored` gets that of the task.
"""
