"""The house itself: imports run one way, files stay small, every public name shows an example."""

import ast
import doctest
import inspect
import re
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import funcnn as fnn

PACKAGE = Path(fnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each room imports only from those before it. config stands beside them: it imports those before
# types alone, which need no JAX.
ORDER = {
    "funcnn": [
        *(
            "names",
            "version",
            "spelling",
            "types",
            "report",
            "core",
            "rules",
            "layers",
            "models",
            "generation",
            "augment",
            "data",
            "task",
            "pictures",
            "train",
        ),
        *(
            "gradient",
            "exchange",
            "testing",
            "suite",
            "bench",
            "modules",
            "foreign",
            "chosen",
            "network",
            "experiment",
            "plan",
            "runs",
        ),
        *("commands", "cli", "__main__"),
    ],
    "funcnn.core": [
        *(
            "devices",
            "contract",
            "explicit",
            "errors",
            "removal",
            "registry",
            "usage",
            "given",
            "patterns",
            "memory",
            "layer",
            "drawing",
            "parts",
            "around",
            "beside",
            "composition",
            "caching",
        ),
        *(
            "glue",
            "between",
            "composite",
            "sorting",
            "stack",
            "remat",
            "precision",
            "summary",
            "backprop",
        ),
    ],
    "funcnn.rules": ["shared", "activation", "softmax"],
    "funcnn.gradient": [
        *("program", "cost", "verdict", "case", "truth", "checks", "mutation", "hunt"),
        *("diagnosis", "sites", "comparison", "check"),
    ],
    "funcnn.suite": [
        *("identity", "operands", "wrappers", "calls", "running", "programs", "recording"),
        *("table", "checking", "distribution", "session", "plugin"),
    ],
}
# What has no place here comes after all that have one, and none of these imports another.
OPEN = {"funcnn.rules"}
BESIDE = {
    "config": ("foreign", "chosen", "network", "experiment", "plan", "runs", "commands", "cli")
}


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported(source):
    """The modules of funcnn that a source imports, also in functions, but not for types alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module or "" for name in names}
    return {name for name in found if name.split(".")[0] == "funcnn"}


def upward_imports(module, source):
    """What a module imports from a room that does not stand before its own."""
    wrong = set()
    for name in imported(source):
        for house, rooms in ORDER.items():
            prefix = f"{house}."
            if not (module.startswith(prefix) and name.startswith(prefix)):
                continue
            own, theirs = (m.removeprefix(prefix).split(".")[0] for m in (module, name))
            first = rooms.index("types") if "types" in rooms else 0
            last = len(rooms) if house in OPEN else first
            before = {own, *rooms[: rooms.index(own) + 1 if own in rooms else last]}
            before |= {room for room, users in BESIDE.items() if own in users}
            if theirs not in before:
                wrong.add(f"{house}.{theirs}")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    for house, rooms in ORDER.items():
        if module.startswith(f"{house}."):
            room = module.removeprefix(f"{house}.").split(".")[0]
            placed = room in [*rooms, *BESIDE] or house in OPEN
            assert placed, f"a new room of {house} needs its place in ORDER"
    assert upward_imports(module, MODULES[module].read_text()) == set()


def test_nobody_imports_the_package_itself():
    importers = [m for m, path in MODULES.items() if "funcnn" in imported(path.read_text())]
    assert importers == []
    assert imported("import funcnn as fnn") == {"funcnn"}
    assert imported("from funcnn import chain") == {"funcnn"}


def test_an_upward_import_is_found():
    assert upward_imports("funcnn.rules.linear", "from funcnn.layers import dense") == {
        "funcnn.layers"
    }
    assert upward_imports("funcnn.rules.linear", "def f():\n    from funcnn import train") == {
        "funcnn.train"
    }
    assert upward_imports("funcnn.config.toml", "import funcnn.data") == {"funcnn.data"}
    assert upward_imports("funcnn.config.toml", "import funcnn.types") == {"funcnn.types"}
    assert upward_imports("funcnn.gradient.check", "from funcnn.core.registry import Rule") == set()
    assert upward_imports(
        "funcnn.gradient.verdict.judge", "from funcnn.gradient.checks.laws import laws"
    ) == {"funcnn.gradient.checks"}
    assert upward_imports(
        "funcnn.rules.shared.windows", "from funcnn.rules.softmax import softmax"
    ) == {"funcnn.rules.softmax"}
    assert upward_imports("funcnn.rules.softmax", "import funcnn.rules.gate") == {
        "funcnn.rules.gate"
    }
    assert upward_imports("funcnn.rules.new", "import funcnn.rules.gate") == {"funcnn.rules.gate"}
    assert upward_imports("funcnn.rules.new", "from funcnn.rules.softmax import softmax") == set()


def circle(imports):
    """A circle of modules that import each other, as a list, or None."""
    done, under_way = set(), []

    def visit(module):
        if module in under_way:
            return [*under_way[under_way.index(module) :], module]
        if module in done:
            return None
        under_way.append(module)
        found = next(filter(None, map(visit, sorted(imports.get(module, ())))), None)
        under_way.pop()
        done.add(module)
        return found

    return next(filter(None, map(visit, imports)), None)


def test_no_modules_import_each_other():
    assert circle({m: imported(path.read_text()) for m, path in MODULES.items()}) is None
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


# What a config chooses by name: the folder is the list, and each file a function of its name.
LISTS = {f"funcnn.{room}" for room in ("data.sets", "task.kinds", "task.losses", "task.metrics")}


@pytest.mark.parametrize("module", [m for m, p in MODULES.items() if p.name == "__init__.py"])
def test_a_folder_opens_with_its_map(module):
    files = {p.stem for p in MODULES[module].parent.glob("*.py")} - {"__init__", "__main__"}
    if module in LISTS:
        sources = {name: MODULES[f"{module}.{name}"].read_text() for name in files}
        assert [n for n, text in sources.items() if not re.search(rf"^def {n}\(", text, re.M)] == []
    elif len(files) > 5:
        words = ast.get_docstring(ast.parse(MODULES[module].read_text())) or ""
        missing = {name for name in files if not re.search(rf"\b{name}\b", words)}
        assert not missing, f"the map of {module} does not name {sorted(missing)}"


def test_config_imports_no_jax():
    first = ORDER["funcnn"][: ORDER["funcnn"].index("types")]
    for path in [*(PACKAGE / "config").glob("*.py"), *(PACKAGE / f"{name}.py" for name in first)]:
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

    for home in (fnn, fnn.rules, fnn.models, fnn.augment, fnn.data, fnn.train):
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
    if inspect.isclass(value) or getattr(value, "__globals__", None) is vars(home):
        return  # pytest finds the examples of these by itself
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
    assert set(fnn.__all__) < set(dir(fnn))
    assert all(getattr(fnn, name) is not None for name in dir(fnn))
    with pytest.raises(AttributeError, match="has no 'relux'"):
        _ = fnn.relux  # pyright: ignore[reportAttributeAccessIssue]


def test_no_top_level_module_has_the_name_of_a_public_function():
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir()}
    found = {name for name in fnn.__all__ if name in modules}
    assert found == {name for name in fnn.__all__ if isinstance(getattr(fnn, name), type(fnn))}
    assert len(found) == 7


def absent_files(path, text):
    """The Python files of this package that a text names and that are not there."""
    named = re.findall(r"(?<![\w/.*])((?:[a-z_]+/)*[a-z_]+\.py)\b", text)
    homes = (path.parent, PACKAGE.parent, PACKAGE, *path.parents[:3])
    return {name for name in named if not any((home / name).exists() for home in homes)}


# Names in examples.
ELSEWHERE = {"a.py", "linear.py", "model.py", "elementwise.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_files_that_a_source_names_are_there(path):
    assert absent_files(path, path.read_text("utf-8")) - ELSEWHERE == set()


def test_a_file_that_has_moved_is_noticed():
    path = PACKAGE / "rules" / "softmax.py"
    assert absent_files(path, "as in precision.py and shared/windows.py") == {"precision.py"}


def absent_tests(listed, root):
    """The node ids of a list whose file, or whose function in it, is not there."""
    absent = []
    for test in listed:
        path, _, name = test.partition("::")
        function = name.partition("[")[0].rpartition("::")[2]
        source = (root / path).read_text("utf-8") if (root / path).exists() else ""
        # An example in a docstring has the dotted name of what it explains.
        if not re.search(rf"\b(def|class) {function.rpartition('.')[2]}\b", source):
            absent.append(test)
    return absent


def test_the_tests_that_are_called_long_are_there():
    listed = (PACKAGE.parent / "tests" / "long_tests.txt").read_text("utf-8").splitlines()
    assert len(listed) > 100
    assert absent_tests(listed, PACKAGE.parent) == []


def test_a_long_test_that_was_renamed_is_noticed():
    here, gone = "tests/test_house.py::test_lazy_names_are_all_there", "tests/test_house.py::test_x"
    assert absent_tests([here, gone], PACKAGE.parent) == [gone]


# Ideas of which a second copy would drift: their home, the words that give a copy away, and one.
SAID_ONCE = {
    "spelling.py": (r"get_close_matches", "difflib.get_close_matches(name, known, 1)"),
    "core/usage.py": (
        r", bool\) or not isinstance\([\w.]+, int\)",
        "if isinstance(n, bool) or not isinstance(n, int) or n < 1:",
    ),
    "foreign.py": (r"import_module\((?!f?\"|homes)", "importlib.import_module(module)"),
    "layers/parameters.py": (
        r"else jnp\.zeros\(\(\)\)\.dtype",
        "x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.zeros(()).dtype",
    ),
    "rules/shared/numerics.py": (r"4 \* e / \(", "slope = 4 * e / ((1 + e) * (1 + e))"),
    "gradient/program/jaxprs.py": (
        r"\"closed_call\"|\"num_carry\"|\.primitive\.bind\(\*\w+, \*\*eqn\.params",
        "outs = eqn.primitive.bind(*values, **eqn.params)",
    ),
    "gradient/cost/timing.py": (
        r"perf_counter\(\) - start\) / ",
        "return (time.perf_counter() - start) / repeats",
    ),
}


@pytest.mark.parametrize("home", SAID_ONCE)
def test_an_idea_is_said_once(home):
    words, copy = SAID_ONCE[home]
    assert re.search(words, copy)
    assert (PACKAGE / home).exists()
    found = {str(p.relative_to(PACKAGE)) for p in FILES if re.search(words, p.read_text("utf-8"))}
    assert found <= {home}


# What has a kind and is no layer: parameters of a signature, dtypes, sites of rules, mistakes, sums
# over devices and the like.
NO_LAYERS = {"p", "parameter", "dtype", "site", "mistake", "collective"}


def asks_for_the_kind(source):
    """The lines that decide by the kind of a layer, which is a name to show."""
    found = []
    for node in ast.walk(ast.parse(source)):
        asked = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            asked = [node.subject]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asked = [node.func.value]  # layer.kind.startswith("conv")
        kinds = [v for v in asked if isinstance(v, ast.Attribute) and v.attr == "kind"]
        owners = [ast.unparse(v.value).split(".")[-1] for v in kinds]
        found += [v.lineno for v, o in zip(kinds, owners, strict=True) if o not in NO_LAYERS]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_decided_by_the_kind_of_a_layer(path):
    assert asks_for_the_kind(path.read_text("utf-8")) == []


def test_a_decision_by_the_kind_of_a_layer_is_found():
    for line in (
        *('if layer.kind == "conv": pass', 'y = "repeat" != self.part.kind'),
        *("x = part.kind in {1}", "assert parts[0].kind not in rules"),
        *("match layer.kind:\n    case _: pass", 'layer.kind.startswith("conv")'),
    ):
        assert asks_for_the_kind(line) == [1], line
    for line in ("p.kind is p.VAR_KEYWORD", 'y.dtype.kind in "iu"', "names[layer.kind] = 1"):
        assert asks_for_the_kind(line) == [], line
