"""A table that comes with scikit-learn: 569 tumours."""

from __future__ import annotations

from funcnn.data.dataset import Dataset
from funcnn.data.tables import bundled_table


def breast_cancer(
    standardise: bool = False,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """569 tumours, 30 measurements of each: `x` float32 (N, 30), `y` int32 (N,), malignant or
    benign.

    The splits are drawn by `seed`, each class in its share. With `standardise` each column has
    mean 0 and standard deviation 1 in the training rows, and is moved and scaled in the others as
    there.

    >>> data = breast_cancer(standardise=True)
    >>> data.train.x.shape, data.test.x.shape, data.classes
    ((455, 30), (114, 30), 2)
    """
    return bundled_table("breast_cancer", standardise, seed, test_fraction, validation_fraction)
