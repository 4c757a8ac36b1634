"""The run that nobody disturbs, once for all tests of faults in a process."""

from pathlib import Path
from typing import NamedTuple

import pytest


class Straight(NamedTuple):
    """Its config, its folder, and a state to restore into."""

    config: Path
    folder: Path
    state: object


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    """JAX is imported here, and not as this file is read: see the conftest.py of all tests."""
    from faulty_runs import command, like, write_config

    from funcnn.cli import main

    place = tmp_path_factory.mktemp("straight")
    config = write_config(place)
    assert main(command(config, place / "run")) == 0
    return Straight(config, place / "run", like(config))
