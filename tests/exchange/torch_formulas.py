"""PyTorch's formulas, from its documentation, in NumPy and in float64; images are (N, C, *size)."""

import itertools

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def linear(x, weight, bias):
    return x @ weight.T + bias


def conv(x, weight, bias, stride, padding, dilation, groups):
    """y[n, o, p] = b[o] + Σ_c Σ_j W[o, c, j] x[n, c, p s + j d - padding], c of o's group."""
    axes = weight.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(padding, padding)] * axes)
    window = weight.shape[2:]
    size = [
        (n - (k - 1) * dilation - 1) // stride + 1 for n, k in zip(x.shape[2:], window, strict=True)
    ]
    y = np.zeros((x.shape[0], weight.shape[0], *size))
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    summed = list(range(1, axes + 2))
    for g, p in itertools.product(range(groups), itertools.product(*map(range, size))):
        cut = [
            slice(q * stride, q * stride + (k - 1) * dilation + 1, dilation)
            for q, k in zip(p, window, strict=True)
        ]
        patch = x[(slice(None), slice(g * ins, (g + 1) * ins), *cut)]
        own = weight[g * outs : (g + 1) * outs]
        y[(slice(None), slice(g * outs, (g + 1) * outs), *p)] = np.tensordot(
            patch, own, (summed, summed)
        )
    return y + bias.reshape(-1, *(1,) * axes)


def conv_transposed(x, weight, bias, stride, padding, dilation):
    """y[n, o, p s + j d - padding] gets W[c, o, j] x[n, c, p] of every c, p and j."""
    axes = weight.ndim - 2
    window, size = weight.shape[2:], x.shape[2:]
    whole = [(n - 1) * stride + (k - 1) * dilation + 1 for n, k in zip(size, window, strict=True)]
    y = np.zeros((x.shape[0], weight.shape[1], *whole))
    for p in itertools.product(*map(range, size)):
        here = x[(slice(None), slice(None), *p)]
        for j in itertools.product(*map(range, window)):
            q = tuple(a * stride + b * dilation for a, b in zip(p, j, strict=True))
            y[(slice(None), slice(None), *q)] += here @ weight[(slice(None), slice(None), *j)]
    inside = tuple(slice(padding, n - padding) for n in whole)
    return y[(slice(None), slice(None), *inside)] + bias.reshape(-1, *(1,) * axes)


def batch_norm(x, weight, bias, running_mean, running_var, epsilon=1e-5):
    apart = (slice(None), *(None,) * (x.ndim - 2))
    normal = (x - running_mean[apart]) / np.sqrt(running_var[apart] + epsilon)
    return normal * weight[apart] + bias[apart]


def layer_norm(x, weight, bias, epsilon=1e-5):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias


def embedding(x, weight):
    return weight[x]


def rnn(x, weight_ih, weight_hh, bias_ih, bias_hh, reverse=False):
    def step(h, x):
        return np.tanh(weight_ih @ x + bias_ih + weight_hh @ h + bias_hh)

    return _over_time(lambda state, x: (step(state[0], x),), 1, x, weight_hh, reverse)


def lstm(x, weight_ih, weight_hh, bias_ih, bias_hh, reverse=False):
    """The rows of the weights are those of i, f, g, o."""

    def step(state, x):
        h, c = state
        i, f, g, o = np.split(weight_ih @ x + bias_ih + weight_hh @ h + bias_hh, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    return _over_time(step, 2, x, weight_hh, reverse)


def gru(x, weight_ih, weight_hh, bias_ih, bias_hh, reverse=False):
    """The rows of the weights are those of r, z, n."""

    def step(state, x):
        (h,) = state
        i_r, i_z, i_n = np.split(weight_ih @ x + bias_ih, 3)
        h_r, h_z, h_n = np.split(weight_hh @ h + bias_hh, 3)
        r, z = sigmoid(i_r + h_r), sigmoid(i_z + h_z)
        n = np.tanh(i_n + r * h_n)
        return ((1 - z) * n + z * h,)

    return _over_time(step, 1, x, weight_hh, reverse)


def _over_time(step, states, x, weight_hh, reverse):
    y = np.zeros((*x.shape[:2], weight_hh.shape[1]))
    for n in range(x.shape[0]):
        state = (np.zeros(weight_hh.shape[1]),) * states
        for t in range(x.shape[1])[:: -1 if reverse else 1]:
            state = step(state, x[n, t])
            y[n, t] = state[0]
    return y
