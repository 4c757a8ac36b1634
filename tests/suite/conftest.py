"""The suite of somebody's that `pytest --gradients` is tried on is none of this package's."""

collect_ignore = ["project"]
