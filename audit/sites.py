"""Where installed packages define derivatives by hand: a walk over their sources, without imports.

Found are the makers of a rule (`custom_vjp`, `custom_jvp`, `custom_gradient`, Equinox's filtered
ones, as a decorator, in a `partial` or called on a function) and the derivatives that JAX gives its
own primitives (`ad.defjvp`, `ad.defjvp2`, `ad.primitive_jvps[...] = ...`). Transposes of linear
primitives are no rules of a nonlinear function and are left out.

    python audit/sites.py [PACKAGE ...]
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

# Distributions of the JAX ecosystem; those that are not installed are named as such by `walk`.
DISTRIBUTIONS = (
    *("jax", "optax", "flax", "equinox", "dm-haiku", "chex", "orbax-checkpoint", "jaxtyping"),
    *("diffrax", "lineax", "optimistix", "jaxopt", "distrax", "numpyro", "blackjax", "rlax"),
    *("dm-pix", "e3nn-jax", "tokamax", "qwix", "jmp", "quax", "oryx", "tfp-nightly"),
)
# What of a distribution is JAX code; the rest of it is the same source for TensorFlow and NumPy.
_PART = {"tfp-nightly": "tensorflow_probability/substrates/jax/"}
_MAKERS = {
    **{name: name for name in ("custom_vjp", "custom_jvp", "custom_gradient")},
    **{name: name for name in ("filter_custom_vjp", "filter_custom_jvp", "custom_vjp3")},
    **{name: name for name in ("filter_custom_jvp_closure", "custom_jvp3")},
}
_PRIMITIVE = {"defjvp", "defjvp2"}
_TABLE = {"primitive_jvps"}
_TESTS = ("/tests/", "_test.py", "/test_", "/testing/", "test_util")


@dataclasses.dataclass(frozen=True, order=True)
class Site:
    """One definition of a derivative.

    Attributes:
        package, version: the distribution.
        file: path inside the site-packages folder.
        line: of the definition.
        name: what it is the derivative of; functions around it stand before it, with dots.
        kind: the maker's name, or "primitive" for the JVP of a primitive of JAX.
        tests: whether the file belongs to the package's own tests.
    """

    package: str
    version: str
    file: str
    line: int
    name: str
    kind: str
    tests: bool = False

    @property
    def key(self) -> str:
        """What stays the same when lines move."""
        return f"{self.file}:{self.name}"


def walk(distributions: Iterable[str] = DISTRIBUTIONS) -> tuple[list[Site], list[str]]:
    """The sites in all installed distributions, and the names of those that are not installed."""
    found: list[Site] = []
    absent: list[str] = []
    for name in distributions:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
            continue
        for entry in distribution.files or ():
            if entry.suffix == ".py" and str(entry).startswith(_PART.get(name, "")):
                path = Path(str(distribution.locate_file(entry)))
                found += in_source(path.read_text("utf-8"), str(entry), name, distribution.version)
    return sorted(set(found)), absent


def in_source(text: str, file: str, package: str = "", version: str = "") -> list[Site]:
    """The sites in one source text."""
    tests = any(part in f"/{file}" for part in _TESTS)
    return [
        Site(package, version, file, line, name, kind, tests)
        for line, name, kind in _Walker(text).found
    ]


class _Walker(ast.NodeVisitor):
    """Collects (line, name, kind), with the names of the functions and classes around each."""

    def __init__(self, text: str):
        self.found: list[tuple[int, str, str]] = []
        self._scope: list[str] = []
        self._decorators: set[ast.AST] = set()
        self._assigned: list[str] = []
        self.visit(ast.parse(text))

    def _add(self, node: ast.AST, name: str, kind: str) -> None:
        self.found.append((getattr(node, "lineno", 0), ".".join([*self._scope, name]), kind))

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            kind = _maker_in(decorator)
            if kind:
                self._add(node, node.name, kind)
            else:
                self.visit(decorator)
        self._scope.append(node.name)
        for child in ast.iter_child_nodes(node):
            if child not in node.decorator_list:
                self.visit(child)
        self._scope.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _definition

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Subscript) and _last(target.value) in _TABLE:
                self._add(node, ast.unparse(target.slice), "primitive")
        self._assigned.append(ast.unparse(node.targets[0]))
        self.generic_visit(node)
        self._assigned.pop()

    def visit_Call(self, node: ast.Call) -> None:
        kind = _maker_in(node)
        if kind:
            name = _wrapped(node) or (self._assigned[-1] if self._assigned else "<anonymous>")
            self._add(node, name, kind)
            for child in [*node.args, *(k.value for k in node.keywords)]:
                if not _maker_in(child):
                    self.visit(child)
            if _maker_in(node.func) is None:
                self.visit(node.func)
            return
        if _last(node.func) in _PRIMITIVE and _owner(node.func) in {"ad", "interpreters.ad"}:
            self._add(node, ast.unparse(node.args[0]), "primitive")
        self.generic_visit(node)


def _maker_in(node: ast.AST) -> str | None:
    """The maker that an expression is, calls, or hands to `partial`."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        return _MAKERS.get(_last(node) or "")
    if not isinstance(node, ast.Call):
        return None
    if _last(node.func) == "partial" and node.args:
        return _maker_in(node.args[0])
    return _maker_in(node.func)


def _wrapped(call: ast.Call) -> str | None:
    """What a maker is called on; that is nothing in `partial(custom_vjp, ...)`."""
    if _last(call.func) == "partial" or not call.args:
        return None
    first = call.args[0]
    return "<lambda>" if isinstance(first, ast.Lambda) else ast.unparse(first)


def _last(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _owner(node: ast.AST) -> str | None:
    return ast.unparse(node.value) if isinstance(node, ast.Attribute) else None


if __name__ == "__main__":
    sites, missing = walk(sys.argv[1:] or DISTRIBUTIONS)
    for site in sites:
        apart = " (in the package's tests)" if site.tests else ""
        print(
            f"{site.package} {site.version} {site.file}:{site.line} {site.name} {site.kind}{apart}"
        )
    print(f"{len(sites)} sites; not installed: {', '.join(missing) or 'none'}", file=sys.stderr)
