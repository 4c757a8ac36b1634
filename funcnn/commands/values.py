"""What an option may hold: a path, a number from 1 or several, a size, a share, a seed."""

from __future__ import annotations

import argparse
import math
import os

MOST_DEVICES = 2**16  # that are described to a compiler: it has an object for each


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


def counts(text: str) -> tuple[int, ...]:
    """Numbers from 1, with commas between, each once.

    >>> counts("1,8,64")
    (1, 8, 64)
    """
    found = tuple(map(positive, text.split(",")))
    if max(found) > MOST_DEVICES:
        message = f"expected at most {MOST_DEVICES:,} devices, found {text[:60]}"
        raise argparse.ArgumentTypeError(message)
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"expected each number once, found {text[:60]}")
    return found


def size(text: str) -> float:
    """A number above 0, whole or not.

    >>> size("0.5")
    0.5
    """
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text[:60]}")
    return value


def temperature(text: str) -> float:
    """A number from 0.

    >>> temperature("0")
    0.0
    """
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0, found {text[:60]}")
    return value


def share(text: str) -> float:
    """A number above 0, at most 1.

    >>> share("2")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: expected a number above 0, at most 1, found 2
    """
    if not 0 < _number(text) <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, at most 1, found {text[:60]}")
    return float(text)


def _number(text: str) -> float:
    """A number, not a number where the text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _digits(text: str) -> int:
    """A number of at most 18 digits, else -1: Python refuses to read one of thousands."""
    return int(text) if text.isdecimal() and len(text) <= 18 else -1
