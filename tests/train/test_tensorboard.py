"""Files for TensorBoard, read back without it: their frames, and what is dropped of older files."""

import struct
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnn.train import (
    Checkpoints,
    MetricsError,
    MetricsLog,
    TensorBoardLog,
    TrainState,
    fit,
    make_step,
    read_metrics,
)

REASON = 'pip install -e ".[test]" installs it'
protocol = pytest.importorskip("tensorboardX.proto.event_pb2", reason=REASON)

OPTIMIZER = optax.sgd(0.1)


def events(path):
    """The events of one file: each is a length, its checksum, that many bytes, and theirs."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield protocol.Event.FromString(content[at + 12 : at + 12 + length])
        at += 12 + length + 4
    assert at == len(content)


def shown(folder):
    """{tag: [(step, value), ...]} as TensorBoard shows a folder.

    A START says that what was written before it of this step and those beyond it is void.
    """
    scalars = []
    for path in sorted(Path(folder).iterdir()):
        for event in events(path):
            if event.HasField("session_log"):
                assert event.session_log.status == protocol.SessionLog.START
                scalars = [scalar for scalar in scalars if scalar[1] < event.step]
            scalars += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return {tag: [s[1:] for s in scalars if s[0] == tag] for tag, _, _ in scalars}


def test_each_number_of_a_record_is_a_scalar_and_is_there_at_once(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.write({"step": 10, "loss": np.float32(0.5), "accuracy": 1})
    assert shown(tmp_path) == {"loss": [(10, 0.5)], "accuracy": [(10, 1.0)]}
    log.write({"step": 20, "loss": float("inf")})
    log.close()
    log.close()
    assert shown(tmp_path)["loss"] == [(10, 0.5), (20, float("inf"))]
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert next(events(path)).file_version == "brain.Event:2"


def test_nothing_is_made_where_nothing_is_written(tmp_path):
    log = TensorBoardLog(tmp_path / "none")
    log.rewind(5)
    log.close()
    assert not (tmp_path / "none").exists()


def test_a_run_that_goes_on_shows_no_step_twice(tmp_path):
    def loss(params, batch, key):
        return jnp.mean(jnp.square(params["w"] - batch))

    def batches(step):
        if step == ends:
            raise KeyboardInterrupt
        return np.ones(2, np.float32)

    def train(step):
        state = TrainState.create({"w": jnp.zeros(2)}, OPTIMIZER, seed=0)
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        begun = checkpoints.latest() is not None
        fit(
            step,
            checkpoints.restore(state) if begun else state,
            batches,
            steps=8,
            log_every=1,
            log=[TensorBoardLog(tmp_path / "tensorboard"), MetricsLog(tmp_path / "m.jsonl")],
            checkpoints=checkpoints,
            checkpoint_every=2,
        )

    step, ends = make_step(loss, OPTIMIZER), 5
    with pytest.raises(KeyboardInterrupt):
        train(step)
    assert [step for step, _ in shown(tmp_path / "tensorboard")["loss"]] == [1, 2, 3, 4, 5]
    ends = None
    train(step)  # from step 4, and at most a second later
    losses = [(record["step"], record["loss"]) for record in read_metrics(tmp_path / "m.jsonl")]
    assert shown(tmp_path / "tensorboard")["loss"] == losses
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(MetricsError, match=r"inside/events.* cannot be written: Not a directory"):
        TensorBoardLog(tmp_path / "file" / "inside").write({"step": 1})
    # A disk that is full: no thread waits for ever, as tensorboardX's own writer does.
    monkeypatch.setattr(TensorBoardLog, "_new_path", lambda log: Path("/dev/full"))
    with pytest.raises(MetricsError, match=r"full cannot be written: No space left on device"):
        TensorBoardLog(tmp_path / "full").write({"step": 1, "loss": 1.0})


def test_without_tensorboardx_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'funcnn\[tensorboard\]'") as info:
        TensorBoardLog("x")
    assert "\n" not in str(info.value)
