"""The best checkpoint stays beside the newest, and a killed run chooses as an unbroken one."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal

from funcnn.train import (
    CheckpointError,
    Checkpoints,
    DamagedCheckpoint,
    MetricsLog,
    TrainState,
    fit,
    make_step,
)
from funcnn.train import checkpoint as checkpoint_module
from funcnn.train.best import BEST, Values, read_values, write_values

OPTIMIZER = optax.sgd(1.0)
STEP = make_step(lambda params, batch, key: -params["w"], OPTIMIZER)  # w counts the steps


def start():
    return TrainState.create({"w": jnp.zeros(())}, OPTIMIZER, seed=0)


def at(step):
    return start()._replace(step=jnp.int32(step))


def opened(folder, keep=1, **options):
    return Checkpoints(folder, keep, best="evaluation_x", **options)


def run(folder, values, evaluate_every=1, checkpoint_every=4, resume=True, **options):
    """Train as long as there are values of the evaluation."""
    checkpoints = opened(folder, **options)
    state = start()
    if resume and checkpoints.latest() is not None:
        state = checkpoints.restore(state)

    def evaluate(params):
        return {"x": values[round(float(params["w"])) - 1]}

    return fit(
        STEP,
        state,
        lambda step: np.zeros(1, np.float32),
        steps=len(values),
        log_every=1,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        log=MetricsLog(folder / "metrics.jsonl"),
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
    )


#          1    2    3    4    5    6    7    8    9   10   11   12
CURVE = [9.0, 5.0, 6.0, 5.0, 7.0, 8.0, 4.0, 4.5, 4.0, 6.0, 7.0, 5.0]


@pytest.mark.parametrize(
    ("values", "options", "best", "steps"),
    [
        (CURVE, {}, 7, [7, 12]),  # the first of two equal ones
        (CURVE, {"higher_is_better": True}, 1, [1, 12]),
        (CURVE, {"keep": 2}, 7, [7, 8, 12]),
        (CURVE[:4], {}, 2, [2, 4]),
        (CURVE, {"evaluate_every": 4}, 8, [8, 12]),
        ([float("nan"), 3.0, float("nan")], {}, 2, [2, 3]),
        ([float("nan")] * 3, {}, None, [3]),
    ],
)
def test_the_best_is_kept_beside_the_newest(tmp_path, values, options, best, steps):
    run(tmp_path, values, **options)
    checkpoints = Checkpoints(tmp_path)  # which learns from the folder what is the best
    assert checkpoints.best_step() == best
    assert checkpoints.steps() == steps
    if best is not None:
        assert int(checkpoints.restore_best(start()).step) == best
        assert float(checkpoints.restore_best(start()).params["w"]) == best
    assert int(checkpoints.restore(start()).step) == len(values)


def test_without_an_evaluation_there_is_no_best_and_one_line_says_so(tmp_path):
    checkpoints = opened(tmp_path)
    checkpoints.save(at(1))
    assert checkpoints.best_step() is None
    with pytest.raises(CheckpointError, match=r"no best checkpoint in .*: none has been evaluated"):
        checkpoints.restore_best(start())
    assert not (tmp_path / BEST).exists()


def killed_run(folder, monkeypatch, place, step, values=CURVE):
    """A run that is killed at a place, when it comes to this step."""

    def killing(original, position):
        def function(*args, **kwargs):
            if position(*args, **kwargs) == step:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        return function

    if place == "log":
        new = killing(MetricsLog.write, lambda self, record: record["step"])
        monkeypatch.setattr(MetricsLog, "write", new)
    elif place == "after the save":
        save = Checkpoints._write

        def saved(self, state, record):
            save(self, state, record)
            if int(state.step) == step:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoints, "_write", saved)
    else:  # before the choice is written, or just after it
        write = write_values

        def written(folder, values):
            if place == "after the choice":
                write(folder, values)
            if max(values.at) == step:
                raise KeyboardInterrupt
            write(folder, values)

        monkeypatch.setattr(checkpoint_module, "write_values", written)
    with pytest.raises(KeyboardInterrupt):
        run(folder, values)
    monkeypatch.undo()


# 4 and 8 are saved as due, 7 as the best so far: before a choice, after it, before the record.
@pytest.mark.parametrize("step", [2, 4, 7, 8])
@pytest.mark.parametrize(
    "place", ["after the save", "before the choice", "after the choice", "log"]
)
def test_a_killed_run_chooses_as_the_unbroken_one(tmp_path, monkeypatch, place, step):
    unbroken, _ = run(tmp_path / "unbroken", CURVE)
    folder = tmp_path / "run"
    killed_run(folder, monkeypatch, place, step)
    # What is there at any time: the newest, and the best of those evaluated before it.
    assert opened(folder).best_step() in {2: {1, 2}, 4: {2}, 7: {2, 7}, 8: {7}}[step]
    resumed, _ = run(folder, CURVE)
    assert_bit_equal(resumed, unbroken)
    expected = opened(tmp_path / "unbroken")
    assert opened(folder).best_step() == expected.best_step() == 7
    assert opened(folder).steps() == expected.steps()
    assert (folder / BEST).read_bytes() == (tmp_path / "unbroken" / BEST).read_bytes()
    lines = (tmp_path / "unbroken" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines


def test_an_old_best_is_removed_only_when_the_new_choice_is_on_the_disk(tmp_path, monkeypatch):
    run(tmp_path, CURVE[:6])
    assert opened(tmp_path).best_step() == 2
    killed_run(tmp_path, monkeypatch, "before the choice", 7)
    assert opened(tmp_path).steps() == [2, 7]
    assert opened(tmp_path).best_step() == 2


def test_a_run_without_best_does_not_delete_that_of_an_earlier_one(tmp_path):
    checkpoints = opened(tmp_path)
    checkpoints.save(at(1))
    checkpoints.note({"step": 1, "evaluation_x": 0.5})
    other = Checkpoints(tmp_path, keep=1)
    for step in (2, 3, 4):
        other.save(at(step))
        other.note({"step": step, "evaluation_x": 0.0})  # it keeps no best, and notes nothing
    assert other.steps() == [1, 4]


def test_another_metric_begins_to_choose_anew(tmp_path):
    checkpoints = opened(tmp_path)
    checkpoints.save(at(1))
    checkpoints.note({"step": 1, "evaluation_x": -5.0})
    other = Checkpoints(tmp_path, keep=1, best="evaluation_y")
    other.save(at(2))
    assert other.steps() == [1, 2]
    assert other.would_be_best({"step": 2, "evaluation_y": 3.0})
    other.note({"step": 2, "evaluation_y": 3.0})
    assert other.steps() == [2]


def test_a_state_saved_anew_has_no_value_before_it_is_evaluated(tmp_path):
    checkpoints = opened(tmp_path, keep=3)
    for step in (1, 2):
        checkpoints.save(at(step))
        checkpoints.note({"step": step, "evaluation_x": -float(step)})
    assert checkpoints.best_step() == 2
    checkpoints.save(at(2))
    assert checkpoints.best_step() == 1
    assert not checkpoints.would_be_best({"step": 2, "evaluation_x": -1.0})
    checkpoints.note({"step": 2, "evaluation_x": -1.0})
    assert checkpoints.best_step() == 1


def test_what_is_damaged_does_not_stand_in_for_the_best(tmp_path):
    run(tmp_path, CURVE)
    manifest = tmp_path / "step_00000007" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("step", "stop", 1))
    with pytest.raises(DamagedCheckpoint, match="step_00000007 is damaged"):
        opened(tmp_path).restore_best(start())
    assert int(opened(tmp_path).restore(start()).step) == 12


def test_a_damaged_newest_is_set_aside_and_what_it_was_chosen_by_is_forgotten(tmp_path):
    values = [5.0, 4.0, 3.0, 2.0, 6.0, 7.0, 8.0, 1.0]
    straight, _ = run(tmp_path, values, keep=2, checkpoint_every=2)
    assert opened(tmp_path).steps() == [6, 8]
    (tmp_path / "step_00000008" / "manifest.json").write_text("{}")
    with pytest.warns(UserWarning, match="taking step 6 instead"):
        state, _ = run(tmp_path, values, keep=2, checkpoint_every=2)
    assert_bit_equal(state, straight)
    assert opened(tmp_path).best_step() == 8


CHANGES = {
    "another step": lambda c: {**c, "values": {"2": 0.0}},
    "another direction": lambda c: {**c, "higher_is_better": True},
    "no digest": lambda c: {k: v for k, v in c.items() if k != "digest"},
    "a list": lambda c: [1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_choice_is_noticed_before_the_first_step(tmp_path, change):
    run(tmp_path, CURVE[:6])
    content = json.loads((tmp_path / BEST).read_text())
    (tmp_path / BEST).write_text(json.dumps(CHANGES[change](content)))
    before = sorted(path.name for path in tmp_path.iterdir())
    line = r"best.json is damaged: .* remove it"
    for attempt in (
        lambda: opened(tmp_path).restore_best(start()),
        lambda: run(tmp_path, CURVE),
    ):
        with pytest.raises(DamagedCheckpoint, match=line) as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    (tmp_path / BEST).unlink()
    run(tmp_path, CURVE)
    assert opened(tmp_path).best_step() == 7


def test_a_metric_that_the_evaluation_lacks_is_one_line_and_the_state_is_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, best="evaluation_accuracy", higher_is_better=True)
    line = r"best: the record of step 1 has no metric 'evaluation_accuracy': it has .*evaluation_x"
    with pytest.raises(ValueError, match=line):
        fit(
            *(STEP, start(), lambda step: np.zeros(1, np.float32)),
            steps=3,
            evaluate=lambda params: {"x": 1.0},
            evaluate_every=1,
            checkpoints=checkpoints,
        )
    assert checkpoints.latest() == 1


def test_values_survive_the_disk(tmp_path):
    values = Values("evaluation_x", True, {1: 0.1 + 0.2, 20: -1e-300})
    write_values(tmp_path, values)
    assert read_values(tmp_path) == values
    assert [path.name for path in tmp_path.iterdir()] == [BEST]
