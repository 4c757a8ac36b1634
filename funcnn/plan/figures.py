"""What a plan says: memory, operations, bytes and traffic of a device, and what they bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from funcnn.plan.chips import Chip
from funcnn.plan.compiling import Setting
from funcnn.plan.traffic import Traffic

# The three bounds, by what is busy.
BOUNDS = ("compute", "memory", "network")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device while a call of the step runs, as the compiler has laid them out.

    Attributes:
        arguments: the state and the batches of the call.
        outputs: the next state and the metrics.
        aliased: of the outputs, what takes the place of an argument that is donated.
        temporary: what the program needs beside both.

    >>> Memory(arguments=8, outputs=8, aliased=6, temporary=4).peak
    14
    """

    arguments: int
    outputs: int
    aliased: int
    temporary: int

    @property
    def peak(self) -> int:
        """What has to be there at once."""
        return self.arguments + self.outputs - self.aliased + self.temporary


@dataclasses.dataclass(frozen=True)
class Plan:
    """One count of one chip. All but `memory` is of one step and one device.

    Attributes:
        chip: which.
        count: how many, in all.
        per_node: how many stand in each node.
        setting: as it was compiled.
        steps_per_call: how many steps the call has of which `memory` is.
        memory: of a device.
        flops: operations, the count of the whole step by the number of devices.
        products: of them, those of products, by dtype.
        bytes: what memory moves at least: arguments that are read, outputs and temporaries that are
            written, each once.
        traffic: the collectives.
        notes: what the figures do not hold.
        compile_seconds: for this plan, on the machine that made it.
        change: what was changed of the config so that it fits, or "".
        remedy: the first change that fits, where this does not; None where it does, or none did.
        tried: the changes that did not fit either.
    """

    chip: Chip
    count: int
    per_node: int
    setting: Setting
    steps_per_call: int
    memory: Memory
    flops: float
    products: Mapping[str, float]
    bytes: float
    traffic: tuple[Traffic, ...]
    notes: tuple[str, ...]
    compile_seconds: float
    change: str = ""
    remedy: Plan | None = None
    tried: tuple[str, ...] = ()

    @property
    def fits(self) -> bool | None:
        """Whether its peak is within the memory of the chip; None where that is not known."""
        return None if self.chip.memory is None else self.memory.peak <= self.chip.memory

    @property
    def seconds(self) -> dict[str, float | None]:
        """The least seconds of a step that each of `BOUNDS` allows; None where it is not known."""
        chip, peaks = self.chip, self.chip.peaks
        known = chip.bandwidth is not None and all(dtype in peaks for dtype in self.products)
        compute = sum(n / peaks[dtype] for dtype, n in self.products.items()) if known else None
        memory = None if chip.bandwidth is None else self.bytes / chip.bandwidth
        # Both may be busy at once.
        ways = [
            _seconds(sum(t.link for t in self.traffic), chip.link),
            _seconds(sum(t.network for t in self.traffic), chip.network),
        ]
        network = None if chip.bandwidth is None or None in ways else max(w or 0.0 for w in ways)
        return dict(zip(BOUNDS, (compute, memory, network), strict=True))

    @property
    def bound(self) -> str | None:
        """Which of `BOUNDS` allows no less; None where one is not known."""
        known = {name: s for name, s in self.seconds.items() if s is not None}
        return max(known, key=lambda name: known[name]) if len(known) == len(BOUNDS) else None

    def row(self) -> dict[str, Any]:
        """As one JSON object, see docs/schema.md."""
        memory = {**dataclasses.asdict(self.memory), "peak": self.memory.peak}
        return {
            "kind": "plan",
            "device": self.chip.name,
            "count": self.count,
            "per_node": self.per_node,
            "nodes": self.count // self.per_node,
            "change": self.change,
            "rows": self.setting.rows,
            "fsdp": self.setting.fsdp,
            "tensor": self.setting.tensor,
            "remat": self.setting.remat,
            "accumulate": self.setting.accumulate,
            "steps_per_call": self.steps_per_call,
            "memory": {**memory, "device": self.chip.memory},
            "fits": self.fits,
            "flops": self.flops,
            "products": dict(self.products),
            "bytes": self.bytes,
            "collectives": [t._asdict() for t in self.traffic],
            "seconds": self.seconds,
            "bound": self.bound,
            "notes": list(self.notes),
            "compile_seconds": round(self.compile_seconds, 3),
            "tried": list(self.tried),
            "remedy": None if self.remedy is None else self.remedy.row(),
        }


def _seconds(moved: float, rate: float | None) -> float | None:
    if not moved:
        return 0.0
    return None if rate is None else moved / rate
