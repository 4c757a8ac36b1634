"""What a config adds to a run: augmentation, averages, carries, hooks, its end, what is best."""

import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.chosen import other_rates
from funcnn.cli import main
from funcnn.commands.gradients import subject_of_config
from funcnn.config import ConfigError, load_config
from funcnn.experiment import build_experiment
from funcnn.task.augmenting import Augmenting
from funcnn.train import Checkpoints, read_metrics

IMAGES = """
[data]
validation_fraction = 0.2
[model]
name = "mlp"
options = {hidden = []}
[train]
steps = 12
steps_per_call = 2
evaluate_every = 2
checkpoint_every = 4
"""
TEXT = """
[data]
name = "text"
options = {length = 8, limit = 2000}
batch_size = 4
order = "streams"
[task]
name = "language"
[model]
name = "char_rnn"
options = {width = 3, hidden = [4, 5]}
[train]
steps = 6
steps_per_call = 3
carry = true
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "run.toml").write_text(text)
        return tmp_path / "run.toml"

    return write


def experiment(path, *changes):
    return build_experiment(load_config(path, changes))


def train(capsys, path, *changes):
    more = [part for change in changes for part in ("--set", change)]
    code = main(["train", str(path), *more])
    out, err = capsys.readouterr()
    return code, out, err


def refused(path, *changes):
    with pytest.raises(ConfigError) as caught:
        experiment(path, *changes)
    (line,) = caught.value.problems
    return line


def arrays(batch):
    return jax.tree.map(jnp.asarray, batch)


def test_augmentation_acts_in_a_step_and_not_where_nothing_is_drawn(write):
    path = write(IMAGES)
    crop = ['augment.names=["crop"]', "augment.options.crop.padding=2"]
    plain, cropped = experiment(path), experiment(path, *crop)
    batch, key = plain.batches()(0), jax.random.key(3)
    drawing, rest = jax.random.split(key)
    (own,) = jax.random.split(jax.random.split(drawing)[0], 1)
    moved = {**batch, "x": fnn.augment.crop(own, jnp.asarray(batch["x"]), padding=2)}
    loss, _ = cropped.loss(cropped.params, batch, key)
    assert float(loss) == float(plain.loss(plain.params, moved, rest)[0])
    assert float(loss) != float(plain.loss(plain.params, batch, rest)[0])
    whole, again = (e.measured.rows(e.params, arrays(batch)) for e in (plain, cropped))
    np.testing.assert_array_equal(whole["loss"], again["loss"])


def test_what_draws_nothing_acts_in_evaluation_too(write):
    path = write(IMAGES)
    names = 'augment={names=["normalise"], options={normalise={mean=0.5, std=2.0}}}'
    plain, scaled = experiment(path), experiment(path, names)
    batch = plain.batches()(0)
    moved = {**batch, "x": (batch["x"] - np.float32(0.5)) / np.float32(2)}
    found = scaled.measured.rows(scaled.params, arrays(batch))["loss"]
    expected = plain.measured.rows(plain.params, arrays(moved))["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mixed_rows_have_the_loss_of_both_labels(write):
    path = write(IMAGES)
    mixed = experiment(path, 'augment.names=["mixup"]', "augment.options.mixup.alpha=1.0")
    batch, key = mixed.batches()(0), jax.random.key(5)
    loss, _ = mixed.loss(mixed.params, batch, key)
    drawing, _ = jax.random.split(key)
    mixing = Augmenting(mixed={"alpha": 1.0}).of_batch(drawing, batch, "x", "y")
    labels, p = mixing["y"], jax.nn.log_softmax(mixed.model(mixed.params, mixing["x"]))
    each = [-jnp.take_along_axis(p, y[:, None], 1)[:, 0] for y in (labels.y, labels.other)]
    expected = jnp.mean(labels.weight * each[0] + (1 - labels.weight) * each[1])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert 0.01 < float(labels.weight.min()) < 0.9


OWN = """
import jax.numpy as jnp
def darker(): return lambda key, x: x if key is None else 0 * x
def several(): return [darker(), darker()]
def wrong(): return 3
calls = []
def on_step(state, metrics): calls.append(int(state.step))
def on_save(state, record): return int(state.step) >= 8
"""


def test_an_augmentation_of_ones_own(write, tmp_path):
    (tmp_path / "own_options.py").write_text(OWN)
    path = write(IMAGES)
    for name in ("darker", "several"):
        dark = experiment(path, f"augment.function=own_options:{name}")
        batch = dark.batches()(0)
        loss, _ = dark.loss(dark.params, batch, jax.random.key(0))
        np.testing.assert_allclose(loss, np.log(10), rtol=1e-5)  # a bias of zeros says nothing
        assert "augment.function" in load_config(path, [f"augment.function=m:{name}"]).functions()
    message = "must return a function f(key, x), or a list of them: int"
    assert message in refused(path, "augment.function=own_options:wrong")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('augment.names=["flop"]', "augment.names: unknown 'flop' (did you mean 'flip'?)"),
        ("augment.options.flip.p=0.5", "augment.options: unknown 'flip'; known: none"),
        (
            'augment={names=["crop"], options={crop={pad=3}}}',
            "augment: options of crop: unknown 'pad' (did you mean 'padding'?)",
        ),
        ('augment={names=["crop"], options={crop=3}}', "augment.options.crop: expected a table"),
        (
            'augment={names=["crop"], options={crop={padding=0}}}',
            "augment: does not fit inputs of (8, 8, 1): crop: padding",
        ),
        ("train.carry=true", 'train.carry = true: needs data.order = "streams"'),
    ],
)
def test_wrong_options_are_one_line(write, change, message):
    assert message in refused(write(IMAGES), change)


def test_rows_that_only_fill_a_batch_are_not_mixed(write):
    line = refused(write(IMAGES), 'augment.names=["mixup"]', "data.last=pad")
    assert line.endswith('mixup mixes rows and their targets, and data.last = "pad" fills batches')


def test_averages_are_kept_and_evaluated(write, capsys):
    path = write(IMAGES)
    code, out, _ = train(capsys, path, "train.average=0.0")
    average = out
    assert code == 0
    code, out, _ = train(capsys, path, "run.folder=other")
    assert (code, out) == (0, average)  # with nothing kept of what was before
    code, out, _ = train(capsys, path, "run.folder=third", "train.average=0.9")
    assert code == 0
    assert out != average


def test_a_carry_goes_from_batch_to_batch_and_starts_again(write):
    path = write(TEXT)
    carried = experiment(path, "train.steps_per_call=1")
    state, batches = carried.first_state(), carried.batches()
    assert [c.shape for pair in state.extra["carry"] for c in pair] == [(4, 4)] * 2 + [(4, 5)] * 2
    carry, step = None, carried.step()
    for place in range(3):
        start = jax.tree.map(np.asarray, state.params)  # the step donates its own
        batch = batches(place)
        state, metrics = step(state, batch)
        carry, logits = carried.model(start, (carry, jnp.asarray(batch["x"])))
        p, y = jax.nn.log_softmax(logits), jnp.asarray(batch["y"])
        expected = -jnp.take_along_axis(p, y[..., None], -1).mean()
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    leaves = jax.tree.leaves(state.extra["carry"])
    assert all(np.abs(c).max() > 0 for c in leaves)
    # Where all streams begin anew the carry is that of zeros.
    batch = {**batches(1), "first": np.ones(4, bool)}
    fresh, _ = carried.loss(carried.params, batch, None)
    again, _ = carried.loss(carried.params, batch, None, state.extra)
    batch["first"] = np.zeros(4, bool)
    other, _ = carried.loss(carried.params, batch, None, state.extra)
    assert float(fresh) == float(again) != float(other)


def test_text_gives_the_model_its_vocabulary_and_a_run_resumes_with_its_carry(write, capsys):
    path = write(TEXT)
    assert train(capsys, path, "train.steps=6", "run.folder=whole")[0] == 0
    assert train(capsys, path, "train.steps=3", "run.folder=parts")[0] == 0
    assert main(["train", str(path), "--resume", "--out", "parts"]) == 0
    capsys.readouterr()
    whole, parts = (fnn.load_run(f) for f in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)
    classes = len(whole.known.vocabulary)
    assert whole.params["head"]["w"].shape == (5, classes)
    assert classes > 20


def test_text_is_predicted_from_a_file_in_the_tokens_of_training(write, tmp_path, capsys):
    (tmp_path / "own.txt").write_text("abcdefgh, " * 60)
    path = write(TEXT.replace("length = 8", f'length = 8, path = "{tmp_path / "own.txt"}"'))
    assert train(capsys, path, "run.folder=run")[0] == 0
    (tmp_path / "new.txt").write_text("hagfebcd" * 2 + "abc")
    predict = ["predict", "run", str(tmp_path / "new.txt"), "--out", "y.npy"]
    assert main(predict) == 0
    run = fnn.load_run("run")
    numbers = {token: number for number, token in enumerate(run.known.vocabulary)}
    row = [numbers[token] for token in "hagfebcd"]
    np.testing.assert_array_equal(np.load("y.npy"), run.predict(np.array([row, row])))
    for text, message in (
        ("abcdefgX", "new.txt: 'X' is no token of the training's text"),
        ("abc", "new.txt: 3 tokens, and one row has 8"),
    ):
        (tmp_path / "new.txt").write_text(text)
        capsys.readouterr()
        assert main(predict) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert line.count("new.txt") == 1
    (tmp_path / "own.txt").write_text("other letters" * 60)
    assert main(predict) == 2
    assert "no longer those that the run was trained on" in capsys.readouterr().err


def test_compare_takes_the_params_that_training_starts_from(write):
    path = write(IMAGES)
    drawn = experiment(path).params
    fnn.save_weights("start.safetensors", jax.tree.map(lambda a: a + 1, drawn))
    config = load_config(path, ['model.init_from={path="start.safetensors"}'])
    params = subject_of_config(config).args[0]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), params, drawn)


def test_a_run_stops_early_and_says_so_and_does_not_go_on(write, capsys):
    path = write(IMAGES)
    slow = ["optimizer.learning_rate=1e-30", "train.early_stopping={patience=2}"]
    code, _, err = train(capsys, path, *slow)
    assert code == 0
    assert "ended at step 6 of 12 by early stopping" in err
    assert [r["step"] for r in read_metrics("runs/run/metrics.jsonl")][-1] == 6
    arguments = [part for change in slow for part in ("--set", change)]
    assert main(["train", str(path), "--resume", *arguments]) == 0
    assert "ended at step 6 of 12" in capsys.readouterr().err


def test_the_best_checkpoint_is_the_result_of_a_run(write, capsys):
    path = write(IMAGES)
    growing = "{init_value=0.1, transition_steps=1, decay_rate=4.0}"  # too large at the end
    schedule = f"{{name='exponential_decay', options={growing}}}"
    rising = ["optimizer.name=sgd", f"optimizer.schedule={schedule}", "train.best=loss"]
    code, out, err = train(capsys, path, *rising, "train.keep_checkpoints=1")
    assert code == 0
    records = read_metrics("runs/run/metrics.jsonl")
    best = min((r["evaluation_loss"], r["step"]) for r in records if "evaluation_loss" in r)[1]
    assert best < 12
    assert f"the best checkpoint by loss is that of step {best}" in err
    assert main(["eval", "runs/run", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["step"] == best
    assert f"{row['test_loss']:.4f}" in out
    assert fnn.load_run("runs/run").step == best
    fresh = experiment(path).params
    weights = fnn.load_weights("runs/run", fresh)
    jax.tree.map(np.testing.assert_array_equal, weights, fnn.load_run("runs/run").params)


@pytest.mark.parametrize("key", ["train.best=accuracy", "train.early_stopping={patience=1}"])
def test_nothing_is_chosen_by_the_test(write, capsys, key, tmp_path):
    code, _, err = train(capsys, write(IMAGES), key, "data.validation_fraction=0.0")
    assert code == 2
    assert "would choose by the test split" in err
    code, _, err = train(capsys, write(IMAGES), "train.best=accurate")
    assert "train.best: unknown 'accurate' (did you mean 'accuracy'?)" in err
    assert not (tmp_path / "runs").exists()


def test_hooks_of_ones_own_are_called_and_may_end_the_run(write, capsys, tmp_path):
    (tmp_path / "own_hooks.py").write_text(OWN)
    path = write(IMAGES)
    hooks = ["train.hooks.on_step=own_hooks:on_step", "train.hooks.on_save=own_hooks:on_save"]
    # A save is made beside the training, and its hook is called once it is complete.
    code, _, err = train(capsys, path, *hooks, "train.steps=20000")
    assert code == 0
    ended = re.search(r"ended at step (\d+) of 20000 by a hook", err)
    assert ended is not None
    last = int(ended[1])
    assert last >= 8
    import own_hooks  # type: ignore[import-not-found]

    assert own_hooks.calls == list(range(2, last + 1, 2))
    code, _, err = train(capsys, path, "train.hooks.on_step=own_hooks:absent", "run.folder=b")
    assert code == 2
    assert "train.hooks.on_step = 'own_hooks:absent'" in err
    with pytest.raises(ConfigError, match="refused, as foreign code"):
        load_config(path, hooks, foreign=False)


def test_groups_clipping_and_decay_from_a_config(write, capsys):
    path = write(IMAGES.replace("hidden = []", "hidden = [6]"))
    changes = [
        'optimizer={name="adamw", clip_norm=0.5, undecayed=["*/b"], groups={"dense_0/*"="frozen"}}'
    ]
    assert train(capsys, path, *changes)[0] == 0
    drawn = experiment(path, *changes).params
    trained = fnn.load_run("runs/run").params
    jax.tree.map(np.testing.assert_array_equal, trained["dense_0"], drawn["dense_0"])
    assert not np.array_equal(trained["dense_1"]["w"], drawn["dense_1"]["w"])
    for change, message in (
        (
            'optimizer.groups={"dense_7/*"="frozen"}',
            "pattern dense_7/* matches none of dense_0",
        ),
        ("optimizer.clip_norm=-1.0", "optimizer.clip_norm: must be greater than 0.0"),
        (
            'optimizer.undecayed=["*/b"]',
            "'adam' has no weight decay that undecayed could",
        ),
        ('optimizer.groups={"dense_0/*"={rate=1.0}}', "'adam' takes no option 'rate'"),
        ('optimizer={function="optax:adam", clip_norm=1.0}', "are for an optimizer by its name"),
    ):
        code, out, err = train(capsys, path, change, "run.folder=wrong")
        assert (code, out, len(err.splitlines())) == (2, "", 1), (change, err)
        assert message in err


LINEAR = 'optimizer.schedule={name="linear_schedule", options={init_value=0.5, end_value=0.0, '
FOLLOWS = [LINEAR + 'transition_steps="train.steps"}}', "optimizer.warmup=4", "train.log_every=2"]


def recorded_rates():
    records = read_metrics("runs/run/metrics.jsonl")
    return {record["step"]: record["learning_rate"] for record in records}


def test_a_config_warms_up_and_says_its_length_once(write, capsys):
    path = write(IMAGES)
    assert train(capsys, path, *FOLLOWS)[0] == 0
    wanted = {2: 0.125, 4: 0.375, 6: 0.5 * 7 / 8, 8: 0.5 * 5 / 8, 10: 0.5 * 3 / 8, 12: 0.5 / 8}
    assert recorded_rates() == wanted
    more = [part for change in FOLLOWS for part in ("--set", change)]
    assert main(["train", str(path), "--resume", *more]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["train", str(path), "--resume", *more, "--set", "train.steps=20"]) == 0
    line = (
        "funcnn: warning: train.steps was 12 when this run began and is 20 now: "
        "from here on the learning rate is that of a run of 20"
    )
    assert [x for x in capsys.readouterr().err.splitlines() if "warning" in x] == [line]
    assert recorded_rates() == wanted | {
        14: 0.5 * (16 - 9) / 16,
        16: 0.5 * (16 - 11) / 16,
        18: 0.5 * (16 - 13) / 16,
        20: 0.5 * (16 - 15) / 16,
    }
    in_numbers = [LINEAR + "transition_steps=8}}", "optimizer.warmup=4"]
    before, now = (load_config(path, [*in_numbers, f"train.steps={n}"]) for n in (12, 20))
    assert other_rates(before, now) is None


def test_a_function_of_ones_own_is_given_the_rate_as_it_warms_up(write):
    own = experiment(write(IMAGES), "optimizer.function=optax:sgd", "optimizer.warmup=4")
    named = experiment(write(IMAGES), "optimizer.name=sgd", "optimizer.warmup=4")
    params: Any = own.params
    updates: Any
    for optimizer in (own.optimizer, named.optimizer):
        with jax.numpy_dtype_promotion("standard"):
            state, moved = optimizer.init(params), []
            for _ in range(6):
                updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state)
                moved.append(-float(updates["dense_0"]["b"][0]))
        np.testing.assert_allclose(moved, 1e-3 * np.array([0, 0.25, 0.5, 0.75, 1, 1]), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.warmup=12", "optimizer: warmup: 12 updates leave none of the run's 12 (train."),
        ("optimizer.warmup=99", "for the schedule: give at most 11, or a longer run"),
        ("optimizer.warmup=-1", "optimizer.warmup: must be at least 0, found -1"),
        ("optimizer.warmup=train.steps", "optimizer.warmup: expected an integer, found"),
        (LINEAR + 'transition_steps="steps"}}', 'a number of updates or "train.steps", found'),
        ('optimizer={name="schedule_free_sgd", options={warmup_steps=2}}', "its warmup says them"),
    ],
)
def test_a_length_that_cannot_be_is_one_line(write, capsys, change, message):
    code, out, err = train(capsys, write(IMAGES), change)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert message in err


@pytest.mark.parametrize(
    "optimizer",
    [
        'optimizer={name="schedule_free_adamw", learning_rate=0.05, warmup=3, clip_norm=1.0}',
        'optimizer={function="optax.contrib:schedule_free_sgd", learning_rate=0.05}',
    ],
)
def test_what_a_schedule_free_optimizer_evaluates_is_the_result(write, capsys, optimizer):
    path = write(IMAGES)
    code, out, _ = train(capsys, path, optimizer)
    assert code == 0
    made = experiment(path, optimizer)
    state = Checkpoints("runs/run/checkpoints").restore(made.first_state())
    wanted = state.evaluation_params()
    assert np.abs(wanted["dense_0"]["w"] - state.params["dense_0"]["w"]).max() > 1e-3
    loaded = fnn.load_run("runs/run").params
    jax.tree.map(np.testing.assert_array_equal, loaded, wanted)
    weights = fnn.load_weights("runs/run", made.params)
    jax.tree.map(np.testing.assert_array_equal, weights, wanted)
    figure = made.evaluation(made.dataset.test)(wanted)["loss"]
    assert f"{figure:.4f}" in out
    assert refused(path, optimizer, "train.average=0.9") == (
        "train.average: the optimizer is schedule-free and evaluates an average of its own; "
        "leave it out"
    )


IN_HALF = """
[model]
name = "mlp"
options = {hidden = [16]}
[optimizer]
learning_rate = 0.01
[train]
steps = 40
steps_per_call = 10
evaluate_every = 40
"""


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision_is_one_word(write, precision):
    path = write(IN_HALF)
    half, full = experiment(path, f"train.precision={precision}"), experiment(path)
    states = {}
    for name, made in {"half": half, "full": full}.items():
        state, step, metrics = made.first_state(), made.step(), {}
        for i in range(0, 40, 10):
            state, metrics = step(state, made.batches()(i, 10))
        assert float(metrics["loss"][-1]) < 1.0
        states[name] = state
    same = [jax.tree.map(jnp.result_type, s._replace(health={})) for s in states.values()]
    assert same[0] == same[1]
    assert jax.tree.leaves(states["half"].params)[0].dtype == jnp.float32
    moved = [np.asarray(s.params["dense_0"]["w"]) for s in states.values()]
    assert 0 < np.abs(moved[0] - moved[1]).max() < 0.1
    held = "loss_scale" in states["half"].health
    assert held == (precision == "float16")


def test_a_batch_in_parts_trains_alike(write):
    path = write(IN_HALF)
    states = []
    for parts in (1, 4):
        made = experiment(path, f"train.accumulate={parts}")
        states.append(made.step()(made.first_state(), made.batches()(0, 10))[0])
    one, four = (s.params["dense_0"]["w"] for s in states)
    np.testing.assert_allclose(one, four, rtol=1e-3, atol=1e-5)
    assert np.any(np.asarray(one) != np.asarray(four))


def test_layers_are_computed_again_by_patterns(write):
    path = write(IN_HALF)
    made = experiment(path, 'train.remat=["dense_*"]')
    batch = jax.tree.map(lambda x: x[0], made.batches()(0, 1))
    text = str(jax.make_jaxpr(made.step(1).body)(made.first_state(), batch))
    assert text.count("checkpoint[") + text.count("remat") > 0
    plain = experiment(path)
    ends = [e.step()(e.first_state(), e.batches()(0, 10))[0].params for e in (made, plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *ends)


@pytest.mark.parametrize(
    ("text", "changes", "line"),
    [
        (IN_HALF, ['train.remat=["conv_*"]'], "train.remat: the pattern conv_* matches none of "),
        (IN_HALF, ["train.accumulate=5"], "which cannot be cut in accumulate = 5 equal parts"),
        (IN_HALF, ["train.accumulate=0"], "train.accumulate: must be at least 1, found 0"),
        (IN_HALF, ["train.precision=half"], "train.precision"),
        (IN_HALF, ["train.guard.action=stop"], "train.guard.action"),
        (IN_HALF, ["train.guard.spike=0"], "train.guard.spike"),
        (TEXT, ["train.accumulate=2"], "train.carry = true: does not go with train.accumulate"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(write, capsys, text, changes, line):
    path = write(text)
    sets = [part for change in changes for part in ("--set", change)]
    assert main(["train", str(path), *sets]) == 2
    printed = capsys.readouterr().err.strip().split("\n")
    assert line in printed[-1]
    assert not (path.parent / "runs" / "run").exists()


POISONED = """
import numpy as np

def build(test_fraction, seed):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    def batches(step, count=None):
        rows = np.stack([np.roll(x, s, axis=0)[:8] for s in range(step, step + (count or 1))])
        rows[:, :, 0] += np.where(np.arange(step, step + len(rows)) == 9, np.inf, 0)[:, None]
        batch = {"x": rows, "y": rows.sum(axis=-1)}
        return batch if count else {name: a[0] for name, a in batch.items()}
    return {"train": batches, "test": {"x": x, "y": x.sum(axis=-1)}}
"""


def test_a_bad_batch_halts_or_is_skipped(write, capsys, tmp_path):
    (tmp_path / "poisoned.py").write_text(POISONED)
    path = write("""
[data]
function = "poisoned:build"
[task]
name = "regression"
[model]
name = "mlp"
options = {hidden = [], classes = 1}
[train]
steps = 16
steps_per_call = 4
log_every = 4
""")
    assert main(["train", str(path)]) == 1
    first, *_, error = capsys.readouterr().err.strip().split("\n")
    assert first == "poisoned: batches of 8 rows to train, 64 rows to test"
    assert error.startswith("funcnn: step 10: loss is ")
    assert "of the batch, 'x', is not finite; this update is not made, and training halts" in error
    assert "halts (step 9 is saved, and --resume goes on from it): look at the data" in error
    assert error.endswith('let the guard skip such steps (train.guard.action = "skip" in a config)')
    assert (tmp_path / "runs/run/checkpoints/step_00000009").is_dir()
    skip = ["--set", "train.guard.action=skip"]
    assert main(["train", str(path), "--resume", *skip]) == 0
    records = read_metrics(tmp_path / "runs/run/metrics.jsonl")
    assert [r["step"] for r in records] == [4, 8, 12, 16]
    assert records[-1]["skipped"] == 1
