"""funcnn predict: what the model of a run says of further rows."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funcnn.chosen import chosen_data
from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import warn
from funcnn.commands.target import check_writable
from funcnn.config import ConfigError
from funcnn.core.errors import first_line
from funcnn.data.contents import changes, contents_of
from funcnn.data.dataset import DataError
from funcnn.data.known import Known
from funcnn.report import plain
from funcnn.report.files import in_place_of
from funcnn.runs.folder import RunFolder
from funcnn.runs.loaded import LoadedRun, loaded_from
from funcnn.types import PyTree

FORMATS = (".npy", ".csv", ".jsonl")


def predict(
    run: str, source: str, *, out: str | None, foreign: bool = True, as_json: bool = False
) -> int:
    """Predict for the rows in a file, into another file or, as text, to stdout.

    Args:
        run: the folder of the run.
        source: .npy, an array as in training; .npz, arrays by the names that the task takes; or
            what the data of the run were read from: a .csv file, an image, a folder of images, a
            text.
        out: .npy, the outputs as they are; .csv or .jsonl, a line for each row.
        foreign: whether a function that the config of the run names may be imported.
        as_json: JSON lines on stdout.

    Raises:
        ConfigError: no such run or file, rows that do not fit, or outputs that fit in no line.
    """
    check_writable("--out", out)
    if out is not None and Path(out).suffix not in FORMATS:
        raise ConfigError([f"--out {out}: expected a name that ends in {', '.join(FORMATS)}"])
    folder = RunFolder(run)
    choose_platform(folder.read(foreign=foreign).run.platform)
    loaded = loaded_from(folder, warn, foreign=foreign)
    try:
        outputs = loaded.predict(_rows(loaded, Path(source)))
    except (TypeError, ValueError) as error:
        where = "" if str(error).startswith(source) else f"{source}: "
        raise ConfigError([f"{where}{first_line(error)}"]) from error
    if out is not None and out.endswith(".npy"):
        _save(out, outputs)
        return 0
    lines = list(_lines(loaded, outputs))
    text = _json_text(lines) if as_json or str(out).endswith(".jsonl") else _csv_text(lines)
    if out is None:
        print(text, end="")
        return 0
    with in_place_of(Path(out)) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")
    return 0


def _rows(loaded: LoadedRun, source: Path) -> PyTree:
    if not source.exists():
        raise DataError("no such file")
    if source.suffix not in (".npy", ".npz"):
        return _as_the_data(loaded, source)
    try:
        read = np.load(source, allow_pickle=False)
        if isinstance(read, np.ndarray):
            return read
        with read:
            names = loaded.measured.task.inputs
            wanted = (names,) if isinstance(names, str) else names
            missing = [name for name in wanted if name not in read]
            if missing:
                raise DataError(f"has no array {missing[0]!r}; it has {', '.join(read)}")
            arrays = tuple(read[name] for name in wanted)
            return arrays[0] if isinstance(names, str) else arrays
    except DataError:
        raise
    except (OSError, ValueError, EOFError, MemoryError) as error:  # a header may say anything
        raise DataError(
            getattr(error, "strerror", None) or "not a NumPy file of numbers"
        ) from error


def _as_the_data(loaded: LoadedRun, source: Path) -> np.ndarray:
    """Rows out of a file of the kind that the data of the run were read from."""
    dataset = chosen_data(loaded.config)
    chosen = loaded.config.data
    data = chosen.name or chosen.function
    if dataset.read is None:
        raise DataError(f"give the rows as .npy or .npz; data {data!r} reads no such files")
    same = Known.of(dataset) == loaded.known._replace(contents=())  # other rows may be read alike
    if same and dataset.fitted:
        same = not changes(loaded.known.contents, contents_of(dataset))
    if not same:
        changed = f"data {data!r} are no longer those that the run was trained on"
        raise DataError(f"{changed}, and would be read otherwise: give the rows as .npy or .npz")
    return dataset.read(source)


def _lines(loaded: LoadedRun, outputs: PyTree) -> Iterator[dict[str, Any]]:
    """For each row the class and its probability, or the numbers."""
    y = outputs if isinstance(outputs, np.ndarray) else np.zeros((1, 1, 1))
    if y.ndim > 2:
        found = f"{y.dtype} {y.shape}" if y is outputs else "several arrays"
        raise ConfigError([f"--out: outputs of {found} fit in no line; take --out FILE.npy"])
    classes, labels = loaded.known.classes, loaded.known.labels
    if classes is not None and y.ndim == 2 and y.shape[1] == classes:
        wide = y.astype(np.float64)
        shares = np.exp(wide - wide.max(axis=1, keepdims=True))  # (N, C)
        shares = shares / shares.sum(axis=1, keepdims=True)
        for row in shares:
            best = int(row.argmax())
            yield {"prediction": labels[best] if labels else best, "probability": float(row[best])}
    else:
        flat = y.reshape(len(y), -1)  # (N, K)
        names = ["prediction"] if flat.shape[1] == 1 else [f"y{i}" for i in range(flat.shape[1])]
        yield from (dict(zip(names, row.tolist(), strict=True)) for row in flat)


def _csv_text(lines: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _json_text(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(plain(line)) + "\n" for line in lines)


def _save(out: str | os.PathLike[str], outputs: PyTree) -> None:
    if not isinstance(outputs, np.ndarray):
        message = "the model returns several arrays; load_run(...).predict(x) gives them"
        raise ConfigError([f"--out {out}: {message}"])
    with in_place_of(Path(out)) as unfinished, unfinished.open("wb") as file:
        np.save(file, outputs, allow_pickle=False)
