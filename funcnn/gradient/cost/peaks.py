"""How many operations a second a device can do at most, by the dtype of its products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from funcnn.gradient.program.jaxprs import closed, subprograms
from funcnn.types import Aval, ClosedJaxpr, Equation, Jaxpr

_PRODUCTS = ("dot_general", "conv_general_dilated")
# What a GPU makes of a product of float32 numbers, by the precision that is asked for:
# "tensorfloat32 if available" up to HIGH (jax.lax.Precision).
_OF_FLOAT32 = {None: "tensorfloat32", "DEFAULT": "tensorfloat32", "HIGH": "tensorfloat32"}
_OF_FLOAT32 |= {"HIGHEST": "float32"}


def _gpu(half: float, tensorfloat32: float, float32: float, float64: float) -> dict[str, float]:
    """In 10^12 a second; a multiplication with an addition counts two, as in `count_operations`."""
    peaks = {"tensorfloat32": tensorfloat32, "float32": float32, "float64": float64}
    return {"bfloat16": half, "float16": half, **peaks}


def _tpu(bfloat16: float) -> dict[str, float]:
    """A TPU makes products of float32 numbers of products of bfloat16, one or several."""
    return {"bfloat16": bfloat16, "tensorfloat32": bfloat16, "float32": bfloat16}


# Of dense products (datasheets give twice as much, "with sparsity"), float64 on tensor cores, by
# the name that a device has in JAX (`device_kind`). Sources, of NVIDIA: A100 Tensor Core GPU
# datasheet (2022); H100 Tensor Core GPU Architecture whitepaper, table of peaks (SXM5, PCIe); H100
# datasheet (NVL); H200 datasheet (SXM, NVL); Grace Hopper Superchip datasheet; Blackwell datasheet
# (HGX B200, GB200 NVL72: "individual Blackwell GPU"). Of Google: Cloud TPU documentation, system
# architecture, "peak compute per chip"; a device of JAX is a chip of v4 and later.
_A100 = _gpu(312.0, 156.0, 19.5, 19.5)
_H100_SXM = _gpu(989.4, 494.7, 66.9, 66.9)
_H100_NVL = _gpu(835.5, 417.5, 60.0, 60.0)
_PEAKS = {
    **dict.fromkeys(
        (
            *("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-PCIE-40GB"),
            *("NVIDIA A100 80GB PCIe", "NVIDIA A100-PCIE-80GB"),
        ),
        _A100,
    ),
    **dict.fromkeys(("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA GH200 480GB"), _H100_SXM),
    "NVIDIA H100 PCIe": _gpu(756.0, 378.0, 51.2, 51.2),
    **dict.fromkeys(("NVIDIA H100 NVL", "NVIDIA H200 NVL"), _H100_NVL),
    "NVIDIA B200": _gpu(2250.0, 1100.0, 75.0, 37.0),
    "NVIDIA GB200": _gpu(2500.0, 1250.0, 80.0, 40.0),
    "TPU v4": _tpu(275.0),
    **dict.fromkeys(("TPU v5 lite", "TPU v5e"), _tpu(197.0)),
    **dict.fromkeys(("TPU v5", "TPU v5p"), _tpu(459.0)),
    **dict.fromkeys(("TPU v6 lite", "TPU v6e"), _tpu(918.0)),
}


def known_device(kind: str) -> bool:
    """Whether the peak of a device is known, by the name that it has in JAX.

    >>> known_device("NVIDIA H200"), known_device("NVIDIA H200 MIG 1g.18gb"), known_device("cpu")
    (True, False, False)
    """
    return kind in _PEAKS


def peak_flops(program: Jaxpr | ClosedJaxpr, kinds: Sequence[str]) -> float | None:
    """The operations a second of devices of these kinds, at the products that the program makes.

    Where it makes products of several dtypes, it is the peak of the fastest, so that no share of it
    flatters. None for a device that is not in the table, which no CPU is, nor a part of a GPU
    (MIG); for dtypes or algorithms of products of which nothing is known; and without a product.

    >>> import jax.numpy as jnp
    >>> program = jax.make_jaxpr(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 4)))
    >>> peak_flops(program, ["NVIDIA H200", "NVIDIA H200"])
    989400000000000.0
    >>> print(peak_flops(program, ["cpu"]))
    None
    """
    numbers = {_numbers(eqn) for eqn in _products(closed(program))}
    peaks = [_PEAKS.get(kind, {}) for kind in kinds]
    if not numbers or not peaks or any(n not in p for n in numbers for p in peaks):
        return None
    return sum(max(p[str(n)] for n in numbers) for p in peaks) * 1e12


def _products(program: ClosedJaxpr) -> Iterator[Equation]:
    for eqn in program.jaxpr.eqns:
        if eqn.primitive.name in _PRODUCTS:
            yield eqn
        for inside in subprograms(eqn):
            yield from _products(inside)


def _numbers(eqn: Equation) -> str | None:
    """The numbers of which a device makes a product; None where that is not known."""
    avals: list[Aval] = [v.aval for v in eqn.invars]
    dtypes = {np.dtype(aval.dtype).name for aval in avals}
    precision = eqn.params.get("precision")
    asked = set(precision) if isinstance(precision, tuple) else {precision}
    if len(dtypes) != 1 or len(asked) != 1:
        return None
    (dtype,), (how,) = dtypes, asked
    if how is not None and not isinstance(how, jax.lax.Precision):
        return None  # an algorithm by its name
    return _OF_FLOAT32.get(how and how.name) if dtype == "float32" else dtype
