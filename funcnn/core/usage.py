"""What a layer says where it is used wrongly: one line, with what would be right."""

from __future__ import annotations

import functools
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, SupportsIndex, cast

import jax
import jax.numpy as jnp

from funcnn.core.registry import Rule, registered_rules
from funcnn.types import PyTree


class MissingStatistics(ValueError):
    """A layer that normalises by given statistics was called without any, and without a key.

    >>> print(MissingStatistics("block/batch_norm_0"))
    block/batch_norm_0: no statistics to evaluate with: fold those of training into the params, \
fnn.fold_statistics(params, statistics), or pass a key to use the batch's own
    """

    def __init__(self, path: str = "", frozen: bool = False):
        own = "" if frozen else ", or pass a key to use the batch's own"
        super().__init__(
            f"{path or 'batch_norm'}: no statistics to evaluate with: fold those of training into "
            f"the params, fnn.fold_statistics(params, statistics){own}"
        )
        self.path, self.frozen = path, frozen

    def inside(self, name: str) -> MissingStatistics:
        """The same error of a layer inside the one of this name."""
        return MissingStatistics(f"{name}/{self.path}".rstrip("/"), self.frozen)


class MissingParameter(KeyError):
    """The params of a layer lack one of its parameters.

    >>> print(MissingParameter("dense", "w", ["b"]).inside("head"))
    head: parameter 'w' is missing: params hold b
    """

    def __init__(self, kind: str, name: str, present: Iterable[str], path: str = ""):
        super().__init__(kind, name, present, path)
        held = ", ".join(map(str, present)) or "no parameters"
        self._text = f"{path or kind}: parameter {name!r} is missing: params hold {held}"

    def __str__(self) -> str:
        return self._text  # KeyError would put it in quotes

    def inside(self, name: str) -> MissingParameter:
        """The same error of a layer inside the one of this name."""
        kind, parameter, present, path = self.args
        return MissingParameter(kind, parameter, present, f"{name}/{path}".rstrip("/"))


def parameter(kind: str, params: Mapping[str, Any], name: str) -> PyTree:
    """One parameter of a layer, or a MissingParameter.

    >>> parameter("dense", {"w": 1.0}, "w")
    1.0
    """
    if name not in params:
        raise MissingParameter(kind, name, list(params))
    return params[name]


def how_to_call(kind: str, unknown: Iterable[str] = (), rule: Rule | None = None) -> str:
    """How a layer, perhaps that of a rule, is called, for one called with other arguments.

    >>> how_to_call("gru", ["train"])
    'gru takes no option train: call it as gru(params, x) or, to train, gru(params, x, key=key)...'
    """
    what = f"takes no option {', '.join(unknown)}" if unknown else "is a layer"
    usage = f"{kind} {what}: call it as {kind}(params, x) or, to train, {kind}(params, x, key=key)"
    # The name of somebody else's rule has a dot in it.
    if rule is None or "." in rule.name or rule.name not in registered_rules():
        return usage
    return f"{usage}; as a function of arrays alone it is fnn.rules.{rule.name}"


def checked_init(kind: str, init: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The init that says in one line what is wrong with its arguments.

    >>> checked_init("dense", lambda key, x: {})(None, (2, 3))
    Traceback (most recent call last):
    TypeError: dense.init(jax.random.key(0), x): x is an array or a jax.ShapeDtypeStruct, found ...
    """
    if hasattr(init, "says_what_is_wrong"):
        return init
    usage = f"{kind}.init(jax.random.key(0), x)"

    @functools.wraps(init)
    def checked(*args: Any, **named: Any) -> PyTree:
        if len(args) + len(named) != 2 or not set(named) <= {"key", "x"}:
            given = len(args) + len(named)
            number = f"{given} argument{'' if given == 1 else 's'}"
            raise TypeError(f"{usage} takes a key and an input, found {number}")
        key, x = (*args, *(named[n] for n in ("key", "x") if n in named))
        if _is_key(x) or not (key is None or _is_key(key)):
            raise TypeError(
                f"{usage}: first a key, then x; found {in_a_word(key)} and {in_a_word(x)}"
            )
        sizes = isinstance(x, (list, tuple)) and all(isinstance(n, (int, float)) for n in x)
        if x is None or sizes:
            raise TypeError(f"{usage}: x is an array or a jax.ShapeDtypeStruct, found {x!r}")
        return init(key, x)

    checked.__dict__["says_what_is_wrong"] = True
    return checked


def _is_key(x: PyTree) -> bool:
    dtype = getattr(x, "dtype", None)
    return dtype is not None and (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == "uint32")


def in_a_word(x: PyTree) -> str:
    """The dtype and shape of an array, the type of anything else.

    >>> in_a_word(jax.random.key(0)), in_a_word({})
    ('key<fry>[]', 'dict')
    """
    shape = getattr(x, "shape", None)
    if shape is None or not hasattr(x, "dtype"):
        return type(x).__name__
    return f"{x.dtype}[{', '.join(map(str, shape))}]"


def as_integer(value: object) -> int | None:
    """The value as an integer, also one of NumPy's; None where it is none, and True is none.

    >>> as_integer(3), as_integer(True), as_integer(3.0)
    (3, None, None)
    """
    try:
        return None if isinstance(value, bool) else operator.index(cast(Any, value))
    except TypeError:
        return None


def is_positive_integer(value: object) -> bool:
    """Whether a value counts something of which there is one at least.

    >>> is_positive_integer(1), is_positive_integer(0), is_positive_integer(True)
    (True, False, False)
    """
    return (as_integer(value) or 0) > 0


def positive_integer(layer: str, name: str, value: SupportsIndex) -> int:
    """The value as an integer; a ValueError in the name of the layer where it is none above 0.

    >>> positive_integer("dense", "features", 0)
    Traceback (most recent call last):
    ValueError: dense: features is a positive integer, found 0
    """
    number = as_integer(value)
    if number is None or number < 1:
        raise ValueError(f"{layer}: {name} is a positive integer, found {value!r}")
    return number


def what_it_is(f: object) -> str:
    """What stands where a layer should, and what was probably meant.

    >>> what_it_is("relu")
    "'relu': give the layer itself, such as fnn.relu"
    """
    if isinstance(f, type):
        return f"the class {f.__name__}"
    if isinstance(f, (list, tuple)):
        return f"{type(f).__name__}: give its layers one by one, chain(*layers)"
    if isinstance(f, Mapping):
        return f"{type(f).__name__}: give its layers by name, chain(**layers)"
    if isinstance(f, str):
        return f"{f!r}: give the layer itself, such as fnn.relu"
    if hasattr(f, "shape"):
        return f"{in_a_word(f)}: give the layer itself, not what it returns"
    return repr(f)


def number(layer: str, name: str, value: object) -> None:
    """A ValueError in the name of the layer where an option is no number.

    >>> number("elu", "alpha", "1")
    Traceback (most recent call last):
    ValueError: elu: alpha is a number, found '1'
    """
    if isinstance(value, (bool, complex)) or not isinstance(value, numbers.Real):
        raise ValueError(f"{layer}: {name} is a number, found {value!r}")


def function(layer: str, name: str, value: object) -> None:
    """A ValueError in the name of the layer where an option is no function.

    >>> function("dense", "initializer", "he")
    Traceback (most recent call last):
    ValueError: dense: initializer is a function, such as those of jax.nn.initializers, found 'he'
    """
    if not callable(value):
        raise ValueError(
            f"{layer}: {name} is a function, such as those of jax.nn.initializers, found {value!r}"
        )


def hashable(value: object) -> PyTree:
    """Lists, as they come out of a config, as tuples.

    >>> hashable([1, [2, 3]])
    (1, (2, 3))
    """
    return tuple(map(hashable, value)) if isinstance(value, (list, tuple)) else value
