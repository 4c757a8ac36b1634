"""The peak of a device at a program's products, and the share of it that a run tells."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.gradient.cost.flops import count_operations
from funcnn.gradient.cost.peaks import known_device, peak_flops
from funcnn.runs import speed as speeds
from funcnn.runs.speed import speed_of
from funcnn.train import TrainState, make_step

H200, V5E = "NVIDIA H200", "TPU v5 lite"
F32, BF16, F64, F16 = "float32", "bfloat16", "float64", "float16"


def product(dtype, precision=None, other=None):
    with jax.enable_x64(True):
        x = jnp.ones((2, 3), dtype)
        w = jnp.ones((3, 2), other or dtype)
        return jax.make_jaxpr(lambda x, w: jax.lax.dot(x, w, precision=precision))(x, w)


@pytest.mark.parametrize(
    ("program", "kind", "peak"),
    [
        (product(F32), H200, 494.7e12),  # tensorfloat32, as JAX has it there
        (product(F32, jax.lax.Precision.HIGH), H200, 494.7e12),
        (product(F32, jax.lax.Precision.HIGHEST), H200, 66.9e12),
        (product(BF16), H200, 989.4e12),
        (product(F16), H200, 989.4e12),
        (product(F64), H200, 66.9e12),
        (product(F32), V5E, 197e12),  # made of products of bfloat16
        (product(F32, jax.lax.Precision.HIGHEST), V5E, 197e12),
        (product(BF16), V5E, 197e12),
        (product(F64), V5E, None),
        (product("int8"), H200, None),
        (product(F32, jax.lax.DotAlgorithmPreset.BF16_BF16_F32_X3), H200, None),
        (product(F32), "cpu", None),
        (product(F32), "NVIDIA H200 MIG 1g.18gb", None),
        (jax.make_jaxpr(jnp.sin)(1.0), H200, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_peak_is_that_of_the_products(program, kind, peak):
    assert peak_flops(program, [kind]) == (None if peak is None else pytest.approx(peak))


def test_of_several_dtypes_the_fastest_counts_and_of_several_devices_the_sum():
    def both(x):
        return jnp.tanh(x @ x), jax.lax.scan(lambda c, _: (c @ c, None), x.astype(BF16), None, 2)

    program = jax.make_jaxpr(both)(jnp.ones((2, 2)))
    assert peak_flops(program, [H200]) == pytest.approx(989.4e12)
    assert peak_flops(program, [H200, H200, "NVIDIA H100 PCIe"]) == pytest.approx(2734.8e12)
    assert peak_flops(program, [H200, "cpu"]) is None
    assert peak_flops(program, []) is None


def test_every_device_of_the_table_has_its_halves_and_its_order():
    for kind in (H200, "NVIDIA A100-SXM4-80GB", "NVIDIA H100 PCIe", "NVIDIA B200", "NVIDIA GB200"):
        half, single, double = (peak_flops(product(d), [kind]) or 0.0 for d in (BF16, F32, F64))
        # Tensor cores take half as long for half as many bits, to a few hundredths.
        assert half / single == pytest.approx(2.0, rel=0.03)
        assert double < single / 5
    assert not known_device("NVIDIA A100-SXM-64GB")  # more of a chip than any on the datasheet


def loss(params, batch, key):
    hidden = batch["x"] @ params["w"]
    return jnp.mean(jnp.square(hidden @ params["v"])) + 0 * batch["y"].sum()


def call(size):
    """A step and the arguments of a call: (B, D) = (8, 5) rows, (8, 3) labels."""
    step = make_step(loss, optax.sgd(0.1), steps_per_call=size)
    params = {"w": jnp.ones((5, 6)), "v": jnp.ones((6, 7))}
    batch = {"x": np.ones((8, 5), np.float32), "y": np.ones((8, 3), np.float32)}
    if size > 1:
        batch = jax.tree.map(lambda x: np.stack([x] * size), batch)
    return step, TrainState.create(params, optax.sgd(0.1), seed=0), batch


@pytest.mark.parametrize("size", [1, 4])
def test_a_step_has_its_rows_its_tokens_and_its_operations(size, monkeypatch):
    monkeypatch.setattr(speeds, "known_device", lambda kind: True)
    monkeypatch.setattr(speeds, "peak_flops", lambda program, kinds: 1e12 * len(kinds))
    step, state, batch = call(size)
    speed = speed_of(step, state, batch, tokens_of="y")
    assert (speed.examples, speed.tokens, speed.peak_flops) == (8, 24, 1e12)
    one = jax.tree.map(lambda x: x[0], batch) if size > 1 else batch
    assert speed.flops == count_operations(jax.make_jaxpr(step.body)(state, one)).flops
    # Products alone, by hand: forward, and backward by w, v and the hidden layer.
    products = 2 * 8 * (5 * 6 + 6 * 7) + 2 * 8 * (5 * 6 + 6 * 7 + 6 * 7)
    assert products < (speed.flops or 0.0) < 2 * products


def test_what_cannot_be_counted_has_no_share_and_says_so(monkeypatch):
    monkeypatch.setattr(speeds, "known_device", lambda kind: True)
    said = []
    step, state, batch = call(1)
    assert speed_of(step, state, batch, warn=said.append).flops is None
    assert said == [
        "no share of the device's peak is told: it is not known what products the step makes"
    ]

    def with_a_loop(params, batch, key):
        x = jax.lax.stop_gradient(batch["x"])
        steps = jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x)
        return loss(params, {**batch, "x": steps}, key)

    step = make_step(with_a_loop, optax.sgd(0.1))
    assert speed_of(step, state, batch, warn=said.append).peak_flops is None
    assert said[1].startswith("no share of the device's peak is told: a while loop: counted once")


def test_rows_are_told_where_all_arrays_agree_on_them():
    step, state, batch = call(1)
    assert speed_of(step, state, batch).examples == 8
    assert speed_of(step, state, {**batch, "weight": np.ones(3)}).examples is None
    assert speed_of(step, state, {**batch, "number": np.float32(1)}).examples is None
