"""A character model, with funcnn: the optimizer that its config names.

Two GRU layers in 16 streams, whose carries go on from window to window. In evaluation each window
of 64 starts anew, where the programs beside it carry on.

funcnn train examples/ports/text/funcnn.toml
"""

import optax


def optimizer(learning_rate):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
