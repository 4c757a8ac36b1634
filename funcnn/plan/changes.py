"""What to try where a step does not fit: the smallest change first."""

from __future__ import annotations

from collections.abc import Iterator

from funcnn.plan.compiling import EACH_LAYER, Setting

_REMAT = f'train.remat = ["{EACH_LAYER}"]'
_MOST_PARTS = 16  # of a batch: with more of them a device has little to do at a time


def changes(setting: Setting, count: int, data: int = -1) -> Iterator[tuple[str, Setting]]:
    """Changes of a setting on so many devices, as keys of a config, in the order to try them.

    What leaves the numbers of a training as they are comes first, alone and then together; a
    smaller batch, which trains otherwise, comes last, and has all the others. `data` is mesh.data
    of the config, which stands in the way of a larger mesh.fsdp where it is a number of devices.

    >>> for name, changed in changes(Setting(rows=32), count=8):
    ...     print(name)
    train.accumulate = 2
    train.accumulate = 4
    train.remat = ["*"]
    mesh.fsdp = 8
    mesh.fsdp = 8, train.remat = ["*"]
    mesh.fsdp = 8, train.remat = ["*"], train.accumulate = 4
    mesh.fsdp = 8, train.remat = ["*"], data.batch_size = 16
    mesh.fsdp = 8, train.remat = ["*"], data.batch_size = 8
    """
    shares = setting.parts(count)
    most, parts = setting.accumulate, setting.accumulate * 2
    while parts <= _MOST_PARTS and setting.rows % (parts * shares) == 0:
        yield f"train.accumulate = {parts}", setting._replace(accumulate=parts)
        most, parts = parts, parts * 2
    yield _REMAT, setting._replace(remat=True)
    together, changed = _REMAT, setting._replace(remat=True)
    if setting.fsdp < shares:
        cut = f"mesh.fsdp = {shares}" if data == -1 else f"mesh.data = 1, mesh.fsdp = {shares}"
        yield cut, setting._replace(fsdp=shares)
        together, changed = f"{cut}, {_REMAT}", changed._replace(fsdp=shares)
        yield together, changed
    if most > setting.accumulate:
        yield f"{together}, train.accumulate = {most}", changed._replace(accumulate=most)
    each = setting.rows // shares
    while each > 1:
        each //= 2
        rows = each * shares
        yield f"{together}, data.batch_size = {rows}", changed._replace(rows=rows, accumulate=1)
