"""A trace of a few calls: what is in the file, and what a failing profiler costs."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.train import Profile, TrainState, fit, make_step

OPTIMIZER = optax.sgd(0.1)


@pytest.fixture(scope="module")
def steps():
    def loss(params, batch, key):
        return jnp.mean(jnp.square(params["w"] - batch))

    return {count: make_step(loss, OPTIMIZER, steps_per_call=count) for count in (1, 4)}


def batches(step, count=None):
    return np.ones((2,) if count is None else (count, 2), np.float32)


def run(step, profile, until, start=0):
    state = TrainState.create({"w": jnp.zeros(2)}, OPTIMIZER, seed=0)
    state = state._replace(step=jnp.int32(start))
    state, history = fit(step, state, batches, steps=until, profile=profile)
    assert int(state.step) == until
    return history


def profiled(folder, calls=3):
    """A profile, and the lines that it says: told, and warned of."""
    told, warned = [], []
    return Profile(folder, calls, tell=told.append, warn=warned.append), told, warned


def events(profile):
    assert profile.trace is not None
    with gzip.open(profile.trace) as file:
        return json.load(file)["traceEvents"]


def first_steps(found):
    return [int(event["args"]["step_num"]) for event in found if event.get("name") == "train"]


def test_calls_after_the_first_are_in_a_file_that_perfetto_opens(steps, tmp_path):
    profile, told, warned = profiled(tmp_path / "profile")
    run(steps[4], profile, 40)
    found = events(profile)
    assert first_steps(found) == [5, 9, 13]
    # The host's part of the call is there, and what the device runs of it.
    names = {event.get("name", "") for event in found}
    assert "PjitFunction(scanned)" in names
    assert any(name.startswith(("while", "ThunkExecutor")) for name in names)
    assert told == [f"trace of steps 5 to 16: {profile.trace}; open it at https://ui.perfetto.dev"]
    assert tmp_path / "profile" in profile.trace.parents if profile.trace else False
    assert warned == []


@pytest.mark.parametrize(("until", "start"), [(3, 0), (7, 4)], ids=["new", "going on"])
def test_a_run_shorter_than_the_window_has_a_trace_of_what_there_is(steps, tmp_path, until, start):
    profile, told, warned = profiled(tmp_path, calls=20)
    run(steps[1], profile, until, start)
    assert first_steps(events(profile)) == [start + 2, start + 3]
    assert told[0].startswith(f"trace of steps {start + 2} to {start + 3}: ")
    assert warned == []


def test_a_run_of_one_call_or_none_has_no_trace_and_says_so(steps, tmp_path):
    for start, what in ((0, "ended with its first call"), (1, "had its steps already")):
        profile, told, warned = profiled(tmp_path)
        run(steps[1], profile, 1, start)
        assert profile.trace is None
        assert told == []
        assert warned == [f"no trace: the run {what}, and the first, which compiles, is not traced"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", ["start_trace", "stop_trace"])
def test_a_profiler_that_fails_is_a_warning_and_no_lost_run(steps, tmp_path, monkeypatch, fails):
    begun = []

    def fail(*args, **kwargs):
        begun.append(1)
        raise RuntimeError("no profiler here\nat all")

    other = {"start_trace": "stop_trace", "stop_trace": "start_trace"}[fails]
    monkeypatch.setattr(jax.profiler, fails, fail)
    monkeypatch.setattr(jax.profiler, other, lambda *args, **kwargs: None)
    profile, told, warned = profiled(tmp_path)
    history = run(steps[1], profile, 6)
    assert history == run(steps[1], None, 6)
    assert warned == ["no trace: the profiler failed: no profiler here"]
    assert (told, begun) == ([], [1])


def test_a_step_that_raises_leaves_no_trace_running(steps, tmp_path):
    def step(state, batch):
        if int(state.step) == 2:
            raise ValueError("a bug")
        return steps[1](state, batch)

    profile, told, _ = profiled(tmp_path)
    with pytest.raises(ValueError, match="a bug"):
        run(step, profile, 9)
    assert first_steps(events(profile))[0] == 2
    assert len(told) == 1
    again, _, warned = profiled(tmp_path / "again")
    run(steps[1], again, 9)
    assert warned == []


def test_a_window_without_calls_is_refused():
    with pytest.raises(ValueError, match="a profile is of 1 call or more, found calls=0"):
        Profile("x", calls=0)
