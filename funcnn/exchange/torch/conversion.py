"""The arrays of a module of torch's as the params of a layer of ours, by the rule of the layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from funcnn import rules
from funcnn.core.registry import Rule
from funcnn.types import Shape

Arrays = Mapping[str, np.ndarray]


def dense(theirs: Arrays) -> Arrays:
    """`Linear`, y = x Wᵀ + b.

    >>> dense({"weight": np.ones((2, 3))})["w"].shape
    (3, 2)
    """
    return {"w": theirs["weight"].T, **_bias(theirs)}  # (D, features)


def conv(theirs: Arrays) -> Arrays:
    """`Conv1d` to `Conv3d`, whose windows are (O, I / groups, *window).

    >>> conv({"weight": np.ones((5, 4, 3, 2))})["w"].shape
    (3, 2, 4, 5)
    """
    w = theirs["weight"]
    return {"w": w.transpose(*range(2, w.ndim), 1, 0), **_bias(theirs)}  # (*window, I, O)


def conv_transposed(theirs: Arrays) -> Arrays:
    """`ConvTranspose1d` to `ConvTranspose3d`: (I, O, *window), and turned round along each axis.

    Theirs is the input gradient of a convolution with W, y[p s + j] += x[p] W[j]; ours a sum over
    the positions before and behind, y[q] = Σ_j z[q + j] w[j]; so that w[j] = W[k - 1 - j].

    >>> conv_transposed({"weight": np.arange(3).reshape(1, 1, 3)})["w"].ravel().tolist()
    [2, 1, 0]
    """
    w = theirs["weight"]
    w = np.flip(w, tuple(range(2, w.ndim)))
    return {"w": w.transpose(*range(2, w.ndim), 0, 1), **_bias(theirs)}  # (*window, I, O)


def embedding(theirs: Arrays) -> Arrays:
    """`Embedding`.

    >>> embedding({"weight": np.ones((7, 2))})["table"].shape
    (7, 2)
    """
    return {"table": theirs["weight"]}


def normalization(theirs: Arrays) -> Arrays:
    """`BatchNorm`, with its running statistics, `LayerNorm`, `GroupNorm`, `RMSNorm`.

    The running variance is the unbiased one, as torch takes it, and is used as it is.

    >>> sorted(normalization({"running_mean": np.ones(2), "running_var": np.ones(2)}))
    ['bias', 'mean', 'scale', 'variance']
    """
    names = {
        "weight": "scale",
        "bias": "bias",
        "running_mean": "mean",
        "running_var": "variance",
    }
    ours = {new: theirs[old] for old, new in names.items() if old in theirs}
    if "mean" in ours and "scale" not in ours:  # BatchNorm(affine=False)
        ours |= {"scale": np.ones_like(ours["mean"]), "bias": np.zeros_like(ours["mean"])}
    return ours


def plain_or_lstm(theirs: Arrays) -> Arrays:
    """`RNN` and `LSTM`, of which the gates stand in our order, i, f, g, o; two biases are summed.

    >>> plain_or_lstm({"weight_ih": np.ones((8, 3)), "weight_hh": np.ones((8, 2))})["b"].shape
    (8,)
    """
    w, u, b_input, b_recurrent = _recurrent(theirs)
    return {"w": w, "u": u, "b": b_input + b_recurrent}


def gru(theirs: Arrays) -> Arrays:
    """`GRU`, of which the gates stand in our order, r, z, n.

    The biases of r and z are summed; that of the recurrent part of n, which r multiplies, stays by
    itself and comes last.

    >>> gru({"weight_ih": np.ones((6, 3)), "weight_hh": np.ones((6, 2))})["b"].shape
    (8,)
    """
    w, u, b_input, b_recurrent = _recurrent(theirs)
    both = 2 * u.shape[0]  # r and z
    b = (b_input[:both] + b_recurrent[:both], b_input[both:], b_recurrent[both:])
    return {"w": w, "u": u, "b": np.concatenate(b)}


def _recurrent(theirs: Arrays) -> tuple[np.ndarray, ...]:
    if "weight_hr" in theirs:
        raise ValueError("an LSTM with proj_size has no counterpart")
    w, u = theirs["weight_ih"].T, theirs["weight_hh"].T  # (D, gates H), (H, gates H)
    none = np.zeros(u.shape[1], u.dtype)
    return w, u, theirs.get("bias_ih", none), theirs.get("bias_hh", none)


def _bias(theirs: Arrays) -> Arrays:
    return {"b": theirs["bias"]} if "bias" in theirs else {}


# All names that a layer of ours has a use for.
KNOWN = {
    *("weight", "bias", "running_mean", "running_var"),
    *("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh"),
}
CONVERSIONS: Mapping[Rule, Callable[[Arrays], Arrays]] = {
    rules.linear: dense,
    rules.conv: conv,
    rules.conv_transposed: conv_transposed,
    rules.embedding: embedding,
    rules.rnn: plain_or_lstm,
    rules.lstm: plain_or_lstm,
    rules.gru: gru,
    **dict.fromkeys(
        (
            *(rules.batch_norm, rules.layer_norm, rules.rms_norm),
            *(rules.group_norm, rules.instance_norm),
        ),
        normalization,
    ),
}


def channels_last(a: np.ndarray, image: Shape) -> np.ndarray:
    """The first axis of `a`, whose entries torch numbers by (C, *size), numbered by `image`.

    Args:
        a: (D, ...), with D = H * W * C.
        image: (*size, C), what was flattened.

    >>> channels_last(np.array(["c0 left", "c0 right", "c1 left", "c1 right"]), (2, 2)).tolist()
    ['c0 left', 'c1 left', 'c0 right', 'c1 right']
    """
    *size, channels = image
    apart = a.reshape(channels, *size, *a.shape[1:])
    return np.moveaxis(apart, 0, len(size)).reshape(a.shape)
