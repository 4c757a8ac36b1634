"""What a caller of `fit` has done at its events: functions that look on, and may ask to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from funcnn.core.usage import in_a_word
from funcnn.train.state import TrainState
from funcnn.types import Metrics

Record: TypeAlias = Mapping[str, Any]
# What a hook returns: True stops the run; False and None do not.
Answer: TypeAlias = bool | None
OnStep: TypeAlias = Callable[[TrainState, Metrics], Answer]
OnEvaluation: TypeAlias = Callable[[TrainState, Sequence[Record]], Answer]
OnSave: TypeAlias = Callable[[TrainState, Record], Answer]
Hook = TypeVar("Hook", bound=Callable[..., Answer])
# One function, or several that are called in their order.
OneOrMore: TypeAlias = Hook | Sequence[Hook]


class Hooks(NamedTuple):
    """The hooks of one `fit`, by the names of its arguments."""

    on_step: OneOrMore[OnStep] = ()
    on_evaluation: OneOrMore[OnEvaluation] = ()
    on_save: OneOrMore[OnSave] = ()

    def check(self) -> None:
        """Raise TypeError where one of them is no function.

        >>> Hooks(on_save="print").check()
        Traceback (most recent call last):
        TypeError: on_save must be a function, or a list of functions, found a str
        """
        for name, hooks in self._asdict().items():
            for hook in _listed(hooks):
                if not callable(hook):
                    raise TypeError(
                        f"{name} must be a function, or a list of functions, found a "
                        f"{type(hook).__name__}"
                    )

    def ask(self, name: str, position: int, state: TrainState, seen: Any) -> bool:
        """Call the hooks of this name; whether one of them asks to stop.

        All are called, also those after one that asks. An exception passes on with a note that
        names the hook and the step.

        >>> Hooks(on_step=[lambda state, metrics: True, lambda state, metrics: None]).ask(
        ...     "on_step", 1, None, {})
        True
        """
        hooks = _listed(getattr(self, name))
        answers = [_answer(name, hook, position, state, seen) for hook in hooks]
        return any(answers)


def _listed(hooks: OneOrMore[Any]) -> Sequence[Any]:
    return hooks if isinstance(hooks, list | tuple) else [hooks]


def _answer(
    name: str, hook: Callable[..., Answer], position: int, state: TrainState, seen: Any
) -> bool:
    try:
        answer = hook(state, seen)
        if answer is None or isinstance(answer, bool | np.bool_):
            return bool(answer)
        raise TypeError(
            f"a hook returns True to stop the run, or else False or None, found {in_a_word(answer)}"
        )
    except Exception as error:
        own = getattr(hook, "__qualname__", type(hook).__name__)
        error.add_note(f"in the hook {name}, {own}, at step {position}")
        raise
