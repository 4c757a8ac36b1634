"""A config trains what is not an image with a label, on data and by functions of one's own."""

import functools
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.config import ConfigError, load_config
from funcnn.experiment import build_experiment
from funcnn.task.measured import Measured
from funcnn.train import fit

OWN = '''
import jax
import jax.numpy as jnp
import numpy as np
import optax
import funcnn as fnn

rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
target = (rows @ np.array([1.0, -2.0, 0.5]) + 1).astype(np.float32)


def arrays():
    return {"x": rows, "y": target}


def of_steps(batch=8):
    def batches(step, count=None):
        place = np.random.default_rng(step).integers(0, 40, batch)
        batch_ = {"x": rows[place], "y": target[place]}
        return batch_ if count is None else {n: np.stack([a] * count) for n, a in batch_.items()}
    return {"train": batches, "test": {"x": rows, "y": target}}


def loader():
    parts = [{"x": rows[i : i + 8], "y": target[i : i + 8]} for i in range(0, 40, 8)]
    return {"train": parts, "test": {"x": rows, "y": target}}


def generator():
    return {"train": (loader()["train"][i % 5] for i in range(400)), "test": arrays()}


def absolute(outputs, targets, power=1):
    return jnp.abs(outputs[:, 0] - targets) ** power


def further():
    return {"worst": fnn.Metric(lambda outputs, targets: jnp.abs(outputs[:, 0] - targets),
                                lambda rows: float(rows.max()))}


def optimizer(learning_rate, factor):
    return optax.sgd(learning_rate * factor)


def slope():
    """The derivative by x of what is learnt is held against the true one."""
    wanted = jnp.array([1.0, -2.0, 0.5])

    def objective(model, params, batch, key):
        gradient = jax.vmap(jax.grad(lambda x: model(params, x[None])[0, 0]))(batch["x"])
        return jnp.sum((gradient - wanted[None]) ** 2, -1), {"steepest": jnp.max(jnp.abs(gradient))}

    return fnn.Task(objective=objective)


def inputs():
    return {"x": rows}


def nothing():
    return 3


def number(outputs, targets):
    return jnp.mean(outputs)


def three():
    return {"x": rows, "y": target[:7]}


def words():
    return {"x": rows, "y": np.array(["a"] * 40)}


def flat():
    return fnn.dense(1)
'''
TABLE = '[task]\nname = "regression"\n[model]\nfunction = "own_task:flat"\n'
TABLE += "[train]\nsteps = 300\nsteps_per_call = 10\n[optimizer]\nlearning_rate = 0.03\n"


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    (tmp_path / "own_task.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))

    def build(text, *overrides):
        path = tmp_path / "own.toml"
        path.write_text(textwrap.dedent(text))
        return build_experiment(load_config(path, overrides))

    return build


def trained(made):
    size = made.config.train.steps_per_call
    made.batches()(0, size)  # as a command does, which looks at the shapes first
    step, steps = made.step(), made.config.train.steps
    state, history = fit(step, made.first_state(), made.batches(), steps=steps, log_every=steps)
    return made.evaluation(made.dataset.test)(state.params), history[-1]


@pytest.mark.parametrize("data", ["arrays", "of_steps", "loader", "generator"])
def test_a_table_of_ones_own_is_fitted(experiment, data):
    found, last = trained(
        experiment(TABLE + f'[data]\nbatch_size = 8\nfunction = "own_task:{data}"')
    )
    assert sorted(found) == ["loss", "mae", "mse", "r2"]
    assert found["r2"] > 0.99
    assert found["loss"] == pytest.approx(found["mse"] / 2, rel=1e-5)
    assert {"loss", "mae", "mse"} <= last.keys()
    assert "r2" not in last  # it is no mean


def test_loss_metrics_and_optimizer_of_ones_own(experiment):
    own = (
        '[data]\nfunction = "own_task:arrays"\n'
        '[loss]\nfunction = "own_task:absolute"\noptions = {power = 2}\n'
        '[metrics]\nnames = ["mae"]\nfunction = "own_task:further"\n'
    )
    text = TABLE.replace("learning_rate = 0.03", "") + own
    choice = ["optimizer.function=own_task:optimizer", "optimizer.options={factor=30.0}"]
    made = experiment(text, *choice)
    found, _ = trained(made)
    assert sorted(found) == ["loss", "mae", "worst"]
    assert found["worst"] ** 2 >= found["loss"] >= found["mae"] ** 2
    assert found["worst"] < 0.05


def test_an_objective_of_ones_own_may_differentiate_by_x(experiment):
    text = TABLE.replace('name = "regression"', 'function = "own_task:slope"')
    made = experiment(text + '[data]\nfunction = "own_task:inputs"')  # it has no targets
    found, last = trained(made)
    assert list(found) == ["loss"]
    assert found["loss"] < 1e-3  # the square of Adam's step
    assert last["steepest"] == pytest.approx(2.0, abs=0.02)


def test_text_is_trained_on_and_measured_by_the_token(experiment, tmp_path):
    (tmp_path / "a.txt").write_text("abcd" * 400)
    (tmp_path / "own_language.py").write_text(
        "import funcnn as fnn\n"
        "def build():\n    return fnn.chain(fnn.embedding(8, 6), fnn.dense(4))\n"
    )
    made = experiment(
        f"""
        [data]
        name = "text"
        path = "{tmp_path}/a.txt"
        batch_size = 4
        options = {{length = 8}}
        [task]
        name = "language"
        [model]
        function = "own_language:build"
        [train]
        steps = 60
        steps_per_call = 20
        [optimizer]
        learning_rate = 0.1
        """
    )
    found, last = trained(made)
    assert sorted(found) == ["accuracy", "bits_per_character", "loss", "perplexity"]
    assert found["accuracy"] == 1.0
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]), rel=1e-5)
    assert "perplexity" not in last  # no mean
    assert last["accuracy"] == 1.0


def test_a_masked_row_has_no_gradient_and_the_mean_is_over_the_others():
    from funcnn import dense
    from funcnn.names import named

    task = named("funcnn.task.kinds", "regression")()
    measured = Measured(dense(1), task, named("funcnn.task.losses", "squared_error"), {})
    params = measured.model.init(jax.random.key(0), jnp.ones((1, 3)))
    x, y = jax.random.normal(jax.random.key(1), (4, 3)), jnp.arange(4.0)
    whole = jax.value_and_grad(measured.loss, has_aux=True)(params, {"x": x[:2], "y": y[:2]}, None)
    batch = {"x": x, "y": y, "mask": jnp.array([True, True, False, False])}
    masked = jax.value_and_grad(measured.loss, has_aux=True)(params, batch, None)
    assert float(masked[0][1].pop("weight")) == 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, masked)


def test_tokens_that_are_ignored_do_not_thin_the_mean():
    from funcnn import embedding
    from funcnn.names import named

    task = named("funcnn.task.kinds", "language")(ignored=-100)
    losses = functools.partial(named("funcnn.task.losses", "softmax_cross_entropy"), ignored=-100)
    measured = Measured(embedding(5, 5), task, losses, {})
    params = measured.model.init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))
    x = jnp.array([[0, 1, 2], [3, 4, 0]])
    y = jnp.array([[1, -100, 3], [-100, -100, -100]])
    value, _ = measured.loss(params, {"x": x, "y": y}, None)
    alone, _ = measured.loss(params, {"x": x[:1, ::2], "y": y[:1, ::2]}, None)
    np.testing.assert_allclose(value, alone, rtol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.name=regresion"], "task.name: unknown 'regresion' (did you mean 'regression'?)"),
        (
            ["task.function=own_task:nothing"],
            "task.function = 'own_task:nothing': returned int, and",
        ),
        (["data.function=own_task:nothing"], "data.function = 'own_task:nothing': returned a int"),
        (
            ["data.function=own_task:three"],
            "data.function = 'own_task:three': a split needs as many",
        ),
        (
            ["data.function=own_task:words"],
            "data.function = 'own_task:words': y must be an array of",
        ),
        (
            ["data.options={size=3}"],
            "data.function = 'own_task:arrays': data.options: unknown 'size'",
        ),
        (
            ["loss.function=own_task:number"],
            "loss: must give something for each row, (B, ...), found",
        ),
        (["task.function=own_task:slope", "loss.name=logistic"], "loss: the task has an objective"),
        (["loss.name=squared_eror"], "loss.name: unknown 'squared_eror' (did you mean 'squared_er"),
        (["metrics.names=['mea']"], "metrics.names: unknown 'mea' (did you mean 'm"),
        (["metrics.names=['accuracy']"], "metric 'accuracy': does not fit outputs"),
        (
            ["metrics.function=own_task:nothing"],
            "metrics.function = 'own_task:nothing': returned int",
        ),
        (["metrics.options={mae={k=3}}"], "metrics: options of mae: unknown 'k'"),
        (["metrics.options={f1={}}"], "metrics.options: unknown 'f1'"),
        (
            ["optimizer.function=own_task:nothing"],
            "optimizer.function = 'own_task:nothing': returned",
        ),
        (
            ["optimizer.function=own_task:optimizer"],
            "optimizer.function = 'own_task:optimizer': optim",
        ),
        (
            ["optimizer.function=json:loads"],
            "optimizer.function = 'json:loads': json is a module of",
        ),
        (["task.name=classification"], "model: the targets are float32, and classes are integers"),
        (
            ["task.name=reconstruction"],
            "model: returns (1, 1) for one row: it must return numbers of",
        ),
        (
            ["data.batch_size=12", "data.last=error"],
            "data.batch_size 12 leaves 8 of the 32 rows over",
        ),
        (["data.validation_fraction=0.99"], "data.validation_fraction = 0.99: own_task"),
        (
            ["data.test_fraction=0.99"],
            "data.test_fraction = 0.99: cannot be split: 40 rows, a share",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(experiment, overrides, message):
    text = TABLE + '[data]\nfunction = "own_task:arrays"\nbatch_size = 8\n'
    with pytest.raises(ConfigError) as caught:
        experiment(text, *overrides)
    (line,) = caught.value.problems
    assert line.startswith(message), line
