"""Strict settings for every test: no silent promotion of ranks or dtypes, warnings are errors."""

import os

import pytest

# Before JAX starts: the tests measure the CPU unless somebody asks for the GPU ones.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax


@pytest.fixture(autouse=True)
def strict_jax():
    """Rank promotion raises and dtype promotion is strict while a test runs."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def key():
    """One fixed key; a test that needs several splits it."""
    return jax.random.key(0)
