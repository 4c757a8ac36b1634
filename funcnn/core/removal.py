"""Which rules are out of force: `without_rules` opens a context, and each rule asks."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager

import jax


@dataclasses.dataclass(frozen=True)
class Removal:
    """Which rules, by name, are out of force in the context that `without_rules` opens."""

    only: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        """Whether the rule of this name is to be removed.

        >>> Removal(exclude=frozenset({"relu"})).covers("relu")
        False
        """
        return (self.only is None or name in self.only) and name not in self.exclude


# A user context is part of every cache key of jax.jit: a program that was traced with its rules is
# traced again without them.
_removal = jax.make_user_context(default_value=None)


def removing(removal: Removal) -> AbstractContextManager[None]:
    """A context in which the rules that `removal` covers run their references.

    >>> with removing(Removal()):
    ...     pass
    """
    return _removal(removal)


def removal_in_force() -> Removal | None:
    """What the `without_rules` around this call removes; None where there is none around it.

    >>> with removing(Removal(exclude=frozenset({"relu"}))):
    ...     removal_in_force()
    Removal(only=None, exclude=frozenset({'relu'}))
    """
    return _removal.value
