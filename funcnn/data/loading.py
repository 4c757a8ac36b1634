"""A data set by its name, as a config has it."""

from pathlib import Path

from funcnn.data.dataset import DataError, Dataset, check_finite
from funcnn.names import files, named, parameters
from funcnn.spelling import did_you_mean

SETS = "funcnn.data.sets"


def load(
    name: str,
    *,
    path: str | Path | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    classes: int | None = None,
) -> Dataset:
    """A data set by name: "digits", or "idx" with the folder as `path`.

    `test_fraction` matters for a folder with one pair of files only. `classes`: how many the model
    tells apart; a label beyond them is an error. Raises `DataError`, one line.

    >>> load("digits", seed=1).test.y.shape
    (360,)
    """
    known = files(SETS)
    if name not in known:
        hint = did_you_mean(name, known, quote='"')
        raise DataError(f'unknown data "{name}"{hint}; known: {", ".join(known)}')
    takes = parameters(SETS, name)
    if (path is None) == ("path" in takes):
        need = "needs a path, the folder of its files" if path is None else "takes no path"
        raise DataError(f'data "{name}" {need}')
    given = {"path": path, "test_fraction": test_fraction, "seed": seed, "classes": classes}
    dataset: Dataset = named(SETS, name)(**{n: given[n] for n in takes})
    if "classes" not in takes and classes is not None and classes < dataset.classes:
        raise DataError(f'data "{name}" has {dataset.classes} classes, the model {classes}')
    check_finite(dataset)
    return dataset
