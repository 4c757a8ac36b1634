"""A state dict of PyTorch as its modules, each with its own arrays."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcnn.core.given import described

# Of RNN, LSTM and GRU, which hold several layers, and of their cells, which have no number.
_RECURRENT = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))(?:_(l\d+(?:_reverse)?))?")
_COUNTER = "num_batches_tracked"  # of batch norm; no number is computed from it


@dataclasses.dataclass(frozen=True)
class Module:
    """What one layer of torch's has: the name of its module, and its arrays by their own names.

    >>> print(Module("fc1", {"weight": np.ones((2, 3)), "bias": np.ones(2)}))
    fc1 (weight [2, 3], bias [2])
    """

    name: str
    arrays: Mapping[str, np.ndarray]

    def __str__(self) -> str:
        return f"{self.name} ({shown_shapes(self.arrays)})"


def shown_shapes(arrays: Mapping[str, Any]) -> str:
    """Names and shapes in a line.

    >>> shown_shapes({"w": np.ones((2, 3)), "b": np.ones(3)})
    'w [2, 3], b [3]'
    """
    return ", ".join(f"{name} {list(a.shape)}" for name, a in arrays.items())


def modules_of(state: Mapping[str, Any]) -> list[Module]:
    """The modules in the order of the state dict; each direction of each layer of an LSTM is one.

    Raises:
        TypeError: the state is no dict of arrays by name.

    >>> state = {"lstm.weight_ih_l0": np.ones(1), "lstm.weight_ih_l0_reverse": np.ones(1)}
    >>> [module.name for module in modules_of({**state, "fc.weight": np.ones((2, 1))})]
    ['lstm.l0', 'lstm.l0_reverse', 'fc']
    """
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        what = "state is a dict of arrays by name, such as module.state_dict()"
        raise TypeError(f"import_torch: {what}, found {described(state)}")
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, value in state.items():
        module, _, own = name.rpartition(".")
        if own == _COUNTER:
            continue
        if match := _RECURRENT.fullmatch(own):
            own, layer = match.groups()
            module = ".".join(filter(None, (module, layer)))
        found.setdefault(module or "(top)", {})[own] = _as_numpy(name, value)
    return [Module(name, arrays) for name, arrays in found.items()]


def _as_numpy(name: str, value: Any) -> np.ndarray:
    """A tensor of torch's, on a GPU perhaps or with a gradient, or what NumPy takes for one."""
    half = str(getattr(value, "dtype", "")) == "torch.bfloat16"  # NumPy gets none from torch
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if half else value
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"import_torch: {name} is no array of numbers, found {described(value)}")
    return array.astype(jnp.bfloat16) if half else array
