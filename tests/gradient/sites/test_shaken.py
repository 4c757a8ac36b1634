"""What moves under a shake as a kink does, and what only moves."""

import numpy as np

from funcnn.gradient.sites.shaken import smooth_elements


def test_a_jump_is_large_beside_itself_and_beside_the_whole():
    truth = np.array([1.0, 1e-9, 0.0, np.nan])
    shaken = np.array([1.0 + 1e-5, 2e-9, 1.0, np.nan])
    assert smooth_elements(truth, shaken).tolist() == [True, True, False, True]
