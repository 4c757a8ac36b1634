"""The planting of mistakes itself: each can still be planted, and each outcome is told apart."""

import pytest
from planted import ROOT, copy_of, judged, main, misplaced, plant, plant_all
from planted_mistakes import MISTAKES, Mistake

RIGHT = "def larger(a, b):\n    return a if a > b else b\n"
TESTS = """
from funcnn.pair import larger

def test_it_is_the_larger():
    assert larger(1, 2) == 2

def test_of_equals():
    assert larger(3, 3) == 3
"""


def mistake(new, *names, old="a > b"):
    tests = tuple(f"tests/test_pair.py{name}" for name in names or ("",))
    return Mistake("funcnn/pair.py", old, new, tests, "another number")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A package of one function, and its tests."""
    root = tmp_path_factory.mktemp("house")
    for folder in ("funcnn", "tests"):
        (root / folder).mkdir()
    (root / "funcnn" / "suite").mkdir()
    for file in ("__init__.py", "suite/__init__.py", "suite/plugin.py"):  # which pytest looks for
        (root / "funcnn" / file).write_text("")
    (root / "funcnn" / "pair.py").write_text(RIGHT)
    (root / "tests" / "test_pair.py").write_text(TESTS)
    return root


@pytest.mark.parametrize("each", MISTAKES, ids=lambda m: f"{m.file}: {m.what}")
def test_every_mistake_can_be_planted(each):
    assert misplaced(each, ROOT) == ""
    assert each.old != each.new
    assert each.tests


def test_there_are_many_in_every_room():
    rooms = {"/".join(m.file.split("/")[1 : 3 if "gradient" in m.file else 2]) for m in MISTAKES}
    assert len(MISTAKES) >= 40
    assert len({(m.file, m.old, m.new) for m in MISTAKES}) == len(MISTAKES)
    assert {
        *(
            "core",
            "rules",
            "layers",
            "data",
            "train",
            "config",
            "report",
            "runs",
            "commands",
            "pictures",
        ),
        *("bench", "gradient/program", "gradient/cost", "gradient/verdict", "gradient/case"),
        *("gradient/truth", "gradient/checks", "gradient/mutation", "gradient/diagnosis"),
        *("gradient/sites", "gradient/comparison", "gradient/hunt"),
    } <= rooms


def test_each_outcome_is_told_apart(house, tmp_path):
    copy = copy_of(house, tmp_path / "copy")

    def outcome(each):
        found = plant(each, copy, tmp_path / "programs")
        assert (copy / "funcnn" / "pair.py").read_text() == RIGHT
        return found.verdict, found.why

    name = "tests/test_pair.py::test_it_is_the_larger"
    assert outcome(mistake("a < b")) == ("noticed", name)
    assert outcome(mistake("a < b", "::test_of_equals")) == ("UNNOTICED", "")
    assert outcome(mistake("a < c"))[0] == "PROVES NOTHING"  # a NameError is no assertion
    assert outcome(mistake("b", old="a >= b")) == ("NOT APPLYING", "the old text occurs 0 times")
    assert outcome(mistake("b", old="a"))[0] == "NOT APPLYING"
    assert outcome(mistake("b", "::test_gone"))[1] == "there is no tests/test_pair.py::test_gone"


@pytest.mark.parametrize(
    ("code", "printed", "verdict"),
    [
        (1, "FAILED tests/a.py::b - AssertionError: the words", "noticed"),
        (1, "FAILED tests/a.py::b - Failed: DID NOT RAISE", "noticed"),
        (1, "FAILED tests/a.py::b - funcnn.gradient.verdict.results.GradientError", "noticed"),
        (1, "FAILED tests/a.py::b - TypeError: f() takes 1", "PROVES NOTHING"),
        (1, "ERROR tests/a.py::b - AssertionError: in a fixture", "PROVES NOTHING"),
        (2, "ERROR tests/a.py - ImportError", "PROVES NOTHING"),
        (4, "ERROR: not found: tests/a.py::gone", "PROVES NOTHING"),
        (5, "no tests ran", "PROVES NOTHING"),
        (-1, "the tests had not ended after 600 s", "PROVES NOTHING"),
        (0, "3 passed", "UNNOTICED"),
    ],
)
def test_only_an_assertion_of_a_test_proves_something(code, printed, verdict):
    assert judged(code, printed)[0] == verdict


def test_tests_that_fail_as_they_are_can_notice_nothing(house, tmp_path):
    broken = copy_of(house, tmp_path / "broken")
    (broken / "funcnn" / "pair.py").write_text(RIGHT.replace(">", "<"))
    with pytest.raises(RuntimeError, match="do not pass as they are"):
        list(plant_all([mistake("a > b", old="a < b")], broken, tmp_path / "work"))


def test_where_none_is_chosen_nothing_is_shown_and_that_is_no_success(capsys):
    assert main(["--only", "no such mistake"]) == 1
    assert capsys.readouterr().out == "no mistake holds 'no such mistake'\n"
