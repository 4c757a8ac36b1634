"""Normalization: mean 0 and variance 1, over what the name says.

In: activations, and a scale and a bias for each channel. Out: the same shape.

rows: `layer_norm` and `rms_norm`, over the last axis; the first file to read, the others stand on
it. group: `group_norm` and `instance_norm`. batch: `batch_norm` in training and in evaluation.
"""
