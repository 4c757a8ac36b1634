import os
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from funcnn.config import Config, ConfigError, ModelConfig, dump_config, load_config

CONFIGS = Path(__file__).parents[1] / "configs"
MODEL = '[model]\nname = "mlp"\n'
STRUCTURE = "a list is [64, 32], a table {a = 1}, text stands in one pair of quotes"


@pytest.fixture
def write(tmp_path):
    def write(text, name="x.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(path, *overrides):
    """The lines of the ConfigError, without the path of the file."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert str(caught.value).split("\n") == list(caught.value.problems)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_say_all_there_is(path):
    config = load_config(path)
    # Nothing is left to a default: who reads the file has read the run.
    left_out = set(Config.model_fields) - config.model_fields_set - {"mesh"}  # one device
    for name in config.model_fields_set:
        table = getattr(config, name)
        # Empty options, what the chosen data, model or optimizer has no use for, or folders that
        # are known when the file is read.
        not_needed = {"options", "path", "function", "schedule", "learning_rate", "search"}
        not_needed |= {"init_from", "average", "best", "early_stopping", "hooks"}
        not_needed |= {"warmup", "clip_norm", "undecayed", "groups", "checkpoint_minutes"}
        not_needed |= {"accumulate", "precision", "remat", "sharding", "guard"}
        left_out |= set(type(table).model_fields) - table.model_fields_set - not_needed
    if config.data.name == "digits":
        left_out -= {"test_fraction"}
    if config.task.name == "variational":  # which has a loss of its own
        left_out -= {"name"}
    assert not left_out
    assert config.run.folder == f"runs/{path.stem}"


def test_the_three_first_configs_are_there():
    names = {path.stem for path in CONFIGS.glob("*.toml")}
    assert {"digits_mlp", "digits_cnn", "mnist_cnn"} <= names


def test_defaults(write):
    config = load_config(write(MODEL, "mine.toml"))
    assert config.run.model_dump() == {
        "seed": 0,
        "platform": "auto",
        "folder": "runs/mine",
        "search": [os.getcwd(), os.path.dirname(write(MODEL, "mine.toml"))],
    }
    assert config.data.model_dump() == {
        "name": "digits",
        "function": None,
        "options": {},
        "path": None,
        "test_fraction": 0.2,
        "validation_fraction": 0.0,
        "batch_size": 32,
        "order": "shuffled",
        "last": "fill",
    }
    nothing = {"name": None, "function": None, "options": {}}
    assert config.loss.model_dump() == nothing  # that of the task
    assert config.task.model_dump() == {**nothing, "name": "classification"}
    assert config.metrics.model_dump() == {"names": None, "function": None, "options": {}}
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adam", 1e-3)
    assert config.train.model_dump() == {
        "steps": 1500,
        "steps_per_call": 8,
        "log_every": 100,
        "evaluate_every": 500,
        "checkpoint_every": 500,
        "checkpoint_minutes": None,
        "keep_checkpoints": 2,
        "average": None,
        "carry": False,
        "best": None,
        "tensorboard": False,
        "early_stopping": None,
        "hooks": None,
        "accumulate": 1,
        "precision": "float32",
        "remat": [],
        "sharding": {},
        "guard": {"action": "halt", "spike": None},
    }


def test_a_config_is_frozen(write):
    config = load_config(write(MODEL))
    with pytest.raises(pydantic.ValidationError):
        config.train.steps = 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[train]\nstepps = 3", 'unknown key "train.stepps" (did you mean "train.steps"?)'),
        ("[train]\nseed = 3", 'unknown key "train.seed" (did you mean "run.seed"?)'),
        (
            "[loss]\nqqqq = 3",
            'unknown key "loss.qqqq" (known: name, function, options)',
        ),
        ("[trian]\nsteps = 3", 'unknown table "trian" (did you mean "train"?)'),
        (
            "[zzz]\nsteps = 3",
            'unknown table "zzz" (known: run, mesh, data, augment, task, model, loss, metric',
        ),
        ("[train]\ncarry = 1", "train.carry: expected true or false, found 1"),
        ('[train]\ntensorboard = "yes"', 'train.tensorboard: expected true or false, found "yes"'),
        ("[optimizer.option]\na = 1", 'unknown table "optimizer.option" (did you mean'),
        ('[train]\nsteps = "many"', 'train.steps: expected an integer, found "many"'),
        ('[train]\nsteps = "5"', 'train.steps: expected an integer, found "5"'),
        ("[train]\nsteps = true", "train.steps: expected an integer, found true"),
        ("[train]\nsteps = 1.5", "train.steps: expected an integer, found 1.5"),
        ("[train]\nsteps = 2.0", "train.steps: expected an integer, found 2.0"),
        ("[train]\nsteps = [1]", "train.steps: expected an integer, found a list"),
        ("[train]\nsteps = {a = 1}", "train.steps: expected an integer, found a table"),
        ("[train]\nsteps = 0", "train.steps: must be at least 1, found 0"),
        ("[train]\nsteps_per_call = 0", "train.steps_per_call: must be at least 1, found 0"),
        ("[train]\nlog_every = 0", "train.log_every: must be at least 1, found 0"),
        ("[train]\nkeep_checkpoints = 0", "train.keep_checkpoints: must be at least 1, found 0"),
        ("[train]\nevaluate_every = -1", "train.evaluate_every: must be at least 0, found -1"),
        ("[train]\ncheckpoint_every = -1", "train.checkpoint_every: must be at least 0, found -1"),
        ("[run]\nseed = -1", "run.seed: must be at least 0, found -1"),
        ("[run]\nseed = 4294967296", "run.seed: must be at most 4294967295, found 4294967296"),
        ("[run]\nseed = 2024-01-01", "run.seed: expected an integer, found 2024-01-01"),
        ("[run]\nfolder = 3", "run.folder: expected a string, found 3"),
        ('[run]\nfolder = ""', "run.folder: must not be empty"),
        ('[run]\nplatform = "tpu"', 'run.platform: expected "auto", "cpu" or "gpu", found "tpu"'),
        ('[data]\nname = "idc"', 'data.name: expected "'),
        ('[data]\nname = "idx"', 'data.path: needed for data.name = "idx"'),
        (
            '[data]\nname = "idx"\npath = "a"\nfunction = "a.b:c"',
            "give exactly one of data.name and data.function, found both",
        ),
        ('[task]\nfunction = "a.b"', 'task.function: expected "package.module:build", found "a.b"'),
        ('[metrics]\nnames = "f1"', 'metrics.names: expected a list, found "f1"'),
        (
            '[optimizer]\nname = "sgd"\nfunction = "a:b"',
            "give exactly one of optimizer.name and optimizer.function, found both",
        ),
        ('[data]\norder = "random"', 'data.order: expected "shuffled" or "streams"'),
        ("[data]\nvalidation_fraction = 1", "data.validation_fraction: must be less than 1.0"),
        ('[data]\npath = "a"', 'data.path: not used by data.name = "digits"; leave it out'),
        ("[data]\ntest_fraction = 1", "data.test_fraction: must be less than 1.0, found 1"),
        ("[data]\ntest_fraction = 0.0", "data.test_fraction: must be greater than 0.0, found 0.0"),
        ('[data]\ntest_fraction = "0.5"', 'data.test_fraction: expected a number, found "0.5"'),
        ("[data]\ntest_fraction = true", "data.test_fraction: expected a number, found true"),
        ("[data]\nbatch_size = 0", "data.batch_size: must be at least 1, found 0"),
        ("[optimizer]\nlearning_rate = 0", "optimizer.learning_rate: must be greater than 0.0"),
        ("[optimizer]\nlearning_rate = inf", "optimizer.learning_rate: expected a finite number"),
        ('[optimizer]\noptions = "a"', 'optimizer.options: expected a table, found "a"'),
        (
            '[optimizer]\nschedule = "cosine"',
            'optimizer.schedule: expected a table, found "cosine"',
        ),
        ("[optimizer.schedule]", "optimizer.schedule.name: missing; it has no default"),
        (
            '[optimizer]\nlearning_rate = 1e-2\nschedule = {name = "constant_schedule"}',
            "optimizer.learning_rate: replaced by [optimizer.schedule]; give only one of the two",
        ),
        (
            f'[run]\nfolder = 3\nplatform = "{"x" * 80}"',
            f'run.platform: expected "auto", "cpu" or "gpu", found "{"x" * 55}..."',
        ),
    ],
)
def test_one_line_for_each_mistake(write, text, wanted):
    assert any(line.startswith(wanted) for line in problems(write(MODEL + text)))


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("train.lr", "optimizer.learning_rate"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("train.epochs", "train.steps"),
        ("optimizer.momentum", "optimizer.options.momentum"),
        ("optimizer.learningrate", "optimizer.learning_rate"),
        ("trian.steps", "train.steps"),
    ],
)
def test_a_near_miss_is_told_by_its_last_part_or_by_what_others_call_it(write, key, near):
    assert problems(write(MODEL), f"{key}=1") == [
        f'--set {key}=1: unknown key "{key}" (did you mean "{near}"?)'
    ]


def test_a_key_that_is_near_none_is_not_taken_for_another_of_its_table(write):
    (line,) = problems(write(MODEL), "optimizer.qqqq=1")
    assert '"optimizer.qqqq" (known: name, function, options, schedule, warmup, ' in line


def test_a_link_to_nothing_is_not_its_own_near_miss(tmp_path):
    (tmp_path / "a.toml").symlink_to("b.toml")
    with pytest.raises(ConfigError, match=r"a.toml: is a link to b.toml, which is not there$"):
        load_config(tmp_path / "a.toml")


def test_the_table_that_a_key_stands_in_is_not_what_was_meant(write):
    (line,) = problems(write(MODEL + "[train.early_stopping]\npatience = 1\na = 1"))
    assert line.startswith('unknown key "train.early_stopping.a" (')
    assert '"train.early_stopping"' not in line


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        (
            'optimizer.groups."head/*"=freeze',
            'optimizer.groups.head/*: expected "frozen" or a table of options, found "freeze"',
        ),
        (
            'train.sharding."**/w"=["fsdp", 3]',
            "train.sharding.**/w.1: expected an axis of the mesh, or a list of them, found 3",
        ),
        ('train.sharding."**/w"=[["fsdp", 3]]', "of them, found a list"),
    ],
)
def test_what_may_be_of_two_kinds_is_one_line_where_it_is_neither(write, override, wanted):
    (line,) = problems(write(MODEL), override)
    assert wanted in line


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[run]\nseed = 1", 'missing table [model]; it needs name = "mlp" or function ='),
        ("model = 3", "model: expected a table, found 3"),
        ("[model]", "give exactly one of model.name and model.function, found neither"),
        (
            '[model]\nname = "mlp"\nfunction = "a:b"',
            "give exactly one of model.name and model.function, found both",
        ),
        (
            '[model]\nfunction = "my {net}.py"',
            'model.function: expected "package.module:build", found "my {net}.py"',
        ),
        ("[model]\nname = 3", "model.name: expected a string, found 3"),
        (
            MODEL + "[model.options]\nbias = False",
            "not TOML: Invalid value (at line 4, column 8): write false",
        ),
        (
            MODEL + "[optimizer]\nlearning_rate = .001",
            "not TOML: Invalid value (at line 4, column 17): write 0.001",
        ),
        (
            MODEL + "[data]\npath = None",
            "not TOML: Invalid value (at line 4, column 8): TOML has no None; leave the key out",
        ),
        (MODEL + "[train]\nsteps = " + "9" * 5000, "train.steps: an integer of more than 64 bits"),
        (MODEL + "options.a = [1, -0x" + "f" * 5000 + "]", "not TOML: "),
        (
            MODEL + "options.a = [1, 0x" + "f" * 5000 + "]",
            "model.options.a.1: an integer of more than 64 bits",
        ),
        (MODEL + f"options.a = {2**63}", "model.options.a: an integer of more than 64 bits"),
        (MODEL + f"options.a = {500 * '['}{500 * ']'}", "nested deeper than 32 levels"),
        (MODEL + f"options.a = {500 * '{a='}1{500 * '}'}", "nested deeper than 32 levels"),
        (MODEL + f"options{500 * '.a'} = 1", "model.options.a: nested deeper than 32 levels"),
        (MODEL + f"{'a' * 5000} = 1", f'unknown key "model.{"a" * 64}...aaaaaaa" (known: '),
        (MODEL + '"a\\n\\u001b" = 1', 'unknown key "model.a\\n\\x1b" ('),
        ("", 'is empty; a config needs at least [model] with name = "mlp"'),
        ("# nothing\n\n", "is empty; a config needs at least"),
        ("[model]\nname = \n", "not TOML: Invalid value (at line 2, column 8)"),
        (MODEL + MODEL, "not TOML: Cannot declare ('model',) twice (at line 3, column 7)"),
    ],
)
def test_mistakes_of_the_model_and_of_the_file(write, text, wanted):
    (line,) = problems(write(text))
    assert line.startswith(wanted)


def test_all_problems_are_listed_at_once(write):
    path = write(
        '[trian]\nsteps = 3\n[train]\nsteps = "many"\nlog_evry = 3\n'
        '[data]\nname = "idx"\nbatch_size = 0\n[model]\noptions = 3'
    )
    lines = problems(path, "train.stepps=3", "train.log_every=0", "nothing")
    starts = [
        '--set train.stepps=3: unknown key "train.stepps"',
        '--set nothing: expected table.key=value, such as "train.steps=100"',
        "data.path: needed for",
        "data.batch_size: must be",
        "give exactly one of model.name",
        "model.options: expected a table",
        "train.steps: expected an integer",
        "--set train.log_every=0: train.log_every: must be at least 1",
        'unknown key "train.log_evry" (did you mean "train.log_every"?)',
        'unknown table "trian"',
    ]
    assert len(lines) == len(starts)
    for line, start in zip(sorted(lines), sorted(starts), strict=True):
        assert line.startswith(start)


def test_no_file(tmp_path, write):
    write(MODEL, "digits.toml")
    assert problems(tmp_path / "digit.toml") == [
        f'no such file (did you mean "{tmp_path / "digits.toml"}"?)'
    ]
    assert problems(tmp_path / "no" / "x.toml") == ["no such file"]
    assert problems(tmp_path) == ["is a folder; a config is one TOML file"]
    (tmp_path / "binary.toml").write_bytes(b"a = \xff")
    assert problems(tmp_path / "binary.toml") == ["not TOML: byte 4 is not UTF-8 text"]
    assert problems(tmp_path / "digits.toml" / "x") == ["cannot be read: Not a directory"]


@pytest.mark.parametrize(
    ("override", "keys", "value"),
    [
        ("train.steps=20", ("train", "steps"), 20),
        (" train.steps = 20 ", ("train", "steps"), 20),
        ("loss.options.smoothing=0.1", ("loss", "options"), {"smoothing": 0.1}),
        ("optimizer.function=my.net:adam", ("optimizer", "function"), "my.net:adam"),
        ("data.validation_fraction=0.1", ("data", "validation_fraction"), 0.1),
        ("optimizer.learning_rate=1", ("optimizer", "learning_rate"), 1.0),
        ("run.platform=cpu", ("run", "platform"), "cpu"),
        ('run.folder="a b=c"', ("run", "folder"), "a b=c"),
        ("run.folder=a b=c", ("run", "folder"), "a b=c"),
        ("run.folder=2024", ("run", "folder"), "2024"),
        ("optimizer.name=inf", ("optimizer", "name"), "inf"),
        ("optimizer.options={b1=0.8}", ("optimizer", "options"), {"b1": 0.8}),
        ("model.options.hidden=[3, 4]", ("model", "options"), {"hidden": [3, 4], "depth": 2}),
        ("model.options.name=tanh", ("model", "options"), {"name": "tanh", "depth": 2}),
        ("model.options.a.b=2", ("model", "options"), {"a": {"b": 2}, "depth": 2}),
        ("model.options.depth=False", ("model", "options"), {"depth": False}),
        ("model.options.depth=TRUE", ("model", "options"), {"depth": True}),
        ("model.options.depth=.5", ("model", "options"), {"depth": 0.5}),
        ("model.options.depth=-1.", ("model", "options"), {"depth": -1.0}),
        ("model.options.depth=+1", ("model", "options"), {"depth": 1}),
        ("model.options.depth=1_000", ("model", "options"), {"depth": 1000}),
        ("model.options.depth=Infinity", ("model", "options"), {"depth": float("inf")}),
        ('model.options.depth="None"', ("model", "options"), {"depth": "None"}),
        ("model.options.depth=3x3 same", ("model", "options"), {"depth": "3x3 same"}),
        ("optimizer.learning_rate=.001", ("optimizer", "learning_rate"), 0.001),
        ("run.folder=None", ("run", "folder"), "None"),
        ("run.folder=[a", ("run", "folder"), "[a"),
        ('run.search=["/a"]', ("run", "search"), ["/a"]),
    ],
)
def test_overrides(write, override, keys, value):
    config = load_config(write(MODEL + "[model.options]\ndepth = 2"), [override])
    found = getattr(getattr(config, keys[0]), keys[1])
    assert found == value
    assert type(found) is type(value)


def test_the_later_override_wins(write):
    overrides = ["train.steps=1", "train.steps=2", "model.options={a=1}", "model.options.b=2"]
    config = load_config(write(MODEL), overrides)
    assert config.train.steps == 2
    assert config.model.options == {"a": 1, "b": 2}


def test_an_override_takes_the_place_of_its_rival(write):
    path = write(MODEL + "[optimizer]\nlearning_rate = 0.5")
    schedule = "optimizer.schedule.name=cosine_decay_schedule"
    config = load_config(
        path, ["model.function=my.net:build", schedule, "optimizer.schedule.options.decay_steps=9"]
    )
    assert (config.model.name, config.model.function) == (None, "my.net:build")
    assert config.optimizer.learning_rate is None
    assert config.optimizer.schedule is not None
    assert config.optimizer.schedule.options == {"decay_steps": 9}
    back = load_config(path, [schedule, "optimizer.learning_rate=0.25"])
    assert (back.optimizer.schedule, back.optimizer.learning_rate) == (None, 0.25)


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("train.stepps=3", 'unknown key "train.stepps" (did you mean "train.steps"?)'),
        ("trian.steps=3", 'unknown key "trian.steps" (did you mean "train.steps"?)'),
        ("run.seed.x=3", 'unknown key "run.seed.x" (did you mean "run.seed"?)'),
        ("train.steps=many", 'train.steps: expected an integer, found "many"'),
        ("train.steps=", 'train.steps: expected an integer, found ""'),
        ("train=3", "train: expected a table, found 3"),
        ("train={steps=0}", "train.steps: must be at least 1, found 0"),
        ("train.steps", 'expected table.key=value, such as "train.steps=100"'),
        ("=3", 'expected table.key=value, such as "train.steps=100"'),
        ("train..steps=3", 'expected table.key=value, such as "train.steps=100"'),
        ("train.steps=True", "train.steps: expected an integer, found true"),
        ("model.options.a=", 'has no value; write "" for the empty text'),
        ("model.options.a=yes", 'write true or false, or "yes" for the text'),
        (
            "model.options.a=None",
            'TOML has no None: leave the key out, or write "None" for the text',
        ),
        (
            "model.options.a=64,32",
            'no number: 1000, 0.5 and 1e-3 are, a list is [64, 32]; "64,32" for the text',
        ),
        (
            "model.options.a=(64, 32)",
            f"not TOML: Invalid value; {STRUCTURE}",
        ),
        (
            'run.folder="a',
            f"not TOML: Unterminated string (at end of document); {STRUCTURE}",
        ),
        ("run.folder=a\0", "run.folder: no path: it holds a NUL character"),
        ("run.folder=\udcff", "run.folder: holds bytes that are not UTF-8 text"),
        ("run.search=a", 'run.search: expected a list, found "a"'),
    ],
)
def test_a_bad_override_is_named(write, override, wanted):
    escaped = override.replace("\0", "\\x00")
    assert problems(write(MODEL), override) == [f"--set {escaped}: {wanted}"]


@pytest.mark.parametrize("key", ["train.steps", "model.options.a", "model.options.a.b"])
@pytest.mark.parametrize("value", ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000])
def test_a_number_of_any_length_is_named_by_its_key(write, key, value):
    (line,) = problems(write(MODEL), f"{key}={value}")
    assert line.endswith(f": {key}: an integer of more than 64 bits")
    assert len(line) < 200


def test_a_long_override_is_shortened_and_stays_one_line(write):
    (line,) = problems(write(MODEL), "train.steps=" + "a" * 5000)
    assert line.startswith("--set train.steps=aaa")
    assert len(line) < 250
    (line,) = problems(write(MODEL), "train.steps=a\nb\x1b[2J")
    assert line.startswith("--set train.steps=a\\nb\\x1b[2J: train.steps: expected an integer")


def test_a_home_folder_is_meant(write, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    own = ["run.folder=~/runs", "data.name=idx", "data.path=~/mnist"]
    config = load_config(write(MODEL), own)
    assert (config.run.folder, config.data.path) == ("/home/somebody/runs", "/home/somebody/mnist")


def test_a_run_remembers_where_its_config_stood(write, tmp_path, monkeypatch):
    path = write(MODEL)
    monkeypatch.chdir("/")
    config = load_config(path)
    assert config.run.search == ["/", str(tmp_path)]
    (tmp_path / "run").mkdir()
    kept = write(dump_config(config), "run/config.toml")
    monkeypatch.chdir(tmp_path)
    assert load_config(kept).run.search == ["/", str(tmp_path)]


def test_foreign_code_is_refused_where_asked(write):
    function = "my.net:build"
    path = write(f'[model]\nfunction = "{function}"')
    assert load_config(path).model.function == function
    for own, source in ((path, ""), (write(MODEL, "y.toml"), f"--set model.function={function}: ")):
        with pytest.raises(ConfigError) as caught:
            load_config(own, [f"model.function={function}"] if source else [], foreign=False)
        message = (
            f'model.function = "{function}": refused, as foreign code; what has a name here is'
        )
        assert str(caught.value).startswith(f"{source or f'{own}: '}{message}")
    assert load_config(write(MODEL), foreign=False).model.name == "mlp"


def test_the_last_override_of_a_key_is_the_one_named(write):
    overrides = ["train.steps=1", "train={steps=2}", "train.steps=0"]
    (line,) = problems(write(MODEL), *overrides)
    assert line == "--set train.steps=0: train.steps: must be at least 1, found 0"


def test_an_override_sets_one_key_only(write):
    config = load_config(write(MODEL), ["model.options.a=1\nb = 2"])
    assert config.model.options == {"a": "1\nb = 2"}


def test_an_option_of_data_among_its_keys_is_sent_to_its_table(write):
    (line,) = problems(write(MODEL), "data.missing=drop")
    assert line.endswith('unknown key "data.missing" (did you mean "data.options.missing"?)')


def test_a_key_of_an_override_is_quoted_as_in_toml(write):
    overrides = [
        """train.sharding."*/w"=["fsdp"]""",
        """train.sharding.'a=b.c' = ["", "tensor"]""",
        """optimizer.groups."body/*".learning_rate=0.01""",
        """optimizer.groups."head/*"=frozen""",
        """"model".options."two words"=1""",
    ]
    config = load_config(write(MODEL), overrides)
    assert config.train.sharding == {"*/w": ["fsdp"], "a=b.c": ["", "tensor"]}
    assert config.optimizer.groups == {"body/*": {"learning_rate": 0.01}, "head/*": "frozen"}
    assert config.model.options == {"two words": 1}


def test_an_override_inside_of_what_is_no_table(write):
    path = write(MODEL + '[optimizer.groups]\n"body/*" = "frozen"')
    (line,) = problems(path, 'optimizer.groups."body/*".learning_rate=0.01')
    assert line.endswith(': optimizer.groups.body/* is "frozen", and no table to change a key of')


@pytest.mark.parametrize("wrong", ['train."steps=3', 'train."st\\qeps"=3', "train.'steps'x=3"])
def test_a_key_whose_quotes_are_wrong_is_one_line(write, wrong):
    (line,) = problems(write(MODEL), wrong)
    assert line.endswith('expected table.key=value, such as "train.steps=100"')


def test_a_byte_order_mark_is_no_mistake(write):
    assert load_config(write("\ufeff" + MODEL)).model.name == "mlp"


def test_an_override_into_a_table_that_is_none(write):
    lines = problems(write(MODEL + "[train]\n[optimizer]\noptions = 3"), "optimizer.options.b1=0.5")
    assert lines == ["optimizer.options: expected a table, found 3"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_dumped_config_loads_back_equal(path, write):
    config = load_config(path, ["run.seed=7"])
    text = dump_config(config)
    assert load_config(write(text, "other.toml")) == config
    assert dump_config(load_config(write(text, "other.toml"))) == text


def test_every_toml_value_survives_the_dump(write):
    options = r"""
        [model.options]
        text = "quote \" slash \\ tab \t newline \n bell \u0007 delete \u007f Greek \u03b8 {x}"
        multi = '''
a'b'''
        numbers = [1, -2, 1.0, 1e-5, 1e300, -inf, 0x10]
        flags = [true, false]
        dates = [1979-05-27T07:32:00Z, 1979-05-27T07:32:00.5, 1979-05-27, 07:32:00]
        nested = [[1, 2], [{a = 1, "b c" = [{}]}]]
        empty = []
        "odd key" = 1
        "" = 2
        [model.options.inner."deep.er"]
        value = 1
        [model.options.nothing]
        [[model.options.tables]]
        a = 1
        [[model.options.tables]]
        b = {c = 2}
        [optimizer.schedule]
        name = "cosine_decay_schedule"
        options = {init_value = 1e-2}
    """
    config = load_config(write(MODEL + options))
    assert len(config.model.options) == 12
    assert load_config(write(dump_config(config), "other.toml"), ["run.folder=runs/x"]) == config


def test_a_config_made_in_python_is_checked_too():
    with pytest.raises(pydantic.ValidationError, match="exactly one"):
        ModelConfig(name="mlp", function="a:b")


def test_no_jax_for_a_config_error(write):
    path = write("[train]\nstepps = 3\n[model]\n")
    code = (
        "import sys, funcnn.config as c\n"
        "try: c.load_config(sys.argv[1])\n"
        "except c.ConfigError as error: print(len(error.problems))\n"
        "print([name for name in ('jax', 'numpy', 'optax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("2\n[]\n", "")
