"""Values and tables as TOML text (the standard library reads TOML and does not write it)."""

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


def value_text(value: Any) -> str:
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


def shown(value: Any) -> str:
    """A value as an error message quotes it: one short line."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = value_text(value)
    return text if len(text) <= 60 else f'{text[:56]}..."'
