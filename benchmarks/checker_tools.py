"""Gradient checkers, each as a function that returns what it complains about, "" where it is quiet.

All get the same: a function of arrays of floating point that returns a list of such arrays, at the
same numbers. Integers, masks and keys are closed over, and integer results left out, as whoever
uses such a tool does: `check_grads` raises at them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

import funcnn as fnn
from funcnn.core.errors import kind_and_line

Pass = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A function with hand-written derivatives at arguments, as each tool takes it.

    Attributes:
        f: the function; a rule as a `jax.custom_vjp`, which does not look at what it returns.
        args: of any kind.
        dtypes: those in which the rule says that it can be used; none for those of `args`.
        target: what `fnn.check` is given, with its options.
        passes: the forward and the backward pass, of a rule.
    """

    f: Pass
    args: tuple[Any, ...]
    target: Any
    dtypes: tuple[str, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    passes: tuple[Pass, Pass] | None = None

    @property
    def of(self) -> int:
        """Which function it is, whatever its derivative."""
        return id(self.f if self.passes is None else self.target.reference)


def subject(made: tuple[Any, tuple[Any, ...]], **options: Any) -> Subject:
    """Of a rule with its one case, or of a function with arguments, as the catalogues make them."""
    target, args = made
    if not isinstance(target, fnn.Rule):
        return Subject(target, args, target, options=options)
    case = target.cases(jax.random.key(0))[0]
    if case.intent == "surrogate":
        options = {"intent": "surrogate", **options}
    f = custom_vjp(target.reference, target.forward, target.backward)
    passes = (target.forward, target.backward)
    return Subject(f, case.args, target, tuple(case.dtypes), options, passes)


def twin(subject: Subject) -> Subject:
    """The same with the derivative that JAX derives: a tool that complains here knows nothing."""
    if subject.passes is None:
        f = fnn.without_rules(subject.f)
        return dataclasses.replace(subject, f=f, target=f)
    reference = subject.target.reference

    def forward(*args: Any) -> Any:
        return jax.vjp(reference, *args)

    def backward(pull: Any, dy: Any) -> Any:
        return pull(dy)

    rule = subject.target.replace(forward=forward, backward=backward)
    f = custom_vjp(reference, forward, backward)
    return dataclasses.replace(subject, f=f, target=rule, passes=(forward, backward))


def custom_vjp(reference: Pass, forward: Pass, backward: Pass) -> Pass:
    f = jax.custom_vjp(reference)
    f.defvjp(forward, backward)
    return f


def is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def of_floats(f: Pass, args: Any, dtype: str | None) -> tuple[Pass, tuple[Any, ...]]:
    """`f` as a function of its floats alone, which returns floats alone; and those floats."""
    leaves, tree = jax.tree.flatten(args)
    leaves = [jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in leaves]
    places = [i for i, leaf in enumerate(leaves) if is_float(leaf)]

    def run(*x: Any) -> list[Any]:
        given = list(leaves)
        for i, xi in zip(places, x, strict=True):
            given[i] = xi
        return [y for y in jax.tree.leaves(f(*jax.tree.unflatten(tree, given))) if is_float(y)]

    x = (leaves[i] for i in places)
    return run, tuple(jnp.asarray(xi, dtype) for xi in x)


@dataclasses.dataclass(frozen=True)
class Said:
    """What a tool says of a subject.

    Attributes:
        word: "quiet", "complains", "note" (of another setting than the one given) or "undecided".
        text: what it says, in one line.
    """

    word: str
    text: str = ""

    @property
    def kind(self) -> str:
        """The exception: one about the contract is no matter of tolerances."""
        return self.text.partition(":")[0]


QUIET = Said("quiet")


def heard(run: Callable[[], Any]) -> Said:
    """What a tool raises; whatever it is, the tool ends with it."""
    try:
        run()
    except Exception as error:
        return Said("complains", kind_and_line(error))
    return QUIET


# The tools


def by_check_grads(subject: Subject, *, order: int, dtype: str | None = None) -> Said:
    """`jax.test_util.check_grads` with its own tolerances, in all modes that there are.

    In each dtype that the rule declares, or in `dtype`.
    """
    for each in (dtype,) if dtype else (subject.dtypes or (None,)):
        f, x = of_floats(subject.f, subject.args, each)
        said = heard(lambda f=f, x=x: check_grads(f, x, order, modes=modes(f, x)))
        if said != QUIET:
            return said
    return QUIET


def in_float64(subject: Subject) -> Said:
    """`check_grads` of order 2, of a user who takes care: in float64."""
    with jax.enable_x64(True):
        return by_check_grads(subject, order=2, dtype="float64")


def modes(f: Pass, x: tuple[Any, ...]) -> tuple[str, ...]:
    """Reverse mode alone through a custom_vjp: by default `check_grads` raises at all of them."""
    try:
        jax.jvp(f, x, x)
    except TypeError as error:
        if "custom_vjp" in str(error):
            return ("rev",)
    except Exception:  # the tool will meet it
        pass
    return ("fwd", "rev")


def by_gradcheck(subject: Subject, *, order: int) -> Said:
    """`torch.autograd.gradcheck`, and gradgradcheck after it for the second order, in float64."""
    from checker_torch import by_gradcheck

    with jax.enable_x64(True):
        return heard(lambda: by_gradcheck(subject, order))


def by_check(subject: Subject, *, level: Any) -> Said:
    """`fnn.check`."""
    args = () if subject.passes else subject.args
    try:
        report = fnn.check(subject.target, *args, level=level, **subject.options)
    except Exception as error:
        return Said("complains", kind_and_line(error))
    if report.failures:
        return Said("complains", report.failures[0].check)
    if not report.ok:
        return Said("undecided", report.conclusion())
    others = [r.check for r in report.notes if r.setting]
    return Said("note", others[0]) if others else QUIET


TOOLS: dict[str, Callable[[Subject], Said]] = {
    "check_grads": functools.partial(by_check_grads, order=1),
    "check_grads, order 2": functools.partial(by_check_grads, order=2),
    "check_grads, order 2, float64": in_float64,
    "gradcheck": functools.partial(by_gradcheck, order=1),
    "gradcheck and gradgradcheck": functools.partial(by_gradcheck, order=2),
    "fnn.check fast": functools.partial(by_check, level="fast"),
    "fnn.check full": functools.partial(by_check, level="full"),
}
# What a tool does before it goes on: where that complains, the whole complains.
CONTAINS = {
    "check_grads, order 2": "check_grads",
    "gradcheck and gradgradcheck": "gradcheck",
    "fnn.check full": "fnn.check fast",
}
