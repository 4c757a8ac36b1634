"""What a config describes, and that several steps a call are the same steps."""

from pathlib import Path

import jax
import numpy as np
import pytest
from idx_folder import write_idx_folder

from funcnn.config import ConfigError, dump_config, load_config
from funcnn.experiment import build_experiment
from funcnn.train import fit, make_step

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("name", ["digits_mlp", pytest.param("digits_cnn", marks=pytest.mark.slow)])
def test_steps_per_call_1_and_8_end_in_equal_bits(name):
    experiment = build_experiment(load_config(CONFIGS / f"{name}.toml"))
    finals = {}
    for steps_per_call in (1, 8):
        # Without a guard, whose choice between two states a loop may fuse otherwise, to rounding.
        step = make_step(experiment.loss, experiment.optimizer, steps_per_call=steps_per_call)
        state = experiment.first_state()._replace(health={})
        state, _ = fit(step, state, experiment.batches(), steps=27)
        finals[steps_per_call] = jax.tree.map(np.asarray, state)
    start = jax.tree.leaves(experiment.params)
    for one, eight in zip(*map(jax.tree.leaves, finals.values()), strict=True):
        np.testing.assert_array_equal(one, eight)
    moved = [np.any(a != b) for a, b in zip(jax.tree.leaves(finals[8].params), start, strict=True)]
    assert all(moved)


def test_the_seed_decides_split_and_parameters():
    one, again, other = (
        build_experiment(load_config(CONFIGS / "digits_mlp.toml", [f"run.seed={seed}"]))
        for seed in (1, 1, 2)
    )
    w = [e.params["dense_0"]["w"] for e in (one, again, other)]
    assert np.array_equal(w[0], w[1])
    assert not np.array_equal(w[0], w[2])
    assert np.array_equal(one.dataset.test.x, again.dataset.test.x)
    assert not np.array_equal(one.dataset.test.x, other.dataset.test.x)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "logistic", "squared_error"])
def test_every_loss_trains(loss):
    overrides = [f"loss.name={loss}", "loss.options={}"]
    experiment = build_experiment(load_config(CONFIGS / "digits_mlp.toml", overrides))
    step = experiment.step(20)
    _, history = fit(step, experiment.first_state(), experiment.batches(), steps=200, log_every=20)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["accuracy"] > 0.8


def test_relative_data_is_found_beside_the_config(tmp_path, monkeypatch):
    config, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (config, elsewhere):
        folder.mkdir()
    (config / "own.toml").write_text(
        '[model]\nname = "mlp"\noptions = {hidden = []}\n[data]\nname = "idx"\npath = "tiny"'
    )
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ConfigError) as caught:
        build_experiment(load_config(config / "own.toml"))
    message = f"no such file or folder in {elsewhere} or in {config}"
    assert str(caught.value) == f"data.path = 'tiny': {message}"
    write_idx_folder(config / "tiny")
    resolved = load_config(config / "own.toml")
    assert len(build_experiment(resolved).dataset.train.y) == 60
    # From a third folder a run finds it by the config that the run keeps.
    (elsewhere / "run.toml").write_text(dump_config(resolved))
    monkeypatch.chdir(tmp_path)
    assert len(build_experiment(load_config(elsewhere / "run.toml")).dataset.train.y) == 60
    # The current folder comes first.
    write_idx_folder(tmp_path / "tiny", train=70)
    assert len(build_experiment(load_config(config / "own.toml")).dataset.train.y) == 70
