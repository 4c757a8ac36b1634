"""Modules of PyTorch beside ours, where it is installed; by its formulas: test_import_torch."""

import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn

REASON = "PyTorch is not installed: pip install torch"
torch = pytest.importorskip("torch", reason=REASON)
nn = torch.nn
TOLERANCE = 2e-6  # of the largest number: a few roundings in float32


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def settled(module, *inputs):
    """The module in evaluation, with statistics and a bias that are not those of its start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        module.train()
        for x in inputs:
            module(x)
    return module.eval()


class WithSequence(nn.Module):
    """Recurrent modules return y and the carry: y alone."""

    def __init__(self, *recurrent):
        super().__init__()
        self.all = nn.ModuleList(recurrent)

    def forward(self, x):
        for recurrent in self.all:
            x, _ = recurrent(x)
        return x


def lenet():
    """As in many a tutorial, its image flattened from (C, H, W)."""
    theirs = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6 * 2 * 3, 8), nn.GELU(), nn.Linear(8, 5)),
    )
    one = ((1, 1), (1, 1))
    ours = fnn.chain(
        *(fnn.conv(4, (3, 3), padding=one), fnn.batch_norm(), fnn.relu, fnn.max_pool((2, 2))),
        *(fnn.conv(6, (3, 3), 2, padding=one, bias=False), fnn.batch_norm(), fnn.relu),
        *(fnn.flatten, fnn.dropout(0.5), fnn.dense(8), fnn.gelu(approximate=False), fnn.dense(5)),
    )
    return theirs, ours, (2, 8, 12, 3)


def recurrent(kind, ours, **options):
    theirs = WithSequence(kind(3, 4, num_layers=2, batch_first=True, bidirectional=True, **options))
    return theirs, fnn.chain(fnn.bidirectional(ours(4)), fnn.bidirectional(ours(4))), (2, 5, 3)


def norm(theirs, ours, *shape):
    return theirs, ours, shape


MODULES = {
    "lenet": lenet,
    "Linear": lambda: (nn.Linear(5, 3), fnn.dense(3), (2, 4, 5)),
    "Embedding": lambda: (nn.Embedding(7, 3), fnn.embedding(7, 3), None),
    "Conv1d": lambda: (
        nn.Conv1d(4, 6, 3, groups=2),
        fnn.conv(6, (3,), padding="VALID", groups=2),
        (2, 7, 4),
    ),
    "Conv2d": lambda: (
        nn.Conv2d(4, 8, (3, 2), stride=2, padding=(1, 2), dilation=2, groups=4),
        fnn.conv(8, (3, 2), 2, padding=((1, 1), (2, 2)), dilation=2, groups=4),
        (2, 9, 8, 4),
    ),
    "Conv3d": lambda: (
        nn.Conv3d(2, 3, 2),
        fnn.conv(3, (2, 2, 2), padding="VALID"),
        (2, 4, 5, 3, 2),
    ),
    "ConvTranspose1d": lambda: (
        nn.ConvTranspose1d(4, 3, 5, stride=3, padding=2),
        fnn.conv_transposed(3, (5,), 3, padding=((2, 2),)),
        (2, 6, 4),
    ),
    "ConvTranspose2d": lambda: (
        nn.ConvTranspose2d(4, 3, (3, 4), stride=2, padding=1, output_padding=1, dilation=2),
        fnn.conv_transposed(3, (3, 4), 2, padding=((3, 4), (5, 6)), dilation=2),
        (2, 4, 5, 4),
    ),
    "ConvTranspose3d": lambda: (
        nn.ConvTranspose3d(2, 3, 2, stride=2),
        fnn.conv_transposed(3, (2, 2, 2), 2, padding="VALID"),
        (2, 3, 2, 3, 2),
    ),
    "BatchNorm1d": lambda: norm(nn.BatchNorm1d(5), fnn.batch_norm(), 6, 5),
    "BatchNorm2d, no params": lambda: norm(
        nn.BatchNorm2d(5, affine=False), fnn.batch_norm(), 2, 3, 4, 5
    ),
    "LayerNorm": lambda: norm(nn.LayerNorm(5), fnn.layer_norm(), 2, 3, 5),
    "RMSNorm": lambda: norm(nn.RMSNorm(5, eps=1e-6), fnn.rms_norm(), 2, 3, 5),
    "GroupNorm": lambda: norm(nn.GroupNorm(2, 6), fnn.group_norm(2), 2, 3, 4, 6),
    "InstanceNorm2d": lambda: norm(
        nn.InstanceNorm2d(6, affine=True), fnn.instance_norm(), 2, 3, 4, 6
    ),
    "RNN": lambda: recurrent(nn.RNN, fnn.rnn),
    "LSTM": lambda: recurrent(nn.LSTM, fnn.lstm),
    "GRU": lambda: recurrent(nn.GRU, fnn.gru),
    "GRU, no bias": lambda: recurrent(nn.GRU, fnn.gru, bias=False),
}
# Of these, x is an image, channels first in torch.
IMAGES = ("lenet", "Conv", "BatchNorm", "GroupNorm", "InstanceNorm")


def both(name):
    """What torch computes, and what our layer does with the imported params."""
    torch.manual_seed(len(name))
    theirs, ours, shape = MODULES[name]()
    x = np.array([[0, 6, 2], [3, 3, 1]], np.int32) if shape is None else draw(*shape)
    images = name.startswith(IMAGES)
    x_torch = torch.from_numpy(np.moveaxis(x, -1, 1).copy() if images else x)
    settled(theirs, x_torch, x_torch.flip(0))
    with torch.no_grad():
        expected = theirs(x_torch).numpy()
    y = np.asarray(ours(fnn.import_torch(theirs.state_dict(), ours, x), jnp.asarray(x)))
    return np.moveaxis(y, -1, 1) if images and y.ndim > 2 else y, expected


@pytest.mark.parametrize("name", MODULES)
def test_the_outputs_are_those_of_torch(name):
    y, expected = both(name)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() / np.abs(expected).max() < TOLERANCE


def test_tensors_in_half_precision_and_with_a_gradient():
    module = nn.Linear(3, 2).to(torch.bfloat16)
    state = dict(module.named_parameters())  # these have a gradient
    params = fnn.import_torch(state, fnn.dense(2), jnp.ones((1, 3), "bfloat16"))
    assert params["w"].dtype == jnp.bfloat16
    expected = module.weight.detach().float().numpy().T
    np.testing.assert_array_equal(np.asarray(params["w"], np.float32), expected)
