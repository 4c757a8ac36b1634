"""The site: its table of formulas, its pages in columns, and a whole build (slow)."""

import doctest
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import listing
import pytest
from formulas import FORMULAS

REASON = 'the site is built with what pip install -e ".[docs]" installs'
for needed in ("sphinx", "latex2mathml", "sphinx_gallery", "furo", "myst_parser"):
    pytest.importorskip(needed, reason=REASON)

nodes = pytest.importorskip("docutils.nodes")
lecture_pages = pytest.importorskip("lecture_pages")
mathml = pytest.importorskip("mathml")

ROOT = Path(__file__).parents[2]
STEPS = sorted({formula.step for formula in FORMULAS})


def test_a_formula_without_its_step_is_told():
    sources = {step: f'v.equal("{f.number}", 1)' for step in STEPS for f in [FORMULAS[0]]}
    problems = lecture_pages.problems(FORMULAS, {})
    assert len(problems) == len(FORMULAS)
    assert problems[0] == "F1: its step step_01_regression is missing"
    assert "does not mention it" in lecture_pages.problems(FORMULAS, sources)[-1]
    # F1 is not found in F12.
    only = {FORMULAS[0].step: 'v.equal("F12", 1)'}
    assert lecture_pages.problems(FORMULAS[:1], only) == [
        "F1: its step step_01_regression does not mention it"
    ]


def test_every_formula_is_valid_tex():
    for formula in FORMULAS:
        for latex in re.findall(r"\$([^$]+)\$", formula.printed):
            assert mathml.to_mathml(latex, "inline").startswith("<math")


@pytest.mark.parametrize("latex", [r"\nonsense x", r"\frac{1}{2", r"a & \nonsense \\ b"])
def test_wrong_tex_is_refused(latex):
    with pytest.raises(ValueError, match="latex2mathml"):
        mathml.to_mathml(latex, "block")


def test_scripts_of_a_matrix_and_aligned_lines():
    found = mathml.to_mathml(r"\begin{pmatrix} a & b \end{pmatrix}^\top", "block")
    assert "<msup><mrow><mo>&#x00028;</mo><mtable>" in found
    assert 'columnalign="right"' in mathml.to_mathml(r"a &= b \\ c &= d", "block")


def test_words_code_and_pictures_stand_in_rows():
    words, code, picture = (
        nodes.paragraph("", "w"),
        nodes.literal_block("", "c"),
        nodes.image(uri="p"),
    )
    rows = lecture_pages.lessons([words, code, picture, nodes.paragraph("", "v")])
    assert [[side["classes"][0] for side in row] for row in rows] == [
        ["words", "code", "picture"],
        ["words"],
    ]


def test_the_examples_of_the_extensions_run():
    for module in (lecture_pages, mathml, pytest.importorskip("shown")):
        found = doctest.testmod(module)
        assert found.attempted
        assert found.failed == 0


class Page(HTMLParser):
    """The references of a page: what it loads, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.targets = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.targets |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "index", "search", "next"):
            self.loaded.append(found.get("href") or "")
        elif found.get("src"):
            self.loaded.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as a user builds it."""
    out = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "docs/serve.py", "--build-only", "--out", str(out)]
    # Optimised, for the lecture's loops are long, and on one device, as users have it.
    as_users_have_it = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    as_users_have_it["XLA_FLAGS"] = ""
    done = subprocess.run(
        command, cwd=ROOT, env=as_users_have_it, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert "WARNING" not in done.stderr
    return out


@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_network(site):
    pages = {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 30
    for path, page in pages.items():
        for loaded in page.loaded:
            assert not re.match(r"(?:https?:)?//", loaded), f"{path}: {loaded}"
        for link in page.links:
            if re.match(r"https?:|mailto:", link):
                continue
            place, _, target = unquote(link).partition("#")
            leads = (path.parent / place).resolve() if place else path
            assert leads.exists(), f"{path}: {link}"
            if target and leads in pages:
                assert target in pages[leads].targets, f"{path}: {link}"
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", text), style


class Listings(HTMLParser):
    """The listings of a page that stand beside a derivation, as text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in ("div", "pre"):
            self.open.append((dict(attrs).get("class") or tag).split()[0])
            if self.open[-1] == "pre" and "code" in self.open:
                self.texts.append("")

    def handle_endtag(self, tag):
        if tag in ("div", "pre"):
            self.open.pop()

    def handle_data(self, data):
        if self.open[-1:] == ["pre"] and "code" in self.open:
            self.texts[-1] += data


@pytest.mark.slow
def test_no_code_beside_a_derivation_is_too_long_for_its_column(site):
    pages = sorted((site / "rules").glob("*.html"))
    texts = [text for page in pages for text in Listings(page.read_text("utf-8")).texts]
    assert len(texts) > 90
    assert [x for text in texts for x in text.splitlines() if len(x) > listing.COLUMNS] == []


@pytest.mark.slow
def test_every_step_is_a_page_with_equations_code_and_a_picture(site):
    attention = [path.stem for path in (ROOT / "examples" / "attention").glob("step_*.py")]
    assert len(attention) == 5
    pages = [f"lecture/steps/{step}" for step in STEPS]
    for page in [*pages, *(f"attention/steps/{step}" for step in attention)]:
        text = (site / f"{page}.html").read_text("utf-8")
        assert "<math" in text
        assert "<img" in text
        assert 'class="lesson' in text
        assert re.search(r"\d+ verified", text)
        assert "figure: " not in text


@pytest.mark.slow
def test_the_table_leaves_no_formula_out(site):
    text = (site / "lecture" / "index.html").read_text("utf-8")
    assert all(f"<p>{formula.number}</p>" in text for formula in FORMULAS)
    assert "missing" not in text
