"""Layers that normalise; scale starts at 1 and bias at 0."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from funcnn import rules
from funcnn.core.layer import Layer, Statistics, constructor, layer_from_rule
from funcnn.core.usage import MissingStatistics, number, parameter, positive_integer
from funcnn.layers.parameters import parameter_dtype
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, Key, Params, PyTree, Residuals

# By these names params hold statistics that a key does not replace by the batch's own.
_FROZEN = ("frozen_mean", "frozen_variance")


def _of_evaluation(params: Params) -> tuple[str, str]:
    """The names of the statistics that params are evaluated with."""
    return _FROZEN if set(_FROZEN) <= set(params) else ("mean", "variance")


def _init(key: Key, x: PyTree, bias: bool = True) -> Params:
    dtype = parameter_dtype(x)
    params = {"scale": jnp.ones(x.shape[-1:], dtype)}
    return {**params, "bias": jnp.zeros(x.shape[-1:], dtype)} if bias else params


def _positive(layer: str, epsilon: float) -> None:
    number(layer, "epsilon", epsilon)
    if not epsilon > 0:
        raise ValueError(f"{layer}: epsilon is positive, found {epsilon!r}")


@constructor
def layer_norm(epsilon: float = 1e-5) -> Layer:
    """Each row of x (..., D) less its mean, over its deviation; times scale (D), plus bias (D).

    Raises:
        ValueError: epsilon is not positive.

    >>> layer = layer_norm()
    >>> x = jnp.array([[1.0, 3.0]])
    >>> layer(layer.init(None, x), x).round(3)
    Array([[-1.,  1.]], dtype=float32)
    """
    _positive("layer_norm", epsilon)
    return layer_from_rule(rules.layer_norm, init=_init, epsilon=epsilon)


@constructor
def rms_norm(epsilon: float = 1e-6) -> Layer:
    """Each row of x (..., D) over the root of its mean square; times scale (D).

    Raises:
        ValueError: epsilon is not positive.

    >>> layer = rms_norm()
    >>> x = jnp.array([[3.0, -3.0]])
    >>> layer(layer.init(None, x), x).round(3)
    Array([[ 1., -1.]], dtype=float32)
    """
    _positive("rms_norm", epsilon)
    init = functools.partial(_init, bias=False)
    return layer_from_rule(rules.rms_norm, init=init, epsilon=epsilon)


@constructor
def group_norm(groups: int, epsilon: float = 1e-5) -> Layer:
    """The channels of each image of x (N, ..., C) normalised in `groups` runs of neighbours.

    Raises:
        ValueError: groups or epsilon is not positive; at `init`, groups do not divide C.

    >>> layer = group_norm(2)
    >>> x = jnp.array([[1.0, 3.0, 50.0, 40.0]])
    >>> layer(layer.init(None, x), x).round(3)
    Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """
    _positive("group_norm", epsilon)
    groups = positive_integer("group_norm", "groups", groups)

    def init(key: Key, x: PyTree) -> Params:
        if x.shape[-1] % groups:
            raise ValueError(
                f"group_norm: {x.shape[-1]} channels cannot be divided into {groups} groups"
            )
        return _init(key, x)

    return layer_from_rule(rules.group_norm, init=init, groups=groups, epsilon=epsilon)


@constructor
def instance_norm(epsilon: float = 1e-5) -> Layer:
    """Each channel of each image of x (N, ..., C) normalised over its pixels.

    Raises:
        ValueError: epsilon is not positive.

    >>> layer = instance_norm()
    >>> x = jnp.array([[[1.0], [3.0]]])
    >>> layer(layer.init(None, x), x).ravel().round(3)
    Array([-1.,  1.], dtype=float32)
    """
    _positive("instance_norm", epsilon)
    return layer_from_rule(rules.instance_norm, init=_init, epsilon=epsilon)


@constructor
def batch_norm(epsilon: float = 1e-5, *, frozen: bool = False) -> Layer:
    """Each channel of x (N, ..., C) normalised over the batch; times scale (C), plus bias (C).

    With a key the mean and variance are the batch's own, and gradients go through them; without
    one they are `mean` and `variance` among the params, which `fnn.fold_statistics` puts there.
    `model.statistics(params, x, key)` returns those of a batch.

    What a key asks for can be had apart. Statistics that `fnn.fold_statistics(..., frozen=True)`
    has folded in are used with a key, too, as constants, beside a dropout that drops: to go on
    training a trained model, or to draw from it. The batch's own without a key, beside a dropout
    that does not drop, are those of `model.value_and_statistics(params, x, None)`.

    Args:
        epsilon: what is added to the variance.
        frozen: whether they always are those among the params, with a key, too, however they are
            folded in. They are constants then, whose gradient is 0, and none are taken of a batch.
            Folded inside the loss they stay out of the optimiser, whose weight decay moves them.
            `init` draws them too, as NaN: there are none before they are folded in or loaded.

    Raises:
        ValueError: epsilon is not positive; where it is evaluated without statistics.

    >>> import jax
    >>> layer, x = batch_norm(), jnp.array([[1.0], [3.0]])
    >>> params = layer.init(None, x)
    >>> layer(params, x, key=jax.random.key(0)).round(3)
    Array([[-1.],
           [ 1.]], dtype=float32)
    >>> layer({**params, "mean": jnp.zeros(1), "variance": jnp.ones(1)}, x).round().ravel()
    Array([1., 3.], dtype=float32)
    """
    _positive("batch_norm", epsilon)

    def init(key: Key, x: PyTree) -> Params:
        params = _init(key, x)
        unknown = jnp.full(x.shape[-1:], jnp.nan, accumulator(params["scale"]))
        return {**params, "mean": unknown, "variance": unknown} if frozen else params

    def learnt(params: Params) -> tuple[Any, ...]:
        return tuple(parameter("batch_norm", params, name) for name in ("scale", "bias"))

    def constant(params: Params) -> bool:
        return frozen or set(_FROZEN) <= set(params)

    def given(params: Params) -> tuple[Any, ...]:
        names, (scale, bias) = _of_evaluation(params), learnt(params)
        if not set(names) <= set(params):
            raise MissingStatistics(frozen=frozen)
        statistics = [params[name] for name in names]
        if constant(params):
            statistics = jax.lax.stop_gradient(statistics)
        return scale, bias, *statistics

    def apply(params: Params, x: PyTree, key: Key | None) -> PyTree:
        if key is None or constant(params):
            return rules.batch_norm_evaluation(x, *given(params), epsilon=epsilon)
        return rules.batch_norm(x, *learnt(params), epsilon=epsilon)[0]

    def collect(params: Params, x: PyTree, key: Key | None) -> tuple[PyTree, Statistics]:
        if constant(params):
            return apply(params, x, key), {}
        y, mean, variance = rules.batch_norm(x, *learnt(params), epsilon=epsilon)
        count = jnp.full((), math.prod(x.shape[:-1]), mean.dtype)
        return y, {"": (mean, variance, count)}

    def forward(params: Params, x: PyTree, key: Key | None) -> tuple[Any, dict[str, Any]]:
        if key is None or constant(params):
            rule = rules.batch_norm_evaluation
            y, res = rule.forward(x, *given(params), epsilon=epsilon)
            return y, {"given": res}
        scale, bias = learnt(params)
        (y, *_), res = rules.batch_norm.forward(x, scale, bias, epsilon=epsilon)
        return y, {"own": res}

    def recursion(
        params: Params, res: Residuals, dy: PyTree
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        if "given" in res:
            rule = rules.batch_norm_evaluation
            dx, *cotangents = rule.backward(res["given"], dy, epsilon=epsilon)
            names = ("scale", "bias", *_of_evaluation(params))
            gradients = dict(zip(names, cotangents, strict=True))
            used = names[:2] if constant(params) else names
            zeros = {n: jnp.zeros_like(p) for n, p in params.items() if n not in used}
            return {**{n: gradients[n] for n in used}, **zeros}, dx, {}
        rstd = res["own"][1].rstd
        none = jnp.zeros(rstd.size, rstd.dtype)  # (C,), the loss does not ask for the statistics
        cotangents = rules.batch_norm.backward(res["own"], (dy, none, none), epsilon=epsilon)
        gradients = dict(zip(("scale", "bias"), cotangents[1:], strict=True))
        zeros = {n: jnp.zeros_like(p) for n, p in params.items() if n not in gradients}
        return {**gradients, **zeros}, cotangents[0], {}

    takes = None if frozen else collect
    passes = forward, recursion
    return Layer("batch_norm", init, apply, *passes, collect=takes, rule=rules.batch_norm)
