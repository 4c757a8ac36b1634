"""What a source says of a bad input."""

import pytest

from funcnn.data import DataError


def told(call, *args, **keywords):
    """The one line of the `DataError` that a call raises."""
    with pytest.raises(DataError) as caught:
        call(*args, **keywords)
    text = str(caught.value)
    assert "\n" not in text
    return text
