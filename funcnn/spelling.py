"""What was probably meant by a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The known name that looks most like this one, "" where none is as much alike as that.

    >>> nearest("logistik", ["squared_error", "logistic"]), nearest("logistik", ["adam"])
    ('logistic', '')
    >>> nearest("Relu", ["elu", "relu"])
    'relu'
    """
    name, names = str(name), list(known)
    same = [each for each in names if each.lower() == name.lower()]
    return next(iter(same + difflib.get_close_matches(name, names, 1, alike)), "")


def did_you_mean(name: str, known: Iterable[str], quote: str = "") -> str:
    """The question for the end of a message, "" where no known name is near.

    >>> did_you_mean("logistik", ["logistic"], quote="'"), did_you_mean("logistik", ["adam"])
    (" (did you mean 'logistic'?)", '')
    """
    near = nearest(name, known)
    return f" (did you mean {quote}{near}{quote}?)" if near else ""
