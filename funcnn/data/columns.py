"""The columns of a file of values that are separated: numbers, and categories.

The reader is the standard library's: it tells the line of each row, and a row that is too short.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from funcnn.data.dataset import DataError, OptionError
from funcnn.data.files import read_text
from funcnn.spelling import did_you_mean

MISSING = frozenset(["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?"])
MOST_NAMES = 20  # a longer column in which each text is another holds names, or numbers misread
_SHOWN = 20  # columns, in a message


class Rows(NamedTuple):
    """What a file holds, or some of its rows.

    Attributes:
        path: the file.
        columns: the values of each column, as they stand there.
        lines: the number of the line of each row.
    """

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def place(self, row: int) -> str:
        """Where a row stands, for a message."""
        return f"{self.path}: line {self.lines[row]}"

    def names(self) -> str:
        """The columns that there are, the first of very many, for a message.

        >>> Rows(Path("a.csv"), {"a": [], "b": []}, []).names()
        'a, b'
        """
        more = len(self.columns) - _SHOWN
        shown = ", ".join(list(self.columns)[:_SHOWN])
        return f"{shown} and {more:,} more" if more > 0 else shown

    def without_missing(self, names: Sequence[str]) -> Rows:
        """The rows in which none of these columns lacks its value; `DataError` where there is none.

        >>> Rows(Path("a.csv"), {"a": ["1", ""], "b": ["2", "3"]}, [2, 3]).without_missing(["a"])
        Rows(path=...('a.csv'), columns={'a': ['1'], 'b': ['2']}, lines=[2])
        """
        columns = [self.columns[name] for name in names]
        whole = [not MISSING.intersection(row) for row in zip(*columns, strict=True)]
        if not any(whole):
            raise DataError(f"{self.path}: there is no row without a missing value")
        kept = {n: list(itertools.compress(c, whole)) for n, c in self.columns.items()}
        return Rows(self.path, kept, list(itertools.compress(self.lines, whole)))


class Column(NamedTuple):
    """A column of N rows.

    Attributes:
        values: (N,) float64, the numbers, or that of the category; NaN where it is missing.
        categories: what there is of them, in order; none where the values are numbers.
    """

    values: np.ndarray
    categories: tuple[str, ...] = ()

    def encoded(self, one_hot: bool) -> np.ndarray:
        """The values (N, 1), or (N, K) with a 1 at the category of each row.

        >>> Column(np.array([1.0, 0.0]), ("a", "b")).encoded(one_hot=True).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        """
        if not (self.categories and one_hot):
            return self.values[:, None]  # (N, 1)
        return (self.values[:, None] == np.arange(len(self.categories))).astype(float)  # (N, K)


def read_rows(path: Path, separator: str = ",") -> Rows:
    """The rows under the header of a file of UTF-8, with or without its mark.

    Raises `DataError` where the file cannot be read, has no row, a name twice or none, or a row
    that is not as long as the header.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("a,b\\n1,x\\n2\\n")
    >>> read_rows(path)
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: .../a.csv: line 3 has 1 field, and the header 2
    """
    if len(separator) != 1 or separator in '"\r\n':
        raise DataError(f"{path}: separator must be one character, found {separator!r}")
    text = read_text(path).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:  # an empty line is no row
                rows.append([value.strip() for value in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from None
    if len(rows) < 2:
        raise DataError(f"{path}: {'has no row under its header' if rows else 'is empty'}")
    header, *rows = rows
    for place, name in enumerate(header):
        if not name or name in header[:place]:
            wrong = f"{name} stands there twice" if name else f"column {place + 1} has no name"
            raise DataError(f"{path}: header: {wrong}")
    for row, line in zip(rows, lines[1:], strict=True):
        if len(row) != len(header):
            fields = f"{len(row)} field{'' if len(row) == 1 else 's'}"
            raise DataError(f"{path}: line {line} has {fields}, and the header {len(header)}")
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    return Rows(path, columns, lines[1:])


def check_columns(rows: Rows, option: str, *names: str) -> None:
    """Raise `OptionError` for the first name that is no column; `option` is what has it.

    >>> check_columns(Rows(Path("a.csv"), {"age": []}, []), "target", "agee")
    Traceback (most recent call last):
    funcnn.data.dataset.OptionError: a.csv: target: no column agee (did you mean age?); it has age
    """
    for name in names:
        if name not in rows.columns:
            hint = did_you_mean(name, rows.columns)
            message = f"{rows.path}: {option}: no column {name}{hint}; it has {rows.names()}"
            raise OptionError(option, message)


def read_column(rows: Rows, name: str, categorical: bool) -> Column:
    """A column: of categories where it is said to be or holds no number, else of numbers.

    Categories are in the order of their numbers, or of the alphabet. Raises `DataError` where a
    column holds both numbers and something else, or another text in each row, and is
    not said to be categorical.

    >>> columns = {"age": ["3", "NA", "1.5"], "city": ["Ulm", "Bonn", "?"]}
    >>> rows = Rows(Path("a.csv"), columns, [2, 3, 4])
    >>> read_column(rows, "age", categorical=False).values
    array([3. , nan, 1.5])
    >>> read_column(rows, "city", categorical=False)
    Column(values=array([ 1.,  0., nan]), categories=('Bonn', 'Ulm'))
    """
    texts = rows.columns[name]
    numbers = [_number(text) for text in texts]
    there = [row for row, text in enumerate(texts) if text not in MISSING]
    known = [row for row in there if numbers[row] is not None]
    if not categorical and known:
        if len(known) < len(there):
            other = next(row for row in there if numbers[row] is None)
            raise DataError(
                f"{rows.place(other)}: {name} holds {texts[other]!r}, and in line "
                f"{rows.lines[known[0]]} a number; name it in categorical if it has categories"
            )
        return Column(np.array([math.nan if n is None else n for n in numbers]))
    names = {texts[row] for row in there}
    if not categorical and len(names) == len(there) > MOST_NAMES:
        raise DataError(
            f"{rows.path}: {name} holds another text in each row, and no number (first "
            f"{texts[there[0]]!r}); leave it out by columns, or name it in categorical"
        )
    order = (lambda text: (_number(text), text)) if len(known) == len(there) else None
    categories = tuple(sorted(names, key=order))
    codes = {text: float(code) for code, text in enumerate(categories)}
    return Column(np.array([codes.get(text, math.nan) for text in texts]), categories)


def read_known_column(rows: Rows, name: str, like: Column) -> Column:
    """A column of further rows, with the categories of `like`, the same column of other rows.

    Raises `DataError` for a category that is none of them, or something that is no number.

    >>> known = Column(np.array([0.0, 1.0]), ("Bonn", "Ulm"))
    >>> read_known_column(Rows(Path("b.csv"), {"city": ["Ulm"]}, [2]), "city", known).values
    array([1.])
    >>> read_known_column(Rows(Path("b.csv"), {"city": ["Ulm", "Köln"]}, [2, 3]), "city", known)
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: b.csv: line 3: city holds 'Köln', and was one of Bonn, Ulm
    """
    texts = rows.columns[name]
    codes = {text: float(code) for code, text in enumerate(like.categories)}
    values = []
    for row, text in enumerate(texts):
        value = math.nan if text in MISSING else (codes.get(text) if codes else _number(text))
        if value is None:
            was = f"one of {', '.join(like.categories[:5])}" if codes else "a number"
            raise DataError(f"{rows.place(row)}: {name} holds {text!r}, and was {was}")
        values.append(value)
    return Column(np.array(values), like.categories)


def _number(text: str) -> float | None:
    """The number, finite, that a text is."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None
