"""Rows to text and to JSON lines: nothing is cut, and a file is whole or not there."""

import json
import math

import pytest

from funcnn.report import table, write_json_lines


def test_a_column_for_each_key_and_a_line_for_each_row():
    text = table([{"leaf": "w", "n": 1234567}, {"leaf": "block/b", "n": 2}], title="Gradients")
    title, head, rule, first, second = text.splitlines()
    assert title == "Gradients"
    assert head.split() == ["leaf", "n"]
    assert set(rule.strip()) == {"-"}
    assert first.split() == ["w", "1,234,567"]
    assert second.split() == ["block/b", "2"]
    assert len(first) == len(second)  # numbers stand to the right


def test_every_kind_of_value():
    row = {"a": True, "b": False, "c": None, "d": math.nan, "e": 1 / 3, "f": math.inf, "g": "x"}
    assert table([row]).splitlines()[-1].split() == ["yes", "no", "-", "-", "0.3333", "inf", "x"]


def test_markup_in_a_value_is_text():
    assert "float32[2, 3] [bold]x[/bold]" in table([{"a": "float32[2, 3] [bold]x[/bold]"}])


def test_a_wide_row_is_folded_and_not_cut():
    long = "/".join(f"layer_{i}" for i in range(40))
    text = table([{"leaf": long, "n": 1}])
    assert "".join(line.split()[0] for line in text.splitlines()[2:]) == long
    assert text.isascii()


def test_no_rows_are_an_empty_table():
    assert table([]).strip() == ""


def test_json_lines_round_trip(tmp_path):
    rows = [{"a": 1, "b": [1.5, (2, math.nan)]}, {"a": -math.inf, "b": {"c": math.inf}}]
    write_json_lines(tmp_path / "rows.jsonl", rows)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"a": 1, "b": [1.5, [2, None]]},
        {"a": None, "b": {"c": None}},
    ]


def test_a_row_that_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "rows.jsonl"
    write_json_lines(target, [{"a": 1}])
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json_lines(target, [{"a": 2}, {"a": object()}])
    assert target.read_text() == '{"a": 1}\n'
    assert list(tmp_path.iterdir()) == [target]
