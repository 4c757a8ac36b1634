"""Groups of params, clipping and decay, each against what optax does with one array at a time."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.train import TrainState, make_optimizer, make_step

PARAMS: Any = {
    "body": {"w": jnp.full((2, 2), 2.0), "b": jnp.full(2, 3.0)},
    "head": {"w": jnp.full((2, 1), -1.0), "b": jnp.ones(1)},
}
GRADIENT = jax.tree.map(lambda p: p / 2 + 1, PARAMS)


def updated(optimizer, steps=3) -> Any:
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(GRADIENT, state, params)
            params = optax.apply_updates(params, updates)
    return params


def alone(optimizer, part, name, gradient: Any = GRADIENT) -> Any:
    """The params of one array that is trained by itself."""
    param, state = PARAMS[part][name], optimizer.init(PARAMS[part][name])
    for _ in range(3):
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimizer.update(gradient[part][name], state, param)
            param = param + update
    return param


def assert_like(found, wanted):
    for part, arrays in wanted.items():
        for name, array in arrays.items():
            np.testing.assert_allclose(found[part][name], array, rtol=1e-6)


def test_each_group_has_its_own_options_and_the_first_that_matches_decides():
    groups = {"body/b": "frozen", "body/*": {"learning_rate": 0.5}, "head/b": {"b1": 0.0}}
    found = updated(make_optimizer("adam", learning_rate=0.1, groups=groups))
    slow, fast, plain = optax.adam(0.1), optax.adam(0.5), optax.adam(0.1, b1=0.0)
    wanted = {
        "body": {"w": alone(fast, "body", "w"), "b": PARAMS["body"]["b"]},
        "head": {"w": alone(slow, "head", "w"), "b": alone(plain, "head", "b")},
    }
    assert_like(found, wanted)


def test_what_is_frozen_has_no_part_in_the_norm_that_is_clipped():
    groups = {"body/*": "frozen"}
    found = updated(make_optimizer("sgd", learning_rate=0.1, groups=groups, clip_norm=0.25))
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(GRADIENT["head"])))
    assert norm > 0.25
    clipped = jax.tree.map(lambda g: g * 0.25 / norm, GRADIENT)
    wanted = {n: alone(optax.sgd(0.1), "head", n, clipped) for n in ("w", "b")}
    assert_like(found, {"head": wanted, "body": PARAMS["body"]})


def test_a_gradient_that_is_short_is_not_scaled():
    clipped = updated(make_optimizer("sgd", learning_rate=0.1, clip_norm=1e3))
    assert_like(clipped, updated(optax.sgd(0.1)))


@pytest.mark.parametrize(("name", "out"), [("adamw", "b"), ("lion", "b"), ("muon", "w")])
def test_decay_leaves_out_what_is_named(name, out):
    """muon decays what has two axes, and hands the rest to another optimizer."""
    options: Any = {"learning_rate": 0.1, "weight_decay": 0.5}
    found = updated(make_optimizer(name, undecayed=[f"*/{out}"], **options))
    decayed = updated(make_optimizer(name, **options))
    without = updated(make_optimizer(name, **{**options, "weight_decay": 0.0}))
    for part in PARAMS:
        for array in PARAMS[part]:
            wanted = without if array == out else decayed
            np.testing.assert_array_equal(found[part][array], wanted[part][array])
        assert not np.array_equal(found[part][out], decayed[part][out])


def test_a_step_takes_it_and_frozen_params_stay_in_equal_bits():
    optimizer = make_optimizer(
        "adamw", learning_rate=0.1, clip_norm=1.0, undecayed=["*/b"], groups={"body/*": "frozen"}
    )

    def loss(params, batch, key):
        return sum(jnp.sum((p - batch) ** 2) for p in jax.tree.leaves(params))

    state = TrainState.create(PARAMS, optimizer, seed=0)
    state, _ = make_step(loss, optimizer)(state, jnp.float32(4.0))
    jax.tree.map(np.testing.assert_array_equal, state.params["body"], PARAMS["body"])
    assert not np.array_equal(state.params["head"]["w"], PARAMS["head"]["w"])
    assert optimizer.learning_rate == 0.1


WRONG = [
    ({"groups": {"boddy/*": "frozen"}}, "optimizer.groups: the pattern boddy/* matches none of"),
    ({"groups": {"body/*": "frozen", "body/w": {}}}, "an earlier group has all that body/w"),
    ({"groups": {"body/*": "freeze"}}, 'body/* is "frozen" or a table of options, found'),
    ({"groups": {"body/*": {"rate": 1.0}}}, "'adamw' takes no option 'rate'"),
    ({"groups": {"body/*": {"learning_rate": -1.0}}}, "must be finite and not negative"),
    ({"undecayed": ["*/bias"]}, "optimizer.undecayed: the pattern */bias matches none of"),
    ({"clip_norm": 0.0}, "clip_norm must be a number above 0, found 0.0"),
]


@pytest.mark.parametrize(("options", "line"), WRONG)
def test_what_cannot_be_is_one_line(options, line):
    with pytest.raises(ValueError, match=re.escape(line)) as raised:
        make_optimizer("adamw", learning_rate=0.1, **options).init(PARAMS)
    assert "\n" not in str(raised.value)


def test_an_optimizer_without_decay_cannot_leave_it_out():
    with pytest.raises(ValueError, match="'adam' has no weight decay that undecayed could leave"):
        make_optimizer("adam", learning_rate=0.1, undecayed=["*/b"])
