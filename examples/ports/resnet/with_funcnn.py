"""A residual network on images, with funcnn: what its config names.

ResNet-18 in its form for CIFAR, on scikit-learn's digits, each pixel doubled to 16x16.

funcnn train examples/ports/resnet/funcnn.toml
"""

import jax
import numpy as np
import optax

import funcnn as fnn


def digits(seed: int):
    doubled = np.ones((1, 2, 2, 1), np.float32)
    splits = fnn.data.digits(seed=seed).splits()
    return {name: {"x": np.kron(s.x, doubled), "y": s.y} for name, s in splits.items()}


def optimizer(learning_rate):
    """AdamW of clipped gradients, without decay of biases and norms."""

    def weights(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    adam = optax.adamw(learning_rate, weight_decay=0.05, mask=weights)
    return optax.chain(optax.clip_by_global_norm(1.0), adam)
