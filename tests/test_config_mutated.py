"""Some hundred damaged configs and overrides: a config that loads back, or lines that say where."""

import random
import re
from pathlib import Path

import pytest

from funcnn.config import ConfigError, dump_config, load_config

TEXTS = [path.read_text() for path in sorted((Path(__file__).parents[1] / "configs").iterdir())]
KEYS = ["train.steps", "run.seed", "run.folder", "data.path", "model.name", "model.options.width"]
KEYS += ["optimizer.learning_rate", "optimizer.schedule", "loss.options", "model.options", "run"]
ODD_KEYS = ["a" * 5000, '"a\\nb"', '"\\u001b[2J"', ".".join("a" * 400), '""', "model", "θ", "a b"]

# Right sides that people and programs write, each harmless or wrong in its own way.
VALUES = [*("1", "-1", "0.5", "1e3", "1_000", "+1", "0x1f", "1e999", "nan", "-inf", "01", "1,000")]
VALUES += [*("true", "True", "False", "none", "null", "yes", ".5", "1.", "-.5e3", "[.5]", "(1, 2)")]
VALUES += [*('"text"', "'text'", "text", '"', "'''", '"""a\nb"""', '"\\ud800"', '"\\u0000"', "")]
VALUES += [*("1979-05-27", "noon", "{a = 1}", "{a = 1, a = 2}", "[1, 'a', [2]]", "# 1", "1 # 2")]
VALUES += ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "9" * 25, f'"{"9" * 5000}"', "1." * 900]
VALUES += [f"{'[' * n}{']' * n}" for n in (20, 40, 500)]
VALUES += [f"{'{a = ' * n}1{'}' * n}" for n in (20, 40, 500)]
VALUES += ["[" * 3000, "{a=" * 900, "a" * 5000, "a\nb", "\x00", "\x1b[2J", "\x85", "\u2028"]


def value(rng):
    kind = rng.randrange(10)
    if kind < 8:
        return rng.choice(VALUES)
    if kind == 8:
        return f"[{rng.choice(VALUES)}, {rng.choice(VALUES)}]"
    return "".join(rng.choice("[]{}\"'=,.#\\ \n+-_0159eEx:aTF") for _ in range(rng.randrange(1, 9)))


def mutated(rng, text):
    """The text with a right side, a line, some characters or some bytes changed."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        kind = rng.randrange(6)
        if kind < 3:
            wanted = [i for i, line in enumerate(lines) if " = " in line] or [at]
            at = rng.choice(wanted)
            lines[at] = f"{lines[at].partition(' = ')[0]} = {value(rng)}"
        elif kind == 3:
            lines.insert(at, f"{rng.choice(KEYS + ODD_KEYS)} = {value(rng)}")
        elif kind == 4:
            lines.insert(rng.randrange(len(lines)), lines[at])
        else:
            place = rng.randrange(len(text) + 1)
            text = text[:place] + rng.choice(["", value(rng)]) + text[place + rng.randrange(9) :]
            continue
        text = "\n".join(lines)
    return text


def check(path, overrides, again):
    """True where it is a config; it is written as text that loads back the same."""
    try:
        config = load_config(path, overrides)
    except ConfigError as error:
        for problem in error.problems:
            assert problem.startswith((f"{path}: ", "--set "))
            assert len(problem.splitlines()) == 1
            assert problem.isprintable() or "\ud800" < max(problem) < "\udfff"
            assert len(problem) < len(str(path)) + 500
        return False
    again.write_text(dump_config(config), encoding="utf-8")
    assert dump_config(load_config(again)) == dump_config(config)
    return True


def test_damaged_files(tmp_path):
    path, again, right = tmp_path / "x.toml", tmp_path / "again.toml", 0
    for seed in range(500):
        rng = random.Random(seed)
        content = mutated(rng, rng.choice(TEXTS)).encode()
        if rng.random() < 0.1:
            at = rng.randrange(len(content) + 1)
            content = content[:at] + rng.randbytes(2) + content[at:]
        path.write_bytes(content)
        try:
            right += check(path, [], again)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {content!r:.2000}") from error
    assert 20 < right < 300  # the mutations are neither all harmless nor all fatal


def test_odd_overrides(tmp_path):
    path, again, right = tmp_path / "x.toml", tmp_path / "again.toml", 0
    path.write_text(TEXTS[0])
    for seed in range(500):
        rng = random.Random(seed)
        key = rng.choice(
            KEYS * 4 + ODD_KEYS + ["model.options." + ".".join("a" * 400), "run.\udcff"]
        )
        overrides = [rng.choice([f"{key}={value(rng)}", f"{key}={value(rng)}", f"{key}\udcff"])]
        try:
            right += check(path, overrides, again)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {overrides!r:.2000}") from error
    assert 20 < right < 300


@pytest.mark.parametrize(
    "text", [v for v in VALUES if re.match(r"[\[{(]|[+-]?\.?\d|true|fal|nan|none", v, re.I)]
)
def test_no_number_list_or_switch_becomes_text(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(TEXTS[0])
    try:
        found = load_config(path, [f"model.options.x={text}"]).model.options["x"]
    except ConfigError:
        return
    assert not isinstance(found, str)
