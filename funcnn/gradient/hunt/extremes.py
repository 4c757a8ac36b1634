"""Whether numbers leave the range of their dtype on the way to a gradient."""

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
    """Whether in float64 a finite number becomes infinite, or a product zero: there is no truth."""
    with jax.enable_x64(True):
        x, w = cast(trial.x, "float64"), cast(list(trial.w), "float64")
        for pull in (place.exact.pull_automatic, place.exact.pull_manual):
            key = f"_leaves_the_range_{pull is place.exact.pull_manual}"
            if key not in vars(place):
                vars(place)[key] = compiled(_watched(pull.jaxpr(x, w)))
            if bool(vars(place)[key](jax.tree.leaves((x, w)))):
                return True
    return False


def overflows_as_given(place: Place, trial: Trial) -> bool:
    """Whether a finite number becomes infinite without the rule, in the dtypes given."""
    with jax.enable_x64(False):
        if "_overflows_as_given" not in vars(place):
            program = place.low.pull_automatic.jaxpr(trial.x, list(trial.w))
            vars(place)["_overflows_as_given"] = compiled(_watched(program, frozenset()))
        return bool(vars(place)["_overflows_as_given"](jax.tree.leaves((trial.x, trial.w))))


def _watched(program: ClosedJaxpr, products: frozenset[str] = _PRODUCTS) -> Any:
    def run(leaves: list[Any]) -> ArrayLike:
        seen: list[Any] = [jnp.zeros((), bool)]
        _Ranged(seen, products)(program, leaves)
        return jnp.any(jnp.stack(seen))

    return run


class _Ranged(Evaluation):
    """Looks at each number outside of loops and branches."""

    def __init__(self, seen: list[Any], products: frozenset[str]):
        self.seen, self.products = seen, products

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
            if eqn.primitive.name in self.products:
                factors = [jnp.broadcast_to(v, jnp.shape(y)) for v in map(jnp.asarray, x)]
                alive = jnp.stack([v != 0 for v in factors])
                self.seen.append(jnp.any((y == 0) & jnp.all(alive, 0)))
        return outs

    def parameter(self, value: Any) -> Any:
        return value
