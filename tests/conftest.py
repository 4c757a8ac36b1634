"""Strict settings for every test: no silent promotion of ranks or dtypes, warnings are errors."""

import pytest


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
