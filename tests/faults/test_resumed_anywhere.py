"""F8, F9: resumed at every step of an epoch and beyond, and on other numbers of devices."""

import jax
import numpy as np
import pytest
from faulty_runs import write_config

from funcnn.config import load_config
from funcnn.experiment import build_experiment
from funcnn.train import Checkpoints, fit, make_mesh

pytestmark = pytest.mark.slow
END = 8  # an epoch is 5 batches and a piece
WAYS = {
    "one step a call": ["train.steps_per_call=1"],
    "32 steps a call": ["train.steps_per_call=32"],
    "parts of a batch": ["train.steps_per_call=1", "train.accumulate=2"],
    "streams": ["train.steps_per_call=1", "data.order=streams"],
}


class Run:
    """One experiment, and the batches that it was asked for, by their step."""

    def __init__(self, config, changes):
        self.experiment = build_experiment(load_config(config, changes))
        self.step, self._batches = self.experiment.step(), self.experiment.batches()
        self.evaluate = self.experiment.evaluation(self.experiment.dataset.watched)

    def to(self, state, steps, checkpoints=None):
        """State, records and batches of a run from a state to a step."""
        seen = {}

        def batches(step, count=None):
            batch = self._batches(step, *(() if count is None else (count,)))
            for i in range(count or 1):
                seen[step + i] = batch["x"][i] if count else batch["x"]
            return batch

        options = {"log_every": 1, "evaluate": self.evaluate, "evaluate_every": 4}
        return *fit(
            self.step, state, batches, steps=steps, checkpoints=checkpoints, **options
        ), seen


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("way", WAYS)
def test_resumed_at_every_step_and_beyond_an_epoch(way, tmp_path):
    run = Run(write_config(tmp_path), WAYS[way])
    assert 6 * 256 > run.experiment.dataset.train.rows > 5 * 256
    first = run.experiment.first_state
    end, records, seen = run.to(first(), END)
    assert len({batch.tobytes() for batch in seen.values()}) >= 5
    for step in range(1, END):
        checkpoints = Checkpoints(tmp_path / str(step))
        *_, before = run.to(first(), step, checkpoints)
        state, again, after = run.to(checkpoints.restore(first()), END)
        assert bits(state) == bits(end), step
        assert again == [record for record in records if record["step"] > step]
        assert [*before, *after] == list(range(END))
        for place, batch in {**before, **after}.items():
            np.testing.assert_array_equal(batch, seen[place])


def test_on_one_device_then_two_then_eight(tmp_path):
    """What is saved is restored to the bit on any number; what is computed there, to rounding."""
    experiment = build_experiment(load_config(write_config(tmp_path), ["train.steps_per_call=1"]))
    batches = experiment.batches()
    step = experiment.step()
    _, alone = fit(step, experiment.first_state(), batches, steps=12, log_every=1)
    checkpoints, history, before = Checkpoints(tmp_path / "states", keep=9), [], None
    for devices, end in ((1, 4), (2, 8), (8, 12)):
        step = experiment.step(mesh=make_mesh(data=devices))
        state = step.place(experiment.first_state())
        if before is not None:
            state = checkpoints.restore(state)
            assert bits(jax.device_get(state)) == before
            assert len(state.params["dense_0"]["w"].sharding.device_set) == devices
        state, records = fit(step, state, batches, steps=end, log_every=1, checkpoints=checkpoints)
        before, history = bits(jax.device_get(state)), [*history, *records]
    assert [r["step"] for r in history] == [r["step"] for r in alone]
    losses = [[r["loss"] for r in records] for records in (history, alone)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
