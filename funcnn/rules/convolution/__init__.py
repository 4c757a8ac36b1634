"""Convolutions: two rules, and the algorithms among which they choose by the shapes.

In: images and filters. Out: `conv` and `conv_transposed`, each with three products: y, dx and dw.

conv: the rule, the first file to read. transposed: the other way. choice: the ordered tables, in
each of which the first algorithm that suits a product is taken. suits: which shapes each suits, and
the thresholds. The algorithms: forms, XLA's own convolutions. patches: matrix products of patches.
winograd: 3x3 windows of many channels. depthwise: a filter for each channel. groups: one group
after the other. planes: volumes, plane by plane. phases: large strides.
"""
