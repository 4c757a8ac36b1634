"""The tables of README.md, from the results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"
_KINDS = ("right", "better", "inaccurate", "wrong", "by its value", "surrogate")
_BEGIN, _END = "<!-- tables -->", "<!-- end of tables -->"


def write_tables(results: list[dict[str, Any]]) -> None:
    """Replace what stands between the two marks in README.md."""
    text = README.read_text("utf-8") if README.exists() else f"{_BEGIN}\n{_END}\n"
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    body = "\n\n".join([counts(results), findings(results), "### Not audited", reasons(results)])
    README.write_text(f"{before}{_BEGIN}\n\n{body}\n\n{_END}{after}", "utf-8")


def counts(results: list[dict[str, Any]]) -> str:
    """A row a package and one for all: how many sites, audited, and with which verdict."""
    rows = [
        f"| {' | '.join(('package', 'version', 'sites', 'audited', *_KINDS))} |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for package, version in dict.fromkeys((r["package"], r["version"]) for r in results):
        own = [r for r in results if (r["package"], r["version"]) == (package, version)]
        rows.append(_count(package, version, own))
    return "\n".join([*rows, _count("all", "", results)])


def _count(package: str, version: str, own: list[dict[str, Any]]) -> str:
    n = Counter(r.get("verdict") for r in own)
    by_value = sum(_is_off(r) and blames(r) <= {"function", "autodiff"} for r in own)
    cells = [len(own), sum(r["status"] == "audited" for r in own)]
    cells += [n[kind] for kind in ("right", "better", "inaccurate", "wrong")]
    return f"| {' | '.join(map(str, [package, version, *cells, by_value, n['surrogate']]))} |"


def _is_off(result: dict[str, Any]) -> bool:
    return result["kind"] != "no rule" and result.get("verdict") in {"inaccurate", "wrong"}


def blames(result: dict[str, Any]) -> set[str]:
    """Whom the elements that are off are blamed on."""
    return {off["blame"] for case in result.get("cases", ()) for off in case.get("off", ())}


def findings(results: list[dict[str, Any]]) -> str:
    """A row for each site and each one to blame: the worst element. Surrogates are no findings."""
    rows = [
        "| rule | source | input | with rule | without | truth | ulps | without | floor | blame |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        worst: dict[str, str] = {}
        for case in result.get("cases", ()) if result.get("verdict") != "surrogate" else ():
            for off in case.get("off", ()):
                worst.setdefault(off["blame"], _finding(result, case, off))
        rows += worst.values()
    return "\n".join(rows)


def _finding(result: dict[str, Any], case: dict[str, Any], off: dict[str, Any]) -> str:
    name = f"{result['package']} {result['version']} {result['name']}"
    what = f"{name} ({case['label']}, by argument {off['leaf']})"
    at = ", ".join(_number(x, 7) for x in off["inputs"])
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
