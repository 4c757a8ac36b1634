"""How many wrong rules each gradient checker finds, and how many right ones it takes for wrong.

The rules are the catalogues of tests/gradient, at their own arguments. A complaint about a wrong
rule counts as found only where the same tool is quiet about the derivative that JAX derives for the
same function at the same arguments, or says something else of it.

    pip install funcnn torch equinox flax dm-haiku optax
    python benchmarks/checkers.py                          # what the file of results lacks
    python benchmarks/checkers.py --only linear --again
    python benchmarks/checkers.py --table                  # write it into docs/right.md

It can be stopped and started again. What ChainRulesTestUtils and Mooncake are said to find is from
their documentation and sources; neither was run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/checkers.jsonl"
PAGE = ROOT / "docs/right.md"
BEGIN, END = "<!-- table of the checkers -->", "<!-- end of the table -->"
Row = dict[str, Any]
QUICK = ("check_grads", "gradcheck", "fnn.check fast")  # the tools for the public functions

# What kind of mistake each of the wrong rules makes, beside those whose checks say it.
SOMEWHERE = (
    *("relu: 1 at the kink", "max_pool: both of two equal ones", "softplus: overflow in the tail"),
    "logsumexp: no shift by the maximum",
)
OF_THE_COTANGENT = (
    *("linear: right for a cotangent of ones only", "softmax: clipped cotangent"),
    *("log_softmax: sum of the cotangent missing, right for one-hot ones",),
    *("log_softmax: normalised cotangent", "logsumexp: cotangent not multiplied in"),
    *("cross_entropy: cotangent not multiplied in", "sigmoid: cotangent squared"),
)
SMALL = (
    *("linear: 0.1 % too large", "linear: one entry 5 % off", "matmul: rounded to bfloat16"),
    *("layer_norm: eps forgotten", "rms_norm: eps forgotten", "batch_norm: eps forgotten"),
    *("log_softmax: 1e-4 added", "attention: p kept in bfloat16", "gelu: 0.0447 for 0.044715"),
    *("layer_norm: one coordinate of the gain zero", "sine: 5 % off in a network"),
)
SETTINGS = (
    *("mean: right on the sample's shape only", "psum: twice under vmap"),
    *("psum: twice under shard_map", "cube: wrong in the second order"),
    "matmul: precision of the context lost",
)
KINDS = {
    "the formula": "a factor, a sign, a term, an axis, an argument",
    "small": "5 % and less, or one element",
    "the cotangent": "clipped, normalised, left out",
    "somewhere": "at a kink, at a tie, in a tail",
    "the value": "the forward pass returns another one",
    "the contract": "a dtype, a shape, a tree, None",
    "a setting": "vmap, shard_map, sizes, precision, second order",
}
# From their documentation: of each kind, what they are made to find. Both run in float64, in Julia,
# where a rule is not transformed by vmap or shard_map, and None and int32 cotangents do not occur.
JULIA = {
    "ChainRulesTestUtils": {
        **dict.fromkeys(("the formula", "small", "the cotangent", "the value"), "yes"),
        **dict.fromkeys(("the contract", "somewhere"), "in part"),
        "a setting": "no",
    },
    "Mooncake": {
        **dict.fromkeys(("the formula", "the cotangent"), "yes"),
        **dict.fromkeys(("small", "the value", "the contract", "somewhere"), "in part"),
        "a setting": "no",
    },
}


def kind_of(name: str, checks: frozenset[str]) -> str:
    """The kind of a mistake, one of KINDS."""
    if name in SETTINGS:
        return "a setting"
    for kind, names in (("small", SMALL), ("somewhere", SOMEWHERE)):
        if name in names:
            return kind
    if name in OF_THE_COTANGENT:
        return "the cotangent"
    if "contract" in checks:
        return "the contract"
    return "the value" if checks == {"primal"} else "the formula"


# Running them


def rules() -> Iterator[tuple[Row, Any]]:
    """(what it is, what makes the subject) of every rule of the catalogues."""
    from catalogue_public import PUBLIC
    from catalogue_right import RIGHT
    from catalogue_wrong import WRONG
    from checker_tools import subject

    for name, wrong in WRONG.items():
        row = {"set": "wrong", "rule": name, "kind": kind_of(name, wrong.checks)}
        yield row, lambda wrong=wrong: subject(wrong.make())
    for name, right in RIGHT.items():
        row = {"set": "right", "rule": name}
        yield row, lambda right=right: subject(right.make(), **right.options)
    for name, public in PUBLIC.items():
        if not public.says:  # the others have findings
            row = {"set": "public", "rule": name}
            yield row, lambda public=public: subject((public.f, public.args))


def judged(row: Row, make: Any, tools: dict[str, Any], known: dict[Any, Any]) -> Row:
    """The row with what each tool says: on a wrong rule "found" or "missed", and why.

    `known` keeps what the tools say of the right twins, of which many rules share one.
    """
    from checker_tools import CONTAINS, twin

    one, said = make(), {}
    for name, tool in tools.items():
        if one.options and not name.startswith("fnn"):
            said[name] = ["cannot be told", "it is another derivative on purpose"]
            continue
        if said.get(CONTAINS.get(name), ["missed"])[0] in ("found", "of the right one, too"):
            said[name] = said[CONTAINS[name]]
            continue
        heard = tool(one)
        word, text = heard.word, heard.text
        if row["set"] == "wrong":
            word = {"quiet": "missed", "undecided": "missed"}.get(word, word)
            if word == "complains":
                right = twin(one)
                key = (name, right.of, *map(id, right.args), right.dtypes)
                if key not in known:
                    known[key] = tool(right), right
                same = known[key][0].word == "complains" and known[key][0].kind == heard.kind
                word = "of the right one, too" if same else "found"
        said[name] = [word, text[:120]]
    return {**row, "said": said}


def read(path: Path = RESULTS) -> tuple[Row, list[Row]]:
    """(versions, rows)."""
    if not path.exists():
        return {}, []
    first, *rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return first["versions"], rows


def write(path: Path, rows: list[Row], order: list[tuple[str, str]]) -> None:
    rows = sorted(rows, key=lambda row: order.index((row["set"], row["rule"])))
    versions = {name: importlib.metadata.version(name) for name in ("jax", "torch", "funcnn")}
    versions["python"] = ".".join(map(str, sys.version_info[:2]))
    lines = [json.dumps(line) for line in ({"versions": versions}, *rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


# The table


def table(versions: Row, rows: list[Row]) -> str:
    """How many each tool finds, by kind of mistake, in Markdown."""
    wrong = [row for row in rows if row["set"] == "wrong"]
    tools = list(wrong[0]["said"])
    head = [*tools[:-2], *(f"{name}\\*" for name in JULIA), *tools[-2:]]
    lines = [
        "| mistake | rules | " + " | ".join(head) + " |",
        "| --- |" + " --- |" * (len(head) + 1),
    ]

    def line(title: str, among: list[Row], word: str, julia: list[str]) -> str:
        counts = [_count(among, tool, word) for tool in tools]
        cells = [title, str(len(among)), *counts[:-2], *julia, *counts[-2:]]
        return "| " + " | ".join(cells) + " |"

    for kind, what in KINDS.items():
        among = [row for row in wrong if row["kind"] == kind]
        julia = [marks[kind] for marks in JULIA.values()]
        lines.append(line(f"{kind}: {what}", among, "found", julia))
    lines.append(line("**found**", wrong, "found", ["", ""]))
    lines.append(
        line(
            "no help: it complains of the right one, too", wrong, "of the right one, too", ["", ""]
        )
    )
    told = [r for r in rows if r["set"] == "right" and r["said"][tools[0]][0] != "cannot be told"]
    lines.append(line("**false alarms** at right rules", told, "complains", ["", ""]))
    public = [row for row in rows if row["set"] == "public"]
    lines.append(line("false alarms at public functions", public, "complains", ["", ""]))
    ran = f"jax {versions['jax']}, PyTorch {versions['torch']}, Python {versions['python']}"
    return "\n".join([*lines, "", f"{ran}; on a CPU. \\*From the documentation, not run."])


def _count(rows: list[Row], tool: str, word: str) -> str:
    if any(tool not in row["said"] for row in rows):
        return "not run"
    counted = sum(row["said"][tool][0] == word for row in rows)
    notes = sum(row["said"][tool][0] == "note" for row in rows) if word == "found" else 0
    return f"{counted} and {notes} noted" if notes else str(counted)


def write_table() -> None:
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(*read())}\n{END}{after}", "utf-8")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="", help="rules whose name has this in it")
    options.add_argument("--sets", default="wrong,right,public")
    options.add_argument("--again", action="store_true", help="those that have been run, too")
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--table", action="store_true", help="write the table, and run nothing")
    given = options.parse_args()
    if given.table:
        return write_table()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
    sys.path[:0] = [str(ROOT / "tests/gradient")]
    import jax
    from checker_tools import TOOLS

    every, known = list(rules()), {}
    order = [(row["set"], row["rule"]) for row, _ in every]
    for i, (row, make) in enumerate(every):
        if row["set"] not in given.sets.split(",") or given.only not in row["rule"]:
            continue
        _, done = read(given.out)
        others = [r for r in done if (r["set"], r["rule"]) != (row["set"], row["rule"])]
        if len(others) < len(done) and not given.again:
            continue
        tools = {name: TOOLS[name] for name in TOOLS if row["set"] != "public" or name in QUICK}
        found = judged(row, make, tools, known)
        write(given.out, [*others, found], order)
        print(row["rule"], [word for word, _ in found["said"].values()], flush=True)
        if i % 25 == 24:
            jax.clear_caches()
    return None


if __name__ == "__main__":
    main()
