"""The benchmarks measure the same work in every arm; the command shows and keeps the rows."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.bench import absent_works, large, operations, peers, suite
from funcnn.bench.measure import Arm, measure
from funcnn.bench.networks import Network, loss_of, training_arm
from funcnn.cli import main
from funcnn.gradient.program.without_rules import without_rules

CNN = Network((("conv", 3), "relu", "pool", "flatten", ("dense", 4)), (4, 6, 2), 5, 4)
MLP = Network((("dense", 5), "relu", ("dense", 3)), (4,), 6, 3)
pytestmark = pytest.mark.usefixtures("lenient")


@pytest.fixture
def lenient():
    """Other libraries promote dtypes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


PEERS = {"Flax NNX": peers.flax_nnx, "Equinox": peers.equinox, "PyTorch": peers.pytorch}


@pytest.mark.parametrize("network", [CNN, MLP], ids=["cnn", "mlp"])
@pytest.mark.parametrize("library", PEERS)
def test_every_library_trains_the_same_network(library, network):
    if why := peers.missing(library):
        pytest.skip(why)
    ours = training_arm("funcnn", network, loss_of(network))
    theirs = PEERS[library](network)
    expected = ours.values()
    assert len(set(expected)) == len(expected) == 3  # it really learns
    np.testing.assert_allclose(theirs.values(), expected, rtol=2e-4)
    np.testing.assert_allclose(theirs.values(), expected, rtol=2e-4)  # each starts anew
    theirs.call()


def test_weights_in_the_wrong_order_are_refused(monkeypatch):
    monkeypatch.setattr(peers, "_channels_first", lambda w, shape: w)
    arms = [training_arm("funcnn", CNN, loss_of(CNN)), peers.equinox(CNN)]
    assert measure("cnn", arms, rounds=1)[1].note.startswith("refused: ")


def test_steps_of_a_call_and_in_a_scan_train_alike():
    loss = loss_of(MLP)
    arms = [training_arm("funcnn", MLP, loss, steps_per_call=4)]
    arms += [training_arm("autodiff", MLP, without_rules(loss)), peers.flax_nnx(MLP, scanned=4)]
    rows = measure("mlp", arms, rounds=2)
    assert [row.note for row in rows] == ["", "", ""]
    assert 0.5 < arms[0].flops / arms[1].flops < 2  # of one step, not of the four of a call
    assert (arms[0].steps, arms[1].steps, arms[2].steps) == (4, 1, 4)


def test_a_wrong_gradient_is_refused():
    x = jnp.linspace(0.1, 1.0, 20)
    right = operations.gradient_arm("right", lambda x: jnp.sum(jnp.sin(x)), [x])
    wrong = operations.gradient_arm("wrong", lambda x: jnp.sum(jnp.sin(1.01 * x)), [x])
    assert measure("sine", [right, wrong], rounds=1)[1].note.startswith("refused: ")


def test_every_benchmark_says_what_it_does():
    assert len(suite.BENCHMARKS) >= 9
    for name in suite.BENCHMARKS:
        assert suite.describe(name).endswith(".")


def test_the_large_ones_run_on_a_gpu_alone(monkeypatch):
    assert not [name for name in suite.usual() if name.startswith("large_")]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert set(suite.usual()) == {f.__name__ for f in large.LARGE}
    assert len(suite.usual()) == 4


def test_large_works_agree_on_the_loss_and_on_the_length_of_each_gradient():
    small = Network((("dense", 4), "relu", ("dense", 10)), (5,), 6, 10)
    gradients, shapes = absent_works.network(small)
    gradients["wrong"] = jax.jit(
        lambda *a: jax.tree.map(lambda v: 1.01 * v, gradients["autodiff"](*a))
    )
    arms, absent = large._run((gradients, shapes))
    rows = measure("small", arms, 2, absent)
    assert [(row.arm, row.note[:7]) for row in rows] == [
        ("funcnn", ""),
        ("autodiff", ""),
        ("wrong", "refused"),
    ]
    assert len(arms[0].values()) == 5  # the loss, and w and b of two layers


# The command


@pytest.fixture
def quick(monkeypatch):
    """One benchmark that takes no time: two arms that agree, one that does not, one absent."""

    def work():
        """Nothing at all."""
        return [Arm(n, lambda: None, lambda: [1.0]) for n in "ab"], {"d": "not installed"}

    def broken():
        """Something else."""
        arms, absent = work()
        return [*arms, Arm("c", lambda: None, lambda: [2.0])], absent

    benchmarks = {"work": work, "broken": broken}
    # The command first: imported after the suite is changed it would keep that change for good.
    monkeypatch.setattr("funcnn.commands.bench.BENCHMARKS", benchmarks)
    monkeypatch.setattr(suite, "BENCHMARKS", benchmarks)


def test_bench_shows_a_table_and_keeps_the_rows(quick, capsys, tmp_path):
    path = tmp_path / "rows.jsonl"
    assert main(["bench", "work", "--rounds", "3", "--out", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "work: Nothing at all." in out
    assert "d: not installed" in err
    first, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert "jax" in first["machine"]
    assert [(row["arm"], row["rounds"]) for row in rows] == [("a", 3), ("b", 3), ("d", 0)]
    assert rows[2]["median"] is None
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("rounds", "sure"), [(2, False), (5, False), (6, True), (15, True)])
def test_an_interval_is_named_where_the_rounds_give_one(rounds, sure, quick, capsys):
    assert main(["bench", "work", "--rounds", str(rounds)]) == 0
    out = capsys.readouterr().out
    assert "time / a" in out
    assert ("95 % from" in out) == sure
    assert ("highest ratio" in out and "--rounds 6 or more" in out) == (not sure)


def test_a_refused_arm_is_exit_1_and_json_lines_are_rows(quick, capsys):
    assert main(["bench", "--rounds", "2", "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["arm"] for row in rows] == ["a", "b", "d", "a", "b", "c", "d"]
    assert rows[5]["note"].startswith("refused: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wrk"], "unknown benchmark wrk (did you mean work?); known: work, broken"),
        (["work", "--rounds", "0"], "expected a number from 1, found 0"),
        (["work", "--out", "absent/rows.jsonl"], "there is no folder absent"),
    ],
)
def test_wrong_usage_is_exit_2(arguments, message, quick, capsys):
    try:
        code = main(["bench", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
