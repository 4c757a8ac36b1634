"""`python benchmarks/gpu.py`: the rehearsal of all parts, and parts that crash or take too long."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def loaded():
    spec = importlib.util.spec_from_file_location("benchmark_of_gpus", COMMAND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GPU = loaded()


def lines_of(file):
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_the_rehearsal_runs_every_part(tmp_path):
    folder = tmp_path / "found"
    command = [sys.executable, COMMAND, "--rehearse", "--out", folder, "--minutes", "30"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    first, *ended = lines_of(folder / "parts.jsonl")
    assert "device" in first["machine"]
    names = [part.name for part in GPU.parts(folder, rehearse=True)]
    assert [(row["part"], row["ended"]) for row in ended] == [(name, "ok") for name in names]
    steps = lines_of(folder / "gpt_step.jsonl")
    assert [row["arm"] for row in steps] == list(GPU.GPT_ARMS)
    assert all("tokens_per_second" in row or "not installed" in row["note"] for row in steps)
    measured = [row for row in steps if "losses" in row]
    assert len(measured) >= 6
    assert GPU.disagreement(measured) == []
    for row in measured:
        assert (
            row["arm"] == "PyTorch compiled" or row["compiler_bytes"] > row["temporary_bytes"] > 0
        )
    ways = [(row["work"], row["arm"]) for row in lines_of(folder / "generation.jsonl")[1:]]
    arms = ("with the cache", "without")
    assert ways == [(f"generation, {n} rows", arm) for n in (1, 2) for arm in arms]
    assert {row["arm"] for row in lines_of(folder / "attention.jsonl")[1:]} >= {"by hand"}
    assert len(lines_of(folder / "rules.jsonl")) > 2
    assert "tokens a second" in ran.stdout


def part(name, seconds, code):
    return GPU.Part(name, seconds, [sys.executable, "-c", code])


def test_a_part_that_crashes_or_takes_too_long_loses_nothing_of_the_others(
    monkeypatch, tmp_path, capsys
):
    kept = tmp_path / "kept.jsonl"
    spawned = f"echo '{{\"x\": 1}}' > {kept}; sleep 600 & sleep 600"
    monkeypatch.setattr(GPU, "_machine", lambda environment: {"device": "NVIDIA H200"})
    monkeypatch.setattr(
        GPU,
        "parts",
        lambda folder, rehearse: [
            part("crash", 60, "print('so far'); raise SystemExit('out of memory')"),
            GPU.Part("hang", 1, ["sh", "-c", spawned]),
            part("good", 60, "print('well')"),
        ],
    )
    begun = time.monotonic()
    assert GPU.main(["--out", str(tmp_path)]) == 1
    assert time.monotonic() - begun < 30
    rows = lines_of(tmp_path / "parts.jsonl")
    assert [row.get("ended") for row in rows] == [None, "ended with 1", "took too long", "ok"]
    assert "out of memory" in rows[1]["said"]
    assert GPU.lines_of(kept) == [{"x": 1}]
    assert (tmp_path / "good.log").read_text() == "well\n"


def test_a_part_without_time_is_not_begun(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(GPU, "_machine", lambda environment: {"device": "NVIDIA H200"})
    monkeypatch.setattr(GPU, "parts", lambda folder, rehearse: [part("late", 60, "1 / 0")])
    assert GPU.main(["--out", str(tmp_path), "--minutes", "0.01"]) == 1
    assert lines_of(tmp_path / "parts.jsonl")[1]["ended"] == "not begun: no time left"


def test_without_a_gpu_it_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(GPU, "_machine", lambda environment: {"device": "cpu"})
    assert GPU.main(["--out", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--rehearse" in said
    assert not (tmp_path / "none").exists()


def test_arms_that_compute_something_else_are_named():
    rows = [
        {"arm": GPU.FIRST_ARM, "losses": [4.0, 3.9]},
        {"arm": "unrolled, cuDNN", "losses": [4.001, 3.902]},
        {"arm": "PyTorch compiled", "losses": [4.0, 4.4]},
        {"arm": "by hand, inputs", "losses": [4.0, float("nan")]},
        {"arm": "absent", "note": "not installed"},
    ]
    wrong = GPU.disagreement(rows)
    assert [line.partition(":")[0] for line in wrong] == ["PyTorch compiled", "by hand, inputs"]


def test_its_limits_and_a_half_written_line(tmp_path):
    parts = GPU.parts(tmp_path, rehearse=False)
    assert len({p.name for p in parts}) == len(parts)
    assert max(p.seconds for p in parts) <= 240
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x": ')
    assert GPU.lines_of(tmp_path / "a.jsonl") == [{"x": 1}]
    assert os.fspath(tmp_path) in " ".join(parts[1].command)
