"""The devices that the compiler is told of: described and absent, or the CPU's own."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, NamedTuple

import jax

from funcnn.bench.absent import described_devices, missing_wheels
from funcnn.config import ConfigError
from funcnn.core.errors import first_line
from funcnn.plan.chips import Chip


class Devices(NamedTuple):
    """Devices in the order of their nodes.

    Attributes:
        all: the devices.
        per_node: how many stand in each node.
    """

    all: list[Any]
    per_node: int

    @property
    def nodes(self) -> int:
        """How many nodes there are.

        >>> Devices([None] * 16, 8).nodes
        2
        """
        return len(self.all) // self.per_node


def devices_of(chip: Chip, count: int) -> Devices:
    """So many devices of a chip, in full nodes as far as their number divides.

    Raises:
        ConfigError: what compiles for the chip is not installed, or knows no such number.

    >>> from funcnn.plan.chips import CHIPS
    >>> devices_of(CHIPS["cpu"], 1).per_node
    1
    """
    per_node = next(n for n in range(min(count, chip.per_node), 0, -1) if count % n == 0)
    made = {"cuda": _gpus, "tpu": _tpus, "cpu": _cpus}[chip.platform]
    return Devices(made(chip, count, per_node), per_node)


def _gpus(chip: Chip, count: int, per_node: int) -> list[Any]:
    if reason := missing_wheels():
        raise ConfigError([f"--device {chip.name}: {reason}"])
    return described_devices(chip.name, count // per_node, per_node)


def _tpus(chip: Chip, count: int, per_node: int) -> list[Any]:
    from jax.experimental import topologies

    where = f"--device {chip.name}"
    if importlib.util.find_spec("libtpu") is None:
        needs = 'the compiler for TPUs is missing: pip install "jax[tpu]"'
        raise ConfigError([f"{where}: {needs}"])
    if count & (count - 1) or count > per_node:
        sizes = f"a power of 2 up to {chip.per_node}, one pod"
        raise ConfigError([f"{where}: --count must be {sizes}, found {count}"])
    rows = 1 << (count.bit_length() - 1) // 2
    shape = (rows, count // rows)
    host = tuple(min(n, 2) for n in shape)
    # Where it asks a machine that is none of Google's, libtpu waits for an answer.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    try:
        return topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{chip.name}:{shape[0]}x{shape[1]}",
            chips_per_host_bounds=(*host, 1),
        ).devices
    except Exception as error:  # libtpu's own kinds
        raise ConfigError([f"{where}: {first_line(error)}"]) from error


def _cpus(chip: Chip, count: int, per_node: int) -> list[Any]:
    here = jax.devices("cpu")
    if len(here) < count:
        cure = f"set JAX_NUM_CPU_DEVICES={count} before JAX starts"
        raise ConfigError([f"--device cpu: {count} devices wanted, {len(here)} here; {cure}"])
    return here[:count]
