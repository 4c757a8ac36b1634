"""Pooling: the largest and the mean of windows, or of whole images.

In: images, a window, a stride, a padding. Out: `max_pool`, `average_pool` and the global ones.

windowed: the rules with windows, the first file to read. whole_image: those without. arguments:
what they are given, checked and brought into one form.
"""
