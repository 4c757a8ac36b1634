"""A table that comes with scikit-learn: 178 wines."""

from __future__ import annotations

from funcnn.data.dataset import Dataset
from funcnn.data.tables import bundled_table


def wine(
    standardise: bool = False,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """178 wines, 13 measurements of each: `x` float32 (N, 13), `y` int32 (N,), the three growers.

    The splits are drawn by `seed`, each class in its share. With `standardise` each column has
    mean 0 and standard deviation 1 in the training rows, and is moved and scaled in the others as
    there.

    >>> data = wine(standardise=True)
    >>> data.train.x.shape, data.test.x.shape, data.classes
    ((142, 13), (36, 13), 3)
    """
    return bundled_table("wine", standardise, seed, test_fraction, validation_fraction)
