"""Names of arrays and patterns of them: `encoder/*` is every name that begins with `encoder/`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from funcnn.core.given import described
from funcnn.spelling import did_you_mean

_SHOWN = 3  # names that an error quotes


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b"]), some(list("abcde"))
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def unknown_names(names: Sequence[str], known: Sequence[str]) -> str:
    """The first few of the names that nobody knows, the first one with what was probably meant.

    >>> unknown_names(["dense_0/v"], ["dense_0/w", "b"])
    'dense_0/v (did you mean dense_0/w?)'
    """
    return some([f"{names[0]}{did_you_mean(names[0], known)}", *names[1:]])


def matches(tool: str, patterns: str | Iterable[str], name: str) -> bool:
    """Whether one of the patterns matches a name.

    >>> matches("load_weights", ["a/*", "b"], "a/w"), matches("load_weights", "a/*", "b")
    (True, False)
    """
    every = [patterns] if isinstance(patterns, str) else patterns
    return any(_compiled(tool, pattern).fullmatch(name) for pattern in every)


def matching(tool: str, patterns: str | Iterable[str], names: Sequence[str]) -> set[str]:
    """The names that one of the patterns matches, in which `*` stands for any run of characters.

    Raises:
        ValueError: a pattern matches none of the names.
        TypeError: a pattern is no text.

    >>> sorted(matching("load_weights", "a/*", ["a/w", "a/b/w", "b/w"]))
    ['a/b/w', 'a/w']
    >>> matching("load_weights", "head/*", ["heads/w"])
    Traceback (most recent call last):
    ValueError: load_weights: the pattern head/* matches none of heads/w
    """
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        own = {name for name in names if _compiled(tool, pattern).fullmatch(name)}
        if not own:
            raise ValueError(_matches_none(tool, pattern, names))
        found |= own
    return found


def renamed(tool: str, names: Sequence[str], rename: Mapping[str, str] | None) -> dict[str, str]:
    """The names by what they are called after `rename`; the first pattern that matches decides.

    The n-th `*` of a new name stands for what the n-th `*` of the pattern has matched.

    Raises:
        ValueError: a pattern matches none of the names, a pattern and its new name have different
            numbers of stars, or two names become one.
        TypeError: `rename` is no dict of texts.

    >>> renamed("load_weights", ["enc/w", "enc/b", "b"], {"enc/*": "backbone/*"})
    {'backbone/w': 'enc/w', 'backbone/b': 'enc/b', 'b': 'b'}
    >>> renamed("load_weights", ["w", "v"], {"v": "w"})
    Traceback (most recent call last):
    ValueError: load_weights: w and v are both called w after rename
    """
    if not isinstance(rename, Mapping | None):
        raise TypeError(f"{tool}: rename is a dict of patterns of names, found {described(rename)}")
    rules = dict(rename or {})
    for pattern, new in rules.items():
        matching(tool, [pattern], names)
        if not isinstance(new, str) or pattern.count("*") != new.count("*"):
            raise ValueError(
                f"{tool}: rename {pattern!r} to a name with as many stars, found {new!r}"
            )
    by_new: dict[str, str] = {}
    for name in names:
        new = _new_name(tool, name, rules)
        if new in by_new:
            raise ValueError(f"{tool}: {by_new[new]} and {name} are both called {new} after rename")
        by_new[new] = name
    return by_new


def _new_name(tool: str, name: str, rename: Mapping[str, str]) -> str:
    for pattern, new in rename.items():
        if match := _compiled(tool, pattern).fullmatch(name):
            pieces = new.split("*")
            between = [*match.groups(), ""]
            return "".join(p + b for p, b in zip(pieces, between, strict=True))
    return name


def _compiled(tool: str, pattern: object) -> re.Pattern[str]:
    if not isinstance(pattern, str):
        raise TypeError(
            f"{tool}: a pattern is a text such as 'encoder/*', found {described(pattern)}"
        )
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _matches_none(tool: str, pattern: str, names: Sequence[str]) -> str:
    hint = did_you_mean(pattern, names) if "*" not in pattern else ""
    return f"{tool}: the pattern {pattern}{hint} matches none of {some(list(names)) or 'no names'}"
