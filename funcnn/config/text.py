"""TOML text to values, and what is meant by the two sides of `--set a.b=value`.

What reading lets through can still break a later step, far from the file: an integer that no
machine word holds, tables nested so deeply that writing them fails. It is refused here, by its key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from funcnn.config.toml import shortened

MOST_NESTED = 32
_TOO_DEEP = f"nested deeper than {MOST_NESTED} levels"
# Python refuses to read that many digits, and does not say where they stand.
_MANY_DIGITS = re.compile(r"(?<![\w.+-])[+-]?[0-9](?:_?[0-9]){600,}(?![\w.:-])", re.ASCII)
_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)$")
_NUMBER = re.compile(
    r"[+-]?(?:(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.)(?:e[+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE
)
_LIKE_A_NUMBER = re.compile(r"[+-]?\.?[0-9][0-9_.,eE+ -]*", re.ASCII)
# A part of a key as TOML quotes it, or anything without a dot, an equals sign or a quote.
_PART = r"""\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^.="']*)\s*"""
_OVERRIDE = re.compile(rf"({_PART}(?:\.{_PART})*)=(.*)", re.DOTALL)
_NOTHING, _SWITCHES = ("none", "null", "nil"), ("yes", "no", "on", "off")


def parse(text: str) -> dict[str, Any]:
    """What `tomllib.loads` gives; whatever cannot be read is a ValueError of one short line.

    >>> parse("bias = False")
    Traceback (most recent call last):
    ValueError: not TOML: Invalid value (at line 1, column 8): write false
    """
    try:
        return _loads(text)
    except OverflowError:
        pass
    try:
        # As hexadecimal a number of any length is read, and `unfit` names its key.
        return _loads(_MANY_DIGITS.sub(hex(2**64), text))
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _loads(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_told(str(error), text)) from None
    except ValueError:
        raise OverflowError("holds an integer of too many digits") from None


def _told(error: str, text: str) -> str:
    """The message of tomllib, with the cure where Python's spelling stands in place of TOML's."""
    at, cure = _POSITION.search(error), ""
    if at:
        line = text.split("\n")[int(at[1]) - 1 :][:1]
        match = re.match(r"[\w.+-]+", "".join(line)[int(at[2]) - 1 :])
        word = match[0] if match else ""
        if word.lower() in ("true", "false"):
            cure = f": write {word.lower()}"
        elif word.lower() in _NOTHING:
            cure = f": TOML has no {word}; leave the key out"
        elif _NUMBER.fullmatch(word):
            cure = f": write {float(word)}"
    return f"not TOML: {shortened(error, 160)}{cure}"


def unfit(raw: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The keys whose values no later step could hold, each with what is wrong.

    >>> list(unfit({"train": {"steps": 2**70}}))
    [(('train', 'steps'), 'an integer of more than 64 bits')]
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), raw)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield keys, "an integer of more than 64 bits"
        elif not _is_text(value) or not _is_text("".join(keys[-1:])):
            yield keys, "holds bytes that are not UTF-8 text"
        elif isinstance(value, dict | list) and len(keys) > MOST_NESTED:
            yield keys[:3], _TOO_DEEP
        elif isinstance(value, dict):
            waiting += [((*keys, key), inside) for key, inside in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [((*keys, str(i)), inside) for i, inside in reversed([*enumerate(value)])]


def _is_text(value: object) -> bool:
    """False for text that came from bytes of another encoding, and cannot be written as UTF-8."""
    return not isinstance(value, str) or value.isascii() or not re.search("[\ud800-\udfff]", value)


def read_override(override: str) -> tuple[tuple[str, ...], str] | None:
    """The parts of the key, which may be quoted as in TOML, and the text of the value.

    None where it is no `table.key=value`.

    >>> read_override('train.sharding."*/w.x" = ["fsdp"]')
    (('train', 'sharding', '*/w.x'), '["fsdp"]')
    """
    match = _OVERRIDE.fullmatch(override)
    if match is None:
        return None
    try:
        keys = tuple(
            _unquoted(part.strip()) for part in re.findall(rf"(?:^|\.)({_PART})", match[1])
        )
    except ValueError:
        return None
    return (keys, match[2].strip()) if all(keys) else None


def _unquoted(part: str) -> str:
    return parse(f"value = {part}")["value"] if part[:1] in ('"', "'") else part


def read_value(text: str, wanted: object) -> object:
    """What somebody means by the right side of an override; `wanted` is the type at its key.

    It is TOML. Where TOML has no such value it is text, but for what is a value in other languages:
    True and .5 are read as meant, None and (1, 2) are a ValueError with the cure.

    >>> read_value("False", Any), read_value(".5", float), read_value("2024", str)
    (False, 0.5, '2024')
    >>> read_value("None", Any)
    Traceback (most recent call last):
    ValueError: TOML has no None: leave the key out, or write "None" for the text
    """
    try:
        parsed = parse(f"value = {text}")
    except ValueError as error:
        return _meant(text, wanted, str(error))
    value = parsed["value"] if len(parsed) == 1 else text
    # A folder called 2024 is text, whatever TOML says.
    return text if wanted is str and not isinstance(value, str) else value


def _meant(text: str, wanted: object, error: str) -> str | float | bool:
    word = text.lower()
    if text.startswith(('"', "'")) or (wanted is not str and text.startswith(("[", "{", "("))):
        hint = "a list is [64, 32], a table {a = 1}, text stands in one pair of quotes"
        raise ValueError(f"{re.sub(r' .at line 1, column [0-9]+.', '', error)}; {hint}")
    if wanted is str:
        return text
    if word in ("true", "false"):
        return word == "true"
    if _NUMBER.fullmatch(text):
        return float(text)
    if wanted is not Any:
        return text  # of the wrong type, which the validation reports
    quoted = f'"{shortened(text, 40)}" for the text'
    if not text:
        raise ValueError('has no value; write "" for the empty text')
    if word in _NOTHING:
        raise ValueError(f"TOML has no {text}: leave the key out, or write {quoted}")
    if word in _SWITCHES:
        raise ValueError(f"write true or false, or {quoted}")
    if _LIKE_A_NUMBER.fullmatch(text):
        raise ValueError(f"no number: 1000, 0.5 and 1e-3 are, a list is [64, 32]; {quoted}")
    return text
