import json
import math

import numpy as np
import pytest

from funcnn.train import MetricsError, MetricsLog, read_metrics


@pytest.fixture
def log(tmp_path):
    return MetricsLog(tmp_path / "run" / "metrics.jsonl")


def test_lines_are_json_with_plain_numbers_and_are_there_at_once(log):
    log.write({"step": np.int32(3), "loss": np.float32(0.1), "rate": 2})
    text = log.path.read_text()
    assert text == '{"step": 3, "loss": 0.10000000149011612, "rate": 2}\n'
    assert np.float32(json.loads(text)["loss"]) == np.float32(0.1)


def test_numbers_that_are_not_finite_are_null_and_read_as_nan(log):
    log.write({"step": 1, "loss": float("inf"), "norm": np.float32("nan")})
    assert json.loads(log.path.read_text()) == {"step": 1, "loss": None, "norm": None}
    (record,) = read_metrics(log.path)
    assert math.isnan(record["loss"])
    assert math.isnan(record["norm"])


def test_rewind_drops_what_is_beyond_the_step_and_a_line_cut_off(log):
    for step in (10, 20, 30):
        log.write({"step": step, "loss": 1.0 / step})
    before = log.path.read_text()
    with log.path.open("a") as file:
        file.write('{"step": 40, "lo')
    assert [record["step"] for record in read_metrics(log.path)] == [10, 20, 30]
    log.rewind(30)
    assert log.path.read_text() == before
    log.rewind(25)
    log.write({"step": 30, "loss": 0.5})
    assert [record["step"] for record in read_metrics(log.path)] == [10, 20, 30]
    assert log.path.read_text().startswith(before[: before.index('{"step": 30')])
    assert [path.name for path in log.path.parent.iterdir()] == ["metrics.jsonl"]


def test_rewind_without_a_file_makes_none(log):
    log.rewind(5)
    assert not log.path.exists()


@pytest.mark.parametrize("record", [{}, {"loss": 1.0}, {"step": 1.5}, {"step": None}])
def test_a_record_without_a_step_is_refused_and_writes_nothing(log, record):
    with pytest.raises(ValueError, match="whole number 'step'"):
        log.write(record)
    assert not log.path.exists()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{oops}", "line 2: not JSON"),
        (b'{"loss": 1}', "line 2: not a metrics rec"),
        (b'{"step": true}', "line 2: not a metrics rec"),
        (b"\xff\xfe\x00", "line 2: not UTF-8"),
        (b"[" * 100_000, "line 2: not JSON"),
        (b'{"step": ' + b"9" * 5_000 + b"}", "line 2: not JSON"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_named(log, line, error):
    log.write({"step": 1})
    with log.path.open("ab") as file:
        file.write(line + b"\n")
    for read in (lambda: read_metrics(log.path), lambda: log.rewind(1)):
        with pytest.raises(MetricsError, match=f"metrics.jsonl, {error}") as info:
            read()
        assert "\n" not in str(info.value)


def test_a_last_line_that_was_cut_off_may_hold_anything(log):
    log.write({"step": 1})
    before = log.path.read_bytes()
    log.path.write_bytes(before + b"\xff\xfe\x00")
    assert read_metrics(log.path) == [{"step": 1}]
    log.rewind(1)
    assert log.path.read_bytes() == before


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MetricsError, match=r"file/metrics.jsonl cannot be written: "):
        MetricsLog(tmp_path / "file" / "metrics.jsonl").write({"step": 1})
