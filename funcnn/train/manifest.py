"""The manifest of a checkpoint: its leaves, and a digest of every file and of itself."""

from __future__ import annotations

import hashlib
import json
import os
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
    its step where they were still to be logged, else None.
    """

    leaves: dict[str, str]
    record: dict[str, Any] | None


def write_manifest(path: Path, leaves: dict[str, str], record: dict[str, Any] | None) -> None:
    """Write the manifest of the files below `path`, flushed to disk.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp())
    >>> _ = (path / "w").write_text("1.0")
    >>> write_manifest(path, {"w": "float32[]"}, None)
    >>> read_manifest(path).leaves
    {'w': 'float32[]'}
    """
    files = {name: _digest(path / name) for name in _files(path)}
    content = {"leaves": leaves, "record": record, "files": files}
    with (path / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({**content, "manifest": digest_of(content)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(path: Path, *, check_files: bool = True) -> Manifest:
    """The manifest of a checkpoint, once every file has been found unchanged.

    Raises DamagedCheckpoint where a file is missing, new or changed, or the manifest is not one;
    CheckpointError where it may not be read.

    >>> read_manifest(Path("no/checkpoint"))
    Traceback (most recent call last):
    funcnn.train.manifest.DamagedCheckpoint: no/checkpoint is damaged: its manifest.json is ...
    """
    try:
        content = _parsed(path)
        if content is None:
            raise DamagedCheckpoint(f"{path} is damaged: its {MANIFEST} is missing or changed")
        if check_files:
            _check_files(path, content["files"])
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error.strerror}") from error
    return Manifest(content["leaves"], content["record"])


def _check_files(path: Path, digests: dict[str, str]) -> None:
    there = _files(path)
    for name, digest in digests.items():
        if name not in there:
            raise DamagedCheckpoint(f"{path} is damaged: file {name} is missing")
        if _digest(path / name) != digest:
            raise DamagedCheckpoint(
                f"{path} is damaged: file {name} has changed since it was saved"
            )
    # Systems and file browsers leave files of their own, whose names begin with a dot.
    new = [name for name in there if name not in digests and not Path(name).name.startswith(".")]
    if new:
        raise DamagedCheckpoint(f"{path} is damaged: its {MANIFEST} does not name {new[0]}")


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
    record = content.get("record", 0)
    right = intact and _texts(leaves) and _texts(files) and files
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
