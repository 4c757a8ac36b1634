"""funcnn checkpoint list and funcnn checkpoint verify: what of a run can be restored.

Neither builds a model nor reads data, and no code that the config names is run.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import say, warn
from funcnn.config import ConfigError
from funcnn.report import counted, plain, table
from funcnn.train.best import Values, read_values
from funcnn.train.damage import damage_of
from funcnn.train.manifest import CheckpointError, DamagedCheckpoint, read_manifest
from funcnn.train.step_folders import StepFolders
from funcnn.train.storage import read_leaves


def list_checkpoints(path: str, *, as_json: bool = False) -> int:
    """Print a line for each checkpoint of a run: what is there, not whether it is whole.

    Raises:
        ConfigError: the folder holds no run.
    """
    folders = _folders(path)
    steps = folders.steps()
    try:
        values = read_values(folders.folder)
    except CheckpointError as error:
        warn(str(error))
        values = None
    rows = [_row(folders.of(step), step, values, steps) for step in steps]
    if as_json:
        for row in rows:
            print(json.dumps({"kind": "checkpoint", **row}))
    elif rows:
        print(table(rows))
    if not rows:
        say(f"no checkpoint in {folders.folder}")
    return 0


def verify_checkpoints(path: str, *, as_json: bool = False) -> int:
    """Look at every file and every leaf of a run's checkpoints; 1 where something is damaged.

    It is 1, too, where there is no checkpoint: what compares nothing finds nothing whole.

    Raises:
        ConfigError: the folder holds no run.
    """
    folders = _folders(path)
    choose_platform("cpu")  # a GPU may be busy with this very run
    steps = folders.steps()
    rows = [_verified(folders.of(step), step) for step in steps]
    rows = [row for row in rows if row["whole"] or folders.of(row["step"]).exists()]
    try:
        read_values(folders.folder)
    except CheckpointError as error:
        rows.append(_wrong(None, error))
    for row in rows:
        if as_json:
            print(json.dumps({"kind": "verified", **row}))
        else:
            step = "" if row["step"] is None else f"step {row['step']}: "
            found = "whole, " if row["whole"] else "DAMAGED: " if row["damaged"] else "NOT READ: "
            print(f"{step}{found}{row['why']}")
    if not rows:
        say(f"no checkpoint in {folders.folder}")
    return 0 if rows and all(row["whole"] for row in rows) else 1


def _folders(path: str) -> StepFolders:
    run = Path(path)
    if not (run / "config.toml").is_file():
        raise ConfigError([f"{run}: holds no run (no config.toml)"])
    return StepFolders(run.absolute() / "checkpoints", warn)  # orbax reads no relative paths


def _row(path: Path, step: int, values: Values | None, steps: list[int]) -> dict[str, Any]:
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    written = max((file.st_mtime for file in files), default=path.stat().st_mtime)
    time = datetime.datetime.fromtimestamp(written, datetime.UTC)
    value = None if values is None else values.at.get(step)
    return {
        "step": step,
        "bytes": sum(file.st_size for file in files),
        "time": time.isoformat(timespec="seconds"),
        "best": values is not None and values.best(steps) == step,
        "metric": None if value is None or values is None else values.metric,
        "value": None if value is None else plain(value),
    }


def _verified(path: Path, step: int) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step, "whole": False, "damaged": True, "files": [], "leaves": []}
    try:
        manifest, damage = read_manifest(path), damage_of(path)
        if damage.files or damage.leaves:
            return {**row, "files": damage.files, "leaves": damage.leaves, "why": str(damage)}
        saved = int(read_leaves(path, ["step"])["step"])
    except CheckpointError as error:
        return _wrong(step, error)
    if saved != step:
        return {**row, "why": f"it holds step {saved}"}
    leaves, without = len(manifest.leaves), len(manifest.leaves) - len(manifest.digests)
    why = f"{counted(len(manifest.files), 'file')}, {counted(leaves, 'leaf', 'leaves')}"
    why += f", {without} of them without a digest" if without else ""
    return {**row, "whole": True, "damaged": False, "why": why}


def _wrong(step: int | None, error: CheckpointError) -> dict[str, Any]:
    """What could not be looked at: nothing says that it is damaged, where the error does not."""
    damaged = isinstance(error, DamagedCheckpoint)
    row: dict[str, Any] = {"step": step, "whole": False, "damaged": damaged}
    return {**row, "files": [], "leaves": [], "why": str(error)}
