"""Which value of a metric is the best, and which checkpoints of a folder have which value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from funcnn.report.files import in_place_of
from funcnn.train.manifest import DamagedCheckpoint, digest_of

BEST = "best.json"


def is_better(
    value: float, best: float | None, higher_is_better: bool, smallest_change: float = 0.0
) -> bool:
    """Whether a value is better than the best before it, by more than `smallest_change`.

    Of equal values the first is the best. What is not finite is never better than anything.

    >>> is_better(0.5, None, True), is_better(0.5, 0.5, True), is_better(float("nan"), None, True)
    (True, False, False)
    """
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return (value - best if higher_is_better else best - value) > smallest_change


def metric_of(record: Mapping[str, Any], metric: str, who: str) -> float:
    """A metric of a record, as a number.

    >>> metric_of({"step": 3, "loss": 0.5}, "lost", "best")
    Traceback (most recent call last):
    ValueError: best: the record of step 3 has no metric 'lost': it has loss
    """
    if metric not in record:
        names = ", ".join(name for name in record if name != "step") or "none"
        raise ValueError(
            f"{who}: the record of step {record['step']} has no metric {metric!r}: it has {names}"
        )
    return float(record[metric])


class Values(NamedTuple):
    """The value of a metric at each checkpoint that has been evaluated.

    >>> values = Values("evaluation_loss", False, {100: 0.5, 200: 0.25, 300: 0.25})
    >>> values.best([100, 200, 300]), values.best([100]), values.best([])
    (200, 100, None)
    """

    metric: str
    higher_is_better: bool
    at: dict[int, float]

    def best(self, steps: Iterable[int]) -> int | None:
        """The step with the best value among these, the first of equal ones; None without any."""
        found = None
        for step in sorted(set(steps) & set(self.at)):
            best = None if found is None else self.at[found]
            if is_better(self.at[step], best, self.higher_is_better):
                found = step
        return found

    def without(self, step: int) -> Values:
        """The values of the other checkpoints."""
        return self._replace(at={n: value for n, value in self.at.items() if n != step})


def read_values(folder: Path) -> Values | None:
    """The values that a folder of checkpoints holds; None where nothing has been evaluated.

    Raises DamagedCheckpoint where the file is not as `write_values` writes it.

    >>> print(read_values(Path("no/folder")))
    None
    """
    path = folder / BEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest")
        if digest == digest_of(content):
            at = {int(step): float(value) for step, value in content["values"].items()}
            return Values(str(content["metric"]), bool(content["higher_is_better"]), at)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise DamagedCheckpoint(
        f"{path} is damaged: which checkpoint is the best is not known; remove it, and the best "
        f"is that of the evaluations to come"
    )


def write_values(folder: Path, values: Values) -> None:
    """Write the values in one atomic step, flushed to disk.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_values(folder, Values("evaluation_loss", False, {100: 0.5}))
    >>> read_values(folder).at
    {100: 0.5}
    """
    content = {**values._asdict(), "values": {str(step): x for step, x in values.at.items()}}
    del content["at"]
    with in_place_of(folder / BEST) as unfinished:
        unfinished.write_text(json.dumps({**content, "digest": digest_of(content)}, indent=1))
