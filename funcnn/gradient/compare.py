"""Manual against automatic, for a whole program: accuracy leaf by leaf, and time."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnn.gradient.jaxprs import Rewriting, Site, sites
from funcnn.gradient.judge import Row, judge_rounding
from funcnn.gradient.timing import Timing, time_pairs
from funcnn.gradient.truth import NoTruth, is_float, perturbed, raise_function, raised
from funcnn.gradient.without_rules import Program, take_out, trace
from funcnn.registry import Removal
from funcnn.report import table, write_json_lines

_DRAWS = 2  # of changed inputs, for the noise floor


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found; `str()` is the report.

    Attributes:
        rows: one for each leaf of the gradient.
        sites: every place where the program calls a hand-written rule.
        kept: those among them that could not be taken out of the automatic arm.
        culprits: where the manual gradient is wrong, the sites at which it becomes so.
        timing: the paired times of both gradients, or None.
        no_truth: why there is no float64 truth, or "".

    >>> row = Row("w", (2,), "float32", 0.5, 3.0, 0.2, "MANUAL")
    >>> print(Comparison((row,), (Site((0,), "linear", "dense_0", "custom_vjp", ""),)))
    1 hand-written rules: linear 1
     leaf   shape   dtype     manual, ulps   automatic, ulps   floor, ulps   verdict
    ---------------------------------------------------------------------------------
     w      2       float32            0.5                 3           0.2   MANUAL
    OK: 1 leaves against float64 truth: 1 MANUAL
    """

    rows: tuple[Row, ...]
    sites: tuple[Site, ...]
    kept: tuple[Site, ...] = ()
    culprits: tuple[Site, ...] = ()
    timing: Timing | None = None
    no_truth: str = ""

    @property
    def ok(self) -> bool:
        """Whether each leaf was compared with a truth that is not zero, and none is wrong."""
        judged = all(row.verdict in {"MANUAL", "AUTO", "TIE"} for row in self.rows)
        return bool(self.rows and self.sites and judged and not self.no_truth)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as JSON lines: leaf, shape, dtype, manual, automatic, floor (ulps), ..."""
        write_json_lines(path, [dataclasses.asdict(row) for row in self.rows])

    def __str__(self) -> str:
        shown = [
            {
                "leaf": row.leaf,
                "shape": "x".join(map(str, row.shape)) or "scalar",
                "dtype": row.dtype,
                "manual, ulps": row.manual,
                "automatic, ulps": row.automatic,
                "floor, ulps": row.floor,
                "verdict": row.verdict,
            }
            for row in self.rows
        ]
        notes = [f"{r.verdict} {r.leaf}: {r.note}" for r in self.rows if r.note]
        notes += [f"WRONG rule: {site}" for site in self.culprits]
        notes += [f"kept in the automatic arm, no reverse mode: {site}" for site in self.kept]
        lines = [self._rules(), table(shown) if shown else "", *notes]
        if self.timing:
            lines.append(str(self.timing))
        return "\n".join([*filter(None, lines), self._conclusion()])

    def _rules(self) -> str:
        counts = Counter(site.name for site in self.sites)
        named = ", ".join(f"{name} {n}" for name, n in counts.items())
        return f"{len(self.sites)} hand-written rules" + (f": {named}" if named else " found")

    def _conclusion(self) -> str:
        if self.no_truth:
            return f"NO TRUTH: {self.no_truth}"
        if not self.sites:
            return "NOT COMPARED: the function calls no hand-written rule"
        counts = Counter(row.verdict for row in self.rows)
        named = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
        head = "OK" if self.ok else "FAILED"
        return f"{head}: {len(self.rows)} leaves against float64 truth: {named or 'none'}"


def compare(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    pairs: int = 10,
) -> Comparison:
    """The hand-derived gradient of a program against the automatic one and the float64 truth.

    Args:
        f: any JAX function with a scalar result, not differentiated: in what `jax.grad` returns a
            foreign rule has left no trace.
        args: its arguments.
        argnums: which of them to differentiate, as for `jax.grad`; their floating-point leaves are
            compared one by one.
        has_aux: whether `f` returns `(scalar, anything)`.
        pairs: how often the two gradients are timed, in turn; 0 for not at all.

    Raises:
        TypeError: the result is not a scalar, or there is nothing to differentiate.

    >>> import jax.numpy as jnp
    >>> import funcnn as fnn
    >>> def loss(params, x):
    ...     return fnn.rules.linear(x, params["w"]).sum()
    >>> report = compare(loss, {"w": jnp.ones((3, 2))}, jnp.ones((4, 3)), pairs=0)
    >>> report.ok, [row.leaf for row in report.rows]
    (True, ['w'])
    """
    chosen = _chosen_leaves(f, args, argnums)
    manual = _Gradient.of(trace(f, args, {}), chosen, has_aux)
    stripped, kept = take_out(f, args, {}, Removal())
    automatic = _Gradient.of(stripped, chosen, has_aux)
    found = tuple(sites(manual.program.jaxpr))
    try:
        truth, moved = _truth(automatic)
    except NoTruth as error:
        return Comparison((), found, tuple(kept), no_truth=str(error))
    arms = manual.compiled(), automatic.compiled()
    dm, da = (arm(manual.program.leaves) for arm in arms)
    rows = tuple(map(judge_rounding, chosen.values(), dm, da, truth, moved))
    wrong = [i for i, row in enumerate(rows) if row.verdict == "WRONG"]
    culprits = _culprits(manual, found, rows, da, truth, moved) if wrong else ()
    timing = time_pairs(*arms, manual.program.leaves, pairs=pairs) if pairs else None
    return Comparison(rows, found, tuple(kept), culprits, timing)


@dataclasses.dataclass(frozen=True)
class _Gradient:
    """The gradient of a traced program by some of its flat leaves."""

    program: Program
    leaves: tuple[int, ...]

    @classmethod
    def of(cls, program: Program, chosen: dict[int, str], has_aux: bool) -> _Gradient:
        first = program.jaxpr.out_avals[0] if program.jaxpr.out_avals else None
        results = len(program.jaxpr.out_avals)
        if first is None or first.shape or not is_float(first) or (results > 1 and not has_aux):
            found = ", ".join(str(a) for a in program.jaxpr.out_avals[:3]) or "nothing"
            aux = "" if has_aux else " (has_aux=True where it returns more)"
            raise TypeError(f"compare: f must return a floating-point scalar{aux}, found {found}")
        return cls(program, tuple(chosen))

    def __call__(self, run: Callable[..., Any], leaves: list[Any]) -> list[Any]:
        """The gradient where `run` evaluates the flat leaves."""

        def scalar(*chosen: Any) -> Any:
            filled = list(leaves)
            for i, value in zip(self.leaves, chosen, strict=True):
                filled[i] = value
            return run(filled)[0]

        argnums = tuple(range(len(self.leaves)))
        return list(jax.grad(scalar, argnums)(*(leaves[i] for i in self.leaves)))

    def compiled(self) -> Callable[[list[Any]], list[Any]]:
        """The gradient as a compiled function of the flat leaves."""
        evaluate = jex.jaxpr_as_fun(self.program.jaxpr)
        return jax.jit(lambda leaves: self(lambda values: evaluate(*values), leaves))


def _chosen_leaves(f: Any, args: tuple[Any, ...], argnums: int | Sequence[int]) -> dict[int, str]:
    """Index among the array leaves -> readable path, for each leaf to differentiate."""
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    names = _argument_names(f, len(args))
    chosen: dict[int, str] = {}
    index = 0
    for i, arg in enumerate(args):
        for path, leaf in jax.tree.leaves_with_path(arg):
            if isinstance(leaf, (jax.Array, np.ndarray)):
                inner = jax.tree_util.keystr(path, simple=True, separator="/")
                if i in wanted and is_float(leaf):
                    shown = [names[i]] if not inner or len(wanted) > 1 else []
                    chosen[index] = "/".join([*shown, *filter(None, [inner])])
                index += 1
    if not chosen:
        raise TypeError(f"compare: no floating-point array in argument {wanted} to differentiate")
    return chosen


def _argument_names(f: Any, n: int) -> list[str]:
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        names = []
    return (names + [f"argument {i}" for i in range(len(names), n)])[:n]


def _truth(automatic: _Gradient) -> tuple[list[Any], list[list[Any]]]:
    """The float64 gradient, and for each leaf the same at slightly changed inputs."""
    program = automatic.program
    with jax.enable_x64(True):
        run = raise_function(program)
        gradient = jax.jit(lambda leaves: automatic(run, leaves))
        leaves = [raised(x) for x in program.leaves]
        truth = [np.asarray(t) for t in gradient(leaves)]
        unit = max(float(jnp.finfo(x.dtype).eps) / 2 for x in program.leaves if is_float(x))
        draws = [
            gradient([raised(x) for x in perturbed(leaves, unit, seed)]) for seed in range(_DRAWS)
        ]
    return truth, [[np.asarray(t) for t in leaf] for leaf in zip(*draws, strict=True)]


def _culprits(
    manual: _Gradient, found: Sequence[Site], rows: Sequence[Row], da: Any, truth: Any, moved: Any
) -> tuple[Site, ...]:
    """The sites that make the gradient wrong when they alone keep their rule."""

    def wrong_with(keep: Callable[[Site], bool]) -> bool:
        jaxpr = Rewriting(lambda site: not keep(site)).closed(manual.program.jaxpr)
        program = dataclasses.replace(manual.program, jaxpr=jaxpr)
        alone = dataclasses.replace(manual, program=program).compiled()(program.leaves)
        names = [row.leaf for row in rows]
        judged = map(judge_rounding, names, alone, da, truth, moved)
        return any(row.verdict == "WRONG" for row in judged)

    names = {site.name for site in found}
    guilty = {name for name in names if wrong_with(lambda site, name=name: site.name == name)}
    return tuple(
        site
        for site in found
        if site.name in guilty and wrong_with(lambda s, site=site: s.position == site.position)
    )
