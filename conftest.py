"""How every test runs, the examples in docstrings included: on which devices, how compiled."""

import ctypes
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Most of the suite's time is XLA's, and most of that is the optimising of programs that run once.
# Whoever sets XLA_FLAGS, to nothing even, has the programs compiled as he says.
QUICKLY = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")


def pytest_configure(config):
    """Before JAX starts: the tests look at the CPU, unless somebody asks for `-m gpu`."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    # The workers have the environment of the process that starts them.
    if hasattr(config, "workerinput") or config.option.markexpr == "gpu":
        return
    os.environ["JAX_PLATFORMS"] = "cpu"
    # What runs on many devices is tested on 1, 2 and 8.
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
    if "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = " ".join(filter(is_known, QUICKLY))
    keep_programs(config)


def pytest_sessionstart(session):
    """A rule, or a model, and its file share a name, and the rooms show the former.

    Without these imports pytest would put the file there as it collects the examples.
    """
    importlib.import_module("funcnn.rules")
    importlib.import_module("funcnn.layers")
    importlib.import_module("funcnn.models")
    importlib.import_module("funcnn.augment")


@pytest.hookimpl(tryfirst=True)  # before those of another marker are left out
def pytest_collection_modifyitems(items):
    """The tests of two lists have their markers: those that took long, and those of faults."""
    tests = Path(__file__).parent / "tests"
    listed, table = tests / "long_tests.txt", tests / "faults" / "README.md"
    lists = [path.read_text("utf-8") if path.exists() else "" for path in (listed, table)]
    long, faults = set(lists[0].splitlines()), set(re.findall(r"tests/[\w/]+\.py::\w+", lists[1]))
    for item in items:
        if item.nodeid in long:
            item.add_marker("long")
        if item.nodeid.partition("[")[0] in faults:
            item.add_marker("faults")


def is_known(flag):
    """Whether this XLA knows a flag: a process ends at one that it does not know."""
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    environment = os.environ | {"XLA_FLAGS": flag}
    return not subprocess.run(command, env=environment, capture_output=True).returncode


def keep_programs(config):
    """The workers share what they compiled, and the next run has it, too.

    A program's key in the cache is made of its text, the compiler's version and its options.
    """
    if config.pluginmanager.hasplugin("cacheprovider"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("xla")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        # As in pyproject.toml, for the programs that tests start: what they say is looked at.
        unread = "ignore:Error reading persistent compilation cache entry"
        os.environ.setdefault("PYTHONWARNINGS", unread)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Compiled programs live as long as their module's tests, or a worker grows to gigabytes."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        give_back_memory()


def give_back_memory():
    """What is free goes back to the system: glibc, where it is, keeps two thirds of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
