"""The process keeps what is freed: seen in a process of its own, since it cannot be taken back."""

import subprocess
import sys

import pytest

from funcnn.train import memory

# 64 MB are taken, written and freed; what of them the process still holds is printed.
PROGRAM = """
import ctypes, sys
from funcnn.train.memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("refused")
c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
before = resident()
block = c.malloc(64_000_000)
ctypes.memset(block, 1, 64_000_000)
c.free(block)
print(resident() - before)
"""


def still_held(mode):
    command = [sys.executable, "-c", PROGRAM, mode]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "refused" in found.stderr:
        pytest.skip("the C library here has no mallopt")
    assert found.returncode == 0, found.stderr
    return int(found.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux is told")
def test_freed_memory_stays_with_the_process():
    assert still_held("keep") > 60_000_000
    assert still_held("plain") < 10_000_000  # without it, the same program gives it back


def test_other_systems_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
