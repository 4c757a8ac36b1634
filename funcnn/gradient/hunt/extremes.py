"""Whether float64 itself leaves its range on the way to a gradient: then there is no truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from funcnn.gradient.case.pullbacks import cast
from funcnn.gradient.program.compiling import compiled
from funcnn.gradient.program.evaluation import Evaluation
from funcnn.gradient.program.float64 import is_float
from funcnn.gradient.program.jaxprs import inner_program
from funcnn.types import ArrayLike, ClosedJaxpr, Equation

if TYPE_CHECKING:
    from funcnn.gradient.hunt.judging import Trial
    from funcnn.gradient.hunt.place import Place

_PRODUCTS = frozenset({"mul", "div", "integer_pow", "square", "pow"})


def leaves_the_range(place: Place, trial: Trial) -> bool:
    """Whether a finite number becomes infinite, or a product of numbers zero, in float64."""
    with jax.enable_x64(True):
        x, w = cast(trial.x, "float64"), cast(list(trial.w), "float64")
        for pull in (place.exact.pull_automatic, place.exact.pull_manual):
            key = f"_leaves_the_range_{pull is place.exact.pull_manual}"
            if key not in vars(place):
                vars(place)[key] = compiled(_watched(pull.jaxpr(x, w)))
            if bool(vars(place)[key](jax.tree.leaves((x, w)))):
                return True
    return False


def _watched(program: ClosedJaxpr) -> Any:
    def run(leaves: list[Any]) -> ArrayLike:
        seen: list[Any] = [jnp.zeros((), bool)]
        _Ranged(seen)(program, leaves)
        return jnp.any(jnp.stack(seen))

    return run


class _Ranged(Evaluation):
    """Looks at each number outside of loops and branches."""

    def __init__(self, seen: list[Any]):
        self.seen = seen

    def equation(self, eqn: Equation, x: list[Any]) -> list[Any]:
        inner = inner_program(eqn)
        if inner:
            return self(inner[1], x)
        outs = super().equation(eqn, x)
        floats = [v for v in x if hasattr(v, "dtype") and is_float(v)]
        # All NaN and infinite numbers were made of such or not: only the first tells.
        finite = jnp.array([jnp.all(jnp.isfinite(v)) for v in floats] or [True])
        for y in outs:
            if not (hasattr(y, "dtype") and is_float(y)):
                continue
            self.seen.append(jnp.all(finite) & jnp.any(jnp.isinf(y)))
            if eqn.primitive.name in _PRODUCTS:
                factors = [jnp.broadcast_to(v, jnp.shape(y)) for v in map(jnp.asarray, x)]
                alive = jnp.stack([v != 0 for v in factors])
                self.seen.append(jnp.any((y == 0) & jnp.all(alive, 0)))
        return outs

    def parameter(self, value: Any) -> Any:
        return value
