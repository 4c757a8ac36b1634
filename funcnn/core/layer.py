"""A layer: two pure functions, `init(key, x) -> params` and `apply(params, x, key) -> y`.

A layer made from a rule also carries the rule's hand-derived passes, so that `fnn.backprop` can
walk a whole network without automatic differentiation. How layers compose is in composition.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import jax

from funcnn.core.contract import explained, without_types
from funcnn.core.given import described
from funcnn.core.memory import Memory
from funcnn.core.registry import Rule, registered_rules
from funcnn.core.usage import checked_init, how_to_call, in_a_word, parameter, what_it_is
from funcnn.types import Array, ArrayLike, Key, Params, PyTree, Residuals

# What a constructor of layers takes.
Options = ParamSpec("Options")
Init = Callable[[Key, PyTree], Params]
Apply = Callable[[Params, PyTree, Key | None], PyTree]
Forward = Callable[[Params, PyTree, Key | None], tuple[PyTree, Residuals]]
# The path of a layer's parameters -> mean, variance and number of rows.
Statistics = dict[str, tuple[Array, Array, ArrayLike]]
Recursion = Callable[[Params, Residuals, PyTree], tuple[Params, PyTree, dict[str, Array]]]
# What the steps through the parts of a composition returned beside y, by the name of the part.
Extras = dict[str, PyTree]
# Their params may have something beside them: `Beside` in memory.py.
Step = Callable[["Layer", PyTree, PyTree, Key | None], tuple[PyTree, PyTree]]
Flow = Callable[[Step, PyTree, PyTree, Key | None], tuple[PyTree, Extras]]


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A pure function `y = layer(params, x, key=None)` with the function that draws its params.

    `params` is a nested dict of arrays, empty for a layer without any. Passing `key` asks for the
    training-time behaviour (dropout, the batch's own statistics); without it the layer is
    deterministic.

    Attributes:
        kind: what it is called, "conv"; unnamed layers are numbered within their kind. It is shown
            and decides nothing: what a layer can do, the other attributes say.
        init: `(key, x) -> params`; `x` may be a `jax.ShapeDtypeStruct`.
        apply: `(params, x, key) -> y`.
        forward: `(params, x, key) -> (y, res)`, or None where there is no hand-derived gradient.
        recursion: `(params, res, dy) -> (dparams, dx, deltas)`, where `deltas` maps the path of
            each part to the cotangent of its output, last part first.
        parts: the layers that a composition is made of, by name.
        outputs: `(params, x, key) -> (y, {path: output of that part})`.
        collect: `(params, x, key) -> (y, statistics)`, or None where the layer takes none.
        carries: whether the layer takes `(carry, x)` in place of x and returns `(carry, y)` then.
        rule: the rule of arrays that it applies in training, or None.
        sequential: whether its parts run one after the other and `forward` keeps their residuals by
            name, so that its backward pass can be taken part by part.
        stacked: whether its params are those of its one part, stacked on axis 0, without the name.
        rebuild: the same composition of other parts of the same names, or None where there is none.
        flow: how x flows through its parts, with one step of each: see parts.py.
        memory: what it keeps of the places before, to go on from there; None for a layer that
            treats each place alone, and for a composition.

    >>> import jax, jax.numpy as jnp
    >>> def init(key, x):
    ...     return {"a": 2 * jnp.ones(())}
    >>> double = Layer("double", init, lambda params, x, key: params["a"] * x)
    >>> params = double.init(jax.random.key(0), jnp.ones(3))
    >>> double(params, jnp.ones(3))
    Array([2., 2., 2.], dtype=float32)
    """

    kind: str
    init: Init
    apply: Apply
    forward: Forward | None = None
    recursion: Recursion | None = None
    parts: Mapping[str, Layer] = dataclasses.field(default_factory=dict)
    outputs: Callable[[Params, PyTree, Key | None], tuple[PyTree, dict[str, Array]]] | None = None
    collect: Callable[[Params, PyTree, Key | None], tuple[PyTree, Statistics]] | None = None
    carries: bool = False
    rule: Rule | None = None
    sequential: bool = False
    stacked: bool = False
    rebuild: Callable[[Mapping[str, Layer]], Layer] | None = None
    flow: Flow | None = None
    memory: Memory | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "init", checked_init(self.kind, self.init))

    def __call__(self, *args: PyTree, key: Key | None = None, **unknown: PyTree) -> PyTree:
        """`layer(params, x)` or, for the training-time behaviour, `layer(params, x, key=key)`."""
        if len(args) != 2 or unknown:
            raise TypeError(how_to_call(self.kind, unknown, self.rule))
        params, x = args
        # A foreign function may have params of any kind.
        if (self.parts or self.forward) and not isinstance(params, Mapping):
            raise TypeError(
                f"{self.kind}: params come first, the dict that {self.kind}.init(key, x) returns, "
                f"then x; found {in_a_word(params)} and {in_a_word(x)}"
            )
        if key is not None and not hasattr(key, "dtype"):
            raise TypeError(f"{self.kind}: key is jax.random.key(seed) or None, found {key!r}")
        try:
            return self.apply(*args, key)
        except TypeError as error:
            if explanation := explained(self.kind, error):
                raise explanation from error
            raise

    def backward(self, params: Params, res: Residuals, dy: PyTree) -> tuple[Params, PyTree]:
        """`(dparams, dx)` from what `forward` kept and the cotangent of the output."""
        if self.recursion is None:
            raise TypeError(f"{self.kind}: no hand-derived backward pass")
        return self.recursion(params, res, dy)[:2]

    def statistics(self, params: Params, x: PyTree, key: Key | None) -> Statistics:
        """`{path: (mean, variance, count)}` of the batch x, for each batch norm inside."""
        return self.value_and_statistics(params, x, key)[1]

    def value_and_statistics(
        self, params: Params, x: PyTree, key: Key | None
    ) -> tuple[PyTree, Statistics]:
        """The training-time `layer(params, x, key=key)` and the statistics, in one pass."""
        if self.collect is None:
            return self.apply(params, x, key), {}
        return self.collect(params, x, key)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={part!r}" for name, part in self.parts.items())
        return f"{self.kind}({inside})" if inside else self.kind


def no_params(key: Key, x: PyTree) -> Params:
    """The init of a layer without parameters.

    >>> no_params(None, None)
    {}
    """
    return {}


def layer_from_rule(
    rule: Rule, *, init: Init = no_params, kind: str | None = None, **static: Any
) -> Layer:
    """A layer whose passes are the rule's own.

    The first argument of the rule is the layer's input; an argument named `key` gets the key; each
    other one is the parameter of its name, or its default where params have none (no bias). A rule
    that takes a key is the identity without one.

    Args:
        rule: the rule; `static` are its static arguments, checked here.
        init: draws the parameters, a dict with the rule's own names.
        kind: the layer's kind, by default the rule's name.

    >>> import jax.numpy as jnp
    >>> from funcnn import rules
    >>> layer_from_rule(rules.leaky_relu, slope=0.5)({}, jnp.array([-2.0, 2.0]))
    Array([-1.,  2.], dtype=float32)
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"layer_from_rule: expected a Rule, found {described(rule)}")
    kind = kind or rule.name.rsplit(".", 1)[-1]
    call = functools.partial(_arguments, rule, kind)
    asks_for_key = "key" in rule.parameters

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return x if asks_for_key and key is None else rule(*call(params, x, key), **static)

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Residuals]:
        if asks_for_key and key is None:
            return x, None
        args, full_static = rule.bind(*call(params, x, key), **static)
        y, res = rule.forward(*args, **full_static)
        return y, (res,)  # a rule may keep nothing; None alone says that there was no key

    def recursion(
        params: Params, res: Residuals, dy: PyTree
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        if res is None:
            return {}, dy, {}
        cotangents = dict(zip(rule.parameters, rule.backward(*res, dy, **defaults), strict=True))
        dx = cotangents[rule.parameters[0]]
        return {name: cotangents[name] for name in params}, dx, {}

    defaults = rule.static_arguments(**static)
    layer = Layer(kind, init, apply, forward, recursion, rule=rule)
    object.__setattr__(layer, "__doc__", rule.__doc__)  # help(fnn.relu) shows the derivation
    return layer


def _arguments(
    rule: Rule, kind: str, params: Params, x: PyTree, key: Key | None
) -> tuple[Any, ...]:
    """The rule's arguments out of a layer's params, input and key."""
    values: list[Any] = [x]
    for name in rule.parameters[1:]:
        if name == "key":
            values.append(key)
        elif name in params or rule.default(name) is inspect.Parameter.empty:
            values.append(parameter(kind, params, name))
        else:
            values.append(rule.default(name))
    return tuple(values)


def constructor(make: Callable[Options, Layer]) -> Callable[Options, Layer]:
    """Mark a function that makes a layer, so that using it as one is a clear error.

    >>> import jax.numpy as jnp
    >>> @constructor
    ... def scale(factor=2.0):
    ...     return as_layer(lambda params, x: factor * x)
    >>> scale(jnp.ones(3))
    Traceback (most recent call last):
    TypeError: scale makes a layer from its options and takes no arrays: ...
    """

    @functools.wraps(make)
    def checked(*args: Options.args, **options: Options.kwargs) -> Layer:
        if any(isinstance(a, jax.Array) for a in (*args, *options.values())):
            name = make.__name__
            of_arrays = f", or fnn.rules.{name}" if name in registered_rules() else ""
            raise TypeError(
                f"{name} makes a layer from its options and takes no arrays: use "
                f"{name}(...)(params, x){of_arrays}"
            )
        return make(*args, **options)

    checked.__dict__["makes_layer"] = True
    return checked


def as_layer(f: object, *, init: Init = no_params, kind: str | None = None) -> Layer:
    """Any pure function `f(params, x)` or `f(params, x, key=...)` as a layer.

    It works everywhere except in `fnn.backprop`, which needs hand-derived passes.

    Raises:
        TypeError: `f` is not such a function.

    >>> as_layer(lambda params, x: x + 1)({}, 1.0)
    2.0
    """
    if isinstance(f, Layer):
        return f
    name = getattr(f, "__name__", type(f).__name__)
    if isinstance(f, Rule):
        raise TypeError(
            f"{f.name} is a rule, not a layer: use fnn.{f.name} or layer_from_rule({f.name})"
        )
    if getattr(f, "makes_layer", False):
        raise TypeError(f"{name} makes a layer and is not one: write {name}(...)")
    if not callable(f) or isinstance(f, type):
        raise TypeError(f"a layer is a fnn.Layer or a function f(params, x), found {what_it_is(f)}")
    takes_key = False
    with contextlib.suppress(ValueError):  # builtins and some wrapped callables have no signature
        signature = inspect.signature(f)
        takes_key = "key" in signature.parameters
        try:
            signature.bind(None, None)
        except TypeError:
            raise TypeError(
                f"a layer is a function f(params, x), and {name} takes "
                f"{without_types(signature)}: write lambda params, x: {name}(x) for one of x alone"
            ) from None

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        return f(params, x, key=key) if takes_key else f(params, x)

    return Layer(kind or ("function" if name == "<lambda>" else name), init, apply)


def fold_path(key: Key | None, name: str) -> PyTree:
    """The key of the part called `name`; None stays None.

    Keys follow the path and never the order, so that adding a layer leaves the dropout masks of
    the others as they were. crc32 is stable between runs, where `hash` is not.

    >>> fold_path(None, "conv_0") is None
    True
    """
    return None if key is None else jax.random.fold_in(key, zlib.crc32(name.encode()))


def output_shape(layer: Layer, params: Params, x: PyTree, key: Key | None = None) -> PyTree:
    """The shape and dtype of what a layer returns, with a key in training, without computing it.

    >>> import jax, jax.numpy as jnp
    >>> output_shape(as_layer(lambda params, x: x[0]), {}, jnp.ones((3, 2)))
    ShapeDtypeStruct(shape=(2,), dtype=float32)
    """
    return jax.eval_shape(lambda p, x: layer(p, x, key=key), params, x)


def parameter_count(params: Params) -> int:
    """How many numbers a tree of parameters holds.

    >>> import jax.numpy as jnp
    >>> parameter_count({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)})
    9
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))
