"""The tables of README.md, from the results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"
_BEGIN, _END = "<!-- tables -->", "<!-- end of tables -->"


def write_tables(results: list[dict[str, Any]]) -> None:
    """Replace what stands between the two marks in README.md."""
    text = README.read_text("utf-8") if README.exists() else f"{_BEGIN}\n{_END}\n"
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    body = "\n\n".join([counts(results), findings(results), "### Not audited", reasons(results)])
    README.write_text(f"{before}{_BEGIN}\n\n{body}\n\n{_END}{after}", "utf-8")


def counts(results: list[dict[str, Any]]) -> str:
    """A row a package: how many sites, audited, and with which verdict."""
    rows = [
        "| package | version | sites | run | right | better | inaccurate | wrong | surrogate |?",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    packages = dict.fromkeys((r["package"], r["version"]) for r in results)
    for package, version in packages:
        own = [r for r in results if (r["package"], r["version"]) == (package, version)]
        n = Counter(r.get("verdict") for r in own)
        audited = sum(r["status"] == "audited" for r in own)
        kinds = ("right", "better", "inaccurate", "wrong", "surrogate", "no truth")
        cells = " | ".join(str(n[kind]) for kind in kinds)
        rows.append(f"| {package} | {version} | {len(own)} | {audited} | {cells} |")
    return "\n".join(rows)


def findings(results: list[dict[str, Any]]) -> str:
    """A row for each site and each one to blame: the worst element."""
    rows = [
        "| rule | source | input | with rule | without | truth | ulps | without | floor | blame |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        worst: dict[str, str] = {}
        for case in result.get("cases", ()):
            for off in case.get("off", ()):
                worst.setdefault(off["blame"], _finding(result, case, off))
        rows += worst.values()
    return "\n".join(rows)


def _finding(result: dict[str, Any], case: dict[str, Any], off: dict[str, Any]) -> str:
    name = f"{result['package']} {result['version']} {result['name']}"
    what = f"{name} ({case['label']}, by argument {off['leaf']})"
    at = ", ".join(map(_number, off["inputs"]))
    values = [_number(off[key]) for key in ("manual", "automatic", "truth")]
    ulps = [_number(off[key], 2) for key in ("ulps", "ulps_automatic", "floor")]
    cells = [what, f"{result['file']}:{result['line']}", at, *values, *ulps, off["blame"]]
    return f"| {' | '.join(cells)} |"


def _number(x: Any, digits: int = 6) -> str:
    return "" if x is None else x if isinstance(x, str) else f"{x:.{digits}g}"


def reasons(results: list[dict[str, Any]]) -> str:
    """The reasons, and for each the sites."""
    by_reason: dict[str, list[str]] = {}
    for result in results:
        if result["status"] != "audited":
            where = f"{result['file']}:{result['line']} {result['name']}"
            by_reason.setdefault(result["reason"], []).append(where)
    return "\n".join(
        f"- **{reason}** ({len(names)}): {'; '.join(names)}" for reason, names in by_reason.items()
    )
