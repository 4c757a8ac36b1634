"""Hooks: when each is called and with what, what its answer does, and that none loses a run."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal

from funcnn.train import Checkpoints, MetricsLog, TrainState, fit, make_step, read_metrics
from funcnn.train.background import Saving

OPTIMIZER = optax.sgd(0.25)


def loss(params, batch, key):
    return jnp.mean(jnp.square(params["w"] - batch))


def batches(step, count=None):
    if count is not None:
        return np.stack([batches(step + i) for i in range(count)])
    return np.full((2,), 1 + step % 3, np.float32)


@pytest.fixture(autouse=True)
def in_step(monkeypatch):
    """Every save has ended when the loop looks for the first time, so that calls have an order."""
    monkeypatch.setattr(Saving, "has_ended", lambda self: self.join() is None)


@pytest.fixture(scope="module")
def steps():
    return {count: make_step(loss, OPTIMIZER, steps_per_call=count) for count in (1, 4)}


def start():
    return TrainState.create({"w": jnp.zeros(2)}, OPTIMIZER, seed=0)


def evaluate(params):
    return {"w": float(params["w"][0])}


def run(step, folder, steps=12, **more: Any):
    log, checkpoints = MetricsLog(folder / "metrics.jsonl"), Checkpoints(folder, keep=99)
    options = {"log_every": 2, "evaluate_every": 3, "checkpoint_every": 6, **more}
    state = start() if checkpoints.latest() is None else checkpoints.restore(start())
    kept = {"log": log, "checkpoints": checkpoints, "evaluate": evaluate}
    return fit(step, state, batches, steps=steps, **kept, **options)


class Seen:
    """Hooks that write down their calls, in one list; `at` is (event, step) -> what it does."""

    def __init__(self, at=None):
        self.calls, self._at = [], at or {}

    def hooks(self) -> dict[str, Any]:
        def hook(event):
            def called(state, seen):
                given = [r["step"] for r in seen] if event == "on_evaluation" else sorted(seen)
                self.calls.append((event, int(state.step), given))
                return self._at.get((event, int(state.step)), lambda: None)()

            return called

        return {event: hook(event) for event in ("on_step", "on_evaluation", "on_save")}


def test_each_is_called_at_its_event_in_the_order_of_the_documentation(steps, tmp_path):
    seen = Seen()
    run(steps[1], tmp_path, steps=6, **seen.hooks())
    scalars = ["gradient_norm", "loss"]
    assert seen.calls == [
        *(("on_step", step, scalars) for step in (1, 2, 3)),
        ("on_evaluation", 3, [2, 3]),
        *(("on_step", step, scalars) for step in (4, 5, 6)),
        ("on_save", 6, ["gradient_norm", "loss", "step"]),
        ("on_evaluation", 6, [2, 3, 4, 6]),
    ]


def test_of_several_steps_a_call_on_step_is_called_once_with_all_their_metrics(steps, tmp_path):
    shapes = []

    def on_step(state, metrics):
        shapes.append((int(state.step), metrics["loss"].shape))

    run(steps[4], tmp_path, steps=6, on_step=on_step)
    assert shapes == [(4, (4,)), (6, (2,))]


def test_the_metrics_of_on_step_are_on_the_device_and_the_run_is_the_same(steps, tmp_path):
    kinds = set()
    plain, records = run(steps[1], tmp_path / "plain")
    seen, same = run(
        steps[1],
        tmp_path / "seen",
        on_step=[lambda state, metrics: kinds.update(map(type, metrics.values()))] * 2,
        on_evaluation=lambda state, records: False,
    )
    assert_bit_equal(plain, seen)
    assert records == same
    assert all(issubclass(kind, jax.Array) for kind in kinds)


@pytest.mark.parametrize(
    ("event", "step"), [("on_step", 5), ("on_evaluation", 3), ("on_save", 6), ("on_step", 12)]
)
@pytest.mark.parametrize("answer", [True, np.True_])
def test_true_stops_the_run_after_what_is_due_and_the_state_is_saved(
    steps, tmp_path, event, step, answer
):
    straight, _ = run(steps[1], tmp_path / "straight")
    seen, folder = Seen({(event, step): lambda: answer}), tmp_path / "run"
    state, history = run(steps[1], folder, **seen.hooks())
    assert int(state.step) == step
    assert Checkpoints(folder).latest() == step
    due = [n for n in (2, 3, 4, 6, 8, 9, 10, 12) if n <= step]
    assert [record["step"] for record in history] == due
    if event == "on_evaluation":  # which asks again, whenever the run is taken up
        again, _ = run(steps[1], folder, **seen.hooks())
        assert int(again.step) == step
    state, _ = run(steps[1], folder)
    assert_bit_equal(state, straight)
    lines = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines


def fail():
    raise ZeroDivisionError("of the hook")


# Where nothing else is due, where a record is, an evaluation, and a save as well.
@pytest.mark.parametrize(
    ("event", "step"),
    [("on_step", n) for n in (1, 2, 3, 6)] + [("on_evaluation", n) for n in (3, 6, 12)]
    + [("on_save", n) for n in (6, 12)],
)  # fmt: skip
def test_an_exception_saves_the_state_and_names_the_hook(steps, tmp_path, event, step):
    straight, _ = run(steps[1], tmp_path / "straight")
    folder, seen = tmp_path / "run", Seen({(event, step): fail})
    with pytest.raises(ZeroDivisionError, match="of the hook") as raised:
        run(steps[1], folder, **seen.hooks())
    (note,) = raised.value.__notes__
    assert note.startswith(f"in the hook {event}, Seen.hooks.<locals>")
    assert note.endswith(f"called, at step {step}")
    assert Checkpoints(folder).latest() == step
    # The run loses neither the state nor the record that was due.
    resumed, _ = run(steps[1], folder)
    assert_bit_equal(resumed, straight)
    lines = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines


def test_an_evaluated_record_is_told_at_least_once(steps, tmp_path, monkeypatch):
    """A run that is killed between record and hook begins with the call that it owes."""
    write = MetricsLog.write

    def killed(self, record):
        write(self, record)
        if record["step"] == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(MetricsLog, "write", killed)
    seen = Seen()
    with pytest.raises(KeyboardInterrupt):
        run(steps[1], tmp_path, **seen.hooks())
    monkeypatch.undo()
    assert ("on_evaluation", 6) not in [call[:2] for call in seen.calls]
    seen.calls.clear()
    run(steps[1], tmp_path, **seen.hooks())
    assert seen.calls[0] == ("on_evaluation", 6, [2, 3, 4, 6])
    assert [c[1] for c in seen.calls if c[0] == "on_evaluation"] == [6, 9, 12]


def test_all_hooks_of_an_event_are_called_also_after_one_that_stops(steps, tmp_path):
    order = []

    def hook(name, answer):
        def called(state, records):
            order.append(name)
            return answer

        return called

    state, _ = run(steps[1], tmp_path, on_evaluation=[hook("a", True), hook("b", False)])
    assert int(state.step) == 3
    assert order == ["a", "b"]


@pytest.mark.parametrize("answer", [1, "stop", np.ones(2), jnp.bool_(True)])
def test_another_answer_is_one_line_that_names_the_hook(steps, tmp_path, answer):
    line = "a hook returns True to stop the run, or else False or None, found"
    with pytest.raises(TypeError, match=line) as raised:
        run(steps[1], tmp_path, on_step=lambda state, metrics: answer)
    assert "in the hook on_step" in raised.value.__notes__[0]
    assert Checkpoints(tmp_path).latest() == 1


@pytest.mark.parametrize("hooks", [{"on_save": "print"}, {"on_step": [len, 3]}])
def test_a_hook_that_is_no_function_is_said_before_the_first_step(tmp_path, hooks):
    def step(state, batch):
        raise AssertionError("a step was made")

    (name,) = hooks
    with pytest.raises(TypeError, match=f"{name} must be a function, or a list of functions, "):
        run(step, tmp_path, **hooks)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_finished_run_makes_no_step_and_stays_as_it_is(steps, tmp_path):
    run(steps[1], tmp_path)
    before = read_metrics(tmp_path / "metrics.jsonl")
    seen = Seen()
    run(steps[1], tmp_path, **seen.hooks())
    assert [call[:2] for call in seen.calls] == [("on_evaluation", 12)]
    assert read_metrics(tmp_path / "metrics.jsonl") == before
