"""Equations written as plain text, as the docstrings of funcnn have them, into MathML.

`dx_i = y_i (dy_i - Σ_j y_j dy_j)` is such an equation. A small tokeniser and a recursive-descent
parser know identifiers (`x`, `dx`, `δh`, `x̂`), subscripts (`x_t`, `h_{t-1}`), superscripts (`x²`,
`wᵀ`, `e^(-|x|)`), sums with an index, brackets, fractions, functions and the words between. What
they do not understand is a `NotMath`, and stays the text that it was.
"""

from __future__ import annotations

import dataclasses
import html
import re

FUNCTIONS = frozenset(
    (
        "exp",
        "log",
        "log1p",
        "expm1",
        "tanh",
        "cosh",
        "erfc",
        "max",
        "min",
        "softmax",
        "softplus",
        "ceil",
        "mean",
        "sqrt",
    )
)
# Arguments and results that have a word for a name.
NAMES = frozenset(
    (
        "mean",
        "variance",
        "scale",
        "bias",
        "table",
        "slope",
        "alpha",
        "epsilon",
        "lo",
        "hi",
        "rate",
        "lengths",
        "inf",
    )
)
RELATIONS = {"=": "=", "≠": "≠", "≥": "≥", "≤": "≤", "<": "<", ">": ">", "∈": "∈", "≈": "≈"}
OPERATORS = {"+": "+", "-": "−", "·": "·", "∘": "∘", "×": "×", "±": "±", "∓": "∓", "→": "→"}
SEPARATORS = frozenset(",;:")
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵀˣʸⁿ", "0123456789-+Txyn", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))

# Characters of a line of equations that has room beside code.
_LONGEST = 50

_LETTER = r"(?:[A-Za-zÀ-ÖØ-öø-ÿΑ-ΡΤ-ωŒœčšž]\u0302?)"
_TOKENS = re.compile(
    r"(?P<number>\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)"
    r"|(?P<text>\"[^\"]*\")"
    r"|(?P<sum>Σ)"
    r"|(?P<dots>\.\.\.|…)"
    rf"|(?P<sub>_\{{[^}}]*\}}|_{_LETTER}+|_\d+|[{''.join(SUBSCRIPTS)}]+)"
    rf"|(?P<sup>[{''.join(SUPERSCRIPTS)}]+)"
    rf"|(?P<word>log1p|expm1|{_LETTER}+(?:-{_LETTER}{{2,}})*)"
    r"|(?P<prime>'+)"
    r"|(?P<mark>[-+=≠≥≤<>∈≈·∘×±∓→,;:/()\[\]|√∂∞½^.])"
)


class NotMath(ValueError):
    """The text is no equation that this module understands."""


@dataclasses.dataclass(frozen=True)
class Token:
    """A piece of an equation, and whether a space stands before it."""

    kind: str
    text: str
    spaced: bool


@dataclasses.dataclass
class Item:
    """Parsed MathML: a factor, or something that stands between factors.

    `inner` is a bracketed factor without its brackets.
    """

    mathml: str
    kind: str = "factor"
    inner: str | None = None


def tokens(text: str) -> list[Token]:
    """The tokens of a text; NotMath where a character belongs to none.

    >>> [token.text for token in tokens("dx_i = wᵀ")]
    ['dx', '_i', '=', 'w', 'ᵀ']
    """
    pieces, position, spaced = [], 0, False
    while position < len(text):
        if text[position].isspace():
            position, spaced = position + 1, True
            continue
        match = _TOKENS.match(text, position)
        if match is None:
            raise NotMath(f"{text[position]!r} in {text!r}")
        pieces.append(Token(match.lastgroup or "", match.group(), spaced))
        position, spaced = match.end(), False
    return pieces


def is_variable(word: str) -> bool:
    """Whether a word is a letter, or one with d, ∂ or δ before it, not one of the language.

    >>> is_variable("dx"), is_variable("δh"), is_variable("do"), is_variable("the")
    (True, True, False, False)
    """
    bare = word.replace("\u0302", "")
    if len(bare) == 1:
        return True
    if bare[0] not in "dδ" or bare == "do":
        return False
    return len(bare) == 2 or bare[1:] in NAMES


def is_prose(word: str) -> bool:
    """Whether a word is one of the language."""
    return not (is_variable(word) or word in FUNCTIONS or word in NAMES)


def _row(parts: str) -> str:
    return f"<mrow>{parts}</mrow>"


def _letter(letter: str) -> str:
    if letter.endswith("\u0302"):
        return f'<mover accent="true"><mi>{letter[0]}</mi><mo stretchy="false">^</mo></mover>'
    # Capital Greek letters are upright by custom; the rest is italic as MathML has it.
    upright = ' mathvariant="normal"' if letter in "ΦΣΓΔ" else ""
    return f"<mi{upright}>{html.escape(letter)}</mi>"


def _identifier(word: str) -> str:
    letters = re.findall(f"{_LETTER}", word)
    if len(letters) == 1:
        return _letter(letters[0])
    if word[0] == "δ":
        return _row("<mi>δ</mi>" + _identifier(word[1:]))
    if word[0] == "d":
        return _row('<mi mathvariant="normal">d</mi>' + _identifier(word[1:]))
    return f"<mi>{html.escape(word)}</mi>"


def _number(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return f"<mn>{text}</mn>"
    sign = "<mo>−</mo>" if exponent[0] == "-" else ""
    digits = _row(f"{sign}<mn>{exponent.lstrip('-')}</mn>")
    power = f"<msup><mn>10</mn>{digits}</msup>"
    return _row(f"<mn>{mantissa}</mn><mo>·</mo>{power}")


def _space(width: float) -> str:
    return f'<mspace width="{width}em"></mspace>'


class _Parser:
    """One equation. `prose`: words of the language may stand in it; `fractions`: `/` stacks."""

    def __init__(self, text: str, *, prose: bool, fractions: bool):
        self.tokens = tokens(text)
        self.prose, self.fractions = prose, fractions
        self.position = 0

    def peek(self, ahead: int = 0) -> Token:
        place = self.position + ahead
        return self.tokens[place] if place < len(self.tokens) else Token("end", "", True)

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def whole(self) -> str:
        """All of the text."""
        markup = self.sequence("")
        if self.position < len(self.tokens):
            raise NotMath(f"{self.peek().text!r} closes nothing")
        return markup

    def sequence(self, closers: str) -> str:
        """Up to one of the closing marks, which is left."""
        items: list[Item] = []
        start = 0  # of the product that a spaced / divides
        while self.peek().kind != "end" and not (
            self.peek().kind == "mark" and self.peek().text in closers
        ):
            token = self.peek()
            if token.text == "/" and self.fractions and items and items[-1].kind == "factor":
                self.fraction(items, start)
                continue
            before = len(items)
            self.item(items)
            if items[-1].kind not in ("factor", "function") and len(items) > before:
                start = len(items)
        return "".join(item.mathml for item in items)

    def fraction(self, items: list[Item], start: int) -> None:
        """The product, or after a tight / the factor, before it over what comes after it."""
        tight = not self.take().spaced
        if tight:
            start = len(items) - 1
            while start and items[start].kind != "factor":
                start -= 1
        above = items[start:]
        single = above[0].inner if len(above) == 1 else None
        numerator = single or "".join(item.mathml for item in above)
        below = self.denominator(tight)
        items[start:] = [Item(f"<mfrac>{_row(numerator)}{_row(below)}</mfrac>")]

    def denominator(self, tight: bool) -> str:
        if self.peek().kind != "sum" or tight:
            factor = self.factor()
            return factor.inner or factor.mathml
        items: list[Item] = []
        while self.peek().kind in ("sum", "word", "number") and not (
            self.peek().kind == "word" and is_prose(self.peek().text)
        ):
            self.item(items)
        return "".join(item.mathml for item in items)

    def item(self, items: list[Item]) -> None:
        """Append what comes next."""
        token, last = self.peek(), items[-1].kind if items else "start"
        if token.kind == "sum":
            items.append(self.sum())
        elif token.kind == "dots":
            self.take()
            items.append(Item("<mi>…</mi>", "operator"))
        elif token.kind == "text" or self.starts_prose():
            items.append(Item(self.words(bool(items)), "text"))
        elif token.kind == "mark" and token.text in RELATIONS:
            self.take()
            items.append(Item(f"<mo>{html.escape(RELATIONS[token.text])}</mo>", "relation"))
        elif token.kind == "mark" and token.text in OPERATORS:
            self.take()
            form = "infix" if last in ("factor", "function") else "prefix"
            items.append(Item(f'<mo form="{form}">{OPERATORS[token.text]}</mo>', "operator"))
        elif token.kind == "mark" and token.text in SEPARATORS:
            self.take()
            closes = self.peek().kind == "mark" and self.peek().text in ")]"
            gap = "" if closes else _space(0.2 if token.text == ":" else 0.3)
            items.append(Item(f'<mo separator="true" rspace="0">{token.text}</mo>{gap}', "mark"))
        elif token.text == ".":
            self.take()
            if self.peek().kind != "end" and not self.prose:
                raise NotMath("a full stop inside an equation")
            items.append(Item("<mtext>.</mtext>", "mark"))
        elif token.text == "/":
            self.take()
            items.append(Item('<mo lspace="0" rspace="0">/</mo>', "slash"))
        else:
            self.product(items, last)

    def product(self, items: list[Item], last: str) -> None:
        """A factor, a little apart from the one before it where the text has a space."""
        token = self.peek()
        factor = self.factor()
        if last == "function" or (last == "factor" and token.spaced):
            items[-1] = Item(items[-1].mathml + _space(0.2), items[-1].kind, items[-1].inner)
        elif last == "text":
            items[-1] = Item(items[-1].mathml + _space(0.3), "text")
        items.append(factor)

    def starts_prose(self) -> bool:
        token = self.peek()
        if token.kind != "word" or not self.prose:
            return False
        article = token.text == "a" and self.peek(1).kind == "word" and self.peek(1).spaced
        return is_prose(token.text) or (article and is_prose(self.peek(1).text))

    def words(self, inside: bool) -> str:
        """A run of words of the language, with the spaces around it."""
        words = []
        while self.peek().kind == "text" or self.starts_prose():
            words.append(self.take().text)
        text = html.escape(" ".join(words))
        return (_space(0.4) if inside else "") + f"<mtext>{text}</mtext>" + _space(0.1)

    def sum(self) -> Item:
        self.take()
        sign = '<mo movablelimits="true">∑</mo>'
        if self.peek().kind != "sub":
            return Item(sign, "big")
        return Item(f"<munder>{sign}{self.script(self.take().text[1:])}</munder>", "big")

    def script(self, text: str) -> str:
        """A subscript or a superscript."""
        text = text.removeprefix("{").removesuffix("}")
        if re.fullmatch(f"{_LETTER}+", text):
            return _row("".join(_letter(letter) for letter in re.findall(_LETTER, text)))
        return _row(_Parser(text, prose=False, fractions=False).whole())

    def factor(self) -> Item:
        """An atom with its scripts, primes, arguments and indices."""
        item = self.atom()
        sub = sup = ""
        while True:
            token = self.peek()
            if token.kind == "sub" and not token.spaced and not sub:
                text = self.take().text
                plain = "".join(SUBSCRIPTS.get(c, c) for c in text)
                sub = self.script(plain.removeprefix("_"))
            elif token.kind == "sup" and not token.spaced:
                sup += self.superscript(self.take().text)
            elif token.kind == "prime" and not token.spaced:
                marks = "′" * len(self.take().text)
                item = self.scripted(item, sub, sup)
                item = Item(_row(f'{item.mathml}<mo lspace="0" rspace="0">{marks}</mo>'))
                sub = sup = ""
            elif token.text == "^" and not token.spaced:
                self.take()
                self.fractions, before = False, self.fractions
                power = self.factor()
                self.fractions = before
                sup += power.inner or power.mathml
            elif token.text in ("(", "[") and not token.spaced and item.kind != "number":
                item = Item(self.scripted(item, sub, sup).mathml + self.group().mathml)
                sub = sup = ""
            else:
                return self.scripted(item, sub, sup)

    def scripted(self, item: Item, sub: str, sup: str) -> Item:
        base = _row(item.mathml) if sub or sup else item.mathml
        sub, sup = (_row(script) if script else "" for script in (sub, sup))
        if sub and sup:
            base = f"<msubsup>{base}{sub}{sup}</msubsup>"
        elif sub or sup:
            name = "msub" if sub else "msup"
            base = f"<{name}>{base}{sub}{sup}</{name}>"
        kind = "factor" if item.kind == "number" else item.kind
        return Item(base, kind, None if sub or sup else item.inner)

    def superscript(self, text: str) -> str:
        if text == "ᵀ":
            return '<mi mathvariant="normal">T</mi>'
        return self.script("".join(SUPERSCRIPTS[c] for c in text))

    def atom(self) -> Item:
        token = self.take()
        if token.kind == "number":
            return Item(_number(token.text), "number")
        if token.kind == "word" and not is_prose(token.text):
            return self.name(token.text)
        if token.text in ("(", "["):
            self.position -= 1
            return self.group()
        if token.text == "|":
            inside = self.sequence("|")
            self.close("|")
            bar = '<mo stretchy="false" form="{}">|</mo>'
            return Item(_row(bar.format("prefix") + inside + bar.format("postfix")))
        if token.text == "√":
            radicand = self.factor() if self.peek().text != "(" else self.group()
            return Item(f"<msqrt>{radicand.inner or radicand.mathml}</msqrt>")
        if token.text == "∂":
            return Item(_row("<mo>∂</mo>" + self.factor().mathml))
        if token.text in ("∞", "½"):
            return Item({"∞": "<mi>∞</mi>", "½": "<mfrac><mn>1</mn><mn>2</mn></mfrac>"}[token.text])
        raise NotMath(f"{token.text!r} is no factor")

    def name(self, word: str) -> Item:
        if word == "sqrt" and self.peek().text == "(" and not self.peek().spaced:
            return Item(f"<msqrt>{self.group().inner}</msqrt>")
        applied = word in FUNCTIONS and not (self.peek().text == "(" and not self.peek().spaced)
        return Item(_identifier(word), "function" if applied and word != "mean" else "factor")

    def group(self) -> Item:
        """What stands in brackets; [0, C) has two kinds of them."""
        opening = self.take().text
        inside = self.sequence(")]")
        closing = self.close(")]")
        mark = '<mo stretchy="false" form="{}">{}</mo>'
        whole = mark.format("prefix", opening) + inside + mark.format("postfix", closing)
        plain = opening == "(" and closing == ")" and "<mo separator" not in inside
        return Item(_row(whole), inner=_row(inside) if plain else None)

    def close(self, closers: str) -> str:
        token = self.take()
        if token.kind != "mark" or token.text not in closers:
            raise NotMath("a bracket is not closed")
        return token.text


def inline(text: str) -> str:
    """A formula in a line of text; NotMath where it is none.

    >>> inline("x_t")
    '<math><msub><mrow><mi>x</mi></mrow><mrow><mrow><mi>t</mi></mrow></mrow></msub></math>'
    """
    if not text.strip():
        raise NotMath("nothing")
    return f"<math>{_Parser(text, prose=False, fractions=False).whole()}</math>"


def _columns(cell: str) -> list[str]:
    """What stands before the first = outside of brackets, and the rest."""
    depth = 0
    for place, character in enumerate(cell):
        depth += (character in "([{") - (character in ")]}")
        if character == "=" and not depth:
            return [cell[:place], cell[place:]]
    return [cell, ""]


def equations_of(line: str) -> list[str]:
    """The equations and remarks of one line, which two spaces or more part.

    >>> equations_of("a  = b,   c = d   (a remark)")
    ['a  = b,', 'c = d', '(a remark)']
    """
    return [cell for cell in re.split(r" {2,}(?![ =])", line.strip()) if cell]


def _compact(cells: list[str]) -> str:
    """Aligned at the first = alone; what else stands in the line follows."""
    left, right = _columns(cells[0])
    sides = [_Parser(side, prose=True, fractions=True).whole() for side in (left, right)]
    for cell in cells[1:]:
        sides[1] += _space(2) + _Parser(cell, prose=True, fractions=True).whole()
    return f'<mtd class="left">{sides[0]}</mtd><mtd class="right">{sides[1]}</mtd>'


def _below(cell: str) -> str:
    """A row for one of the equations of a line; a remark stands where the right sides do."""
    left, right = _columns(cell)
    if right:
        return f"<mtr>{_compact([cell])}</mtr>"
    remark = _Parser(left, prose=True, fractions=True).whole()
    return f'<mtr><mtd class="left"></mtd><mtd class="right">{remark}</mtd></mtr>'


def _alone(cell: str) -> str:
    return f'<math display="block">{_Parser(cell, prose=True, fractions=True).whole()}</math>'


def block(lines: list[str]) -> str:
    """Indented lines of equations as a table, aligned at their =; NotMath where they are none.

    Two spaces or more part the equations of one line. A single line has nothing to be aligned with:
    its equations stand by themselves, and may be set below one another where there is no room.
    Where a line is long each equation has its own: beside code there is no room for more.
    """
    rows = []
    if not any(mark in "".join(lines) for mark in RELATIONS):
        raise NotMath("nothing is equal to anything")
    if len(lines) == 1:
        return "".join(_alone(cell) for cell in equations_of(lines[0]))
    if any(len(line.strip()) > _LONGEST for line in lines):
        rows = [_below(cell) for line in lines for cell in equations_of(line)]
        return _table(rows)
    # Only where the lines are alike are the later equations, or remarks, columns too.
    kinds = {tuple(bool(_columns(cell)[1]) for cell in equations_of(line)) for line in lines}
    columns = len(kinds) == 1
    for line in lines:
        cells = equations_of(line)
        if not columns:
            rows.append(f"<mtr>{_compact(cells)}</mtr>")
            continue
        written = []
        for cell in cells:
            left, right = _columns(cell)
            sides = [_Parser(side, prose=True, fractions=True).whole() for side in (left, right)]
            if right or len(cells) == 1:
                written += [
                    f'<mtd class="left">{sides[0]}</mtd><mtd class="right">{sides[1]}</mtd>'
                ]
            else:
                written += [f'<mtd class="note">{sides[0]}</mtd>']
        rows.append(f"<mtr>{''.join(written)}</mtr>")
    return _table(rows)


def _table(rows: list[str]) -> str:
    return f'<math display="block"><mtable displaystyle="true">{"".join(rows)}</mtable></math>'
