"""Packages that only some sources need, and what they say when they fail."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from funcnn.data.dataset import DataError


@contextlib.contextmanager
def needed(package: str, where: str | Path) -> Iterator[None]:
    """An import of a package that may be absent: then `DataError` says how to get it.

    >>> with needed("pandas", "rows.csv"):
    ...     import no_such_package
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: rows.csv: needs pandas: pip install "funcnn[data]"
    """
    try:
        yield
    except ImportError:
        raise DataError(f'{where}: needs {package}: pip install "funcnn[data]"') from None


def said(error: BaseException) -> str:
    """What another package's error says, in one line of no more than 200 characters.

    >>> said(ValueError("too long\\n  for a line")), said(KeyError())
    ('too long for a line', 'KeyError')
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
