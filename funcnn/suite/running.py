"""When JAX first runs a compiled program: the one place that rests on a private name of JAX.

JAX has no public way to see a program with the arguments that it runs on. `jax.jit` may be
replaced, but not where a module has taken it already; a primitive's own evaluation is not asked
for a program that runs by itself; `jax.debug.callback` would make the program another one. So one
function of JAX, which is called with a program that is not yet compiled, is replaced while a suite
runs. Where a JAX has no such function, or calls it otherwise, programs run as ever, and nothing is
seen of their operands: `Running.blind` says so.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from funcnn.types import ClosedJaxpr

_MODULE, _RUN = "jax._src.pjit", "_run_python_pjit"


class Running:
    """Shows each compiled program that JAX runs for the first time, with its arguments.

    Args:
        look: what is called with a program and its flat arguments, before it runs.

    Attributes:
        blind: why nothing is seen of programs, or "".

    >>> import jax
    >>> programs = []
    >>> running = Running(lambda program, leaves: programs.append((program, leaves)))
    >>> running.start()
    >>> _ = jax.jit(lambda x: 2 * x + 1)(3.0)
    >>> running.stop()
    >>> program, leaves = programs[-1]
    >>> len(program.eqns), leaves
    (2, [3.0])
    """

    def __init__(self, look: Callable[[ClosedJaxpr, list[Any]], None]):
        self._look = look
        self._module: Any = None
        self._original: Any = None
        self.blind = ""

    def start(self) -> None:
        """From now on."""
        self._module = module = sys.modules.get(_MODULE)  # JAX has imported it, where it has it
        self._original = original = getattr(module, _RUN, None)
        if original is None:
            self.blind = f"this JAX has no {_MODULE}.{_RUN}"
            return

        def run(*args: Any, **keywords: Any) -> Any:
            try:
                program, leaves = args[0].params["jaxpr"], args[1]
            except (AttributeError, IndexError, KeyError, TypeError) as error:
                self.blind = f"{_RUN} of this JAX has other arguments ({type(error).__name__})"
            else:
                with contextlib.suppress(Exception):  # the program says what is wrong with it
                    self._look(program, list(leaves))
            return original(*args, **keywords)

        setattr(module, _RUN, run)

    def stop(self) -> None:
        """Everything is as it was before `start`."""
        if self._original is not None:
            setattr(self._module, _RUN, self._original)
            self._original = None
