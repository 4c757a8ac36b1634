"""The configs of transformers: what their steps keep on an H200 that is not there."""

from pathlib import Path

import jax
import pytest

from funcnn.bench.absent import missing_wheels
from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.plan.chips import CHIPS
from funcnn.plan.planning import plan

CONFIGS = Path(__file__).parents[2] / "configs"
# Millions of params, and the most temporary bytes of a step, in 10⁹.
SIZES = {
    "gpt2_124m": (124.5, 8.0),
    "gpt2_350m": (354.9, 12.0),
    "gpt2_1558m": (1557.7, 20.5),
    "llama_1b": (1235.8, 30.0),
}


def experiment_of(name):
    # Less text than there is; the shapes are the same.
    overrides = ["data.options.limit=2000000"]
    return build_experiment(load_config(CONFIGS / f"{name}.toml", overrides), draw=False)


@pytest.mark.parametrize("name", SIZES)
def test_a_config_is_of_its_size(name):
    experiment = experiment_of(name)
    params = sum(p.size for p in jax.tree.leaves(experiment.params))
    assert params / 1e6 == pytest.approx(SIZES[name][0], abs=0.1)


@pytest.mark.parametrize("name", SIZES)
def test_a_config_fits_on_an_absent_gpu(name):
    if reason := missing_wheels():
        pytest.skip(reason)
    found = plan(experiment_of(name), CHIPS["h200"], 1)
    assert found.fits
    assert found.memory.temporary < SIZES[name][1] * 1e9
