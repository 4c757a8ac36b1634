"""What the rules gain is read from the results of the benchmarks, also where some are missing."""

import json

import measured

import funcnn as fnn
from funcnn.bench.suite import BENCHMARKS


def test_results_of_the_repository():
    (first, *_) = measured.gains("max_pool")
    assert first.rival == "autodiff"
    assert "jax 0." in first.machine
    assert measured.gains("relu") == []


def test_every_rule_and_work_of_the_table_is_there():
    rules = set(fnn.registered_rules())
    assert set(measured.WORKS) <= rules
    named = {work for works in measured.WORKS.values() for work in works}
    assert named - {"lstm"} <= set(BENCHMARKS)


def test_no_results_no_gains(tmp_path):
    assert all(measured.gains(rule, tmp_path) == [] for rule in measured.WORKS)


def test_a_sweep_of_convolutions(tmp_path):
    def ratio(value):
        return {"ratio": {"median": value, "low": value, "high": value}}

    row = {part: {"plain": ratio(v)} for part, v in (("all", 2.0), ("dx", 1.0), ("dw", 3.0))}
    found = {
        "device": "cpu",
        "processor": "P",
        "cores": 2,
        "jax": "0",
        "rows": {"a": row, "b": row},
    }
    (tmp_path / "conv_sweep_cpu.json").write_text(json.dumps(found))
    gains = measured.gains("conv", tmp_path)
    assert [gain.work for gain in gains] == [
        "y, dx and dw, 2 shapes",
        "dx alone, 2 shapes",
        "dw alone, 2 shapes",
    ]
    assert gains[0].time.startswith("2.00 (2.00 to 2.00")
    assert gains[0].machine == "P, 2 cores, jax 0"
