"""A plan for one count of a chip: compiled, read off, and changed until it fits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from funcnn.config import Config, ConfigError
from funcnn.config.schema import MeshConfig
from funcnn.core.errors import first_line
from funcnn.experiment import Experiment
from funcnn.gradient.cost.flops import count_operations, count_products
from funcnn.plan.changes import changes
from funcnn.plan.chips import Chip
from funcnn.plan.compiling import Program, Setting, compile_step
from funcnn.plan.devices import Devices, devices_of
from funcnn.plan.figures import Memory, Plan
from funcnn.plan.hlo import collectives_of
from funcnn.plan.traffic import traffic_of
from funcnn.train.mesh import axis_sizes


def plan(
    experiment: Experiment,
    chip: Chip,
    count: int,
    *,
    rows_per_device: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Plan:
    """What the training step of an experiment takes on so many devices, and what would fit.

    The batch is that of the config, or the next larger one that the devices share evenly.

    Args:
        experiment: of shapes alone, `build_experiment(config, draw=False)`.
        chip: of `CHIPS`.
        count: how many devices, in all.
        rows_per_device: of a batch; by default those of the config, shared.
        progress: is told of each compilation.

    Raises:
        ConfigError: what compiles for the chip is not installed, or knows no such number.

    >>> from funcnn.config import Config, ModelConfig
    >>> from funcnn.experiment import build_experiment
    >>> from funcnn.plan.chips import CHIPS
    >>> experiment = build_experiment(Config(model=ModelConfig(name="mlp")), draw=False)
    >>> found = plan(experiment, CHIPS["cpu"], 1)
    >>> found.setting, found.fits, found.bound
    (Setting(rows=32, fsdp=1, remat=False, accumulate=1, tensor=1), None, None)
    """
    devices = devices_of(chip, count)
    start, notes = _start(experiment.config, count, rows_per_device)

    def compiled(setting: Setting, change: str = "") -> Plan:
        program = compile_step(experiment, setting, devices)
        steps = experiment.config.train.steps_per_call
        found = read_off(program, setting, chip, devices, steps)
        progress(f"{count:,} x {chip.name}{change and ', '}{change}: {program.seconds:.1f} s")
        return dataclasses.replace(found, change=change, notes=notes + found.notes)

    try:
        first = compiled(start)
    except ValueError as error:  # rows that cannot be cut, a mesh that would cut nothing
        raise ConfigError([first_line(error)]) from error
    if first.fits is not False:
        return first
    tried = []
    for change, setting in changes(first.setting, count, _mesh_of(experiment.config).data):
        found = compiled(setting, change)
        if found.fits:
            return dataclasses.replace(first, remedy=found, tried=tuple(tried))
        tried.append(change)
    return dataclasses.replace(first, tried=tuple(tried))


def _start(
    config: Config, count: int, rows_per_device: int | None
) -> tuple[Setting, tuple[str, ...]]:
    """What the config says, on so many devices, and a note where it cannot be just that."""
    fsdp, tensor = _axes(config, count)
    wanted, start = config.data.batch_size, Setting(0, fsdp, False, config.train.accumulate, tensor)
    parts = start.parts(count)
    if rows_per_device is not None:
        return start._replace(rows=rows_per_device * parts), ()
    # Rows that can be cut for `accumulate` still can, and each part of them is shared evenly.
    unit = parts * (1 if wanted % start.accumulate else start.accumulate)
    rows = -(-wanted // unit) * unit
    each = rows // parts
    note = f"{wanted:,} rows do not divide by {unit:,}: planned with {rows:,}, {each:,} a device"
    return start._replace(rows=rows), (note,) if rows != wanted else ()


def _axes(config: Config, count: int) -> tuple[int, int]:
    """mesh.fsdp and mesh.tensor of so many devices; what the axes say, `data` is the rest."""
    chosen = _mesh_of(config)
    data = chosen.data if -1 in (chosen.fsdp, chosen.tensor) else -1
    given = {"data": data, "fsdp": chosen.fsdp, "tensor": chosen.tensor}
    try:
        sizes = axis_sizes(count, **given)
    except ValueError as error:
        raise ConfigError([first_line(error)]) from error
    if math.prod(sizes.values()) != count:
        there = " x ".join(f"{name} {size}" for name, size in given.items() if size != -1)
        raise ConfigError([f"--count {count}: the mesh has {there}, which do not divide it"])
    return sizes["fsdp"], sizes["tensor"]


def _mesh_of(config: Config) -> MeshConfig:
    return config.mesh or MeshConfig()


def read_off(program: Program, setting: Setting, chip: Chip, devices: Devices, steps: int) -> Plan:
    """The figures of a step that was compiled, a call of which has so many steps.

    Raises:
        RuntimeError: the compiler reports no memory.
    """
    found = program.compiled.memory_analysis()
    if found is None:
        raise RuntimeError(f"the compiler for {chip.title} reports no memory")
    memory = Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
    )
    count = len(devices.all)
    operations = count_operations(program.jaxpr, chip.platform)
    products = count_products(program.jaxpr, chip.platform)
    collectives = collectives_of(program.compiled.as_text() or "")
    # A step reads one of the batches of its call.
    arguments = memory.arguments - program.batch_bytes * (steps - 1) / steps
    notes = operations.notes
    if not all(c.known for c in collectives):
        notes += ("collectives in a loop that does not say how often it runs: counted once",)
    return Plan(
        chip,
        count,
        devices.per_node,
        setting,
        steps,
        memory,
        operations.flops / count / steps,
        {dtype: n / count / steps for dtype, n in products.items()},
        arguments + memory.outputs + memory.temporary,
        tuple(t.over(steps) for t in traffic_of(collectives, count, devices.per_node)),
        notes,
        program.seconds,
    )
