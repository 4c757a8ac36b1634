"""The block of a transformer: attention and a small network for each place, both residual."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

from funcnn import rules
from funcnn.core.beside import pass_beside
from funcnn.core.composition import chain, parallel, residual
from funcnn.core.layer import Layer, constructor, no_params
from funcnn.core.registry import Rule
from funcnn.core.remat import remat
from funcnn.core.usage import positive_integer
from funcnn.layers.activation import gelu, relu, silu
from funcnn.layers.attention import SMALL, attend, heads_of
from funcnn.layers.linear import Initializer, dense
from funcnn.layers.normalization import layer_norm, rms_norm
from funcnn.layers.shape import dropout as dropped
from funcnn.types import Array, Key, Params, PyTree, Residuals

Norm = Literal["layer", "rms"]
Activation = Literal["gelu", "gelu_erf", "relu", "silu", "swiglu", "geglu"]
_PLAIN = {"gelu": gelu(), "gelu_erf": gelu(approximate=False), "relu": relu, "silu": silu}
_GATED = {"swiglu": rules.swiglu, "geglu": rules.geglu}


@constructor
def transformer_block(
    width: int,
    heads: int,
    *,
    hidden: int | None = None,
    key_heads: int | None = None,
    norm: Norm = "layer",
    epsilon: float = 1e-5,
    activation: Activation = "gelu",
    bias: bool = True,
    mlp_bias: bool | None = None,
    dropout: float = 0.0,
    post_norm: bool = False,
    initializer: Initializer = SMALL,
    last_initializer: Initializer | None = None,
    **options: Any,
) -> Layer:
    """z = x + attention(norm x), y = z + mlp(norm z), with x, y (B, T, width).

    With `post_norm`: z = norm(x + attention x), y = norm(z + mlp z), as in Vaswani et al., 2017.
    Of a pair (x, seen) it makes (y, seen): lengths or a mask of keys, as in `attend`.

    What its own passes keep, of x, y (B, T, D) and an mlp of 4 D: x, q, k, v, the heads' output, z,
    and the mlp before its activation: 10 B T D numbers. The norms and the activation are computed
    again in the backward pass, and no product but q kᵀ. Autodiff of the same in plain JAX, all in
    bfloat16, keeps 32 to 36 B T D, and 5.5 B H T² of attention (examples/attention, step 5). With
    `post_norm` it is 12 B T D: both sums, too, of which the norms are.
    Where blocks are repeated, `fnn.repeat(block, n, keep="residuals")` stacks just that.

    Args:
        width: D.
        heads: of the queries; they divide width.
        hidden: how wide the mlp is inside; None for 4 width.
        key_heads: of keys and values, which divide `heads`; None for as many.
        norm, epsilon: "layer" or "rms", and what stands under its root.
        activation: "gelu" (tanh form), "gelu_erf", "relu" or "silu" of one product, or "swiglu" or
            "geglu" of two.
        bias, mlp_bias: whether the products have a b, and those of the mlp (None: the same).
        dropout: with a key, of the weights of attention and of what is added to x and z.
        post_norm: whether the norms stand behind the sums.
        initializer, last_initializer: draw the products, and those that are added to x and z
            (None: the same).
        options: of `attend`: causal, window, scale, soft_cap, rotary, alibi, implementation.

    Raises:
        ValueError: an option is outside its range.

    >>> import jax, jax.numpy as jnp
    >>> block = transformer_block(8, 2, causal=True)
    >>> params = block.init(jax.random.key(0), jnp.ones((1, 3, 8)))
    >>> jax.tree.map(jnp.shape, params["mlp"]["body"]["out"]["dense"])
    {'b': (8,), 'w': (32, 8)}
    """
    _one_of("norm", norm, ("layer", "rms"))
    _one_of("activation", activation, (*_PLAIN, *_GATED))
    width = positive_integer("transformer_block", "width", width)
    hidden = positive_integer(
        "transformer_block", "hidden", 4 * width if hidden is None else hidden
    )
    in_mlp = bias if mlp_bias is None else mlp_bias
    products = heads_of("transformer_block", width, heads, key_heads, bias, initializer)
    attention = attend(heads, key_heads=key_heads, dropout=dropout, **options)
    last = functools.partial(dense, width, initializer=last_initializer or initializer)
    up = dense(hidden, bias=in_mlp, initializer=initializer)
    normed = layer_norm(epsilon) if norm == "layer" else rms_norm(epsilon)
    if activation in _GATED:
        up, unit = parallel(up=up, gate=up), _pair(_GATED[activation])
    else:
        unit = _PLAIN[activation]
    into_heads = products if post_norm else remat(chain(norm=normed, heads=products))
    into_mlp = up if post_norm else remat(chain(norm=normed, up=up))
    out_of_mlp = remat(chain(unit, dense=last(bias=in_mlp)))
    drop = {"dropout": pass_beside(dropped(dropout))} if dropout else {}
    parts = {"inputs": pass_beside(into_heads), "attend": attention}
    of_places = residual(chain(**parts, out=pass_beside(last(bias=bias)), **drop))
    of_mlp = pass_beside(residual(chain(inputs=into_mlp, out=out_of_mlp, **drop)))
    if not post_norm:
        return chain(attention=of_places, mlp=of_mlp)
    of_sum = pass_beside(remat(normed))
    return chain(attention=of_places, attention_norm=of_sum, mlp=of_mlp, mlp_norm=of_sum)


def _one_of(what: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise ValueError(f"transformer_block: {what} is one of {known}, found {found!r}")


def _pair(rule: Rule) -> Layer:
    """A rule of two arrays as a layer that takes a tuple of them."""
    of = _Pair(rule)
    return Layer(rule.name, no_params, of.apply, of.forward, of.recursion, rule=rule)


@dataclasses.dataclass(frozen=True)
class _Pair:
    rule: Rule

    def apply(self, params: Params, x: PyTree, key: Key | None) -> Array:
        return self.rule(*x)

    def forward(self, params: Params, x: PyTree, key: Key | None) -> tuple[Array, Residuals]:
        return self.rule.forward(*x, **self.rule.static_arguments())

    def recursion(
        self, params: Params, res: Residuals, dy: Array
    ) -> tuple[Params, PyTree, dict[str, Array]]:
        return {}, self.rule.backward(res, dy, **self.rule.static_arguments()), {}
