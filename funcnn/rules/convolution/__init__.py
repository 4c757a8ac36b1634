"""Convolutions: two rules, and the algorithms among which they choose by the shapes.

In: images and filters. Out: `conv` and `conv_transposed`, each with three products: y, dx and dw.

conv: the rule, the first file to read. transposed: the other way. choice: which algorithm a product
of these shapes takes. patches: matrix products of patches. winograd: 3x3 windows of many channels.
depthwise: a filter for each channel. planes: volumes, plane by plane. phases: large strides.
"""
