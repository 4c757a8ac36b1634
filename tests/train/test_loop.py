import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_problems import assert_bit_equal, batches, compilations, mlp_loss, mlp_params

from funcnn.data.dataset import DataError
from funcnn.train import (
    Checkpoints,
    MetricsLog,
    TrainingError,
    TrainState,
    fit,
    make_evaluation,
    make_step,
    read_metrics,
)

OPTIMIZER = optax.adam(0.01)


def simple_loss(params, batch, key):
    return jnp.mean(jnp.square(params["w"] - batch["x"]))


def simple_batches(step, count=None):
    if count is not None:
        return {"x": np.stack([simple_batches(step + i)["x"] for i in range(count)])}
    return {"x": np.ones((3, 2), np.float32) * (1 + step % 3)}


@pytest.fixture(scope="module")
def steps():
    """The compiled simple steps, one a number of steps a call, shared by the tests below."""
    return {count: make_step(simple_loss, OPTIMIZER, steps_per_call=count) for count in (1, 4)}


def simple_state():
    return TrainState.create({"w": jnp.zeros((3, 2))}, OPTIMIZER, seed=0)


class Watch:
    """A progress display that writes down what it is told."""

    def __init__(self):
        self.seen = []

    def start(self, steps, position):
        self.seen.append(("start", steps, position))

    def advance(self, position):
        self.seen.append(position)

    def report(self, record):
        self.seen.append(("report", record["step"]))

    def close(self):
        self.seen.append("close")


def test_everything_is_due_at_multiples_and_at_the_end(steps, tmp_path):
    log, checkpoints = MetricsLog(tmp_path / "metrics.jsonl"), Checkpoints(tmp_path, keep=9)
    watch = Watch()
    state, history = fit(
        steps[1],
        simple_state(),
        simple_batches,
        steps=7,
        log_every=2,
        evaluate=lambda params: {"accuracy": 0.5},
        evaluate_every=3,
        log=log,
        checkpoints=checkpoints,
        checkpoint_every=5,
        progress=watch,
    )
    assert int(state.step) == 7
    assert [record["step"] for record in history] == [2, 3, 4, 6, 7]
    assert [r["step"] for r in history if "evaluation_accuracy" in r] == [3, 6, 7]
    assert list(history[-1]) == ["step", "loss", "gradient_norm", "evaluation_accuracy"]
    assert read_metrics(log.path) == history
    assert checkpoints.steps() == [5, 7]
    assert watch.seen[0] == ("start", 7, 0)
    assert watch.seen[-2:] == [("report", 7), "close"]
    assert [seen for seen in watch.seen if isinstance(seen, int)] == [1, 2, 3, 4, 5, 6, 7]


def test_with_several_steps_a_call_it_is_the_first_end_of_a_call_after_a_multiple(steps, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    _, history = fit(
        steps[4],
        simple_state(),
        simple_batches,
        steps=14,
        log_every=3,
        checkpoints=checkpoints,
        checkpoint_every=10,
    )
    assert [record["step"] for record in history] == [4, 8, 12, 14]
    assert checkpoints.steps() == [12, 14]


def test_the_record_of_a_step_is_the_same_whatever_the_steps_a_call(steps):
    _, plain = fit(steps[1], simple_state(), simple_batches, steps=10, log_every=1)
    _, scanned = fit(steps[4], simple_state(), simple_batches, steps=10, log_every=1)
    assert scanned == [plain[3], plain[7], plain[9]]


def test_the_batches_are_asked_for_by_step(steps):
    asked = []

    def listening(*args):
        asked.append(args)
        return simple_batches(*args)

    fit(steps[1], simple_state(), listening, steps=3)
    fit(steps[4], simple_state(), listening, steps=6)
    assert asked == [(0,), (1,), (2,), (0, 4), (4, 2)]


def test_a_finished_run_does_nothing(steps, tmp_path):
    state = simple_state()._replace(step=jnp.int32(5))
    new, history = fit(
        steps[1], state, simple_batches, steps=5, checkpoints=Checkpoints(tmp_path / "none")
    )
    assert new is state
    assert history == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_step_shorter_last_call_and_evaluation_are_the_only_programs(steps_per_call):
    def loss(params, batch, key):
        return mlp_loss(params, batch, key)

    def rows(params, batch):
        return {"x": batch["x"][:, 0]}

    step = make_step(loss, OPTIMIZER, steps_per_call=steps_per_call)
    evaluate = make_evaluation(rows, {"x": np.ones((7, 2), np.float32)}, batch_size=3)
    state = TrainState.create(mlp_params(), OPTIMIZER, seed=0)
    with compilations() as names:
        fit(
            step,
            state,
            batches,
            steps=11,
            log_every=2,
            evaluate=evaluate,
            evaluate_every=5,
            progress=Watch(),
        )
    program = ["jit(body)"] if steps_per_call == 1 else ["jit(scanned)", "jit(scanned)"]
    assert sorted(names) == sorted([*program, "jit(rows)"])


def changed(field, change):
    def give(step, count=None):
        batch = dict(batches(step, count))
        if step >= 4:
            batch[field] = change(batch[field])
        return batch

    return give


RETRACES = [
    (
        1,
        "x",
        lambda x: x[:5],
        r"step 5 would compile anew: batch/x changed from float32\[6, 16\] to f",
    ),
    (1, "y", lambda y: y.astype(np.int16), r"batch/y changed from int32\[6\] to int16\[6\]"),
    (1, "y", lambda y: {"label": y}, r"batch/y \(int32\[6\]\) is missing \(and 1 more\)"),
    (4, "x", lambda x: x[:, :5], r"batch/x changed from float32\[6, 16\] to float32\[5, 16\]"),
    (4, "x", lambda x: x[:3], r"batches\(4, 4\): batch leaf 'x' is .*3, 6, 16.* the steps, 4"),
]


@pytest.mark.parametrize(("steps_per_call", "field", "change", "line"), RETRACES)
def test_a_batch_that_would_compile_anew_is_named(steps_per_call, field, change, line):
    def step(state, batch):  # the loop notices, before the step is called
        assert batch["x"].shape[-2:] == (6, 16)
        return state, {"loss": 0.0}

    with pytest.raises(TrainingError, match=line) as info:
        fit(step, simple_state(), changed(field, change), steps=10, steps_per_call=steps_per_call)
    assert "\n" not in str(info.value)


def test_a_weak_type_in_the_state_is_named(steps):
    def weak(state, batch):
        state, metrics = steps[1](state, batch)
        return state._replace(params={"w": jax.lax.full((3, 2), 1.0)}), metrics

    with pytest.raises(
        TrainingError, match=r"params/w changed from float32\[3, 2\] to .*weak type"
    ):
        fit(weak, simple_state(), simple_batches, steps=3)


def poisoned(step, count=None):
    """Batches with one NaN in that of the sixth step."""
    batch = simple_batches(step, count)
    if count is None and step == 5:
        batch["x"][0, 0] = np.nan
    elif count is not None and step <= 5 < step + count:
        batch["x"][5 - step, 0, 0] = np.nan
    return batch


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_nan_in_the_data_stops_the_run_before_a_state_is_saved(steps, steps_per_call, tmp_path):
    log, checkpoints, watch = MetricsLog(tmp_path / "m.jsonl"), Checkpoints(tmp_path), Watch()
    with pytest.raises(TrainingError, match=r"^step 6: loss is nan: training stops") as info:
        fit(
            steps[steps_per_call],
            simple_state(),
            poisoned,
            steps=12,
            log_every=1,
            log=log,
            checkpoints=checkpoints,
            checkpoint_every=1,
            progress=watch,
        )
    assert "\n" not in str(info.value)
    assert checkpoints.latest() == (5 if steps_per_call == 1 else 4)
    written = [record["step"] for record in read_metrics(log.path)]
    assert written == ([1, 2, 3, 4, 5] if steps_per_call == 1 else [4])
    assert watch.seen[-1] == "close"


def test_nan_between_two_records_is_found_before_a_save(steps, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(TrainingError, match="step 8: loss is nan"):
        fit(
            steps[1],
            simple_state(),
            poisoned,
            steps=12,
            log_every=0,
            checkpoints=checkpoints,
            checkpoint_every=8,
        )
    assert checkpoints.latest() is None


def test_params_that_are_not_finite_are_named_before_a_save(steps, tmp_path):
    def spoil(state, batch):
        state, metrics = steps[1](state, batch)
        return state._replace(params={"w": state.params["w"].at[0, 0].set(jnp.inf)}), metrics

    with pytest.raises(TrainingError, match="step 1: params leaf 'w' is not finite"):
        fit(spoil, simple_state(), simple_batches, steps=1, checkpoints=Checkpoints(tmp_path))
    assert Checkpoints(tmp_path).latest() is None


@pytest.mark.parametrize(("steps_per_call", "ends", "kept"), [(1, 5, 5), (4, 5, 4), (1, 0, None)])
def test_batches_that_end_cost_no_step(steps, tmp_path, steps_per_call, ends, kept):
    """What was trained before is saved; at the first step there is nothing, and nothing is left."""

    def ending(step, count=None):
        if step + (count or 1) > ends:
            raise DataError("the iterator ended")
        return simple_batches(step, count)

    step, checkpoints = steps[steps_per_call], Checkpoints(tmp_path)
    with pytest.raises(DataError, match="the iterator ended"):
        fit(step, simple_state(), ending, steps=8, checkpoints=checkpoints)
    assert checkpoints.latest() == kept
    state = simple_state() if kept is None else checkpoints.restore(simple_state())
    resumed, _ = fit(step, state, simple_batches, steps=8, checkpoints=checkpoints)
    straight, _ = fit(step, simple_state(), simple_batches, steps=8)
    assert_bit_equal(resumed, straight)


def test_stop_saves_and_returns_early(steps, tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 3

    checkpoints = Checkpoints(tmp_path)
    log = MetricsLog(tmp_path / "m.jsonl")
    state, history = fit(
        steps[4],
        simple_state(),
        simple_batches,
        steps=20,
        stop=stop,
        checkpoints=checkpoints,
        log=log,
    )
    assert int(state.step) == 8
    assert checkpoints.latest() == 8
    assert history == []
    assert_bit_equal(checkpoints.restore(state), state)


def test_a_state_that_is_saved_is_not_written_again(steps, tmp_path):
    written = []

    class Watched(Checkpoints):
        def _write(self, state, record):
            written.append(int(state.step))
            super()._write(state, record)

    checkpoints = Watched(tmp_path)
    options = {"steps": 12, "checkpoints": checkpoints, "checkpoint_every": 4}
    state, _ = fit(steps[4], simple_state(), simple_batches, stop=lambda: bool(written), **options)
    assert written == [4]
    # Neither does a run that goes on from it and is stopped before its first step.
    fit(steps[4], checkpoints.restore(state), simple_batches, stop=lambda: True, **options)
    assert written == [4]


def test_a_folder_with_a_later_checkpoint_is_refused_before_training(steps, tmp_path):
    checkpoints, log = Checkpoints(tmp_path), MetricsLog(tmp_path / "m.jsonl")
    checkpoints.save(simple_state()._replace(step=jnp.int32(9)))
    log.write({"step": 9, "loss": 1.0})
    with pytest.raises(
        TrainingError, match=r"starts at step 0, but .* checkpoint of step 9: resume"
    ):
        fit(steps[1], simple_state(), simple_batches, steps=3, checkpoints=checkpoints, log=log)
    assert len(read_metrics(log.path)) == 1


def test_steps_per_call_comes_from_the_step(steps):
    with pytest.raises(ValueError, match="steps_per_call is 8, but the step was made with 4"):
        fit(steps[4], simple_state(), simple_batches, steps=8, steps_per_call=8)
    state, _ = fit(steps[4], simple_state(), simple_batches, steps=8, steps_per_call=4)
    assert int(state.step) == 8


def test_batches_that_are_no_function_of_the_step_are_told_the_cure(steps):
    def run(batches, size=1):
        with pytest.raises(TypeError) as info:
            fit(steps[size], simple_state(), batches, steps=4)
        assert "\n" not in str(info.value)
        return str(info.value)

    message = "found a list: for a list, lambda step: batches[step % len(batches)]"
    assert message in run([simple_batches(0)])
    assert "lambda step: next(iterator)" in run(iter([simple_batches(0)]))
    assert "must take batches(step, count), which gives `count`" in run(lambda step: None, 4)
    assert "must take batches(step): " in run(lambda: None)


@pytest.mark.parametrize("size", [1, 4])
def test_a_short_last_batch_is_told_what_to_do(size):
    def short(step, count=None):
        batch = simple_batches(step, count)
        return {"x": batch["x"][..., :2, :]} if step >= 4 else batch

    def step(state, batch):
        return state, {"loss": 0.0}

    with pytest.raises(TrainingError, match="A short last batch: leave it out, or fill it up"):
        fit(step, simple_state(), short, steps=8, steps_per_call=size)


def evaluation(fail_at=()):
    """An evaluation that raises in its calls of these numbers."""
    calls = []

    def evaluate(params):
        calls.append(float(params["w"][0, 0]))
        if len(calls) in fail_at:
            raise MemoryError("no room to evaluate in")
        return {"w": calls[-1]}

    return evaluate


def run_with(step, state, folder, evaluate, **more):
    log, checkpoints = MetricsLog(folder / "metrics.jsonl"), Checkpoints(folder)
    options = {"log_every": 2, "evaluate_every": 3, "checkpoint_every": 6, **more}
    return fit(
        step,
        checkpoints.restore(state) if checkpoints.latest() else state,
        simple_batches,
        steps=12,
        log=log,
        checkpoints=checkpoints,
        evaluate=evaluate,
        **options,
    )


# The first evaluation that fails comes with no save due, and with one.
@pytest.mark.parametrize(("call", "step"), [(1, 3), (2, 6), (4, 12)])
def test_a_state_is_saved_before_it_is_evaluated_and_its_record_is_kept(
    steps, tmp_path, call, step
):
    straight, _ = run_with(steps[1], simple_state(), tmp_path / "straight", evaluation())
    folder = tmp_path / "run"
    with pytest.raises(MemoryError):
        run_with(steps[1], simple_state(), folder, evaluation([call]))
    assert Checkpoints(folder).latest() == step
    written = [record["step"] for record in read_metrics(folder / "metrics.jsonl")]
    assert step not in written
    resumed, _ = run_with(steps[1], simple_state(), folder, evaluation())
    assert_bit_equal(resumed, straight)
    lines = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines


def test_a_run_killed_between_save_and_record_logs_it_when_it_goes_on(steps, tmp_path, monkeypatch):
    run_with(steps[1], simple_state(), tmp_path / "straight", evaluation())
    folder, write = tmp_path / "run", MetricsLog.write

    def killed(self, record):
        if record["step"] == 6:
            raise KeyboardInterrupt
        write(self, record)

    monkeypatch.setattr(MetricsLog, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run_with(steps[1], simple_state(), folder, evaluation())
    monkeypatch.undo()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    run_with(steps[1], simple_state(), folder, evaluation())
    lines = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines


def test_what_cannot_be_evaluated_is_said_before_the_first_step(tmp_path):
    def metrics(params, batch):
        return {"error": batch["x"] @ params["w"].missing}

    def step(state, batch):
        raise AssertionError("a step was made")

    evaluate = make_evaluation(metrics, {"x": np.ones((3, 3), np.float32)}, 2)
    with pytest.raises(TrainingError, match=r"the model cannot be evaluated: .*missing") as info:
        fit(step, simple_state(), simple_batches, steps=3, evaluate=evaluate)
    assert "\n" not in str(info.value)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before_and_nothing_else(
    steps, tmp_path
):
    straight, _ = run_with(steps[1], simple_state(), tmp_path / "straight", evaluation())
    folder = tmp_path / "run"
    run_with(steps[1], simple_state(), folder, evaluation())
    (folder / "step_00000012" / "manifest.json").write_text("{}")
    with pytest.warns(UserWarning, match="step_00000012 is damaged.*; taking step 6 instead"):
        resumed, _ = run_with(steps[1], simple_state(), folder, evaluation())
    assert_bit_equal(resumed, straight)
    lines = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == lines
    assert Checkpoints(folder).steps() == [6, 12]


def test_a_finished_run_is_not_written_to(steps, tmp_path, monkeypatch):
    run_with(steps[1], simple_state(), tmp_path, evaluation())
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "lo')
    before = (tmp_path / "metrics.jsonl").read_bytes()
    run_with(steps[1], simple_state(), tmp_path, evaluation())
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
