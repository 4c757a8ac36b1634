"""Strict settings for every test: no silent promotion of ranks or dtypes, warnings are errors."""

import os

import pytest


def pytest_configure(config):
    """Before JAX starts: the tests look at the CPU, unless somebody asks for `-m gpu`."""
    if config.option.markexpr != "gpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        # The checks under shard_map need two devices.
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
    os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def strict_jax():
    """Rank promotion raises and dtype promotion is strict while a test runs."""
    import jax

    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def key():
    """One fixed key; a test that needs several splits it."""
    import jax

    return jax.random.key(0)
