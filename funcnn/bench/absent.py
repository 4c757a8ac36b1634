"""Compiling for a GPU that is not there: exact bytes and kernels, no times.

JAX compiles ahead of time for a device that is only described. Besides jax it takes two small
wheels of the same version, and no CUDA libraries:

    pip install --no-deps jax-cuda13-plugin==V jax-cuda13-pjrt==V

Run with JAX_PLATFORMS=cpu, so that JAX does not look for the GPU itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
from importlib import resources
from typing import Any

import jax

from funcnn.types import Function, PyTree


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the compiler says of a program on one device.

    Attributes:
        temporary_bytes, argument_bytes, output_bytes: memory, exact.
        kernels: how many fusions and library calls it launches.
    """

    temporary_bytes: int
    argument_bytes: int
    output_bytes: int
    kernels: int


def missing_wheels() -> str:
    """Why programs cannot be compiled for an absent GPU here; "" where they can.

    >>> isinstance(missing_wheels(), str)
    True
    """
    try:
        spec = importlib.util.find_spec("jax_plugins.xla_cuda13")
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        v = jax.__version__
        return (
            "the wheels for absent GPUs are missing: "
            f"pip install --no-deps jax-cuda13-plugin=={v} jax-cuda13-pjrt=={v}"
        )
    return ""


def described_device(chip: str = "h200") -> Any:
    """A device of JAX that is described and absent.

    Raises:
        RuntimeError: the wheels are missing; the message says which.
        FileNotFoundError: no description of such a chip.
    """
    return described_devices(chip)[0]


def described_devices(chip: str = "h200", nodes: int = 1, per_node: int = 1) -> list[Any]:
    """The devices of several nodes, as many in each, those of one node side by side.

    Raises:
        RuntimeError: the wheels are missing; the message says which.
        FileNotFoundError: no description of such a chip.
    """
    if reason := missing_wheels():
        raise RuntimeError(reason)
    from jax.experimental import topologies

    importlib.import_module("jax_plugins.xla_cuda13")  # registers the compiler; no GPU is touched
    text = resources.files("funcnn.bench").joinpath(f"{chip}.txtpb").read_text(encoding="utf-8")
    return topologies.get_topology_desc(
        topology_name="", platform="cuda", target_config=text, topology=f"1x{nodes}x{per_node}"
    ).devices


def figures(f: Function, *args: PyTree, device: Any, donate: tuple[int, ...] = ()) -> Figures:
    """Compile `f` on arguments of these shapes for a device and read off its figures.

    Args:
        f: any JAX function.
        args: trees of arrays, or of `jax.ShapeDtypeStruct`.
        device: a device, present or described.
        donate: the arguments whose memory the outputs may take.

    >>> import jax.numpy as jnp
    >>> figures(lambda x: x + 1, jnp.ones(8), device=jax.devices()[0]).argument_bytes
    32
    """
    there = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there), args)
    compiled = jax.jit(f, donate_argnums=donate).lower(*shapes).compile()
    memory = compiled.memory_analysis()
    if memory is None:
        raise RuntimeError(f"the compiler for {device.device_kind} reports no memory")
    kernels = len(re.findall(r"= \S+ (?:fusion|custom-call)\(", compiled.as_text() or ""))
    return Figures(
        memory.temp_size_in_bytes,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        kernels,
    )
