"""Many processes that train together, as real ones, through JAX's own runtime."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from funcnn.train import Checkpoints, read_metrics

pytestmark = pytest.mark.slow

CONFIG = """
[mesh]
data = -1
fsdp = {fsdp}
processes = {processes}
[data]
batch_size = 16
validation_fraction = 0.2
[model]
name = "mlp"
options = {{hidden = [16]}}
[train]
steps = {steps}
steps_per_call = 2
log_every = 4
evaluate_every = 8
checkpoint_every = 8
average = 0.9
best = "loss"
"""


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def start(tmp_path, name, processes, *, devices=1, fsdp=1, steps=24, resume=False):
    """The processes of one run, each with its own devices."""
    path = tmp_path / f"{name}{processes}.toml"
    path.write_text(CONFIG.format(fsdp=fsdp, processes=processes, steps=steps))
    command = [sys.executable, "-m", "funcnn", "train", str(path), "--out", str(tmp_path / name)]
    command += ["--resume"] if resume else []
    port = free_port()
    return [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                "JAX_PROCESS_ID": str(i),
                "JAX_NUM_CPU_DEVICES": str(devices),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]


def ended(processes, seconds=120):
    """Exit codes, and what each has said on stderr."""
    told = [process.communicate(timeout=seconds) for process in processes]
    return [process.returncode for process in processes], [err for _, err in told], told[0][0]


def trained(tmp_path, name, processes, **options):
    codes, errors, _ = ended(start(tmp_path, name, processes, **options))
    assert codes == [0] * processes, errors
    return read_metrics(tmp_path / name / "metrics.jsonl")


def assert_same(records, others, near):
    assert [r["step"] for r in records] == [r["step"] for r in others]
    for one, other in zip(records, others, strict=True):
        for name in ("loss", "evaluation_loss"):
            if name in one:
                np.testing.assert_allclose(other[name], one[name], rtol=near)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return trained(folder, "run", 1)


@pytest.mark.parametrize(
    ("processes", "options"), [(2, {}), (2, {"devices": 2, "fsdp": 2}), (4, {"fsdp": 2})]
)
def test_the_same_losses_from_the_same_rows(tmp_path, alone, processes, options):
    records = trained(tmp_path, "run", processes, **options)
    assert_same(alone, records, near=1e-6)
    assert (tmp_path / "run" / "checkpoints" / "best.json").exists()


def test_one_that_is_killed_ends_all_and_all_go_on(tmp_path):
    straight = trained(tmp_path, "straight", 2)
    running = start(tmp_path, "broken", 2)
    checkpoints = tmp_path / "broken" / "checkpoints"
    wait_for(lambda: (checkpoints / "step_00000008").exists(), running)
    running[1].send_signal(signal.SIGKILL)
    codes, errors, _ = ended(running)
    # On a busy machine JAX's own watchman may abort the other one before Python is told.
    assert codes[0] in (1, -signal.SIGABRT), errors
    assert codes[1] == -signal.SIGKILL
    if codes[0] == 1:
        line = "funcnn: another process has ended; start all of them again with --resume ("
        assert errors[0].splitlines()[-1].startswith(line)
        assert "Check failure" not in errors[0]
    records = trained(tmp_path, "broken", 2, resume=True)
    assert records == straight
    for step in (16, 24):
        ends = [Checkpoints(tmp_path / n / "checkpoints") for n in ("straight", "broken")]
        one, other = (c.params(step) for c in ends)
        for name, leaf in one.items():
            assert leaf.tobytes() == other[name].tobytes(), name


def test_a_signal_stops_all_and_fewer_processes_go_on(tmp_path, alone):
    running = start(tmp_path, "run", 2, steps=24_000)
    wait_for(lambda: (tmp_path / "run" / "checkpoints" / "step_00000008").exists(), running)
    running[0].send_signal(signal.SIGTERM)
    codes, errors, _ = ended(running)
    assert codes == [143, 143], errors
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert_same(alone[:2], records[:2], near=1e-6)
    steps = Checkpoints(tmp_path / "run" / "checkpoints").latest()
    assert steps is not None
    further = trained(tmp_path, "run", 1, steps=steps + 8, resume=True)
    assert further[-1]["step"] == steps + 8
    assert np.isfinite(further[-1]["loss"])


def wait_for(happened, processes, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", ["2", "-1", "one"])
def test_a_process_with_a_wrong_number_is_one_line(tmp_path, number):
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.format(fsdp=1, processes=2, steps=8))
    command = [sys.executable, "-m", "funcnn", "train", str(path), "--out", str(tmp_path / "run")]
    where = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_PROCESS_ID": number}
    done = subprocess.run(command, env={**os.environ, **where}, capture_output=True, text=True)
    assert done.returncode == 2
    message = f"funcnn: mesh.processes = 2: JAX_PROCESS_ID = '{number}', and it is 0 to 1"
    assert done.stderr.strip() == message
    assert not (tmp_path / "run").exists()


def test_processes_that_nobody_started_are_one_line(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.format(fsdp=1, processes=2, steps=8))
    command = [sys.executable, "-m", "funcnn", "train", str(path), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("funcnn: mesh.processes = 2: start each of them with JAX_COORD")
    assert len(done.stderr.strip().splitlines()) == 1


def refused(tmp_path, config, **where):
    """The line on stderr of a process that must not begin."""
    path = tmp_path / "run.toml"
    path.write_text(config)
    command = [sys.executable, "-m", "funcnn", "train", str(path), "--out", str(tmp_path / "run")]
    environment = {**os.environ, **where}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert not (tmp_path / "run").exists()
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("mesh", ["", "[mesh]\ndata = -1\n"])
def test_a_process_of_several_does_not_train_alone_unasked(tmp_path, mesh):
    config = f'{mesh}[model]\nname = "mlp"\n'
    where = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_PROCESS_ID": "0"}
    line = refused(tmp_path, config, **where)
    assert "mesh.processes: missing, and JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID are set" in line
    assert "--set mesh.processes=2" in line


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "localhost:1"}, "JAX_PROCESS_ID"),
        ({"JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS"),
    ],
)
def test_which_of_the_two_variables_was_forgotten_is_said(tmp_path, there, missing):
    line = refused(tmp_path, CONFIG.format(fsdp=1, processes=2, steps=8), **there)
    (given,) = there
    assert f"mesh.processes = 2: {given} is set, and {missing} is missing: start each" in line
