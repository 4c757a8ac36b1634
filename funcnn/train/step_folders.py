"""The folders that checkpoints lie in, one a step: each is there whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from funcnn.report.files import take_the_place
from funcnn.train.storage import sync

UNFINISHED = "unfinished-"


class StepFolders:
    """The folders `step_00000100` of a folder, and how they come and go.

    What is written has another name, and gets its own when it is complete; what is removed loses
    its own first. `warn` is given one line where a folder cannot be removed.

    >>> import tempfile
    >>> folders = StepFolders(Path(tempfile.mkdtemp()), print)
    >>> folders.unfinished(100).mkdir()
    >>> folders.steps()
    []
    >>> folders.publish(100)
    >>> folders.steps(), folders.of(100).name
    ([100], 'step_00000100')
    """

    def __init__(self, folder: Path, warn: Callable[[str], Any]):
        self.folder = folder
        self._warn = warn
        self._warned: set[str] = set()

    def of(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / f"step_{step:08d}"

    def unfinished(self, step: int) -> Path:
        """The folder to write a step to."""
        return self.folder / f"{UNFINISHED}{step:08d}"

    def steps(self) -> list[int]:
        """The steps whose folders are there, in increasing order."""
        names = [path.name for path in self.folder.glob("step_*") if path.is_dir()]
        steps = [int(name[5:]) for name in names if name[5:].isdecimal()]
        return sorted(step for step in steps if self.of(step).name in names)

    def publish(self, step: int) -> None:
        """Give what has been written its own name, flushed to disk.

        Where that fails there is what was there before.
        """
        # The same step may be there, from a run that went on from an earlier one.
        replaced = self.folder / f"{UNFINISHED}replaced"
        take_the_place(self.unfinished(step), self.of(step), replaced)
        if replaced.exists():
            self._remove(replaced)
        sync(self.folder)

    def set_aside(self, steps: Iterable[int]) -> None:
        """Keep damaged ones as `damaged-00000100`."""
        for step in sorted(steps):
            aside = self.folder / f"damaged-{step:08d}"
            if aside.exists():
                shutil.rmtree(aside)
            self.of(step).rename(aside)

    def remove_unfinished(self) -> None:
        """Remove what saves have left that failed or were killed."""
        for leftover in self.folder.glob(f"{UNFINISHED}*"):
            self._remove(leftover)

    def remove(self, step: int) -> None:
        """Remove a folder that nothing needs any more; a warning, once, where that fails."""
        self._remove(self.of(step))

    def _remove(self, path: Path) -> None:
        removed = path.with_name(f"{UNFINISHED}removed-{path.name}")
        try:
            # Half of a checkpoint must not have the name of a whole one.
            if not path.name.startswith(UNFINISHED):
                path = path.rename(removed)
            shutil.rmtree(path)
        except OSError as error:
            if path.name not in self._warned:
                self._warned.add(path.name)
                self._warn(f"could not remove {path}, which is not needed: {error.strerror}")
