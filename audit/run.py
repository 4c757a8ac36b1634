"""Audit the hand-written derivatives of the installed JAX ecosystem, and write what was found.

    python audit/run.py [--only TEXT ...] [--again] [--level none|fast|full] [--hunt 3]
    python audit/run.py --results audit/results_python312.jsonl

Sites that the results have already, in the same version, are kept unless --again; only what
`fnn.check` and `fnn.hunt` say is added where they were not asked. What is measured and how to read
it stands in README.md, whose tables this writes, too, where the results are those of results.jsonl.
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
from worker import Asked, Worker, head

RESULTS = Path(__file__).parent / "results.jsonl"
NOT_RUN = "not run"


def main() -> None:
    options = _options()
    found, absent = walk()
    sites = [*found, *FUNCTIONS]
    print(f"{len(found)} sites; not installed: {', '.join(absent) or 'none'}", flush=True)
    results = _still_true(read(options.results), sites)
    for site in sites:
        results.setdefault(_id(site), head(site) | {"status": "not audited", "reason": NOT_RUN})
    chosen = [s for s in sites if any(text in f"{s.package}/{s.key}" for text in options.only)]
    stale = [site for site in chosen if _stale(results[_id(site)], site, options)]
    stale.sort(key=lambda site: site.kind == "primitive")
    workers = queue.SimpleQueue[Worker]()
    for _ in range(options.workers):
        workers.put(Worker(options.seconds, Asked(options.level, options.hunt)))

    def audit(site: Site) -> dict[str, Any]:
        worker = workers.get()
        try:
            return worker.audit(site, None if options.again else results[_id(site)])
        finally:
            workers.put(worker)

    with ThreadPoolExecutor(options.workers) as pool:
        for done in as_completed([pool.submit(audit, site) for site in stale]):
            result = done.result()
            results[_id(result)] = result
            write(results.values(), options.results)
            _say(result)
    write(results.values(), options.results)
    if options.results == RESULTS:
        write_tables(read())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], help="sites with one of these texts")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--level", default="fast", help="of fnn.check; none leaves it out")
    parser.add_argument(
        "--hunt", type=float, default=0, help="seconds of fnn.hunt; 0 leaves it out"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of the results")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=300, help="at most, for a site")
    return parser.parse_args()


def _still_true(known: list[dict[str, Any]], sites: list[Site]) -> dict[Any, dict[str, Any]]:
    """What is known, but of the versions installed here only sites that there still are."""
    installed = {(site.package, site.version) for site in sites}
    present = set(map(_id, sites))
    return {
        _id(r): r
        for r in known
        if (r["package"], r["version"]) not in installed or _id(r) in present
    }


def _stale(known: dict[str, Any], site: Site, options: argparse.Namespace) -> bool:
    """Whether a site is to be audited: a reason is cheap to give again, a result is kept."""
    if known["status"] == "not audited":
        return options.again or not known["reason"].startswith("did not return")
    return site.key in CASES and (options.again or not Asked.of(options, known).nothing)


def _id(site: Any) -> tuple[str, ...]:
    fields = site if isinstance(site, dict) else {**vars(site), "key": site.key}
    return tuple(fields[name] for name in ("package", "version", "key", "kind"))


def _say(result: dict[str, Any]) -> None:
    what = result.get("verdict") or result["reason"]
    seconds = result.get("seconds", 0.0)
    name = f"{result['package']} {result['name']}"
    print(f"{seconds:6.1f} s  {what:<11} {name}", flush=True)


def read(path: Path = RESULTS) -> list[dict[str, Any]]:
    """The results, one a site."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(results: Iterable[dict[str, Any]], path: Path = RESULTS) -> None:
    """All results in order; never a half-written file."""
    results = sorted(results, key=lambda r: (r["package"], r["version"], r["file"], r["line"]))
    whole = path.with_suffix(".tmp")
    whole.write_text("\n".join(map(json.dumps, results)) + "\n", "utf-8")
    whole.replace(path)


if __name__ == "__main__":
    main()
