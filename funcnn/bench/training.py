"""Training steps of small networks: funcnn, autodiff, and the other libraries."""

from __future__ import annotations

from collections.abc import Callable

from funcnn.bench import peers
from funcnn.bench.measure import Arm
from funcnn.bench.networks import Network, loss_of, training_arm
from funcnn.gradient.program.without_rules import without_rules

CNN = Network(
    (
        *(("conv", 32), "relu", ("conv", 64), "relu", "pool"),
        *(("conv", 64), "relu", "pool", "flatten", ("dense", 128), "relu", ("dense", 10)),
    ),
    (28, 28, 1),
    64,
    10,
)
MLP = Network((("dense", 512), "relu", ("dense", 512), "relu", ("dense", 10)), (784,), 128, 10)
DIGITS = Network((("dense", 32), "relu", ("dense", 10)), (64,), 32, 10)

Arms = tuple[list[Arm], dict[str, str]]


def _arms(network: Network, others: dict[str, Callable[[], Arm]], steps_per_call: int = 1) -> Arms:
    loss = loss_of(network)
    arms = [training_arm("funcnn", network, loss, steps_per_call)]
    arms.append(training_arm("autodiff", network, without_rules(loss), steps_per_call))
    absent: dict[str, str] = {}
    for name, make in others.items():
        why = peers.missing(name.partition(",")[0])
        try:
            arms += [] if why else [make()]
        except peers.CompilationError as error:
            why = str(error)
        if why:
            absent[name] = why
    return arms, absent


def cnn_step() -> Arms:
    """28x28x1, batch 64: conv 32, conv 64, pool, conv 64, pool, dense 128, dense 10; 3x3, Adam."""
    return _arms(
        CNN,
        {
            "Flax NNX": lambda: peers.flax_nnx(CNN),
            "Equinox": lambda: peers.equinox(CNN),
            "PyTorch": lambda: peers.pytorch(CNN),
            "PyTorch, compiled": lambda: peers.pytorch_compiled(CNN),
        },
    )


def mlp_step() -> Arms:
    """784-512-512-10, batch 128, Adam; funcnn takes 8 steps a call."""
    return _arms(
        MLP,
        {
            "Flax NNX": lambda: peers.flax_nnx(MLP),
            "PyTorch": lambda: peers.pytorch(MLP),
            "PyTorch, compiled": lambda: peers.pytorch_compiled(MLP),
        },
        steps_per_call=8,
    )


def digits_step() -> Arms:
    """64-32-10, batch 32, Adam: calls cost more than numbers; funcnn takes 64 steps a call."""
    return _arms(
        DIGITS,
        {
            "Flax NNX": lambda: peers.flax_nnx(DIGITS),
            "Flax NNX, 64 steps in a scan": lambda: peers.flax_nnx(DIGITS, scanned=64),
            "PyTorch": lambda: peers.pytorch(DIGITS),
            "PyTorch, compiled": lambda: peers.pytorch_compiled(DIGITS),
        },
        steps_per_call=64,
    )
