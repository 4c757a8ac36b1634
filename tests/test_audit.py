"""The audit of other packages: the walker finds what is planted, and no site is lost."""

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / "audit"
RESULTS = [json.loads(line) for line in (AUDIT / "results.jsonl").read_text("utf-8").splitlines()]

PLANTED = '''
"""A docstring that says @jax.custom_vjp is no site."""
import functools, jax
from jax import custom_jvp
from jax._src.interpreters import ad

@jax.custom_vjp
def plain(x): return x
plain.defvjp(lambda x: (x, None), lambda res, dy: (dy,))

@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def in_a_partial(x, n): return x

@custom_jvp
@jax.jit
def above_another(x): return x

def maker():
    @jax.custom_gradient
    def nested(x): return x, lambda dy: dy
    return nested

class Holder:
    def method(self):
        self.rule = jax.custom_vjp(self.inner)
        return jax.custom_jvp(lambda x: x)

@eqx.filter_custom_vjp
def filtered(x): return x

called = functools.partial(jax.custom_vjp, nondiff_argnums=(0,))(plain)
ad.defjvp(sine_p, lambda g, x: g)
ad.defjvp2(root_p, lambda g, y, x: g)
ad.primitive_jvps[table_p] = None
ad.deflinear(linear_p, None)
is_rule = isinstance(plain, jax.custom_vjp)
'''


def load(name):
    """A module of the audit, which is a folder of scripts and no package."""
    spec = importlib.util.spec_from_file_location(f"audit_{name}", AUDIT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sites():
    return load("sites")


def test_the_walker_finds_each_planted_site_once(sites):
    found = [(site.name, site.kind) for site in sites.in_source(PLANTED, "planted.py")]
    assert sorted(found) == [
        ("Holder.method.<lambda>", "custom_jvp"),
        ("Holder.method.self.inner", "custom_vjp"),
        ("above_another", "custom_jvp"),
        ("filtered", "filter_custom_vjp"),
        ("in_a_partial", "custom_jvp"),
        ("maker.nested", "custom_gradient"),
        ("plain", "custom_vjp"),
        ("plain", "custom_vjp"),
        ("root_p", "primitive"),
        ("sine_p", "primitive"),
        ("table_p", "primitive"),
    ]


def test_a_site_has_the_line_of_its_definition(sites):
    lines = PLANTED.splitlines()
    for site in sites.in_source(PLANTED, "planted.py"):
        last = site.name.rpartition(".")[2].strip("<>")
        assert last in lines[site.line - 1]


@pytest.mark.parametrize(
    ("file", "tests"),
    [("optax/losses/_make_test.py", True), ("jax/_src/lax/lax.py", False)],
)
def test_what_a_package_tests_itself_with_is_marked(sites, file, tests):
    assert all(site.tests is tests for site in sites.in_source(PLANTED, file))


@pytest.mark.slow
def test_every_site_of_the_audited_versions_has_a_result(sites):
    versions = {(r["package"], r["version"]) for r in RESULTS}
    installed = [package for package, version in versions if _version(package) == version]
    if not installed:
        pytest.skip("no package is installed in the version that was audited")
    found, absent = sites.walk(installed)
    assert not absent
    known = {(r["package"], r["key"], r["kind"]) for r in RESULTS}
    assert {(site.package, site.key, site.kind) for site in found} <= known


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_each_site_is_audited_or_has_a_reason():
    assert len(RESULTS) > 300
    for result in RESULTS:
        if result["status"] == "audited":
            assert result["verdict"] in {"right", "better", "inaccurate", "wrong", "surrogate"}
            assert all("error" not in case for case in result["cases"]), result["key"]
        else:
            assert result["reason"] not in {"", "no arguments written for it"}, result["key"]


def test_a_verdict_is_what_its_cases_say():
    for result in RESULTS:
        if result["status"] == "audited":
            off = [off for case in result["cases"] for off in case["off"]]
            assert result["verdict"] == _verdict(result, off), result["key"]
            assert any(case["compared"] for case in result["cases"]), result["key"]


def _verdict(result, off):
    """What the elements that are off come to; the rule is off where it is to blame for one."""
    if any(case["surrogate"] for case in result["cases"]):
        return "surrogate"
    own = [each for each in off if each["blame"] != "autodiff" or each["ulps_automatic"] is None]
    if any(each["algebra"] for each in own):
        return "wrong"
    return "inaccurate" if own else "better" if off else "right"


def test_no_case_without_a_truth_is_silent():
    for result in RESULTS:
        for case in result.get("cases", ()):
            assert case["compared"] or case["kinks"] or case["source"].startswith("no truth")
            assert case["compared"] or not case["off"]


def test_the_tables_are_those_of_the_results():
    tables = load("tables")
    text = (AUDIT / "README.md").read_text("utf-8")
    assert tables.counts(RESULTS) in text
    assert tables.findings(RESULTS) in text
    assert tables.reasons(RESULTS) in text


def test_the_tables_leave_what_stands_around_them(tmp_path, monkeypatch):
    tables = load("tables")
    monkeypatch.setattr(tables, "README", tmp_path / "README.md")
    tables.README.write_text("# Why\n\n<!-- tables -->\nold\n<!-- end of tables -->\nAfter.\n")
    for _ in range(2):
        tables.write_tables(RESULTS)
    text = tables.README.read_text("utf-8")
    assert text.startswith("# Why\n\n<!-- tables -->\n\n| package")
    assert text.endswith("<!-- end of tables -->\nAfter.\n")
    assert "old" not in text.split("\n")


def test_a_surrogate_is_no_finding():
    tables = load("tables")
    surrogates = [result for result in RESULTS if result.get("verdict") == "surrogate"]
    assert surrogates
    assert len(tables.findings(surrogates).splitlines()) == 2  # the head of the table


def result(name, verdict, package="one", version="1", check="OK f: 3 passed"):
    """A line of the results, with what the tables look at."""
    head = {"package": package, "version": version, "key": f"f.py:{name}", "kind": "custom_jvp"}
    return {**head, "name": name, "file": "f.py", "verdict": verdict, "cases": [{"check": check}]}


def test_what_vanished_and_what_appeared_between_versions_is_said():
    versions = load("versions")
    old = [result("same", "right"), result("mended", "wrong"), result("broken", "right")]
    new = [result("same", "right"), result("mended", "right"), result("broken", "wrong")]
    old.append(result("gone", "right"))
    new += [result("come", "right"), result("else", "right", package="two")]
    text = versions.section(old, new)
    site = "| one `{}` (custom_jvp, f.py) | {} |"
    rows = [line for line in text.splitlines() if line.startswith("| one ") or "| two" in line]
    assert rows == [
        site.format("broken", "right | wrong | appeared"),
        site.format("mended", "wrong | right | vanished"),
        site.format("gone", "right | no such site | gone"),
        site.format("come", "no such site | right | new"),
        "| two `else` (custom_jvp, f.py) | no such site | right | new |",
    ]
    assert "3 sites are in both; 1 of Python 3.11 are not under 3.12, and 2 are new" in text


def test_a_site_that_was_not_run_has_not_changed():
    versions = load("versions")
    new = [result("f", None) | {"reason": "not run"}]
    text = versions.section([result("f", "wrong")], new)
    assert "| not run | 0 | 1 |" in text
    assert not [line for line in text.splitlines() if line.startswith("| one ")]


def test_the_worst_of_what_check_said_counts():
    versions = load("versions")
    assert versions._whole(["OK f", "FAILED f", "CRASH"]) == "FAILED"
    assert versions._whole(["OK f", "OK f"]) == "OK"
    assert versions._whole(["OK f", "no answer: did not return within 9 s"]) == "no answer"
    old = [result("f", "wrong", check="FAILED f"), result("g", "wrong", check="not run")]
    assert "| 3.11 | FAILED | wrong | 1 |" in versions.section(old, [])


def test_the_table_of_versions_is_that_of_the_results():
    versions = load("versions")
    text = (AUDIT / "README.md").read_text("utf-8")
    assert versions.section(*map(versions.read, versions.FILES.values())) in text


def test_only_what_was_not_asked_is_asked():
    sys.path.insert(0, str(AUDIT))
    try:
        asked = load("worker").Asked
    finally:
        sys.path.remove(str(AUDIT))
    wanted = asked("fast", 3.0)
    assert asked.of(wanted, {"level": "none"}) == wanted
    assert asked.of(wanted, {"level": "fast"}) == asked("none", 3.0)
    assert asked.of(wanted, {"level": "full", "hunt": 3.0}).nothing
    assert not asked.of(asked("fast", 0), {"level": "none", "hunt": 3.0}).nothing
