"""What an option may hold: a path, a number from 1, a seed."""

from __future__ import annotations

import argparse
import os


def path(text: str) -> str:
    """A path, with `~` as the home folder.

    >>> path("runs/x")
    'runs/x'
    """
    if not text:
        raise argparse.ArgumentTypeError('expected a path, found ""')
    return os.path.expanduser(text)


def seed(text: str) -> int:
    """A seed: 32 bits, which JAX's and NumPy's generators both take.

    >>> seed("7")
    7
    """
    value = _digits(text)
    if not 0 <= value < 2**32:
        message = f"expected a whole number from 0 to 2^32 - 1, found {text[:60]}"
        raise argparse.ArgumentTypeError(message)
    return value


def positive(text: str) -> int:
    """A number from 1.

    >>> positive("0")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: expected a number from 1, found 0
    """
    if _digits(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text[:60]}")
    return _digits(text)


def _digits(text: str) -> int:
    """A number of at most 18 digits, else -1: Python refuses to read one of thousands."""
    return int(text) if text.isdecimal() and len(text) <= 18 else -1
