"""The house itself: imports run one way, files stay small, every public name shows an example."""

import ast
import doctest
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import funcnn as fnn

PACKAGE = Path(fnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each room imports only from those before it. config stands beside them: it imports none.
ORDER = [
    *(
        "report",
        "contract",
        "registry",
        "rules",
        "usage",
        "layer",
        "parts",
        "composition",
        "inspection",
    ),
    *(
        "layers",
        "models",
        "data",
        "pictures",
        "train",
        "gradient",
        "testing",
        "bench",
        "foreign",
        "experiment",
    ),
    *("commands", "cli", "__main__"),
]


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(source):
    """The rooms of funcnn that a source imports, also inside functions, but not for types alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    rooms = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "funcnn":
            names = [f"funcnn.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        rooms |= {name.split(".")[1] for name in names if name.startswith("funcnn.")}
    return rooms - {"__version__"}


def upward_imports(name, source):
    before = ORDER[: ORDER.index(name) + 1] if name in ORDER else []
    allowed = {
        *before,
        *(["config"] if name in ("foreign", "experiment", "commands", "cli") else []),
        name,
    }
    return imported_rooms(source) - allowed


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    if path == PACKAGE / "__init__.py":
        assert imported_rooms(path.read_text()) == set()  # names are resolved when they are used
    else:
        assert room(path) in [*ORDER, "config"], "a new room needs its place in ORDER"
        assert upward_imports(room(path), path.read_text()) == set()


def test_an_upward_import_is_found():
    assert upward_imports("rules", "from funcnn.core.layer import Layer") == {"layer"}
    assert upward_imports("rules", "def f():\n    from funcnn import train") == {"train"}
    assert upward_imports("config", "import funcnn.data") == {"data"}
    assert upward_imports("gradient", "from funcnn.core.registry import Rule") == set()


def test_config_imports_no_jax():
    for path in (PACKAGE / "config").glob("*.py"):
        assert "jax" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    source = path.read_text()
    assert source.count("\n") <= 320
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node, clean=False) or ""
            nested = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and n is not node]
            inside = sum((n.end_lineno or 0) - n.lineno for n in nested)
            lines = (node.end_lineno or 0) - node.lineno + 1 - documented.count("\n") - inside
            assert lines <= 45, f"{node.name} has {lines} lines"


def public_names():

    for home in (fnn, fnn.rules, fnn.models, fnn.data, fnn.train):
        for name in home.__all__:
            value = getattr(home, name)
            if not isinstance(value, type(fnn)):  # modules are tables of contents
                yield f"{home.__name__}.{name}", value


@pytest.mark.parametrize(
    ("name", "value"), list(public_names()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_public_names_have_a_running_example(name, value):
    documentation = value.__doc__ or ""
    assert ">>>" in documentation, f"{name} shows no example"
    home = sys.modules[getattr(value, "__module__", fnn.__name__)]
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    names = {
        **vars(home),
        **({"jnp": jnp, **vars(fnn.rules)} if isinstance(value, fnn.Layer) else {}),
    }
    test = doctest.DocTestParser().get_doctest(documentation, names, name, None, 0)
    assert doctest.DocTestRunner(optionflags=flags).run(test).failed == 0


# A layer made from a rule has the rule's own documentation, whose example calls the rule.
def test_layers_from_rules_show_the_derivation():
    assert fnn.tanh.__doc__ == fnn.rules.tanh.__doc__
    assert "Derivation" in (fnn.relu.__doc__ or "")


def test_lazy_names_are_all_there():
    assert set(fnn._MODULE_OF) | set(fnn._MODULES) == set(fnn.__all__)
    assert set(fnn.__all__) <= set(dir(fnn))
    with pytest.raises(AttributeError, match="has no 'relux'"):
        _ = fnn.relux  # pyright: ignore[reportAttributeAccessIssue]


def test_no_top_level_module_has_the_name_of_a_public_function():
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir()}
    assert {name for name in fnn.__all__ if name in modules} == set(fnn._MODULES)
