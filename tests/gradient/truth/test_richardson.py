"""The error bar of differences covers their error, and is no larger than it need be."""

import numpy as np
import pytest

from funcnn.gradient.truth.richardson import extrapolated, steps_from


@pytest.mark.parametrize("halvings", [1, 2, 3, 4])
def test_the_change_of_the_last_column_covers_the_error(halvings):
    slopes = [(np.exp(h) - np.exp(-h)) / (2 * h) for h in steps_from(1.0, halvings)]
    value, change = extrapolated(slopes)
    error = abs(value - 1)
    assert 0 < error < change < 1e4 * error
