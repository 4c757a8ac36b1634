"""Rows of a stream of tokens: windows that follow each other, and the tokens that come next."""

from __future__ import annotations

import numpy as np

from funcnn.data.dataset import DataError, Split, SplitError


def windows(tokens: np.ndarray, length: int, where: str = "tokens") -> Split:
    """Tokens (n,) -> `x` (N, T) and `y` (N, T), T = `length`: y has of each token the next.

    Row i begins where row i - 1 ended, N = (n - 1) // T, and what is left at the end is left out.
    Both are views: of a memory map, nothing is read. Raises `DataError`, with `where` at its head,
    for a length that cannot be, `SplitError` for fewer tokens than one row needs.

    >>> split = windows(np.arange(10), length=4)
    >>> split.x.tolist(), split.y.tolist()
    ([[0, 1, 2, 3], [4, 5, 6, 7]], [[1, 2, 3, 4], [5, 6, 7, 8]])
    """
    if length < 1:
        raise DataError(f"{where}: length must be at least 1, found {length}")
    if len(tokens) <= length:
        needs = f"one row of length {length} needs {length + 1}"
        raise SplitError(f"{where}: {len(tokens)} tokens, and {needs}")
    pairs = np.lib.stride_tricks.sliding_window_view(tokens, length + 1)[::length]  # (N, T + 1)
    return Split(x=pairs[:, :-1], y=pairs[:, 1:])


def cut_windows(
    where: str, tokens: np.ndarray, length: int, test: float, validation: float = 0.0
) -> dict[str, Split]:
    """Tokens (n,) in one piece -> rows of "train", "validation" and "test", in this order.

    `test` is the share of the end, `validation` that of the end of what is left; where a share is 0
    there is no such split. No token is in two of them. Raises `DataError` for a length or a share
    that cannot be, `SplitError` for a piece without a row.

    >>> parts = cut_windows("abc", np.arange(100), 4, test=0.2, validation=0.1)
    >>> {name: (split.x.min().item(), split.y.max().item()) for name, split in parts.items()}
    {'train': (0, 68), 'validation': (72, 76), 'test': (80, 96)}
    """
    pieces = {}
    for name, fraction in (("test", test), ("validation", validation)):
        if not 0 <= fraction < 1:
            raise DataError(f"{where}: {name}_fraction must be from 0 to below 1, found {fraction}")
        if fraction:
            end = len(tokens) - round(len(tokens) * fraction)
            pieces[name], tokens = tokens[end:], tokens[:end]
    pieces["train"] = tokens
    splits = {}
    for name, piece in reversed(pieces.items()):
        try:
            splits[name] = windows(piece, length, f"{where}: {name}")
        except SplitError as error:
            error.key = "validation_fraction" if name == "validation" else error.key
            raise
    return splits
