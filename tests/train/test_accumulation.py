"""A batch in parts, one after the other: the same update, to rounding, as at once."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import batches, conv_loss, conv_params, mlp_loss, mlp_params

import funcnn as fnn
from funcnn.train import TrainState, make_step
from funcnn.train.statistics import pooled_statistics

OPTIMIZER = optax.adam(0.01)


def run(loss, params, accumulate, steps=3, steps_per_call=1, statistics=None, batches=batches):
    state = TrainState.create(params, OPTIMIZER, seed=0, statistics=statistics)
    step = make_step(loss, OPTIMIZER, accumulate=accumulate, steps_per_call=steps_per_call)
    metrics = {}
    for i in range(0, steps, steps_per_call):
        state, metrics = step(state, batches(i, *[steps_per_call] * (steps_per_call > 1)))
    return state, metrics


def close(one, other, rtol=2e-6):
    chex.assert_trees_all_close(one, other, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_the_update_is_that_of_the_whole_batch(accumulate):
    whole, of_whole = run(conv_loss, conv_params(), 1)
    parts, of_parts = run(conv_loss, conv_params(), accumulate)
    close(whole.params, parts.params)
    close(of_whole, of_parts)


def test_several_steps_a_call_are_bit_equal():
    one, _ = run(conv_loss, conv_params(), 2, steps=4)
    call, _ = run(conv_loss, conv_params(), 2, steps=4, steps_per_call=2)
    chex.assert_trees_all_equal(one, call)


def masked(params, batch, key):
    losses, counts = (params * batch["x"] - 1) ** 2, batch["mask"].astype("float32")
    total = jnp.sum(counts)
    return jnp.sum(losses * counts) / jnp.maximum(total, 1), {"weight": total}


def unweighted(params, batch, key):
    return masked(params, batch, key)[0]


def rows(step):
    x = np.random.default_rng(step).normal(size=6).astype("float32")
    return {"x": x, "mask": np.array([True, True, True, False, False, False])}


def test_a_part_counts_as_much_as_it_has_rows_that_count():
    """The parts of rows 0, 3 and 1, 4 and 2, 5 have one that counts each; in thirds of six, too."""
    params = jnp.ones(())
    for parts in (2, 3, 6):
        one, _ = run(masked, params, 1, batches=rows)
        other, metrics = run(masked, params, parts, batches=rows)
        close(one.params, other.params)
        assert "weight" not in metrics
    wrong, _ = run(unweighted, params, 2, batches=rows)
    assert abs(wrong.params - one.params) > 1e-5


def test_no_row_that_counts_is_no_nan():
    none = {"x": np.ones(6, "float32"), "mask": np.zeros(6, bool)}
    state, metrics = run(masked, jnp.ones(()), 2, batches=lambda step: none)
    assert float(state.params) == 1
    assert float(metrics["loss"]) == 0


def test_a_part_of_which_no_row_counts_gives_nothing_though_its_mean_is_none():
    """The mean of no number is 0 / 0, of rows 3 to 5 here, which are parts of their own."""

    def plain(params, batch, key):
        losses, mask = (params * batch["x"] - 1) ** 2, batch["mask"]
        total = jnp.sum(mask.astype("float32"))
        return jnp.sum(jnp.where(mask, losses, 0)) / total, {"weight": total, "twice": 2 / total}

    one, _ = run(plain, jnp.ones(()), 1, batches=rows)
    other, metrics = run(plain, jnp.ones(()), 6, batches=rows)
    close(one.params, other.params)
    assert np.isfinite([float(metrics["loss"]), float(metrics["twice"])]).all()


def test_statistics_are_those_of_the_whole_batch():
    model = fnn.chain(fnn.batch_norm(), fnn.dense(4))
    x = np.random.default_rng(0).normal(2, 3, size=(6, 16)).astype("float32")
    params = model.init(jax.random.key(0), x)

    def loss(params, batch, key):
        y, statistics = model.value_and_statistics(params, batch["x"], key)
        return jnp.mean(y**2), {"statistics": statistics}

    found = {}
    for parts in (1, 2, 3):
        given = model.statistics(params, x, jax.random.key(0))
        state, _ = run(loss, params, parts, steps=1, statistics=given, batches=lambda _: {"x": x})
        found[parts] = state.statistics
    close(found[1], found[2])
    close(found[1], found[3])


def test_the_mean_of_the_variances_is_not_pooled():
    means, variances = jnp.array([[0.0], [2.0]]), jnp.ones((2, 1))
    pooled = pooled_statistics({"": (means, variances, jnp.array([1.0, 3.0]))})[""]
    np.testing.assert_allclose(jnp.concatenate(pooled[:2]), [1.5, 1.75])


def test_parts_have_keys_of_their_own_and_hand_on_what_they_carry():
    def loss(params, batch, key, extra):
        drawn = jax.random.uniform(key)
        return params * drawn, {"extra": {"drawn": extra["drawn"] + drawn}, "drawn": drawn}

    start = {"drawn": jnp.zeros(())}
    state = TrainState.create(jnp.ones(()), OPTIMIZER, seed=0, extra=start)
    state, metrics = make_step(loss, OPTIMIZER, accumulate=3)(state, batches(0))
    key = jax.random.fold_in(jax.random.key(0), 0)
    drawn = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(3)]
    close(state.extra["drawn"], sum(drawn))
    close(metrics["drawn"], sum(drawn) / 3)


def test_what_cannot_be_cut_is_one_line():
    with pytest.raises(ValueError, match=r"^batch leaf 'x' has 6 rows, which cannot be cut in acc"):
        run(conv_loss, conv_params(), 4)
    with pytest.raises(ValueError, match=r"^accumulate must be at least 1, found 0"):
        make_step(conv_loss, OPTIMIZER, accumulate=0)


def test_halves_keep_their_dtype_and_sums_are_wide():
    """Sixteen gradients of 1 and one of 1 / 256 a part: in bfloat16 the small ones would vanish."""
    gradients = np.array([1] + [1 / 256] * 15, "float32")

    def loss(params, batch, key):
        return jnp.sum(params.astype("float32") * batch) / batch.size

    step = make_step(loss, optax.sgd(1.0), accumulate=16)
    state = TrainState.create(jnp.zeros((), "bfloat16"), optax.sgd(1.0), seed=0)
    state, _ = step(state, gradients)
    assert state.params.dtype == "bfloat16"
    assert float(state.params) == float(jnp.asarray(-gradients.mean(), "bfloat16"))


def test_a_number_of_parts_may_be_an_array():
    one, _ = run(masked, jnp.ones(()), jnp.int32(2), batches=rows)
    other, _ = run(masked, jnp.ones(()), 2, batches=rows)
    close(one.params, other.params)


def test_narrow_weights_are_added_up_in_float32():
    def heavy(params, batch, key):
        return jnp.mean((params * batch["x"] - 1) ** 2), {"weight": jnp.float16(60_000)}

    state, _ = run(heavy, jnp.ones(()), 2, batches=rows)
    other, _ = run(lambda *a: heavy(*a)[0], jnp.ones(()), 2, batches=rows)
    close(state.params, other.params)


def test_an_optimizer_that_asks_for_the_loss_again_gets_that_of_the_parts():
    """With the keys of the parts, as a line search needs that compares both."""

    def update(gradient, state, params, *, value, value_fn, **_):
        away = jax.tree.map(jnp.subtract, (value, gradient), jax.value_and_grad(value_fn)(params))
        return gradient, jax.tree.reduce(lambda most, x: jnp.maximum(most, jnp.max(abs(x))), away)

    told: Any = update
    asking = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), told)
    for parts in (1, 2, 3):
        state = TrainState.create(mlp_params(), asking, seed=0)
        state, _ = make_step(mlp_loss, asking, accumulate=parts)(state, batches(0))
        assert float(state.optimizer_state) < 1e-6
