import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from train_problems import (
    assert_bit_equal,
    batches,
    compilations,
    conv_loss,
    conv_params,
    mlp_loss,
    mlp_params,
)

from funcnn.train import TrainState, make_step

SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.05, 4, 24)


def run(loss, params, optimizer, steps, steps_per_call, step=None):
    """The last state, and each metric of every step in one array."""
    step = step or make_step(loss, optimizer, steps_per_call=steps_per_call)
    state, position, history = TrainState.create(params, optimizer, seed=3), 0, []
    while position < steps:
        count = min(steps_per_call, steps - position)
        batch = batches(position) if steps_per_call == 1 else batches(position, count)
        state, metrics = step(state, batch)
        history.append({name: np.ravel(value) for name, value in metrics.items()})
        position += count
    return state, {name: np.concatenate([m[name] for m in history]) for name in history[0]}


@pytest.mark.parametrize(
    ("loss", "params", "optimizer"),
    [
        (mlp_loss, mlp_params(), optax.adam(0.01)),
        (
            mlp_loss,
            mlp_params(),
            optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(SCHEDULE)),
        ),
        (conv_loss, conv_params(), optax.adam(SCHEDULE)),
    ],
    ids=["mlp_adam", "mlp_clipped_adamw_schedule", "conv_adam_schedule"],
)
def test_steps_in_one_call_end_bit_equal(loss, params, optimizer):
    plain, plain_metrics = run(loss, params, optimizer, 17, 1)
    scanned, scanned_metrics = run(loss, params, optimizer, 17, 8)  # calls of 8, 8 and 1
    assert int(scanned.step) == 17
    assert_bit_equal(plain, scanned)
    assert_bit_equal(plain_metrics, scanned_metrics)
    moved = jax.tree.map(
        lambda new, old: bool(np.any(np.asarray(new) != old)), plain.params, params
    )
    assert jax.tree.all(moved)


def test_a_step_is_the_update_that_is_written_by_hand():
    optimizer = optax.sgd(0.5)
    state = TrainState.create(mlp_params(), optimizer, seed=7)._replace(step=jnp.int32(5))
    batch, key = batches(5), jax.random.fold_in(jax.random.key(7), 5)
    (loss, aux), gradient = jax.value_and_grad(mlp_loss, has_aux=True)(state.params, batch, key)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, gradient)
    square = sum(np.sum(np.square(g, dtype=np.float64)) for g in jax.tree.leaves(gradient))
    new, metrics = make_step(mlp_loss, optimizer)(state, batch)
    assert set(metrics) == {"loss", "accuracy", "gradient_norm"}
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy"], aux["accuracy"], rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt(square), rtol=1e-6)
    chex.assert_trees_all_close(new.params, expected, rtol=1e-5, atol=1e-7)
    assert (int(new.step), int(new.seed)) == (6, 7)


def test_dropout_differs_by_step_and_by_seed():
    def loss(params, batch, key):
        return params * jax.random.uniform(key)

    def drawn(seed, position):
        state = TrainState.create(jnp.ones(()), optax.sgd(0.1), seed)
        state = state._replace(step=jnp.int32(position))
        return float(make_step(loss, optax.sgd(0.1))(state, jnp.zeros(1))[1]["loss"])

    assert len({drawn(0, 0), drawn(0, 1), drawn(1, 0)}) == 3
    assert drawn(0, 0) == drawn(0, 0)


def test_the_body_is_pure_and_gives_the_same():
    optimizer = optax.adam(0.01)
    step = make_step(mlp_loss, optimizer)
    state = TrainState.create(mlp_params(), optimizer, seed=0)
    eager, _ = step.body(state, batches(0))
    compiled, _ = step(state, batches(0))
    chex.assert_trees_all_close(eager.params, compiled.params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("steps_per_call", "programs"), [(1, 1), (4, 2)])
def test_one_program_and_one_for_a_shorter_last_call(steps_per_call, programs):
    chex.clear_trace_counter()
    loss = chex.assert_max_traces(mlp_loss, n=1)  # the shorter loop takes the body already traced
    step = make_step(loss, optax.adam(0.01), steps_per_call=steps_per_call)
    with compilations() as names:
        run(loss, mlp_params(), optax.adam(0.01), 11, steps_per_call, step)  # 4 + 4 + 3
    assert [name for name in names if "body" in name or "scanned" in name] == [
        "jit(body)" if steps_per_call == 1 else "jit(scanned)"
    ] * programs


def test_half_precision_params_keep_their_dtype():
    params = {"w": jnp.ones((3, 2), jnp.bfloat16)}
    optimizer = optax.adam(0.1)

    def loss(params, batch, key):
        return jnp.mean(jnp.square(params["w"]))

    step, state, metrics = make_step(loss, optimizer), TrainState.create(params, optimizer, 0), {}
    for _ in range(2):
        state, metrics = step(state, jnp.zeros(1))
    assert state.params["w"].dtype == jnp.bfloat16
    assert metrics["gradient_norm"].dtype == jnp.float32


def test_optimizers_that_ask_for_the_loss_get_it():
    for optimizer in (optax.polyak_sgd(), optax.lbfgs()):
        step = make_step(lambda p, b, k: jnp.sum(jnp.square(p - b)), optimizer)
        state, metrics = TrainState.create(jnp.zeros(2), optimizer, 0), {}
        for _ in range(3):
            state, metrics = step(state, jnp.ones(2))
        assert float(metrics["loss"]) < 0.2


@pytest.mark.parametrize("opaque", [False, True])
def test_sharpness_aware_minimisation_gets_what_it_asks_for(opaque):
    optimizer = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.01), opaque_mode=opaque)
    step = make_step(lambda p, b, k: jnp.sum(jnp.square(p - b)), optimizer)
    state, losses = TrainState.create(jnp.zeros(2), optimizer, 0), []
    for _ in range(20):
        state, metrics = step(state, jnp.ones(2))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.1 * losses[0]


def needy(updates, state, params=None, *, hessian):
    return updates, state


UPDATES = {
    "missing 1 required keyword-only argument: 'hessian' .*value, grad, value_fn, grad_fn": (
        optax.GradientTransformationExtraArgs(optax.sgd(0.1).init, needy)  # pyright: ignore
    ),
    "the optimizer's update fails: .*unexpected keyword argument 'value'": (
        optax.chain(optax.clip(1.0), optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1)))
    ),
    "the optimizer's update fails: obj_fn must be provided": (
        optax.contrib.hutchinson_estimator_diag_hessian()
    ),
}


@pytest.mark.parametrize("line", UPDATES)
def test_an_optimizer_that_needs_more_is_one_line(line):
    state = TrainState.create(jnp.zeros(2), UPDATES[line], 0)
    with pytest.raises(TypeError, match=line) as raised:
        make_step(lambda p, b, k: jnp.sum(jnp.square(p - b)), UPDATES[line])(state, jnp.ones(2))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("made_with", "line"),
    [
        (optax.sgd(0.1), r"optimizer_state/0/count \(int32\[\]\) is missing \(and 2 more\)"),
        (optax.adafactor(0.1), r"optimizer_state/0/mu \(float32\[2\]\) is missing"),
    ],
    ids=["sgd", "adafactor"],
)
def test_another_optimizer_than_the_state_was_made_with_is_named(made_with, line):
    def loss(params, batch, key):
        return jnp.sum(params)

    state = TrainState.create(jnp.ones(2), made_with, 0)
    with pytest.raises(TypeError, match="optimizer is not that of the state, " + line):
        make_step(loss, optax.adam(0.1))(state, jnp.ones(2))
    state = TrainState.create(jnp.ones(2), optax.adam(0.1), 0)
    with pytest.raises(TypeError, match="is not that of the state, optimizer_state/"):
        make_step(loss, made_with)(state, jnp.ones(2))


LOSSES = {
    r"floating point scalar, found float32\[2\]": lambda p, b, k: p["w"],
    "floating point scalar, found a dict": lambda p, b, k: {"loss": jnp.sum(p["w"])},
    r"floating point scalar, found int32\[\]": lambda p, b, k: jnp.int32(1),
    "floating point scalar, found a NoneType": lambda p, b, k: None,
    "metrics as a dict, found float32": lambda p, b, k: (jnp.sum(p["w"]), jnp.sum(p["w"])),
    r"metric 'rows' must be a scalar, found float32\[2\]": (
        lambda p, b, k: (jnp.sum(p["w"]), {"rows": p["w"]})
    ),
    "a metric named 'gradient_norm'": (
        lambda p, b, k: (jnp.sum(p["w"]), {"gradient_norm": jnp.sum(p["w"])})
    ),
}


@pytest.mark.parametrize("line", LOSSES)
def test_a_loss_of_the_wrong_kind_is_one_line(line):
    state = TrainState.create({"w": jnp.ones(2)}, optax.sgd(0.1), 0)
    with pytest.raises(TypeError, match=line) as raised:
        make_step(LOSSES[line], optax.sgd(0.1))(state, jnp.zeros(1))
    assert "\n" not in str(raised.value)
    assert not state.params["w"].is_deleted()


def test_integer_params_in_a_state_made_by_hand_are_named():
    state = TrainState({"n": jnp.ones(2, jnp.int32)}, (), jnp.int32(0), jnp.uint32(0))
    with pytest.raises(TypeError, match=r"params leaf 'n' is int32\[2\]"):
        make_step(lambda p, b, k: jnp.float32(0), optax.sgd(0.1))(state, jnp.zeros(1))


def test_an_optimizer_that_changes_its_state_is_named():
    def update(updates, state, params=None):
        return updates, {"mean": state["mean"].astype(jnp.bfloat16)}

    optimizer = optax.GradientTransformation(lambda params: {"mean": jnp.zeros(2)}, update)
    state = TrainState.create({"w": jnp.ones(2)}, optimizer, 0)
    with pytest.raises(TypeError, match=r"mean changed from float32\[2\] to bfloat16\[2\]"):
        make_step(lambda p, b, k: jnp.sum(p["w"]), optimizer)(state, jnp.zeros(1))


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        ({"x": jnp.zeros((5, 2))}, r"'x' is float32\[5, 2\]: .* count the steps, 1 to 4"),
        ({"x": jnp.zeros((0, 2))}, "count the steps, 1 to 4"),
        ({"x": jnp.zeros((4, 2)), "y": jnp.zeros(3)}, r"'y' is float32\[3\]: .* the steps, 4"),
        ({"x": jnp.zeros(())}, r"'x' is float32\[\]"),
    ],
)
def test_stacked_batches_of_the_wrong_length_are_named(batch, line):
    step = make_step(lambda p, b, k: jnp.sum(p), optax.sgd(0.1), steps_per_call=4)
    with pytest.raises(ValueError, match=line):
        step(TrainState.create(jnp.ones(2), optax.sgd(0.1), 0), batch)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "8"])
def test_steps_per_call_must_be_a_count(count):
    with pytest.raises(ValueError, match="steps_per_call must be"):
        make_step(mlp_loss, optax.sgd(0.1), steps_per_call=count)
