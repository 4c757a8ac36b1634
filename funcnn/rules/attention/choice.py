"""Whether a call of attention may be cuDNN's: by name, and by what is known before it runs.

cuDNN gets only what it does as the blocks do; the first thing that it does not, or does not
promise, is the reason why a call stays with the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from funcnn.rules.attention.arguments import Given, Options, sight_of

# A width that cuDNN has both passes for on every GPU since compute capability 8.0.
WIDEST = 128


class Choice(NamedTuple):
    """What computes a call of attention, and why in one line.

    >>> Choice("blocks", "asked for").name
    'blocks'
    """

    name: Literal["blocks", "cudnn"]
    reason: str


def chosen(given: Given, options: Options) -> Choice:
    """What computes a call; its arrays may be `jax.ShapeDtypeStruct`."""
    if options.implementation == "blocks":
        return Choice("blocks", "asked for")
    refused = next(_refusals(given, options), None)
    if refused is not None:
        return Choice("blocks", refused)
    return Choice("cudnn", "asked for, on CUDA; on other platforms the blocks")


def _refusals(given: Given, options: Options) -> Iterator[str]:
    """Why cuDNN cannot take a call, one line each."""
    q, k, v = given.q, given.k, given.v
    if q.dtype.name not in ("bfloat16", "float16"):
        yield f"cuDNN takes bfloat16 and float16, and this is {q.dtype.name}"
    if 0 in (*q.shape, *k.shape, *v.shape):
        yield "an array is empty"
    if q.shape[3] != v.shape[3] or q.shape[3] % 8 or q.shape[3] > WIDEST:
        yield (
            "cuDNN takes heads of one width, a multiple of 8 and at most "
            f"{WIDEST}, and these are {q.shape[3]} and {v.shape[3]} wide"
        )
    if 1 in (q.shape[1], k.shape[1]):
        yield "one query or one key is no work for cuDNN"
    if given.bias is not None:
        yield "a bias: cuDNN would round it and its gradient to the dtype of q"
    if given.mask is not None:
        yield "a mask: cuDNN adds a large number in its place, and a row that sees nothing is not 0"
    if options.soft_cap is not None:
        yield "cuDNN has no soft cap"
    if given.key is not None and options.dropout:
        yield "cuDNN draws its dropout from a number known before, not from a key"
    if options.scale is not None and options.scale <= 0:
        yield "the scale is not positive"
    yield from _refused_sights(given, options)


def _refused_sights(given: Given, options: Options) -> Iterator[str]:
    sight = sight_of(options.causal, options.window)
    if sight.after not in (None, 0) or (sight.before is not None and sight.after is None):
        yield "cuDNN's window ends at the place of the query: causal=True, or after=0"
    if sight.after == 0 and given.q.shape[1] != given.k.shape[1]:
        yield "causal, with other places of keys than of queries"
    if given.lengths is not None and sight.before is not None:
        yield "lengths and a window: a row may see nothing, and what it is, cuDNN does not say"
