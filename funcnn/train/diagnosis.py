"""Why a run halted: the rows of the batch, and the layer, in which numbers ceased to be finite."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.core.patterns import some
from funcnn.train.signature import leaf_name
from funcnn.train.state import TrainState
from funcnn.train.step import Step
from funcnn.types import Array, Atom, Batch, ClosedJaxpr, Equation, Metrics, PyTree

# What these put out was written down, as the -inf of a mask is, and did not arise.
_NO_ARITHMETIC = {"broadcast_in_dim", "select_n", "convert_element_type", "reshape", "copy"}


def diagnosed(step: Step, state: TrainState, batch: Batch) -> str:
    """What is wrong with the update of this state by this batch, in one line.

    The program of loss and gradient is run once more, an operation at a time, up to the first whose
    result is not finite though all that it was given is.

    >>> import optax
    >>> from funcnn.train import Guard, make_step
    >>> def loss(params, batch, key):
    ...     with jax.named_scope("dense_0"):
    ...         return jnp.sum(jnp.log(params * batch["x"]))
    >>> step = make_step(loss, optax.sgd(0.1), guard=Guard())
    >>> state = TrainState.create(jnp.ones(()), optax.sgd(0.1), seed=0, guard=Guard())
    >>> diagnosed(step, state, {"x": jnp.array([1.0, -1.0])})
    'loss is nan, gradient norm 2; it arises in dense_0, in log; row 1 of the batch is to blame'
    """
    metrics = jax.device_get(jax.jit(step.body)(state, batch)[1])
    norms = _bad_norms(step, state, batch)
    texts = [norms or _values(state, metrics)]
    if norms or not (np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"])):
        texts.append(_origin(step, state, batch))
        texts.append(_rows(step, state, batch))
    return "; ".join(text for text in texts if text)


def _bad_norms(step: Step, state: TrainState, batch: Batch) -> str:
    """The batch norms whose statistics are not finite, where the loss and its gradient may be."""

    def statistics(state: TrainState) -> PyTree:
        key = state.step_key()
        return step.loss(state.params, batch, key, state.extra)[1].statistics

    found = jax.device_get(jax.jit(statistics)(state)) if state.statistics else {}
    bad = [repr(path) for path, own in found.items() if not _finite(jax.tree.leaves(own))]
    return f"the statistics of batch norm {some(bad)} are not finite" if bad else ""


def _values(state: TrainState, metrics: Metrics) -> str:
    loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
    if not (np.isfinite(loss) and np.isfinite(norm)):
        return f"loss is {loss:.4g}, gradient norm {norm:.4g}"
    health = jax.device_get(state.health)
    return (
        f"loss is {loss:.4g}, gradient norm {norm:.4g}, and so far they were "
        f"{health['loss_mean']:.4g} and {health['gradient_norm_mean']:.4g} in the mean"
    )


def _origin(step: Step, state: TrainState, batch: Batch) -> str:
    """The layer, and the operation, whose result is the first that is not finite."""
    key = state.step_key()

    def objective(params: PyTree) -> Array:
        return step.loss(params, batch, key, state.extra)[0]

    program = jax.make_jaxpr(jax.value_and_grad(objective))(state.params)
    eqn = _first(program, jax.tree.leaves(state.params))
    if eqn is None:
        return ""
    stack = str(eqn.source_info.name_stack)
    path = "/".join(part for part in re.split(r"[/()]+", stack) if part not in _TRANSFORMS)
    way = " on the way back" if "transpose" in stack else ""
    where = f"in {path}{way}, " if path else (f"{way.strip()}, " if way else "")
    return f"it arises {where}in {eqn.primitive.name}"


_TRANSFORMS = {"", "jvp", "transpose", "vmap", "checkpoint", "rematted_computation", "remat"}


def _first(program: ClosedJaxpr, args: Sequence[Array]) -> Equation | None:
    """The first equation that is given finite numbers alone, and computes one that is not."""
    values: dict[Atom, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values |= dict(zip(program.jaxpr.invars, args, strict=True))
    for eqn in program.eqns:
        given = [v.val if isinstance(v, jex.Literal) else values[v] for v in eqn.invars]
        bound: Any = eqn.primitive.get_bind_params(eqn.params)
        outs = eqn.primitive.bind(*given, **bound)
        outs = outs if eqn.primitive.multiple_results else [outs]
        if eqn.primitive.name not in _NO_ARITHMETIC and _finite(given) and not _finite(outs):
            return eqn
        values |= dict(zip(eqn.outvars, outs, strict=True))
    return None


def _finite(arrays: Sequence[Any]) -> bool:
    floats = [x for x in arrays if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return all(bool(jnp.isfinite(x).all()) for x in floats)


def _rows(step: Step, state: TrainState, batch: Batch) -> str:
    """The rows that are not finite themselves, or else those whose own loss is not."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
        array = np.asarray(leaf)
        if array.dtype.kind == "f" and array.ndim and not np.isfinite(array).all():
            rows = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
            return f"{_named(rows)} of the batch, {leaf_name(path)!r}, is not finite"
    key = state.step_key()
    sizes = {np.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if np.ndim(leaf)}

    @jax.jit
    def alone(row: Batch) -> Array:
        found = jax.value_and_grad(lambda p: step.loss(p, row, key, state.extra)[0])(state.params)
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(found)]
        return jnp.all(jnp.stack(finite))

    if len(sizes) != 1:
        return ""
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], batch) for i in range(min(sizes))]
    try:
        bad = np.flatnonzero([not alone(row) for row in rows])
    except Exception:  # a loss may take no single row; the layer says enough
        return ""
    if not bad.size or bad.size == len(rows):
        return ""
    return f"{_named(bad)} of the batch {'is' if bad.size == 1 else 'are'} to blame"


def _named(rows: np.ndarray) -> str:
    return f"row{'' if rows.size == 1 else 's'} {some([str(row) for row in rows])}"
