"""What vanished and what appeared between the versions that were audited: a table in README.md.

    python audit/versions.py

results.jsonl was made with Python 3.11, results_python312.jsonl with Python 3.12 by
`run.py --results`. Compared are the sites that both have, by file and name, as lines move.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE / "README.md"
FILES = {"3.11": "results.jsonl", "3.12": "results_python312.jsonl"}
_BEGIN, _END = "<!-- versions -->", "<!-- end of versions -->"
_OFF = {"inaccurate", "wrong"}
_NOT_RUN = "not run"
_VERDICTS = ("right", "better", "inaccurate", "wrong", "surrogate", "not audited", _NOT_RUN)


def main() -> None:
    text = README.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    body = section(*(read(name) for name in FILES.values()))
    README.write_text(f"{before}{_BEGIN}\n\n{body}\n\n{_END}{after}", "utf-8")


def read(name: str) -> list[dict[str, Any]]:
    """The results in a file."""
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


def section(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    """The counts, and a row for each site whose verdict is another one, or that is in one only."""
    olds, news = _by_site(old), _by_site(new)
    packages = {r["package"] for r in new}
    kept = olds.keys() & news.keys()
    parts = [_packages(old, new), _counts(olds, news, kept), _said(old, new)]
    rows = [_row(olds[key], news[key]) for key in sorted(kept) if _differ(olds[key], news[key])]
    gone = [olds[k] for k in sorted(olds.keys() - news.keys()) if k[0] in packages]
    come = [news[k] for k in sorted(news.keys() - olds.keys())]
    rows += [_row(r, None) for r in gone] + [_row(None, r) for r in come]
    head = ["| site | Python 3.11 | Python 3.12 | |", "|---|---|---|---|"]
    return "\n\n".join([*parts, "\n".join([*head, *rows])])


def _by_site(results: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(r["package"], r["key"], r["kind"]): r for r in results}


def _packages(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    versions = [{r["package"]: r["version"] for r in results} for results in (old, new)]
    moved = [
        f"{name} {versions[0].get(name, '-')} and {version}"
        for name, version in versions[1].items()
        if versions[0].get(name) != version
    ]
    return f"Other versions under Python 3.12: {', '.join(moved) or 'none'}."


def _counts(olds: Any, news: Any, kept: Any) -> str:
    gone = sum(key not in news for key in olds)
    verdicts = [Counter(_verdict(found[key]) for key in kept) for found in (olds, news)]
    rows = [f"| {name} | {' | '.join(str(v[name]) for v in verdicts)} |" for name in _VERDICTS]
    return (
        f"{len(kept)} sites are in both; {gone} of Python 3.11 are not under 3.12, and "
        f"{len(news) - len(kept)} are new.\n\n"
        "| verdict, of those in both | Python 3.11 | Python 3.12 |\n|---|---|---|\n"
        + "\n".join(rows)
    )


def _said(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    """What `fnn.check` said, of the cases in which it was asked."""
    rows = []
    for name, results in zip(FILES, (old, new), strict=True):
        words = Counter()
        for result in results:
            said = [
                c["check"]
                for c in result.get("cases", ())
                if c.get("check", "not run") != "not run"
            ]
            if said and result["kind"] != "no rule":
                words[_whole(said), result["verdict"]] += 1
        for (word, verdict), n in sorted(words.items()):
            rows.append(f"| {name} | {word} | {verdict} | {n} |")
    head = "| Python | `fnn.check`, at the same arguments | verdict of the audit | sites |"
    rows = [head, "|---|---|---|---|", *rows]
    return "\n".join(rows)


def _whole(said: list[str]) -> str:
    """The worst of what was said of a site's cases."""
    words = ["no answer" if t.startswith("no answer") else t.split(" ")[0] for t in said]
    worst = ("FAILED", "CRASH", "no answer", "INCONCLUSIVE")
    return next((word for word in worst if word in words), words[0])


def _verdict(result: dict[str, Any]) -> str:
    reason = result.get("reason")
    return result.get("verdict") or (_NOT_RUN if reason == _NOT_RUN else "not audited")


def _differ(old: dict[str, Any], new: dict[str, Any]) -> bool:
    verdicts = {_verdict(old), _verdict(new)}
    return len(verdicts) > 1 and _NOT_RUN not in verdicts


def _row(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    known = old or new or {}
    verdicts = [_verdict(r) if r else "no such site" for r in (old, new)]
    was, now = (v in _OFF for v in verdicts)
    word = {(True, False): "vanished", (False, True): "appeared"}.get((was, now), "")
    word = word if old and new else "new" if new else "gone"
    site = f"{known['package']} `{known['name']}` ({known['kind']}, {known['file']})"
    return f"| {site} | {' | '.join(verdicts)} | {word} |"


if __name__ == "__main__":
    main()
