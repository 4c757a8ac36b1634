"""The arms train side by side; a wrong rule parts from the automatic arm, rounding does not."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn import rules
from funcnn.gradient.comparison.training import Curve, TrainingComparison, compare_training
from funcnn.gradient.program.sites import Site

SITE = Site((0,), "linear", "", "custom_vjp", "")


def batches(step):
    random = np.random.default_rng(step)
    x = random.normal(size=(6, 3)).astype("float32")
    return {"x": x, "y": x.sum(1, keepdims=True)}


def spoiled(factor):
    right = rules.tanh.backward
    return rules.tanh.replace(backward=lambda res, dy: (factor * right(res, dy)[0],))


def train(rule, optimizer=None, steps=3, **options):
    random = np.random.default_rng(0)
    params = {"w": random.normal(size=(3, 2)).astype("float32"), "v": np.ones((2, 1), "float32")}

    def loss(params, batch, key):
        keep = jax.random.bernoulli(key, 0.8, (6, 2))
        hidden = jnp.where(keep, rule(batch["x"] @ params["w"]), jnp.zeros((), "float32"))
        error = hidden @ params["v"] - batch["y"]
        return jnp.mean(error**2), {"worst": jnp.max(jnp.abs(error))}

    optimizer = optimizer or optax.sgd(0.1)
    return compare_training(loss, params, batches, optimizer, steps, **options)


def test_right_rules_stay_with_the_automatic_gradient():
    report = train(rules.tanh, optax.adam(0.01), with_checkpoint=True)
    assert report.ok, str(report)
    automatic, manual, checkpointed, control = report.arms
    assert [manual.name, checkpointed.name] == ["manual", "checkpointed"]
    assert len(manual.losses) == len(manual.distances) == 3
    assert automatic.distances == (0.0,) * 3
    assert automatic.losses[0] == pytest.approx(manual.losses[0], rel=1e-6)
    assert set(automatic.leaves) == {"v", "w"}
    # The control is moved before each step, so that its distance is never nothing.
    assert all(0 < d < 1e-4 for d in control.distances)
    assert report.sites


def test_the_control_is_changed_at_random_in_each_step():
    """As a walk: with the same coins at each step it would go straight on, 16 steps in 16."""
    params = {"w": np.ones((64, 4), np.float32)}
    loss = lambda params, batch, key: jnp.sum(rules.tanh(params["w"]))  # noqa: E731
    report = compare_training(loss, params, batches, optax.sgd(0.0), 16)
    first, *_, last = report.arms[-1].distances
    assert 2 < last / first < 8


def test_a_wrong_rule_parts_at_once():
    report = train(spoiled(1.001), steps=2)
    assert not report.ok
    assert report.parted == {"manual": 0}
    text = str(report).splitlines()[-1]
    assert text == "FAILED: further apart than rounding explains: manual at step 0"


def test_the_key_reaches_the_loss_and_is_the_same_for_all_arms():
    first, second = train(rules.tanh, steps=1), train(rules.tanh, steps=1, key=jax.random.key(7))
    assert first.ok
    assert second.ok
    assert first.arms[0].losses != second.arms[0].losses


def test_without_rules_nothing_is_compared():
    def loss(params, batch, key):
        return jnp.mean((batch["x"] @ params["w"]) ** 2)

    report = compare_training(loss, {"w": jnp.ones((3, 1))}, batches, optax.sgd(0.1), 2)
    assert not report.ok
    assert str(report).endswith("NOT COMPARED: the loss calls no hand-written rule")


def curve(name, distances, losses=(1.0, 0.5)):
    return Curve(name, losses, distances, {"w": distances[-1]})


def test_an_arm_parts_where_it_leaves_ten_times_the_largest_distance_of_the_control():
    automatic, control = curve("automatic", (0.0, 0.0)), curve("control", (2e-7, 1e-7))
    near, far = curve("manual", (2e-6, 2e-6)), curve("manual", (1e-6, 2.1e-6))
    assert TrainingComparison((automatic, near, control), (SITE,)).ok
    report = TrainingComparison((automatic, far, control), (SITE,))
    assert report.parted == {"manual": 1}
    assert not report.ok


def test_what_is_not_finite_fails():
    automatic, control = curve("automatic", (0.0, 0.0)), curve("control", (1e-7, 1e-7))
    broken = curve("manual", (0.0, math.inf), (1.0, math.nan))
    report = TrainingComparison((automatic, broken, control), (SITE,))
    assert not report.ok
    assert report.parted == {"manual": 1}
    exploding = [curve(name, (0.0, 0.0), (1.0, math.inf)) for name in ("automatic", "manual")]
    report = TrainingComparison((*exploding, control), (SITE,))
    assert not report.parted
    assert str(report).endswith("FAILED: a loss is not finite")


def test_the_lines_of_the_file(tmp_path):
    automatic, control = curve("automatic", (0.0, 0.0)), curve("control", (1e-7, 1e-7))
    report = TrainingComparison((automatic, curve("manual", (0.0, 1.0)), control), (SITE,))
    report.to_json(tmp_path / "training.jsonl")
    lines = [json.loads(s) for s in (tmp_path / "training.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [(s["arm"], s["step"], s["distance"]) for s in steps[2:4]] == [
        ("manual", 0, 0.0),
        ("manual", 1, 1.0),
    ]
    assert {"kind": "leaf", "arm": "manual", "leaf": "w", "distance": 1.0} in lines
    program = {"kind": "program", "ok": False, "parted": {"manual": 1}, "steps": 2, "rules": 1}
    assert lines[-1] == program


@pytest.mark.parametrize("steps", [0, -1, True, 1.5])
def test_steps_are_counted(steps):
    with pytest.raises(ValueError, match="steps must be a positive integer"):
        compare_training(lambda p, b, k: p, jnp.ones(()), batches, optax.sgd(0.1), steps)
