"""Each config of the package that needs no data of one's own trains to a figure."""

import json
from pathlib import Path

import pytest

from funcnn.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
# The figure of the test split, and what it must reach: that of seed 0 (autoencoder 0.017, vae 22.9,
# unet 0.94, diabetes 0.33, text 2.47 on jax 0.10.2 and Python 3.11), less a margin for other
# processors and versions of JAX, and of Python, whose sources are the text.
REACHED = {
    "digits_mlp": ("accuracy", 0.95),
    "digits_cnn": ("accuracy", 0.975),
    "digits_resnet18": ("accuracy", 0.96),
    "digits_vit": ("accuracy", 0.95),
    "digits_autoencoder": ("mse", 0.02),
    "digits_vae": ("loss", 24.0),
    "digits_unet": ("accuracy", 0.9),
    "diabetes_mlp": ("r2", 0.25),
    "python_char_rnn": ("bits_per_character", 2.8),
}
LESS_IS_BETTER = ("mse", "loss", "bits_per_character")


MINUTES = ("digits_resnet18", "digits_vit")  # of training


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.battery if n in MINUTES else pytest.mark.slow)
        for n in REACHED
    ],
)
def test_a_config_reaches_its_figure(name, tmp_path, capsys):
    out = ["--out", str(tmp_path / "run"), "--json"]
    assert main(["train", str(CONFIGS / f"{name}.toml"), *out]) == 0
    figure, wanted = REACHED[name]
    reached = json.loads(capsys.readouterr().out)[f"test_{figure}"]
    assert reached < wanted if figure in LESS_IS_BETTER else reached > wanted, reached


def test_no_config_is_left_out():
    own_data = {"mnist_cnn", "gpt_shakespeare"}
    of_minutes = {"gpt_char"}  # which is in the setting of gpt_shakespeare
    of_gpus = {"gpt2_124m", "gpt2_350m", "gpt2_1558m", "llama_1b"}  # compiled in tests/plan
    names = {path.stem for path in CONFIGS.glob("*.toml")}
    assert names == REACHED.keys() | own_data | of_minutes | of_gpus
