"""funcnn init: a commented config to begin with."""

from __future__ import annotations

import json
from pathlib import Path

from funcnn.commands.target import check_writable
from funcnn.config import ConfigError, check_known
from funcnn.report.files import in_place_of

_PACKAGE = Path(__file__).parent.parent
# In an installed package they lie inside it, in a checkout beside it.
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def init(name: str | None, *, out: str | None = None, as_json: bool = False) -> int:
    """Write one of the package's configs into a file, or list them where no name is given.

    Raises:
        ConfigError: there is no such config, or the file is there already or cannot be written.
    """
    texts = configs()
    if name is None:
        for known, text in texts.items():
            about = text.partition("\n")[0].removeprefix("# ")
            print(json.dumps({"name": known, "about": about}) if as_json else f"{known}: {about}")
        return 0
    check_known("init", name, list(texts))
    path = Path(out or f"{name}.toml")
    if path.exists():
        raise ConfigError([f"{path}: is there already; take another file with --out"])
    check_writable("--out", str(path))
    with in_place_of(path) as unfinished:
        # The first lines say how it is called.
        unfinished.write_text(texts[name].replace(f"configs/{name}.toml", str(path)), "utf-8")
    print(json.dumps({"file": str(path)}) if as_json else f"{path}: funcnn train {path}")
    return 0


def configs() -> dict[str, str]:
    """The package's configs by name, as text.

    >>> "digits_mlp" in configs()
    True
    """
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.toml"))}
