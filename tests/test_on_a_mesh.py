"""funcnn train on a [mesh] of one process: what it says at its start, and what cannot be."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from funcnn.cli import main
from funcnn.commands.announcing import mesh_lines
from funcnn.train import Placement, make_mesh

CONFIG = """
[mesh]
{mesh}
[model]
name = "mlp"
options = {{hidden = [16]}}
[train]
steps = 2
steps_per_call = 1
log_every = 1
"""


@pytest.fixture
def told(tmp_path, capsys):
    """The exit code and the lines on stderr of a training on a mesh."""

    def run(mesh, *more):
        path = tmp_path / "run.toml"
        path.write_text(CONFIG.format(mesh=mesh))
        code = main(["train", str(path), "--out", str(tmp_path / "run"), *more])
        return code, capsys.readouterr().err.splitlines()

    return run


def test_a_run_says_its_devices_and_how_many_arrays_are_cut(told):
    code, lines = told("data = 4\nfsdp = 2")
    assert code == 0, lines
    at = lines.index("mesh: 8 devices, data 4 x fsdp 2")
    assert lines[at - 1].startswith("device: ")
    assert lines[at + 1] == "params: 2 of 4 arrays cut, 2 along fsdp"


def test_arrays_are_counted_by_the_axes_along_which_they_are_cut():
    params = {"a": {"w": np.ones((4, 4))}, "b": {"w": np.ones((4, 4)), "b": np.ones(3)}}
    placement = Placement(
        make_mesh(data=1, fsdp=4, tensor=2), {"a/w": ["fsdp", "tensor"], "b/*": ["tensor"]}
    )
    assert placement.of_params(params)["b"]["b"].spec == P(None)
    assert mesh_lines(placement, params) == [
        "mesh: 8 devices, fsdp 4 x tensor 2",
        "params: 2 of 3 arrays cut, 1 along fsdp and tensor, 1 along tensor",
    ]


CUT = "funcnn: mesh.tensor = 2 would cut nothing: say in sharding (train.sharding of a config) "
FITS = "are 16 devices, and there are 8; --set mesh.data=-1 takes those; [mesh] may be another one "


@pytest.mark.parametrize(
    ("mesh", "change", "wanted"),
    [
        ("tensor = 2", [], CUT),
        (
            "tensor = 2",
            ["--set", "train.sharding.dens=['tensor']"],
            "funcnn: train.sharding: the p",
        ),
        ("data = 16", [], FITS),
        ("fsdp = 3", [], "and there are 8; [mesh] may be another one when a run is resumed"),
        ("fsdp = -1", [], "mesh: data and fsdp are both -1, and only one can be the rest"),
    ],
)
def test_a_mesh_that_cannot_be_is_one_line(told, tmp_path, mesh, change, wanted):
    code, lines = told(mesh, *change)
    assert code == 2
    assert len(lines) == 1
    assert wanted in lines[0]
    assert not (tmp_path / "run").exists()
    assert jax.device_count() == 8
