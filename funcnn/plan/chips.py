"""What is known of each chip: peaks, memory and links, each number with its source.

Peaks are of dense products, a vendor's figure with sparsity halved. Links count one direction: a
vendor adds the two. No number here was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple


class Chip(NamedTuple):
    """One kind of device; None where a number is not known.

    Attributes:
        name: as `--device` takes it.
        platform: whose compiler it needs.
        title: its name in full.
        peaks: operations a second in products, by the dtype of the operands, at JAX's usual
            precision: float32 is multiplied as TF32 on a GPU, in one pass of bfloat16 on a TPU.
        memory: bytes.
        bandwidth: bytes a second, to and from that memory.
        link: bytes a second, from one chip to the others of its node, in one direction.
        network: bytes a second, from one chip to other nodes, in one direction.
        per_node: chips in a node, or in a TPU's pod.
        sources: where the numbers stand.

    >>> CHIPS["h200"].peaks["bfloat16"] / CHIPS["a100"].peaks["bfloat16"] > 3
    True
    """

    name: str
    platform: Literal["cuda", "tpu", "cpu"]
    title: str
    peaks: Mapping[str, float] = {}
    memory: float | None = None
    bandwidth: float | None = None
    link: float | None = None
    network: float | None = None
    per_node: int = 8
    sources: tuple[str, ...] = ()


_HOPPER = {"float64": 67e12, "float32": 494.7e12, "bfloat16": 989.4e12, "float16": 989.4e12}
_AMPERE = {"float64": 19.5e12, "float32": 156e12, "bfloat16": 312e12, "float16": 312e12}
_HOPPER_SOURCE = (
    "NVIDIA H100 Tensor Core GPU Architecture (white paper), table of the H100 SXM5: 66.9 (FP64), "
    "494.7 (TF32), 989.4 (BF16, FP16) TFLOPS of the tensor cores, dense"
)
_NVLINK_4 = "NVLink 4: 900 GB/s in both directions, 450 in one (data sheets of H100 and H200)"
_DGX_HOPPER = "DGX H100/H200 user guide: a ConnectX-7 of 400 Gb/s for each of 8 GPUs"

_KNOWN = (
    Chip(
        *("h100", "cuda", "NVIDIA H100 80GB SXM"),
        *(_HOPPER, 84_942_979_072, 3.35e12, 450e9, 50e9, 8),
        (
            _HOPPER_SOURCE,
            "memory as the driver reports it (h100.txtpb); 3.35 TB/s: NVIDIA H100 data sheet",
            *(_NVLINK_4, _DGX_HOPPER),
        ),
    ),
    Chip(
        *("h200", "cuda", "NVIDIA H200 141GB SXM"),
        *(_HOPPER, 150_754_820_096, 4.8e12, 450e9, 50e9, 8),
        (
            f"{_HOPPER_SOURCE}; the H200's data sheet has the same",
            "memory as the driver reports it (h200.txtpb); 4.8 TB/s: NVIDIA H200 data sheet",
            *(_NVLINK_4, _DGX_HOPPER),
        ),
    ),
    Chip(
        *("a100", "cuda", "NVIDIA A100 80GB SXM"),
        *(_AMPERE, 85_100_068_864, 2.039e12, 300e9, 25e9, 8),
        (
            "NVIDIA A100 data sheet, SXM 80 GB: 19.5 (FP64), 156 (TF32), 312 (BF16) TFLOPS, dense",
            "the same: 2,039 GB/s; NVLink 600 GB/s in both directions, 300 in one",
            "memory: OpenXLA's description of an A100-SXM4-80GB (a100.txtpb)",
            "DGX A100 user guide: a ConnectX-6 of 200 Gb/s for each of 8 GPUs",
        ),
    ),
    Chip(
        *("v5e", "tpu", "Google TPU v5e"),
        *({"bfloat16": 197e12, "float32": 197e12}, 16e9, 819e9, 200e9, None, 256),
        (
            "Google Cloud, TPU v5e: 197 TFLOPs (bf16), 16 GB, 819 GB/s, a pod of 256",
            "the same: ICI 400 GB/s in both directions, 200 in one; none is told between pods",
        ),
    ),
    Chip("cpu", "cpu", "the CPU at hand", sources=("nothing is assumed of it",)),
)
CHIPS: Mapping[str, Chip] = {chip.name: chip for chip in _KNOWN}
