"""The source of the rules: no automatic differentiation, no dtype named, derivations, cases."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from funcnn import rules
from funcnn.core.registry import registered_rules

FOLDER = Path(rules.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
DERIVATIVES = frozenset(
    name
    for name in [
        "grad",
        "value_and_grad",
        "vjp",
        "jvp",
        "linearize",
        "linear_transpose",
        "jacobian",
        "jacfwd",
        "jacrev",
        "hessian",
        "custom_jvp",
        "custom_vjp",
    ]
)


def names_in(source):
    """Every identifier and string constant of a source, docstrings left out, with its line."""
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                for part in alias.name.split("."):
                    yield part, node.lineno
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documentation
        ):
            yield node.value, node.lineno


def differentiation_in(source):
    return [f"line {line}: {name}" for name, line in names_in(source) if name in DERIVATIVES]


def float32_in(source):
    # f4 and single are spellings of it too, as strings or as attributes of numpy.
    return [
        f"line {line}: {name}"
        for name, line in names_in(source)
        if name in ("float32", "f4", "single", "<f4")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_no_rule_calls_automatic_differentiation(path):
    assert differentiation_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_no_rule_names_float32(path):
    assert float32_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import jax\njax.grad(f)(x)",
        "from jax import grad as g\ng(f)(x)",
        "import jax.numpy as jnp, jax as j\nj.value_and_grad(f)",
        "getattr(jax, 'vjp')(f, x)",
        "from jax._src.api import linearize\n",
        "pull = jax.linear_transpose",
        "import jax.api.jvp",
        "def f(x):\n    '''Fine: jax.grad'''\n    return jax.jacfwd(f)",
        "jax.experimental.jet.jacrev",
        "jax.hessian(f)",
        "@jax.custom_jvp\ndef f(x): pass",
    ],
)
def test_planted_differentiation_is_found(source):
    assert differentiation_in(source)


@pytest.mark.parametrize(
    "source",
    ["x.astype(jnp.float32)", "x.astype('float32')", "from numpy import float32 as f", "np.single"],
)
def test_planted_float32_is_found(source):
    assert float32_in(source)


def test_words_in_docstrings_and_comments_are_free():
    source = '"""As jax.grad in float32."""\n# jax.vjp\ndef f():\n    """grad"""\n    upgrade = 1\n'
    assert not differentiation_in(source)
    assert not float32_in(source)


OURS = {n: r for n, r in registered_rules().items() if "." not in n}


def test_every_rule_is_registered_and_in_the_table_of_contents():
    listed = set(rules.__all__) - {"registered_rules", "attention_implementation"}
    assert listed == set(OURS)
    assert len(OURS) >= 20


@pytest.mark.parametrize("rule", OURS.values(), ids=OURS.keys())
def test_docstring_is_a_derivation(rule):
    text = rule.__doc__
    assert len(text.splitlines()) >= 10
    for part in ("Shapes", "Derivation", "Kept for the backward pass", "Source", ">>> ", "NaN"):
        assert part in text, f"{rule.name}: the docstring does not say: {part}"
    assert "earns its place" in text.lower(), rule.name
    assert "kink" in text.lower(), rule.name


@pytest.mark.parametrize("rule", OURS.values(), ids=OURS.keys())
def test_cases_cover_shapes_sizes_and_every_argument(rule):
    cases = rule.cases()
    shapes = {case.args[0].shape for case in cases}
    assert len(shapes) >= 2
    assert any(len(s) >= 2 and len(set(s)) > 1 for s in shapes), "none is not square"
    assert any(0 in s for s in shapes), "no empty axis"
    assert any(1 in s for s in shapes), "no axis of size 1"
    static = [tuple(sorted(case.static.items())) for case in cases]
    names = [(case.name, s) for case, s in zip(cases, static, strict=True)]
    assert len(set(names)) == len(names), "two cases have one name"
    for place, name in enumerate(rule.parameters):
        assert any(_gradient_is_live(rule, case, place) for case in cases), name


def _gradient_is_live(rule, case, place):
    """Whether the argument at `place` gets a gradient that is not zero; integers need none."""
    if place >= len(case.args):
        return False
    leaves = jax.tree.leaves(case.args[place])
    if not all(jnp.issubdtype(a.dtype, jnp.inexact) for a in leaves):
        return True
    y, pullback = jax.vjp(lambda *args: rule.reference(*args, **case.static), *case.args)
    # Weights that differ: a constant cotangent is in the kernel of a softmax.
    dy = jax.tree.map(lambda y: jnp.cos(jnp.arange(float(y.size))).reshape(y.shape), y)
    return any(bool(jnp.any(g != 0)) for g in jax.tree.leaves(pullback(dy)[place]))


@pytest.mark.parametrize("rule", OURS.values(), ids=OURS.keys())
def test_arguments_of_the_cases_are_float32(rule):
    for case in rule.cases():
        for a in jax.tree.leaves(case.args):
            assert not jnp.issubdtype(a.dtype, jnp.inexact) or a.dtype == jnp.float32
