"""funcnn export: the model of a run as a file for other programs."""

from __future__ import annotations

import json
from pathlib import Path

from funcnn.commands.platform import choose_platform
from funcnn.commands.streams import warn
from funcnn.commands.target import check_writable
from funcnn.config import ConfigError
from funcnn.core.errors import first_line
from funcnn.exchange.onnx.export import export_onnx
from funcnn.exchange.stablehlo import export_stablehlo
from funcnn.exchange.weights import save_weights
from funcnn.runs.folder import RunFolder
from funcnn.runs.loaded import LoadedRun, loaded_from


def export(
    run: str, form: str, *, out: str | None, foreign: bool = True, as_json: bool = False
) -> int:
    """Write weights, or the prediction as a program, and say where.

    Args:
        run: the folder of the run.
        form: "safetensors", the params by name; "stablehlo" or "onnx", x -> outputs, with the
            weights inside and any number of rows.
        out: the file; model.{form} in the folder of the run.
        foreign: whether a function that the config of the run names may be imported.
        as_json: one JSON object.

    Raises:
        ConfigError: no such run, a file that cannot be written, or a model that has no such form.
    """
    folder = RunFolder(run)
    config = folder.read(foreign=foreign)
    path = Path(out) if out is not None else folder.path / f"model.{form}"
    check_writable("--out", str(path))
    choose_platform(config.run.platform)
    loaded = loaded_from(folder, warn, foreign=foreign)
    try:
        _write(path, form, loaded)
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise ConfigError([first_line(error)]) from error
    if as_json:
        print(json.dumps({"format": form, "file": str(path), "step": loaded.step}))
    else:
        print(f"{path}: step {loaded.step} of {run}")
    return 0


def _write(path: Path, form: str, loaded: LoadedRun) -> None:
    if form == "safetensors":
        save_weights(path, loaded.params)
        return
    write = export_stablehlo if form == "stablehlo" else export_onnx
    write(path, loaded.measured.predict, loaded.params, loaded.inputs)
