"""Audit the hand-written derivatives of the installed JAX ecosystem, and write what was found.

    python audit/run.py [--only TEXT] [--again] [--level none|fast|full] [--workers 2]

Sites that results.jsonl has already, in the same version, are kept unless --again. What is measured
and how to read it stands in README.md, whose tables this writes, too.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from cases.table import CASES, FUNCTIONS
from sites import Site, walk
from tables import write_tables
from worker import Worker

RESULTS = Path(__file__).parent / "results.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="sites whose file and name hold this text")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--level", default="fast", help="of fnn.check; none leaves it out")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=300, help="at most, for a site")
    options = parser.parse_args()
    found, absent = walk()
    sites = [*found, *FUNCTIONS]
    print(f"{len(found)} sites; not installed: {', '.join(absent) or 'none'}", flush=True)
    results = _still_true(read(), sites)
    stale = [s for s in sites if options.only in s.key and _stale(results, s, options.again)]
    stale.sort(key=lambda site: site.kind == "primitive")
    workers = queue.SimpleQueue[Worker]()
    for _ in range(options.workers):
        workers.put(Worker(options.seconds, options.level))

    def audit(site: Site) -> dict[str, Any]:
        worker = workers.get()
        try:
            return worker.audit(site)
        finally:
            workers.put(worker)

    with ThreadPoolExecutor(options.workers) as pool:
        for done in as_completed([pool.submit(audit, site) for site in stale]):
            result = done.result()
            results[_id(result)] = result
            write(results.values())
            _say(result)
    write(results.values())
    write_tables(read())


def _still_true(known: list[dict[str, Any]], sites: list[Site]) -> dict[Any, dict[str, Any]]:
    """What is known, but of the versions installed here only sites that there still are."""
    installed = {(site.package, site.version) for site in sites}
    present = set(map(_id, sites))
    return {
        _id(r): r
        for r in known
        if (r["package"], r["version"]) not in installed or _id(r) in present
    }


def _stale(results: dict[Any, Any], site: Site, again: bool) -> bool:
    """Whether a site is to be audited: a reason is cheap to give again, a result is kept."""
    known = results.get(_id(site))
    if known is None or known["status"] == "not audited":
        return known is None or not known["reason"].startswith("did not return") or again
    return again and site.key in CASES


def _id(site: Any) -> tuple[str, ...]:
    fields = site if isinstance(site, dict) else {**vars(site), "key": site.key}
    return tuple(fields[name] for name in ("package", "version", "key", "kind"))


def _say(result: dict[str, Any]) -> None:
    what = result.get("verdict") or result["reason"]
    seconds = result.get("seconds", 0.0)
    name = f"{result['package']} {result['name']}"
    print(f"{seconds:6.1f} s  {what:<11} {name}", flush=True)


def read() -> list[dict[str, Any]]:
    """The results, one a site."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()]


def write(results: Iterable[dict[str, Any]]) -> None:
    """All results in order; never a half-written file."""
    results = sorted(results, key=lambda r: (r["package"], r["version"], r["file"], r["line"]))
    whole = RESULTS.with_suffix(".tmp")
    whole.write_text("\n".join(map(json.dumps, results)) + "\n", "utf-8")
    whole.replace(RESULTS)


if __name__ == "__main__":
    main()
