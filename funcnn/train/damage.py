"""What of a checkpoint is damaged: which of its files, and which leaves that hits."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from funcnn.train.digests import changed_leaves
from funcnn.train.manifest import (
    CheckpointError,
    DamagedCheckpoint,
    Manifest,
    changed_files,
    read_manifest,
)
from funcnn.train.signature import first_of
from funcnn.train.storage import read_leaves

_NAMED = 3  # leaves, in a message


class Damage(NamedTuple):
    """What is wrong with a checkpoint; nothing is where both are empty.

    Fields: `files`, a phrase for each file that is missing, changed or new; `leaves`, the names of
    those that cannot be read or are not what was saved; `of`, how many leaves there are.

    >>> str(Damage(["file state/d/0 is missing"], ["params/w"], 4))
    'file state/d/0 is missing; 1 of 4 leaves hit: params/w'
    >>> str(Damage([], [], 4))
    ''
    """

    files: list[str]
    leaves: list[str]
    of: int

    def __str__(self) -> str:
        if not (self.files or self.leaves):
            return ""
        more = len(self.leaves) - _NAMED
        names = ", ".join(self.leaves[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        hit = f"{len(self.leaves)} of {self.of} leaves hit" + (f": {names}" if names else "")
        return f"{first_of(self.files)}; {hit}" if self.files else hit


def damage_of(path: Path) -> Damage:
    """Every file and every leaf of a checkpoint, looked at.

    Raises CheckpointError where its manifest is damaged, so that nothing is known of the rest, or
    where a file, or no leaf at all of files that are whole, can be read.

    >>> damage_of(Path("no/checkpoint"))
    Traceback (most recent call last):
    funcnn.train.manifest.DamagedCheckpoint: no/checkpoint is damaged: its manifest.json is ...
    """
    manifest = read_manifest(path)
    return _damage(path, manifest, changed_files(path, manifest.files))


def whole_manifest(path: Path) -> Manifest:
    """The manifest of a checkpoint, once every file has been found unchanged.

    The leaves are not read, but where a file has changed: to say which of them that hits.

    Raises DamagedCheckpoint, naming file and leaves; CheckpointError where a file may not be read.

    >>> whole_manifest(Path("no/checkpoint"))
    Traceback (most recent call last):
    funcnn.train.manifest.DamagedCheckpoint: no/checkpoint is damaged: its manifest.json is ...
    """
    manifest = read_manifest(path)
    files = changed_files(path, manifest.files)
    if files:
        raise DamagedCheckpoint(f"{path} is damaged: {_damage(path, manifest, files)}")
    return manifest


def _damage(path: Path, manifest: Manifest, files: list[str]) -> Damage:
    try:
        found = read_leaves(path, manifest.leaves)
    except CheckpointError:
        if not files:
            raise
        found = {}
    changed = changed_leaves(found, manifest.digests)
    hit = [name for name in manifest.leaves if name in changed or name not in found]
    return Damage(files, hit, len(manifest.leaves))
