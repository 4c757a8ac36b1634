"""The manifest of a checkpoint: its leaves, and a digest of every leaf, every file and itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, of another model, or could not be written.

    >>> issubclass(CheckpointError, ValueError)
    True
    """


class DamagedCheckpoint(CheckpointError):
    """A checkpoint that is not what was saved; the one before it may be whole.

    >>> issubclass(DamagedCheckpoint, CheckpointError)
    True
    """


class Manifest(NamedTuple):
    """What is known of a checkpoint beside its arrays.

    Fields: `leaves`, the shape and dtype of each by its name, as text; `record`, the metrics of
    its step where they were still to be logged, else None; `files`, the SHA-256 of each by its path
    in the checkpoint; `digests`, those of the leaves that have one, which in a checkpoint of an
    earlier version are none.
    """

    leaves: dict[str, str]
    record: dict[str, Any] | None
    files: dict[str, str]
    digests: dict[str, str]


def write_manifest(
    path: Path,
    leaves: dict[str, str],
    record: dict[str, Any] | None,
    digests: dict[str, str] | None = None,
) -> None:
    """Write the manifest of the files below `path`, flushed to disk.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp())
    >>> _ = (path / "w").write_text("1.0")
    >>> write_manifest(path, {"w": "float32[]"}, None)
    >>> read_manifest(path).leaves
    {'w': 'float32[]'}
    """
    files = {name: _digest(path / name) for name in _files(path)}
    content = {"leaves": leaves, "record": record, "files": files, "digests": digests or {}}
    with (path / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({**content, "manifest": digest_of(content)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(path: Path) -> Manifest:
    """The manifest of a checkpoint; its files are `changed_files`' to look at.

    Raises DamagedCheckpoint where it is missing or is none; CheckpointError where it may not be
    read.

    >>> read_manifest(Path("no/checkpoint"))
    Traceback (most recent call last):
    funcnn.train.manifest.DamagedCheckpoint: no/checkpoint is damaged: its manifest.json is ...
    """
    with _reading(path):
        content = _parsed(path)
    if content is None:
        raise DamagedCheckpoint(f"{path} is damaged: its {MANIFEST} is missing or changed")
    digests = content.get("digests", {})
    return Manifest(content["leaves"], content["record"], content["files"], digests)


def changed_files(path: Path, files: dict[str, str]) -> list[str]:
    """A phrase for each file of a checkpoint that is missing, changed or new, by their SHA-256.

    Raises CheckpointError where one may not be read.

    >>> changed_files(Path("no/checkpoint"), {"state/d/0": ""})
    ['file state/d/0 is missing']
    """
    with _reading(path):
        there = _files(path)
        phrases = [f"file {name} is missing" for name in files if name not in there]
        phrases += [
            f"file {name} has changed since it was saved"
            for name, digest in files.items()
            if name in there and _digest(path / name) != digest
        ]
    # Systems and file browsers leave files of their own, whose names begin with a dot.
    new = [name for name in there if name not in files and not Path(name).name.startswith(".")]
    return phrases + [f"its {MANIFEST} does not name {name}" for name in new]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error.strerror}") from error


def _parsed(path: Path) -> dict[str, Any] | None:
    """What the manifest says, None where it is not as `write_manifest` writes it."""
    try:
        content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        intact = content.pop("manifest") == digest_of(content)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    leaves, files = content.get("leaves"), content.get("files")
    record, digests = content.get("record", 0), content.get("digests", {})
    right = intact and _texts(leaves) and _texts(files) and files and _texts(digests)
    return content if right and (record is None or isinstance(record, dict)) else None


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _files(path: Path) -> list[str]:
    names = (str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    return sorted(name for name in names if name != MANIFEST)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: dict[str, Any]) -> str:
    """The SHA-256 of what a JSON file says, whatever the order of its names.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
