"""The keys of a config.json, each with one line where it is not what it should be."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from funcnn.core.usage import is_positive_integer

Choice = TypeVar("Choice")
# What stands in a config.json, and what a model of ours is made with.
Config: TypeAlias = Mapping[str, object]
Options: TypeAlias = dict[str, object]


class Unlike(ValueError):
    """What no model of ours is; who asks says of which file it is."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The values of a config.json by name. One that is null is as good as absent.

    >>> Settings({"n_head": 12}).count("n_head"), Settings({}).number("rope_theta", 10000.0)
    (12, 10000.0)
    >>> Settings({}).count("n_head")
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: n_head is missing
    """

    values: Config

    def get(self, key: str, otherwise: object = None) -> object:
        """A value, or another where there is none."""
        value = self.values.get(key)
        return otherwise if value is None else value

    def count(self, key: str, otherwise: int | None = None) -> int:
        """A positive integer.

        Raises:
            Unlike: it is none, or it is missing and there is no other.
        """
        value = self.get(key, otherwise)
        if value is None:
            raise Unlike(f"{key} is missing")
        if not isinstance(value, int) or not is_positive_integer(value):
            raise Unlike(f"{key} is a positive integer, found {value!r}")
        return value

    def number(self, key: str, otherwise: float) -> float:
        """A number.

        Raises:
            Unlike: it is none.
        """
        value = self.get(key, otherwise)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise Unlike(f"{key} is a number, found {value!r}")
        return float(value)

    def flag(self, key: str, otherwise: bool) -> bool:
        """True or False.

        Raises:
            Unlike: it is neither.
        """
        value = self.get(key, otherwise)
        if not isinstance(value, bool):
            raise Unlike(f"{key} is true or false, found {value!r}")
        return value

    def choice(self, key: str, otherwise: str, known: Mapping[str, Choice]) -> Choice:
        """What a name stands for.

        Raises:
            Unlike: the name is none of those known.
        """
        value = self.get(key, otherwise)
        if not isinstance(value, str) or value not in known:
            raise Unlike(f"{key} is {value!r}: {', '.join(map(repr, known))} {_is_or_are(known)}")
        return known[value]

    def require(self, key: str, *supported: object) -> None:
        """Raise Unlike where a key is there and has none of these values."""
        value = self.values.get(key)
        # 0 and False are equal, and not the same.
        if value is not None and not any(type(value) is type(s) and value == s for s in supported):
            shown = ["absent or null", *map(repr, supported)]
            raise Unlike(f"{key} is {value!r}: supported is {' or '.join(shown)}")


def refuse(family: str, options: Config, possible: Mapping[str, tuple[object, ...]]) -> None:
    """Raise Unlike where a model of ours was made with options that a family of theirs has not.

    >>> refuse("GPT-2", {"window": 5, "width": 6}, {"window": (None,)})
    Traceback (most recent call last):
    funcnn.exchange.huggingface.settings.Unlike: GPT-2 has no window=5
    """
    given = {name: value for name, value in options.items() if name in possible}
    unlike = [f"{name}={value!r}" for name, value in given.items() if value not in possible[name]]
    if unlike:
        raise Unlike(f"{family} has no {', '.join(unlike)}")


def _is_or_are(known: Mapping[str, object]) -> str:
    return "is supported" if len(known) == 1 else "are supported"
