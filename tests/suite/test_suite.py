"""`pytest --gradients` on a suite of somebody's that looks at values alone, and passes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Each starts pytest in a process of its own, most of them JAX, too.
pytestmark = pytest.mark.long

PROJECT = Path(__file__).parent / "project"
PLUGIN = "funcnn.suite.plugin"
WRONG = {
    *("seven", "sign", "reduced", "by_keyword", "by_custom_gradient", "filtered"),
    *("filtered_tangents", "by_nnx", "by_nnx_simply", "Scaled.__call__.f"),
    *("in_jit", "in_vmap", "in_scan", "in_grad_of_jit", "in_vmap_of_jit", "rounded", "at_masks"),
}
LONG = "--gradients-seconds=600"  # whatever else the machine does
RIGHT = {"right", "right_tangents", "filtered_beside"}


def ran(folder, *options, files=PROJECT):
    """What pytest printed in a process of its own, its exit code, and the rows that it wrote."""
    here = folder / "project"
    if not here.exists():
        shutil.copytree(files, here)
        # The project's own settings, not those of this repository.
        (here / "pytest.ini").write_text("[pytest]\n")
    rows = folder / "rows.jsonl"
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", *options]
    if any(option.startswith("--gradients") for option in options):
        command.append(f"--gradients-json={rows}")
    repository = str(Path(__file__).parents[2])
    path = os.pathsep.join([repository, os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, timeout=1000
    )
    found = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    return done.stdout + done.stderr, done.returncode, found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("whole"), "--gradients", LONG)


def calls(found, name):
    rows = [row for row in found if row["kind"] == "call" and row["name"].endswith(name)]
    assert rows, name
    return rows


def verdicts(found, name):
    return {row["verdict"] for row in calls(found, name)}


def test_the_suite_passes_as_it_did(whole):
    text, code, _ = whole
    assert "20 passed" in text
    assert code == 0, text


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_rule_is_found_that_no_test_differentiates(whole, name):
    assert "WRONG" in verdicts(whole[2], name)


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_a_right_rule_is_right(whole, name):
    assert verdicts(whole[2], name) == {"right"}


def test_only_the_wrong_are_named(whole):
    wrong = {r["name"] for r in whole[2] if r["kind"] == "call" and r["verdict"] == "WRONG"}
    assert wrong - {"scaled.rule", "rules.ours"} == WRONG


def test_the_diagnosis_says_which_mistake(whole):
    assert any("7" in row["diagnosis"] for row in calls(whole[2], "seven"))


@pytest.mark.parametrize("name", ["in_jit", "in_scan", "in_grad_of_jit", "in_vmap_of_jit"])
def test_operands_of_compiled_programs_are_fetched(whole, name):
    assert {row["how"] for row in calls(whole[2], name) if row["verdict"] == "WRONG"} == {"fetched"}


def test_operands_under_vmap_are_there(whole):
    (row,) = calls(whole[2], "in_vmap")
    assert (row["operands"], row["how"], row["calls"]) == ("float32[]", "called", 1)


def test_what_has_no_numbers_is_drawn_and_says_so(whole):
    (row,) = calls(whole[2], "in_shapes")
    assert (row["how"], row["verdict"]) == ("drawn", "right")


def test_static_values_are_told_apart(whole):
    found = {row["operands"]: row["verdict"] for row in calls(whole[2], "reduced")}
    assert found == {"float32[3], 'sum'": "right", "float32[3], 'mean'": "WRONG"}


def test_rules_of_a_factory_are_told_apart_by_their_values(whole):
    found = {row["values"]: row["verdict"] for row in calls(whole[2], "rule")}
    assert found == {"k=2.0": "right", "k=3.0": "WRONG"}


def test_rules_of_funcnn_have_their_own_name_and_line(whole):
    (row,) = calls(whole[2], "ours")
    lines = (PROJECT / "rules.py").read_text().splitlines()
    assert row["verdict"] == "WRONG"
    assert lines[int(row["source"].split(":")[1]) - 1].startswith("ours.defvjp")


def test_rules_of_equinox_have_their_own_name_and_line(whole):
    (row,) = calls(whole[2], "filtered")
    line = int(row["source"].split(":")[1])
    assert "filtered.def_bwd" in (PROJECT / "rules.py").read_text().splitlines()[line - 1]


@pytest.mark.parametrize("name", ["by_nnx", "by_nnx_simply"])
def test_of_a_module_of_nnx_the_parameter_is_named_whose_derivative_is_wrong(whole, name):
    (row,) = calls(whole[2], name)
    assert "['y']" in " ".join(row["details"])
    assert "['x']" not in " ".join(row["details"])


def test_what_equinox_holds_fixed_keeps_its_numbers(whole):
    found = {row["verdict"]: row["operands"] for row in calls(whole[2], "filtered_tangents")}
    assert sorted(found) == ["WRONG", "right"]
    assert "'square'" in found["right"]


def test_a_rule_inside_a_function_is_named_with_it(whole):
    assert "WRONG Scaled.__call__.f: " in whole[0]
    assert "--gradients-only=Scaled.__call__.f " in whole[0]


def test_what_no_test_reaches_is_listed(whole):
    never = {row["name"] for row in whole[2] if row["kind"] == "never called"}
    assert never == {"uncalled", "rules.ours_uncalled"}
    assert "no test reaches it: " in whole[0]


def test_the_command_repeats_the_check(whole, tmp_path):
    row = next(row for row in calls(whole[2], "seven") if row["verdict"] == "WRONG")
    _, _, found = ran(tmp_path, "--gradients", "--gradients-only=seven", row["test"])
    assert f"again: python -m pytest --gradients --gradients-only=seven {row['test']}" in whole[0]
    assert verdicts(found, "seven") == {"WRONG"}
    assert {row["name"] for row in found if row["kind"] == "call"} == {"seven"}


def test_one_suite_on_two_processes_has_the_same_rows(whole, tmp_path):
    pytest.importorskip("xdist")
    text, code, found = ran(tmp_path, "--gradients", LONG, "-n", "2")
    assert code == 0, text

    def rows(found):
        kept = ("name", "values", "operands", "calls", "verdict", "how")
        return sorted([r[k] for k in kept] for r in found if r["kind"] == "call" and r["group"] < 2)

    assert rows(found) == rows(whole[2])
    never = [[r for r in one if r["kind"] == "never called"] for one in (found, whole[2])]
    assert sorted(r["name"] for r in never[0]) == sorted(r["name"] for r in never[1])


SMALL = {
    "rules.py": """
import itertools
import jax
import jax.numpy as jnp

def rule(name, derivative):
    def square(x):
        return x**2

    square.__name__ = name
    made = jax.custom_vjp(square)
    made.defvjp(lambda x: (x**2, x), lambda x, dy: (derivative(x) * dy,))
    return made

def in_python(x):
    for _ in itertools.count():
        pass

def asleep(x):
    import time
    sleep = lambda x: time.sleep(600) or x
    return jax.pure_callback(sleep, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

fine = rule("fine", lambda x: 2 * x)
wrong = rule("wrong", lambda x: 3 * x)
endless = rule("endless", in_python)
sleeping = rule("sleeping", asleep)
""",
    "test_small.py": """
import rules

def test_fine():
    assert rules.fine(3.0) == 9.0

def test_wrong():
    assert rules.wrong(3.0) == 9.0

def test_endless():
    assert rules.endless(3.0) == 9.0

def test_sleeping():
    assert rules.sleeping(3.0) == 9.0
""",
}


@pytest.fixture
def small(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for name, text in SMALL.items():
        (files / name).write_text(text)
    return lambda *options: ran(tmp_path, *options, files=files)


def last_line(text):
    return text.strip().splitlines()[-1]


def test_a_finding_fails_the_suite_where_that_is_asked_for_and_the_last_line_says_so(small):
    text, code, _ = small("--gradients=fail", "-k", "wrong")
    assert (code, last_line(text)) == (1, "failed because of 1 finding")
    text, code, _ = small("--gradients=fail", "-k", "fine")
    assert (code, "failed" in text) == (0, False)
    text, code, _ = small("--gradients", "-k", "wrong")
    assert (code, "failed" in text) == (0, False)


def test_a_suite_that_fails_by_itself_says_so_too(small, tmp_path):
    failing = (
        "import test_small\n\ndef test_wrong():\n    test_small.test_wrong()\n    assert False\n"
    )
    (tmp_path / "files" / "test_failing.py").write_text(failing)
    text, code, _ = small("--gradients=fail", "test_failing.py")
    assert (code, last_line(text)) == (1, "failed because of 1 finding, and because of tests")


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_a_warning_is_an_error_of_the_project_and_not_of_the_checks(small, processes):
    if processes:
        pytest.importorskip("xdist")
    options = ("--gradients=fail", "-W", "error", "-k", "fine or wrong", *processes)
    text, code, found = small(*options)
    assert "2 passed" in text
    assert (verdicts(found, "fine"), verdicts(found, "wrong")) == ({"right"}, {"WRONG"})
    assert (code, last_line(text)) == (1, "failed because of 1 finding")


def test_a_surrogate_is_declared(small):
    text, code, found = small("--gradients=fail", "--gradients-surrogate=wrong", "-k", "wrong")
    assert code == 0, text
    assert calls(found, "wrong")[0]["note"] == "declared a surrogate"


def test_rules_that_do_not_return_are_stopped_and_named(small):
    text, code, found = small("--gradients=fail", "--gradients-seconds-each=15")
    assert code == 1, text
    for name in ("endless", "sleeping"):
        assert f"no answer {name}: no answer in 15 s" in text
    assert "2 without an answer" in text
    assert (verdicts(found, "fine"), verdicts(found, "wrong")) == ({"right"}, {"WRONG"})


def test_without_time_nothing_is_called_right(small):
    text, code, found = small("--gradients=fail", "--gradients-seconds=0")
    assert code == 0, text
    assert {row["verdict"] for row in found if row["kind"] == "call"} == {"not checked"}
    assert "no time was left" in text


IMPORTED = """
import sys

def test_nothing_is_imported():
    assert not {name for name in sys.modules if name.split(".")[0] in ("jax", "jaxlib")}
    assert {n for n in sys.modules if n.startswith("funcnn")} <= {
        "funcnn", "funcnn.names", "funcnn.version", "funcnn.suite", "funcnn.suite.plugin"
    }
"""


@pytest.mark.parametrize("options", [(), ("--gradients",)])
def test_nothing_is_imported_without_the_flag(tmp_path, options):
    files = tmp_path / "files"
    files.mkdir()
    (files / "test_imports.py").write_text(IMPORTED)
    text, code, _ = ran(tmp_path, *options, files=files)
    assert code == (1 if options else 0), text  # the test itself can fail


def test_without_the_flag_nothing_changes(small):
    text, code, _ = small()
    assert code == 0
    assert "4 passed" in text
    assert "gradients" not in text.replace("gradients-", "")


def test_a_mode_that_does_not_exist_is_one_clear_line(small):
    text, code, _ = small("--gradients=fial")
    assert code == 4
    assert "--gradients" in text
    assert "Traceback" not in text


def test_a_package_that_is_not_installed_is_one_clear_line(small):
    text, _, _ = small("--gradients", "--gradients-package=no_such_package", "-k", "fine")
    assert "--gradients-package no_such_package: no such package is installed" in text
