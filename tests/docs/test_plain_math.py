"""Plain equations become MathML: every one of the rules' docstrings, and each form by itself."""

import inspect
import re
from xml.etree import ElementTree

import docstring
import plain_math
import prose
import pytest

import funcnn as fnn

RULES = [rule for name, rule in fnn.registered_rules().items() if "." not in name]


def shown(mathml):
    """MathML as text, and proof that it is well formed."""
    root = ElementTree.fromstring(mathml)
    return re.sub(r"\s+", " ", "".join(root.itertext())), root


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_indented_equation_of_a_rule_is_understood(rule):
    for block in docstring.blocks(inspect.getdoc(rule.reference) or ""):
        if block.kind == "equations":
            text, _ = shown(f"<div>{plain_math.block(block.lines)}</div>")
            assert len(text) > 3


def too_long(documentation):
    """The equations that are cut off beside code; blanks in the line would part them."""
    lines = [line for block in docstring.blocks(documentation) if block.kind == "equations"
             for line in block.lines]  # fmt: skip
    return [x for line in lines for x in plain_math.equations_of(line) if len(x) > 68]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_equation_of_a_rule_is_too_long_for_its_column(rule):
    assert too_long(inspect.getdoc(rule.reference) or "") == []


def test_a_long_equation_is_seen():
    line = "dx = r (g - mean(g) - x̂ mean(g x̂)) with g = dy scale; dscale = Σ dy x̂ and dbias = Σ dy."
    assert too_long(f"Derivation:\n    {line}") == [line]
    assert too_long(f"Derivation:\n    {line.replace(';', ',   ')}") == []


@pytest.mark.parametrize(
    ("text", "elements", "words"),
    [
        ("x_t", ["msub"], "xt"),
        ("h_{t-1}", ["msub"], "ht−1"),
        ("x²", ["msup"], "x2"),
        ("wᵀ", ["msup"], "wT"),
        ("e^(-|x|)", ["msup"], "e−|x|"),
        ("x_tᵀ δa_t", ["msubsup", "msub"], "xtT δat"),
        ("x̂_j", ["mover", "msub"], "x^j"),
        ("√(2/π)", ["msqrt"], "2/π"),
        ("Σ_{j≠y} p_j", ["munder"], "∑j≠ypj"),
        ("φ'(a_t)", ["msub"], "φ′(at)"),
        ("3e-8", ["msup"], "3·10−8"),
        ("[0, C)", [], "[0,C)"),
        ("½ r", ["mfrac"], "12r"),
        ("x_t uᵀ ∘ c", ["msub", "msup"], "xtuT∘c"),
    ],
)
def test_forms(text, elements, words):
    found, root = shown(plain_math.inline(text))
    assert found.replace(" ", "") == words.replace(" ", "")
    tags = [element.tag for element in root.iter()]
    assert all(name in tags for name in elements)


@pytest.mark.parametrize("text", ["", "the sum of", "f(x", "x)", "§", "x = a. b", "a | b"])
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(plain_math.NotMath):
        plain_math.inline(text)


def test_letters_are_told_from_names_and_functions():
    _, root = shown(plain_math.inline("dx = exp(x) scale"))
    words = [(e.text, e.get("mathvariant")) for e in root.iter("mi")]
    assert words == [("d", "normal"), ("x", None), ("exp", None), ("x", None), ("scale", None)]


@pytest.mark.parametrize(
    ("line", "above", "below"),
    [
        ("y = (a - 1) / b", "a−1", "b"),
        ("y = -r³ c_j / D", "r3cj", "D"),
        ("y = x̂ s/n", "s", "n"),
        ("y = exp x_i / Σ_j exp x_j", "expxi", "∑jexpxj"),
        ("y = Σ_p x[p] / n[p]", "x[p]", "n[p]"),
        ("∂r/∂x_j = c", "∂r", "∂xj"),
    ],
)
def test_fractions_of_a_displayed_equation(line, above, below):
    _, root = shown(plain_math.block([line, "a = b"]))
    (fraction,) = root.iter("mfrac")
    assert ["".join(part.itertext()).replace(" ", "") for part in fraction] == [above, below]


def test_lines_are_aligned_at_their_equals_and_notes_stand_apart():
    lines = ["db    = Σ_p dy[p]     (over all rows)", "      = c           (a sum of dy)"]
    _, root = shown(plain_math.block(lines))
    rows = [[cell.get("class") for cell in row] for row in root.iter("mtr")]
    assert rows == [["left", "right", "note"]] * 2
    # Lines of several kinds are aligned at their first = only.
    _, root = shown(plain_math.block([*lines, "a = b,   c = d"]))
    assert [len(row) for row in root.iter("mtr")] == [2, 2, 2]


def test_where_a_line_is_long_each_equation_has_its_own():
    long = "δh_t = dy_t + δa_{t+1} uᵀ            (after the last step, the given dh_T)"
    _, root = shown(plain_math.block([long, "a = b   c = d"]))
    rows = [["".join(cell.itertext()).replace(" ", "") for cell in row] for row in root.iter("mtr")]
    assert [left for left, _ in rows] == ["δht", "", "a", "c"]
    assert rows[1][1].startswith("(afterthelaststep,")


def test_the_equations_of_a_single_line_stand_by_themselves():
    found = plain_math.block(["dw = Σ_t x_tᵀ δa_t,   db = Σ_t δa_t."])
    assert found.count("<math ") == found.count("</math>") == 2


def test_a_block_without_a_relation_is_no_equation():
    with pytest.raises(plain_math.NotMath, match="equal"):
        plain_math.block(["one line", "and another"])


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("so dx = dy [y > 0]. At the kink", ["dx=dy[y>0]"]),
        ("x (N, H, W, I), b (O,) or None", ["x(N,H,W,I)", "b(O,)"]),
        ("a mean of the rows, of x", ["x"]),
        ("the mean and variance, 3x3, in 1997", []),
        ("with c = x - mean, r is", ["c=x−mean", "r"]),
        ("take `x_t` as it is", []),
        ("logits (20, 0) in float32", []),
        ("(that is x)", ["x"]),
        ("with λ = z_loss, the mean's 1/n", ["λ", "1/n"]),
        ("with g = dy scale and the mean", ["g=dyscale"]),
    ],
)
def test_formulas_are_found_in_prose(text, formulas):
    pieces = prose.split(text)
    found = [shown(piece)[0] for kind, piece in pieces if kind == "math"]
    assert [f.replace(" ", "") for f in found] == formulas
    assert "  " not in "".join(piece if kind == "text" else "_" for kind, piece in pieces)


def test_prose_loses_no_word():
    for rule in RULES:
        for block in docstring.blocks(inspect.getdoc(rule.reference) or ""):
            for text in [block.text, *block.lines, *(item for _, item in block.items)]:
                if block.kind in ("text", "label", "bullets", "items"):
                    kept = "".join(piece for kind, piece in prose.split(text) if kind != "math")
                    words = re.findall(r"\b[A-Za-z][A-Za-z0-9]{3,}", kept)
                    names = plain_math.NAMES | plain_math.FUNCTIONS
                    lost = [
                        w for w in re.findall(r"\b[A-Za-z][A-Za-z0-9]{3,}", text) if w not in words
                    ]
                    assert all(w in names or w.lstrip("d") in names for w in lost), lost
