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
    compile_little(config)


def compile_little(config):
    """Most of the suite's time is XLA's: let it optimise little, and keep what it compiled.

    Two workers share the programs, and so does the next run; the key of a program in the cache
    holds its text, the compiler's version and its options.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    if config.pluginmanager.hasplugin("cacheprovider"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("xla")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Compiled programs live as long as their module's tests, or a worker grows to gigabytes."""
    import jax

    yield
    jax.clear_caches()


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
