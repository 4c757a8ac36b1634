"""Training with the hand-derived and with the automatic gradient, side by side from one start."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnn.core.given import check_function, described
from funcnn.core.usage import is_positive_integer
from funcnn.gradient.program.float64 import perturbed
from funcnn.gradient.program.remat import checkpointed
from funcnn.gradient.program.rewriting import sites
from funcnn.gradient.program.sites import Site
from funcnn.gradient.program.without_rules import trace, without_rules
from funcnn.report import Report, Section, counted, plain, table
from funcnn.report.program_sections import curves_section
from funcnn.train.state import TrainState
from funcnn.train.step import Update, make_step
from funcnn.types import Array, Batch, Key, Loss, PyTree

# The automatic arm again, its parameters changed in the last place before each step: no two ways
# to round a gradient can be expected to stay closer together than that.
_CONTROL = "automatic, last place changed"
_ALLOWED = 10  # times the distance of the control


@dataclasses.dataclass(frozen=True)
class Curve:
    """One arm of a training run.

    Attributes:
        name: "automatic", "manual", "checkpointed", or the control.
        losses: the loss at each step, before its update.
        distances: after each step ||params - automatic|| / ||automatic||, over all leaves.
        leaves: the same at the end, for each leaf by its path.
    """

    name: str
    losses: tuple[float, ...]
    distances: tuple[float, ...]
    leaves: dict[str, float]


@dataclasses.dataclass(frozen=True)
class TrainingComparison(Report):
    """What `compare_training` found; `str()` is the report.

    Attributes:
        arms: the curves: automatic, manual, perhaps checkpointed, and last the control, which is
            the automatic arm with its parameters changed in the last place before each step.
        sites: every place where the loss calls a hand-written rule.

    >>> curves = [Curve(name, (1.0,), (d,), {"w": d}) for name, d in
    ...           [("automatic", 0.0), ("manual", 1e-3), ("control", 1e-7)]]
    >>> TrainingComparison(tuple(curves), (Site((0,), "linear", "", "custom_vjp", ""),)).parted
    {'manual': 0}
    """

    arms: tuple[Curve, ...]
    sites: tuple[Site, ...]

    @property
    def parted(self) -> dict[str, int]:
        """The arms that went another way than rounding explains, and the step at which they did.

        There the distance from the automatic arm exceeds ten times the largest distance so far of
        the control.
        """
        control = np.maximum.accumulate(_finite(self.arms[-1].distances))
        steps = {}
        for arm in self.arms[1:-1]:
            beyond = np.flatnonzero(_finite(arm.distances) > _ALLOWED * control)
            if beyond.size:
                steps[arm.name] = int(beyond[0])
        return steps

    @property
    def ok(self) -> bool:
        """Whether there is a rule, all losses are finite, and no arm has parted."""
        losses = [loss for arm in self.arms for loss in arm.losses]
        finite = bool(losses) and all(map(math.isfinite, losses))
        return bool(self.sites) and finite and not self.parted

    def rows(self) -> list[dict[str, Any]]:
        """The key "kind" says what a row is.

        - "step": arm, step, loss, distance;
        - "leaf": arm, leaf (its path), distance, at the end;
        - "program", once, last: ok, parted (arm -> step), steps, rules (how many sites).
        """
        rows: list[dict[str, Any]] = []
        for arm in self.arms:
            rows += [{"kind": "step", **step} for step in _steps(arm)]
            rows += [
                {"kind": "leaf", "arm": arm.name, "leaf": leaf, "distance": distance}
                for leaf, distance in arm.leaves.items()
            ]
        steps = len(self.arms[0].losses)
        last = {"ok": self.ok, "parted": self.parted, "steps": steps, "rules": len(self.sites)}
        return [plain(row) for row in (*rows, {"kind": "program", **last})]

    def sections(self) -> Sequence[Section]:
        """Its curves of the loss and of the distance."""
        return [curves_section([step for arm in self.arms for step in _steps(arm)])]

    def _details(self) -> Iterable[str]:
        columns = [
            {
                "arm": arm.name,
                "first loss": arm.losses[0],
                "last loss": arm.losses[-1],
                "distance, step 1": arm.distances[0],
                "at the end": arm.distances[-1],
                "worst leaf": max(arm.leaves, key=lambda leaf: arm.leaves[leaf]),
            }
            for arm in self.arms
        ]
        return [table(columns)]

    def conclusion(self) -> str:
        """OK, FAILED or NOT COMPARED, and where an arm went another way."""
        if not self.sites:
            return "NOT COMPARED: the loss calls no hand-written rule"
        parted = [f"{name} at step {step}" for name, step in self.parted.items()]
        if parted:
            return f"FAILED: further apart than rounding explains: {', '.join(parted)}"
        steps = len(self.arms[0].losses)
        return f"OK: {counted(steps, 'step')}" if self.ok else "FAILED: a loss is not finite"


def _steps(arm: Curve) -> list[dict[str, Any]]:
    return [
        {"arm": arm.name, "step": step, "loss": loss, "distance": distance}
        for step, (loss, distance) in enumerate(zip(arm.losses, arm.distances, strict=True))
    ]


def compare_training(
    loss: Loss,
    params: PyTree,
    batches: Callable[[int], Batch],
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    key: Key | None = None,
    with_checkpoint: bool = False,
) -> TrainingComparison:
    """Train with the manual and with the automatic gradient, from one start on the same batches.

    The arms part a little by rounding alone, and training lets that grow; so the automatic arm runs
    once more with its parameters changed in the last place before each step, and the manual arm may
    be ten times as far off as that.

    Args:
        loss: `loss(params, batch, key) -> scalar` or `(scalar, metrics)`.
        params: where all arms start.
        batches: `batches(step) -> batch`.
        optimizer: an optax one.
        steps: how many updates.
        key: of the randomness, by default a fixed one; a step's key is folded in from it.
        with_checkpoint: whether to train the checkpointed arm too.

    Raises:
        ValueError: steps is not positive.
        TypeError: the loss is no scalar, or a leaf of params is not floating point.

    >>> import funcnn as fnn
    >>> def loss(params, batch, key):
    ...     return jnp.mean(fnn.rules.linear(batch, params["w"]) ** 2)
    >>> batch = np.ones((4, 3), np.float32)
    >>> start = {"w": jnp.ones((3, 2))}
    >>> report = compare_training(loss, start, lambda step: batch, optax.sgd(0.1), 3)
    >>> report.ok, [arm.name for arm in report.arms]
    (True, ['automatic', 'manual', 'automatic, last place changed'])
    """
    check_function("compare_training", loss, "loss to be a function")
    check_function("compare_training", batches, "batches to be a function of the step")
    if not hasattr(optimizer, "update"):
        wrong = described(optimizer)
        raise TypeError(f"compare_training: expected an optimizer of optax, found {wrong}")
    if not is_positive_integer(steps):
        raise ValueError(f"compare_training: steps must be a positive integer, found {steps!r}")
    seed = 0 if key is None else int(jax.random.bits(key, (), "uint32"))
    rules = sites(trace(loss, (params, batches(0), jax.random.key(seed)), {}).jaxpr)
    losses = {"automatic": without_rules(loss), "manual": loss}
    if with_checkpoint:
        losses["checkpointed"] = checkpointed(loss)
    made = {name: make_step(f, optimizer) for name, f in losses.items()}
    runs = [_Run(n, s, TrainState.create(params, optimizer, seed)) for n, s in made.items()]
    control = TrainState.create(params, optimizer, seed)
    runs.append(_Run(_CONTROL, made["automatic"], control, changed=True))
    for step in range(steps):
        batch = batches(step)
        for run in runs:
            run.advance(batch, runs[0])
    return TrainingComparison(tuple(run.curve() for run in runs), tuple(rules))


@dataclasses.dataclass
class _Run:
    """One arm on its way."""

    name: str
    step: Update
    state: TrainState
    changed: bool = False
    losses: list[float] = dataclasses.field(default_factory=list)
    distances: list[float] = dataclasses.field(default_factory=list)
    params: PyTree = None
    leaves: dict[str, float] = dataclasses.field(default_factory=dict)

    def advance(self, batch: Batch, automatic: _Run) -> None:
        """One update, and how far the parameters are from those of the automatic arm after it."""
        if self.changed:
            moved = jax.tree.map(lambda x: _changed(x, len(self.losses)), self.state.params)
            self.state = self.state._replace(params=moved)
        self.state, metrics = self.step(self.state, batch)
        self.losses.append(float(metrics["loss"]))
        self.params = jax.tree.map(lambda x: np.asarray(x, np.float64), self.state.params)
        theirs = jax.tree.leaves(automatic.params)
        ours = jax.tree.leaves_with_path(self.params)
        pairs = [(jax.tree_util.keystr(p, simple=True, separator="/"), x) for p, x in ours]
        self.leaves = {n: _distance([x], [y]) for (n, x), y in zip(pairs, theirs, strict=True)}
        self.distances.append(_distance([x for _, x in pairs], theirs))

    def curve(self) -> Curve:
        return Curve(self.name, tuple(self.losses), tuple(self.distances), self.leaves)


def _changed(x: Array, step: int) -> Array:
    unit = float(jnp.finfo(x.dtype).eps)
    (moved,) = perturbed([np.asarray(x, np.float64)], unit, step)
    return jnp.asarray(moved.astype(x.dtype))


def _distance(ours: list[Any], theirs: list[Any]) -> float:
    """||ours - theirs|| / ||theirs||, over all leaves; infinite where ours is not finite."""
    apart = math.sqrt(sum(float(np.sum((a - b) ** 2)) for a, b in zip(ours, theirs, strict=True)))
    size = math.sqrt(sum(float(np.sum(b**2)) for b in theirs))
    if not math.isfinite(apart):
        return math.inf
    return apart / size if size else (math.inf if apart else 0.0)


def _finite(distances: tuple[float, ...]) -> np.ndarray:
    return np.nan_to_num(np.asarray(distances), posinf=np.finfo(np.float64).max)
