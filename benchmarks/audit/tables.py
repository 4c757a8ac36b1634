"""The tables of README.md, from the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"
_BEGIN, _END = "<!-- tables -->", "<!-- end of tables -->"


def write_tables(results: list[dict[str, Any]], absent: Iterable[str]) -> None:
    """Replace what stands between the two marks in README.md."""
    text = README.read_text("utf-8") if README.exists() else f"{_BEGIN}\n{_END}\n"
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    body = "\n\n".join(
        [counts(results, absent), findings(results), "### Not audited", reasons(results)]
    )
    README.write_text(f"{before}{_BEGIN}\n\n{body}\n\n{_END}{after}", "utf-8")


def counts(results: list[dict[str, Any]], absent: Iterable[str]) -> str:
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
    return "\n".join([*rows, "", f"Not installed: {', '.join(absent) or 'none'}."])


def findings(results: list[dict[str, Any]]) -> str:
    """A row for each case in which a derivative is off, the worst element of it."""
    rows = [
        "| rule | source | input | with rule | without | truth | ulps | without | floor | to blame",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for case in result.get("cases", ()):
            arms = [case.get(arm) for arm in ("manual", "automatic")]
            if any(arm and arm["off"] for arm in arms):
                rows.append(_finding(result, case, *arms))
    return "\n".join(rows)


def _finding(result: dict[str, Any], case: dict[str, Any], manual: Any, automatic: Any) -> str:
    blamed = manual if manual and manual["off"] else automatic
    other = "both" if automatic and automatic["off"] else "rule"
    if result["kind"] == "no rule":
        other = "autodiff"
    whom = other if manual and manual["off"] else "autodiff"
    at = ", ".join(_number(x) for x in blamed["inputs"])
    same = [arm if arm and arm["at"] == blamed["at"] else None for arm in (manual, automatic)]
    found = [_number(arm["found"]) if arm else "" for arm in same]
    ulps = [_number(arm["ulps"], 3) if arm else "" for arm in (manual, automatic)]
    name = f"{result['name']} ({case['label']}, by argument {blamed['leaf']})"
    source = f"{result['file']}:{result['line']}"
    cells = [name, source, at, *found, _number(blamed["truth"]), *ulps]
    return f"| {' | '.join(cells)} | {_number(blamed['floor'], 2)} | {whom} |"


def _number(x: Any, digits: int = 6) -> str:
    return x if isinstance(x, str) else f"{x:.{digits}g}"


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
