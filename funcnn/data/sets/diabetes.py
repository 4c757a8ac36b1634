"""A table that comes with scikit-learn: 442 patients."""

from __future__ import annotations

from funcnn.data.dataset import Dataset
from funcnn.data.tables import bundled_table


def diabetes(
    standardise: bool = False,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """442 patients, 10 measurements of each: `x` float32 (N, 10), `y` float32 (N,), how far their
    disease went in a year, from 25 to 346.

    The splits are drawn by `seed`. With `standardise` each column has mean
    0 and standard deviation 1 in the training rows, and is moved and scaled in the others as there.

    >>> data = diabetes(standardise=True)
    >>> data.train.x.shape, data.test.x.shape, data.classes
    ((353, 10), (89, 10), None)
    """
    return bundled_table("diabetes", standardise, seed, test_fraction, validation_fraction)
