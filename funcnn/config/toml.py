"""Values and tables as TOML text (the standard library reads TOML and does not write it)."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from typing import Any


def tables(table: dict[str, Any], keys: tuple[str, ...] = ()) -> Iterator[str]:
    """The lines of a table: its own keys first, as TOML wants, then the tables inside it."""
    if keys:
        yield f"\n[{'.'.join(_key(key) for key in keys)}]"
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{_key(key)} = {value_text(value)}"
    for key, value in table.items():
        # Empty options are the default and stay away; inside options an empty table is a value.
        if isinstance(value, dict) and (value or "options" in keys):
            yield from tables(value, (*keys, key))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else value_text(key)


def value_text(value: object) -> str:
    """A value as TOML would have it on the right of the equals sign."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {value_text(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return repr(value)


def one_line(text: str) -> str:
    """Line breaks and other characters that move the cursor as escapes.

    >>> one_line("a" + chr(10) + "b") == "a" + chr(92) + "nb"
    True
    """
    return re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: ascii(match[0])[1:-1], text)


def shortened(text: str, most: int = 80) -> str:
    """At most `most` characters of a text, its two ends where it is longer.

    >>> shortened("train.steps=" + 100 * "9", 30)
    'train.steps=99999999...9999999'
    """
    return text if len(text) <= most else f"{text[: most - 10]}...{text[-7:]}"


def shown(value: object) -> str:
    """A value as an error message quotes it: one short line."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = value_text(value)
    return text if len(text) <= 60 else f'{text[:56]}..."'
