"""What `compare` found: leaves, sites and arms, as text and as JSON lines."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from funcnn.gradient.comparison.arms import Arm
from funcnn.gradient.cost.timing import Timing
from funcnn.gradient.program.sites import Site
from funcnn.gradient.sites.localize import SiteRow
from funcnn.gradient.verdict.judge import Row
from funcnn.report import Report, Section, counted, plain, table
from funcnn.report.program_sections import accuracy_section, cost_section, sites_section
from funcnn.report.rows import whole


@dataclasses.dataclass(frozen=True)
class Comparison(Report):
    """What `compare` found; `str()` is the report.

    Attributes:
        leaves: the errors of each leaf of the gradient.
        sites: every place where the program calls a hand-written rule.
        kept: those among them that could not be taken out of the automatic arm.
        culprits: where the manual gradient is wrong, the sites at which it becomes so.
        timing: the paired times of the manual and the automatic gradient, or None.
        no_truth: why there is no float64 truth, or "".
        site_rows: the error that each site contributes and inherits, in the order of the program.
        arms: what each way to the gradient costs: automatic, checkpointed and manual.
        not_compared: a site of each rule that no leaf's gradient goes through, and why.

    >>> row = Row("w", (2,), "float32", 0.5, 3.0, 0.2, "MANUAL")
    >>> print(Comparison((row,), (Site((0,), "linear", "dense_0", "custom_vjp", ""),)))
    1 hand-written rule: linear 1
     leaf   shape   dtype     manual, ulps   automatic, ulps   floor, ulps   verdict
    ---------------------------------------------------------------------------------
     w      2       float32            0.5                 3           0.2   MANUAL
    OK: 1 leaf against float64 truth: 1 MANUAL
    """

    leaves: tuple[Row, ...]
    sites: tuple[Site, ...]
    kept: tuple[Site, ...] = ()
    culprits: tuple[Site, ...] = ()
    timing: Timing | None = None
    no_truth: str = ""
    site_rows: tuple[SiteRow, ...] = ()
    arms: tuple[Arm, ...] = ()
    not_compared: tuple[tuple[Site, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether each leaf was compared with a truth, not all of them zero, and none is wrong."""
        right = {"MANUAL", "AUTO", "TIE", "SURROGATE"}
        judged = all(row.verdict in right for row in self.leaves)
        proved = any(not row.zero for row in self.leaves)
        return bool(
            proved and self._compares and judged and not self.no_truth and not self._wrong_sites
        )

    @property
    def _compares(self) -> bool:
        """Whether the gradient of any leaf goes through any rule."""
        others = {site.rule for site, _ in self.not_compared}
        return any(site.rule not in others for site in self.sites)

    @property
    def _wrong_sites(self) -> list[str]:
        """Where a rule is wrong."""
        return [str(row.site) for row in self.site_rows if row.verdict == "WRONG"]

    def rows(self) -> list[dict[str, Any]]:
        """The key "kind" says what a row is; what was not measured, or is infinite, is None.

        - "leaf": leaf (its path), shape, dtype, manual, automatic and floor (ulps), verdict, note;
        - "site": site (rule and layer), source, contributed, inherited and floor (ulps), verdict,
          note;
        - "arm": name, flops, bytes_accessed, temporary_bytes, residual_bytes, compile_seconds,
          seconds_median, seconds_low, seconds_high, note;
        - "program", once, last: ok, rules (name -> how many), kept, culprits, not_compared
          (rules), no_truth, device, jax (its version).
        """
        leaves = [{"kind": "leaf", **dataclasses.asdict(row)} for row in self.leaves]
        sites = [
            {
                "kind": "site",
                **dataclasses.asdict(row),
                "site": str(row.site),
                "source": row.site.source,
            }
            for row in self.site_rows
        ]
        arms = [{"kind": "arm", **dataclasses.asdict(arm)} for arm in self.arms]
        return [plain(row) for row in (*leaves, *sites, *arms, self._program())]

    def _program(self) -> dict[str, Any]:
        return {
            "kind": "program",
            "ok": self.ok,
            "rules": dict(Counter(site.name for site in self.sites)),
            "kept": [str(site) for site in self.kept],
            "culprits": [str(site) for site in self.culprits],
            "not_compared": [site.name for site, _ in self.not_compared],
            "no_truth": self.no_truth,
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
        }

    def sections(self) -> Sequence[Section]:
        """Its errors by leaf and by site, and what each arm costs."""
        sections = [accuracy_section([dataclasses.asdict(row) for row in self.leaves])]
        if self.site_rows:
            sections.append(
                sites_section([{**vars(r), "site": str(r.site)} for r in self.site_rows])
            )
        if self.arms:
            sections.append(cost_section([dataclasses.asdict(arm) for arm in self.arms]))
        return sections

    def _details(self) -> Iterable[str]:
        notes = [f"{r.verdict} {r.leaf}: {r.note}" for r in self.leaves if r.note]
        notes += [f"{r.verdict} {r.site}: {r.note}" for r in self.site_rows if r.note]
        notes += [f"{arm.name}: {arm.note}" for arm in self.arms if arm.note]
        notes += [f"WRONG rule: {site}" for site in self.culprits]
        others = {f"NOT COMPARED rule {site.name}: {why}": None for site, why in self.not_compared}
        notes += others
        notes += [f"kept in the automatic arm, no reverse mode: {site}" for site in self.kept]
        tables = (
            [_leaf(row) for row in self.leaves],
            self._sites(),
            [_arm(arm) for arm in self.arms],
        )
        lines = [self._rules(), *(table(rows) for rows in tables if rows), *notes]
        if self.timing:
            lines.append(str(self.timing))
        return filter(None, lines)

    def _sites(self) -> list[dict[str, Any]]:
        return [
            {
                "site": str(row.site),
                "contributed, ulps": row.contributed,
                "inherited, ulps": row.inherited,
                "floor, ulps": row.floor,
                "verdict": row.verdict,
            }
            for row in self.site_rows
        ]

    def _rules(self) -> str:
        counts = Counter(site.name for site in self.sites)
        named = ", ".join(f"{name} {n}" for name, n in counts.items())
        return counted(len(self.sites), "hand-written rule") + (f": {named}" if named else " found")

    def conclusion(self) -> str:
        """OK, FAILED, INCONCLUSIVE, NO TRUTH or NOT COMPARED, and the leaves of each verdict."""
        if self.no_truth:
            return f"NO TRUTH: {self.no_truth}"
        if not self.sites:
            return "NOT COMPARED: the function calls no hand-written rule"
        wrong = any(row.verdict == "WRONG" for row in self.leaves) or self._wrong_sites
        rules = list(dict.fromkeys(f"rule {site.name}" for site, _ in self.not_compared))
        if not self._compares and not wrong:
            return f"NOT COMPARED: no leaf's gradient goes through {', '.join(rules)}"
        counts = Counter(row.verdict for row in self.leaves)
        named = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
        head = "OK" if self.ok else "FAILED" if wrong else "INCONCLUSIVE"
        leaves = counted(len(self.leaves), "leaf", "leaves")
        text = f"{head}: {leaves} against float64 truth: {named or 'none'}"
        if counts["SURROGATE"] and not wrong:
            text += "; of a declared surrogate the value alone was compared"
        if self._wrong_sites:
            text += f"; wrong: {', '.join(self._wrong_sites)}"
        return f"{text}; not compared: {', '.join(rules)}" if rules else text


def _leaf(row: Row) -> dict[str, Any]:
    return {
        "leaf": row.leaf,
        "shape": "x".join(map(str, row.shape)) or "scalar",
        "dtype": row.dtype,
        "manual, ulps": row.manual,
        "automatic, ulps": row.automatic,
        "floor, ulps": row.floor,
        "verdict": row.verdict,
    }


def _arm(arm: Arm) -> dict[str, Any]:
    times = arm.seconds_median, arm.seconds_low, arm.seconds_high
    return {
        "arm": arm.name,
        "FLOPs": arm.flops,
        "bytes accessed": whole(arm.bytes_accessed),
        "temporary bytes": whole(arm.temporary_bytes),
        "residual bytes": whole(arm.residual_bytes),
        "compile, s": arm.compile_seconds,
        **{
            f"{name}, ms": 1e3 * seconds
            for name, seconds in zip(("median", "low", "high"), times, strict=True)
        },
    }
