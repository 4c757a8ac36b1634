"""The model of a run, ready to predict: without its data, its optimizer and the command line."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.config import Config
from funcnn.core.given import check_flag
from funcnn.core.layer import Layer
from funcnn.core.usage import in_a_word
from funcnn.data.known import Known
from funcnn.experiment import announce_foreign, first_extra
from funcnn.network import network_of
from funcnn.runs.folder import RunFolder
from funcnn.runs.restored import result_of
from funcnn.task.measured import Measured
from funcnn.train import TrainState
from funcnn.types import Params, PyTree

_ROWS = 512  # predicted in one call


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRun:
    """What a run has made; `fnn.load_run` makes it.

    Attributes:
        config: the resolved config.
        params: those to evaluate with: averages where the run kept some, or what a schedule-free
            optimizer has in their place, statistics folded in.
        step: the step that they are of.
        known: what is known of the data: shapes, classes, labels, vocabulary.
        measured: the model at its task, with loss and metrics.

    >>> import jax.numpy as jnp
    >>> from funcnn.config import ModelConfig
    >>> config = Config(model=ModelConfig(name="mlp", options={"hidden": []}))
    >>> known = Known({name: jax.ShapeDtypeStruct((1, 2), jnp.float32) for name in "xy"}, classes=3)
    >>> known.arrays["y"] = jax.ShapeDtypeStruct((1,), jnp.int32)
    >>> network = network_of(config, known)
    >>> run = LoadedRun(config, network.draw(), 0, known, network.measured)
    >>> run.predict(np.ones((5, 2))).shape
    (5, 3)
    """

    config: Config
    params: Params
    step: int
    known: Known
    measured: Measured

    @property
    def model(self) -> Layer:
        """outputs = model(params, x); what a config adds to it in prediction, `predict` does."""
        return self.measured.model

    @property
    def inputs(self) -> PyTree:
        """The shapes and dtypes of what the model takes, for one row."""
        return self.measured.task.taken(self.known.arrays)

    def predict(self, x: PyTree) -> PyTree:
        """The outputs of the model, in NumPy, for rows of any number.

        Args:
            x: (N, ...) as in training, or a tuple of such arrays where the task takes several.

        Raises:
            TypeError: x holds no arrays, or as many as the model does not take.
            ValueError: there is no row, or rows of another shape than in training, or of another
                kind of number.
        """
        like = self.inputs
        arrays = _rows_like(x, like)
        count = len(jax.tree.leaves(arrays)[0])
        outputs = []
        for start in range(0, count, _ROWS):
            # Copies of true rows fill the last batch, so that one program serves all.
            index = np.arange(start, start + min(_ROWS, count)) % count
            outputs.append(
                self._compiled(self.params, jax.tree.map(lambda a, i=index: a[i], arrays))
            )
        outputs = jax.device_get(outputs)
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *outputs)

    @functools.cached_property
    def _compiled(self) -> Callable[[Params, PyTree], PyTree]:
        return jax.jit(self.measured.predict)


def load_run(path: str | os.PathLike[str], *, trust: bool = True) -> LoadedRun:
    """The trained model of a run, from its folder; the data need not be there.

    It is the newest checkpoint, or the best one where the config has `train.best`. What a config
    names as a function is imported, which runs it: that is said on standard error before. See the
    page on trust.

    Args:
        path: the folder of the run.
        trust: whether such functions may be imported; else such a run is refused.

    Raises:
        ConfigError: there is no run, or none that is whole; or its config names a function, and
            `trust` is false.

    >>> load_run("no/such/run")
    Traceback (most recent call last):
    funcnn.config.load.ConfigError: no/such/run: holds no run (no config.toml)
    """
    check_flag("load_run", "trust", trust)
    return loaded_from(RunFolder(path), foreign=trust, refusal="trust=False")


def loaded_from(
    folder: RunFolder,
    warn: Callable[[str], Any] = warnings.warn,
    *,
    foreign: bool = True,
    refusal: str = "--no-foreign-code",
) -> LoadedRun:
    """`load_run` for a command, which has another word for `trust` and warns in its own way."""
    config = folder.read(foreign=foreign)
    known = folder.known()
    announce_foreign(config, refusal)
    network = network_of(config, known)
    extra = jax.eval_shape(lambda p: first_extra(config, network, p), network.params)
    step, seed = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.uint32)
    like = TrainState(network.params, None, step, seed, network.statistics, extra)
    like = like._replace(health=None)  # which only a step needs
    state = result_of(folder, config, like, warn)
    return LoadedRun(config, state.evaluation_params(), int(state.step), known, network.measured)


def _rows_like(x: PyTree, like: PyTree) -> PyTree:
    """The arrays of x in the dtypes of `like`, once they are rows of its shapes."""
    wanted = jax.tree.leaves(like)
    if jax.tree.structure(x) != jax.tree.structure(like):
        takes = "an array" if isinstance(like, jax.ShapeDtypeStruct) else f"{len(wanted)} arrays"
        raise TypeError(f"predict: x is {takes} with a row for each example, found {in_a_word(x)}")
    arrays = [np.asarray(a) for a in jax.tree.leaves(x)]
    for a, row in zip(arrays, wanted, strict=True):
        number = "iu" if np.issubdtype(row.dtype, np.integer) else "fiu"
        if a.dtype.kind not in number or a.ndim == 0 or a.shape[1:] != row.shape[1:]:
            shape = ", ".join(["N", *map(str, row.shape[1:])])
            raise ValueError(
                f"predict: x is {row.dtype} ({shape}), a row for each example, as in training; "
                f"found {a.dtype} {a.shape}"
            )
    if not len(arrays[0]) or len({len(a) for a in arrays}) > 1:
        raise ValueError(f"predict: x has no rows, or not as many each: {[len(a) for a in arrays]}")
    cast = [a.astype(row.dtype) for a, row in zip(arrays, wanted, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), cast)
