"""Pages made from funcnn itself: `rules` (a family of rules), `api` (public names), `benchmarks`.

Examples are executed; a wrong one is a warning. At the end every rule and every public name must
stand on a page.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import docstring
import listing
import measured
import public_names
import shown
from docutils import nodes
from sphinx.domains import Domain
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import funcnn as fnn

logger = logging.getLogger(__name__)

_SHORT = 36  # lines of code that a screen 900 pixels high has room for


class FuncnnDomain(Domain):
    """Where each rule and each public name stands."""

    name, label = "funcnn", "funcnn"

    @property
    def places(self) -> dict[tuple[str, str], tuple[str, str]]:
        """(kind, name) -> (document, target)."""
        return self.data.setdefault("places", {})

    def clear_doc(self, docname: str) -> None:
        for key in [key for key, place in self.places.items() if place[0] == docname]:
            del self.places[key]

    def merge_domaindata(self, docnames: Any, otherdata: dict[str, Any]) -> None:
        self.places.update(otherdata.get("places", {}))

    def resolve_xref(self, env, fromdocname, builder, typ, target, node, contnode):
        place = self.places.get((typ, target))
        if place is None and typ == "rule":
            place = self.places.get(("api", target))
        if place is None:
            return None
        return make_refnode(builder, fromdocname, *place, contnode)


def _examples(value: Any, where: str, names: dict[str, Any], directive: SphinxDirective) -> None:
    text = inspect.getdoc(value) or ""
    wrong = docstring.run_examples(text, names, where)
    if wrong:
        logger.warning("an example of %s:\n%s", where, wrong, location=directive.get_location())


def _gains(name: str) -> list[nodes.Node]:
    title = nodes.paragraph("", "", nodes.strong("", "Measured"), classes=["label"])
    gains = measured.gains(name)
    if not gains:
        remark = nodes.Text(" Not measured by a benchmark: see the docstring.")
        title += remark
        return [title]
    rows = [[g.work, g.rival, g.time, g.memory, g.machine] for g in gains]
    head = ["work", "against", "time, times the rule's", "temporary bytes", "machine"]
    return [title, shown.container(shown.table(head, rows), classes="wide")]


class Rules(SphinxDirective):
    """The rules of some modules of funcnn.rules: `{rules} recurrent.lstm recurrent.gru`."""

    required_arguments, optional_arguments, final_argument_whitespace = 1, 0, True

    def run(self) -> list[nodes.Node]:
        domain: Any = self.env.get_domain("funcnn")
        names = self.arguments[0].split()
        modules = [importlib.import_module(f"funcnn.rules.{name}") for name in names]
        parts: list[nodes.Node] = []
        for module in modules:
            self.env.note_dependency(str(module.__file__))
            parts += shown.documentation(inspect.getdoc(module) or "")
        for module in modules:
            for rule in fnn.registered_rules().values():
                if rule.reference.__module__ == module.__name__:
                    domain.places["rule", rule.name] = (self.env.docname, f"rule-{rule.name}")
                    parts.append(self.rule(rule, module))
        return parts

    def rule(self, rule: Any, module: Any) -> nodes.Node:
        _examples(rule.reference, f"fnn.rules.{rule.name}", vars(module), self)
        passes = [("Reference", rule.reference), ("Forward", rule.forward)]
        code: list[nodes.Node] = []
        lines = 0
        for title, function in [*passes, ("Backward", rule.backward)]:
            text = listing.listing(function)
            lines += text.count("\n")
            code += [nodes.paragraph("", title, classes=["label"]), shown.python(text)]
        heading = shown.python(shown.signature(f"fnn.rules.{rule.name}", rule.reference))
        heading["classes"].append("signature")
        words = shown.documentation(inspect.getdoc(rule.reference) or "")
        lesson = shown.container(
            shown.container(*words, classes="words"),
            shown.container(*code, classes="code"),
            classes="lesson rule short" if lines <= _SHORT else "lesson rule",
        )
        return shown.section(rule.name, f"rule-{rule.name}", heading, lesson, *_gains(rule.name))


class Api(SphinxDirective):
    """Public names, `fnn.chain fnn.train.fit`, or of other modules with all of their path."""

    required_arguments, optional_arguments, final_argument_whitespace = 1, 0, True

    def run(self) -> list[nodes.Node]:
        return [self.entry(name) for name in self.arguments[0].split()]

    def entry(self, name: str) -> nodes.Node:
        domain: Any = self.env.get_domain("funcnn")
        short = name.removeprefix("fnn.")
        home, _, last = short.rpartition(".")
        value = getattr(public_names.HOMES[home], last)
        domain.places["api", short] = (self.env.docname, f"api-{short}")
        self.env.note_dependency(str(sys.modules[fnn.__name__].__file__))
        if isinstance(value, fnn.Layer):
            return self.layer(name, last, value)
        _examples(value, name, docstring.names_for(value), self)
        heading = shown.python(shown.signature(name, value))
        heading["classes"].append("signature")
        body = shown.documentation(inspect.getdoc(value) or "")
        members = self.members(value) if inspect.isclass(value) else []
        return shown.section(name, f"api-{short}", heading, *body, *members)

    def layer(self, name: str, last: str, value: Any) -> nodes.Node:
        """A layer without options, whose documentation is that of its rule."""
        _examples(value, name, docstring.names_for(value), self)
        rule = last in fnn.registered_rules()
        usage = (
            f"A layer without options: the rule `fnn.rules.{last}` of its input." if rule else ""
        )
        text = usage or inspect.getdoc(value) or ""
        return shown.section(name, f"api-{last}", *shown.documentation(text))

    def members(self, value: type) -> list[nodes.Node]:
        entries = nodes.definition_list(classes=["members"])
        for name, member in vars(value).items():
            plain = getattr(member, "__func__", getattr(member, "fget", member))
            text = inspect.getdoc(plain)
            if name.startswith("_") or not inspect.isfunction(plain) or not text:
                continue
            if ">>>" in text:
                _examples(plain, f"{value.__name__}.{name}", docstring.names_for(value), self)
            title = name if isinstance(member, property) else shown.signature(name, plain)
            entry = nodes.definition_list_item()
            entry += nodes.term(
                "", "", nodes.literal(title, title.replace("(self, ", "(").replace("(self)", "()"))
            )
            entry += nodes.definition("", *shown.documentation(text))
            entries += entry
        return [entries] if len(entries) else []


def _report() -> Any:
    """benchmarks/report.py, which draws the figure."""
    path = measured.RESULTS.parent / "report.py"
    spec: Any = importlib.util.spec_from_file_location("benchmarks_report", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Benchmarks(SphinxDirective):
    """The figure and the table of `funcnn bench`."""

    def run(self) -> list[nodes.Node]:
        from funcnn.bench.suite import describe

        self.env.note_dependency(str(measured.RESULTS / "bench_cpu.jsonl"))
        where, rows = measured.bench_rows()
        lines = []
        for row in rows:
            ours = row["arm"] == "funcnn"
            memory = row["temporary_bytes"]
            lines.append(
                [
                    f"`{row['work']}`: {describe(row['work']).rstrip('.')}" if ours else "",
                    row["arm"],
                    f"{row['median']:.3g} ({row['low']:.3g} to {row['high']:.3g})",
                    ""
                    if ours
                    else f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
                    "" if memory is None else f"{memory / 1e6:,.2f} MB",
                ]
            )
        head = [
            *("work", "arm", "ms a step, median (fastest to slowest)"),
            *("times funcnn's (95 % interval)", "temporary bytes"),
        ]
        text = f"{measured.machine(where)}; Python {where['python']}."
        table = shown.table(head, lines, [5, 2, 3, 3, 2])
        return [
            self.figure(rows),
            nodes.paragraph(text, text),
            shown.container(table, classes="wide"),
        ]

    def figure(self, rows: list[dict[str, Any]]) -> nodes.Node:
        """How many times funcnn's time each arm takes, drawn anew."""
        path = shown.ROOT / "build" / "bench_cpu.svg"
        path.parent.mkdir(exist_ok=True)
        _report().draw(rows, path)
        alt = "For each work, how many times funcnn's time the other arms take."
        relative = os.path.relpath(path, Path(self.env.doc2path(self.env.docname)).parent)
        return nodes.image(uri=relative, alt=alt)


def _check(app: Any, env: Any) -> None:
    for name in public_names.missing(env.get_domain("funcnn").places):
        logger.warning("%s stands on no page of the documentation", name)


def setup(app: Any) -> dict[str, Any]:
    app.add_domain(FuncnnDomain)
    app.add_directive("rules", Rules)
    app.add_directive("api", Api)
    app.add_directive("benchmarks", Benchmarks)
    app.connect("env-check-consistency", _check)
    return {"version": "1", "env_version": 1, "parallel_read_safe": False}
