"""Find the formulas in a line of prose: dx = dy [y > 0], x_t, (N, H, W, C)."""

from __future__ import annotations

import re

from plain_math import FUNCTIONS, NAMES, NotMath, Token, inline, is_prose, tokens

_ENDS = ".,;:"
_SYMBOLS = re.compile(r"[=≠≥≤<>Σ∂√∞∘·±∓^²³ᵀ\u0302_]")
# Names of one thing only, which belong to the formula beside them.
_QUANTITIES = frozenset(["alpha", "epsilon", "slope"])
_LONE = frozenset(["a", "A", "I"])
# 3x3, 1997, 2.5, (20, 0): numbers, which stay text.
_NUMBERS = re.compile(r"[-\d.,()%]*(?:x\d+)*")


def _bare(word: str) -> str:
    return word.rstrip(_ENDS) if word.rstrip(_ENDS) else word


def _tokens(word: str) -> list[Token] | None:
    """The tokens of a word that may stand in a formula, else None."""
    bare = _bare(word)
    # 3x3, mean's, z_loss: sizes, words, and names of options.
    if re.fullmatch(r"\(?\d+(?:x\d+)+\)?|.*\w\w's|.*_[a-z]{3,}\)?", bare):
        return None
    try:
        marks = tokens(bare)
    except NotMath:
        return None
    if any(token.kind == "text" for token in marks):
        return None
    if any(token.kind == "word" and is_prose(token.text) for token in marks):
        return None
    return marks


def _depth(words: list[str]) -> int:
    text = " ".join(words)
    return sum(text.count(c) for c in "([{") - sum(text.count(c) for c in ")]}")


def _named(word: str) -> bool:
    """Whether a word is a name such as mean, which prose uses, too."""
    return _bare(word).strip("()") in NAMES | FUNCTIONS


def _trim(words: list[str]) -> tuple[int, int]:
    """The part of a run that is a formula, without words that are prose as well at its ends."""
    start, end = 0, len(words)

    def belongs(edge: int, inner: int) -> bool:
        word = _bare(words[edge])
        if _named(word) or word in _LONE:
            if word in _QUANTITIES and end - start > 1:
                return True
            beside = words[inner] if start <= inner < end else ""
            if edge > inner and word in NAMES and "=" in words[start:edge]:
                return True  # y = x̂ scale: a factor of the right side
            return bool(re.fullmatch(r"[-+=≠≥≤<>/·∘]", beside))
        return bool(word) and word not in "-+=/·∘:"

    while start < end and not belongs(start, start + 1):
        start += 1
    while start < end and not belongs(end - 1, end - 2):
        end -= 1
    return start, end


def _formula(words: list[str]) -> list[tuple[str, str]] | None:
    """A run of words as pieces, with one formula among them; None where it is none."""
    text = " ".join(words)
    tail = text[len(text.rstrip(_ENDS)) :]
    body = text[: len(text) - len(tail)]
    before = after = ""
    if _depth([body]) > 0 and body.startswith("("):
        before, body = "(", body[1:]
    elif _depth([body]) < 0 and body.endswith(")"):
        after, body = ")", body[:-1]
    if _NUMBERS.fullmatch(body.replace(" ", "")) or not body or body in _LONE | _QUANTITIES:
        return None
    try:
        markup = inline(body)
    except NotMath:
        return None
    return [("text", before), ("math", markup), ("text", after + tail)]


def _run(words: list[str]) -> list[tuple[str, str]]:
    start, end = _trim(words)
    lead, core, rest = words[:start], words[start:end], words[end:]
    pieces = _formula(core) if core else None
    if pieces is None:
        return [("text", " ".join(words))]
    around = [("text", " ".join(lead) + " ")] if lead else []
    return [*around, *pieces, *([("text", " " + " ".join(rest))] if rest else [])]


def split(text: str) -> list[tuple[str, str]]:
    """(kind, piece) of a text: "text"; "code", in backquotes; "math", as MathML.

    >>> [(kind, piece) for kind, piece in split("The value is 0, see `f(x)`.") if kind != "math"]
    [('text', 'The value is 0, see '), ('code', 'f(x)'), ('text', '.')]
    """
    pieces: list[tuple[str, str]] = []
    for i, part in enumerate(re.split(r"`([^`]+)`", text)):
        if i % 2:
            pieces.append(("code", part))
        else:
            pieces += _split_words(part)
    return _merged(pieces)


def _split_words(text: str) -> list[tuple[str, str]]:
    words = text.split(" ")
    pieces: list[tuple[str, str]] = []
    run: list[str] = []

    def flush() -> None:
        nonlocal run
        if run:
            pieces.extend([*_run(run), ("text", " ")])
        run = []

    for word in words:
        if word and _tokens(word) is not None:
            run.append(word)
            if word[-1] in _ENDS and _depth(run) <= 0:
                flush()
        else:
            flush()
            pieces.append(("text", word + " "))
    flush()
    pieces.append(("text", "\b"))  # takes the last space away
    return pieces


def _merged(pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
    joined: list[tuple[str, str]] = []
    for kind, piece in pieces:
        if kind == "text" and joined and joined[-1][0] == "text":
            joined[-1] = ("text", joined[-1][1] + piece)
        else:
            joined.append((kind, piece))
    # \b follows exactly the space that joined a part's last word to nothing.
    clean = [(k, re.sub(" ?\b", "", p) if k == "text" else p) for k, p in joined]
    return [(kind, piece) for kind, piece in clean if piece]
