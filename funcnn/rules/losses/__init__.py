"""Losses: what a net ends in.

In: outputs or logits, targets, weights of the examples. Out: one loss an example.

elementwise: `squared_error` and `logistic`, the first file to read. cross_entropy:
`softmax_cross_entropy`. linear_cross_entropy: with the last product in it, chunk by chunk; cut: how
rows become chunks. weighing: weights of the examples and labels that do not count.
"""
