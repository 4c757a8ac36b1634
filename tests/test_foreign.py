"""Functions of somebody else's as model.function: what works, and one line for what does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from funcnn.cli import main
from funcnn.config import Config, ConfigError, ModelConfig, RunConfig, load_config
from funcnn.data.known import Known
from funcnn.experiment import announce_foreign, build_experiment
from funcnn.foreign import find
from funcnn.modules import file_of
from funcnn.runs.folder import RunFolder
from funcnn.train import Checkpoints

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/digits_mlp.toml"

# Builders of other people's style; the images are (8, 8, 1), of 10 classes.
OWN = """
import sys
import jax, jax.numpy as jnp
import funcnn as fnn

def init(key, x):
    return {"w": jnp.zeros((x[0].size, 10)), "b": jax.random.normal(key, (10,))}
def apply(params, x):
    return x.reshape(len(x), -1) @ params["w"] + params["b"][None]
def pair(): return init, apply
def star(*a): return init, apply
def listed(): return [init, apply]
layer = fnn.chain(fnn.flatten, fnn.dense(10))
class Net:
    def init(self, key, x): return init(key, x)
    def __call__(self, params, x): return apply(params, x)
def net(): return Net()
def haiku():
    import haiku as hk
    return hk.without_apply_rng(hk.transform(lambda x: hk.Linear(10)(hk.Flatten()(x))))
def haiku_with_key():
    import haiku as hk
    return hk.transform(lambda x: hk.Linear(10)(hk.Flatten()(x)))
def linen():
    import flax.linen as nn
    return nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(10)])
def linen_pair():
    net = linen()
    return net.init, net.apply

def stax_pair():
    from jax.example_libraries import stax
    return stax.serial(stax.Flatten, stax.Dense(10))
def linen_norm():
    import flax.linen as nn
    flat = lambda x: x.reshape(len(x), -1)
    return nn.Sequential([flat, nn.BatchNorm(use_running_average=True), nn.Dense(10)])
def equinox():
    import equinox as eqx
    return eqx.nn.MLP(64, 10, 8, 1, key=jax.random.key(0))
def missing(): return init, lambda params, x: apply(params, x) + params["nope"]
def attribute(): return init, lambda params, x: params.w
def triple(): return init, apply, 3
def nothing(): pass
def rng(): return init, lambda params, x, rng=None: apply(params, x)
def alone(): return lambda params, x: x.reshape(len(x), -1)[:, :10]
def of_x(): return lambda x: x
def init_of_key(): return lambda key: {}, apply
def swapped(): return lambda x, key: {"w": jnp.zeros((64, 10)) + x.sum()}, apply
def counter(): return lambda key, x: {**init(key, x), "n": jnp.zeros((), jnp.int32)}, apply
def dicts(): return init, lambda params, x: {"aux": x, "logits": apply(params, x)}
def tuples(): return init, lambda params, x: (apply(params, x), x)
def classes(): return init, lambda params, x: jnp.zeros((len(x), 10), jnp.int32)
def needs(width): return init, apply
def place(width, /): return init, apply
def rule(): return fnn.rules.relu
def constructor(): return fnn.dense
def leaves(): sys.exit(0)
def leaves_late(): return lambda key, x: sys.exit("enough"), apply
number = 3
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with a module of builders, and one that ends the program when imported."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_nets.py").write_text(OWN)
    (folder / "own_script.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "own_broken.py").write_text("1 / 0\n")
    (folder / "own_needs.py").write_text("import no_such_package\n")
    (folder / "own.toml").write_text('[model]\nfunction = "own_nets:pair"\n')
    before = sys.path.copy()
    yield folder
    sys.path[:] = before


def built(folder, function, **options):
    function = function if ":" in function else f"own_nets:{function}"
    model = ModelConfig(function=function, options=options)
    return build_experiment(Config(model=model, run=RunConfig(search=[str(folder)])))


WORKS = ["pair", "star", "listed", "layer", "net", "Net", "haiku", "haiku_with_key", "linen"]


@pytest.mark.parametrize("name", [*WORKS, "linen_pair"])
def test_what_builds_a_model(own, name):
    experiment = built(own, name)
    image = jnp.ones((2, 8, 8, 1))
    assert experiment.model(experiment.params, image).shape == (2, 10)
    leaves = jax.tree.leaves(experiment.params)
    assert sorted(leaf.shape for leaf in leaves) == [(10,), (64, 10)]
    with_key = experiment.model(experiment.params, image, key=jax.random.key(0))
    assert with_key.shape == (2, 10)


RETURNS = (
    "; a builder returns a Layer, or a pair (init, apply) of init(key, x) -> params and "
    "apply(params, x) -> logits"
)
FITS = "model: does not fit inputs of (8, 8, 1): "
LOGITS = "it must return logits of shape (batch, 10)"
OF = "model.function = 'own_nets:{}': "


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "stax_pair",
            FITS + "init(key, x): it returned (shape, params), as stax does, and must return the "
            "params alone: lambda key, x: init(key, x.shape)[1]",
        ),
        ("linen_norm", FITS + "init(key, x): it returned batch_stats beside params, as Flax does"),
        ("equinox", OF + "returned MLP" + RETURNS),
        ("missing", FITS + "there is no 'nope'; params hold b, w"),
        ("attribute", FITS + "AttributeError: 'dict' object has no attribute 'w'"),
        ("triple", OF + "returned tuple of 3 (function, function, int)" + RETURNS),
        ("nothing", OF + "returned NoneType" + RETURNS),
        ("rng", OF + "apply takes 'rng': call it 'key', as in apply(params, x, key=None)"),
        ("alone", "model: has no parameters to train; a function alone has none: a builder ret"),
        ("of_x", OF + "<lambda> is called as <lambda>(params, x) and takes (x)" + RETURNS),
        ("init_of_key", OF + "init is called as init(key, x) and takes (key)" + RETURNS),
        ("swapped", FITS + "init(key, x): "),
        ("counter", "model: params hold int32 at 'n'; every parameter must be a float"),
        (
            "dicts",
            f"model: returns a dict of aux, logits: {LOGITS} alone, as in apply(params, x)['lo",
        ),
        ("tuples", f"model: returns tuple: {LOGITS} alone"),
        ("classes", "model: returns int32: logits must be floats"),
        ("needs", OF + "model.options.width is missing; it is called as a builder"),
        ("place", OF + "takes 'width' by position alone, and model.options are given by name"),
        ("rule", OF + "relu is a rule, not a layer: use fnn.relu or layer_from_rule(relu)"),
        ("constructor", OF + "dense makes a layer and is not one: write dense(...)"),
        ("leaves", OF + "it called sys.exit(0), which would end the command without a result"),
        ("leaves_late", FITS + "it called sys.exit('enough'), which would end the command"),
        ("number", OF + "is not a function but int"),
        ("absent", OF + "module 'own_nets' has no attribute 'absent'"),
        ("own_script:build", "model.function = 'own_script:build': its module called sys.exit(0)"),
        ("own_broken:build", "model.function = 'own_broken:build': importing it raised ZeroDiv"),
        ("own_needs:build", "model.function = 'own_needs:build': No module named 'no_such_pack"),
        ("builtins:dict", "model.function = 'builtins:dict': builtins is a module of Python its"),
        ("time:sleep", "model.function = 'time:sleep': time is a module of Python itself and"),
        ("os:system", "model.function = 'os:system': os is a module of Python itself and builds"),
    ],
)
def test_one_line_for_what_is_no_model(own, name, message):
    with pytest.raises(ConfigError) as caught:
        built(own, name)
    (line,) = caught.value.problems
    assert line.startswith(message.replace("{}", name))


def test_where_a_module_was_looked_for(own):
    with pytest.raises(ConfigError) as caught:
        built(own, "own_absent:build")
    message = f"No module named 'own_absent' in {os.getcwd()}, {own}, nor installed"
    assert str(caught.value) == f"model.function = 'own_absent:build': {message}"


def test_a_layer_takes_no_options(own):
    with pytest.raises(ConfigError, match=r"is a layer and takes no model\.options"):
        built(own, "layer", width=3)


def test_a_file_is_found_and_not_run(tmp_path, monkeypatch):
    package = tmp_path / "own_package"
    package.mkdir()
    for name in ("__init__", "inside"):
        (package / f"{name}.py").write_text("raise RuntimeError('it runs')\n")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert file_of("own_package.inside:build", [str(tmp_path)]) == str(package / "inside.py")
    assert file_of("own_package.absent:build", [str(tmp_path)]) is None
    assert file_of("no_such_package.at.all:build") is None
    with pytest.raises(ConfigError, match="importing it raised RuntimeError: it runs"):
        find("own_package.inside:build", "mine", [str(tmp_path)])


@pytest.fixture(scope="module")
def a_run(own, tmp_path_factory):
    """A run of no steps of a config that stands beside its module, begun from elsewhere."""
    folder = RunFolder(tmp_path_factory.mktemp("run") / "run")
    resolved = load_config(own / "own.toml")
    experiment = build_experiment(resolved)
    folder.begin(resolved, "cpu", Known.of(experiment.dataset))
    Checkpoints(folder.checkpoints).save(experiment.first_state())
    return folder.path


def command(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_whose_code_an_evaluation_runs_is_said(own, a_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(capsys, "eval", a_run)
    assert code == 0
    assert out.startswith("test accuracy ")
    message = f"imports own_nets:pair, which this run names, from {own / 'own_nets.py'}"
    assert err == [f"{message}; --no-foreign-code refuses it"]


def test_a_module_of_python_is_not_announced_as_imported(capsys):
    with pytest.raises(ConfigError, match="os is a module of Python itself"):
        announce_foreign(Config(model=ModelConfig(function="os:system")))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["eval", "visualize"])
def test_foreign_code_of_a_run_is_refused(a_run, tmp_path, capsys, monkeypatch, name):
    called = []
    monkeypatch.setattr("funcnn.foreign.importlib.import_module", called.append)
    out = ["--out", tmp_path / "pictures"] if name == "visualize" else []
    message = f'funcnn: {a_run}/config.toml: model.function = "own_nets:pair": refused, as foreign'
    code, out, (line,) = command(capsys, name, a_run, "--no-foreign-code", *out)
    assert (code, out) == (2, "")
    assert line.startswith(message)
    assert (called, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("name", ["train", "compare", "census"])
def test_foreign_code_of_a_config_is_refused(own, a_run, capsys, name):
    code, out, (line,) = command(capsys, name, own / "own.toml", "--no-foreign-code")
    assert (code, out) == (2, "")
    assert "refused, as foreign code" in line


def test_a_target_is_foreign(capsys):
    target = ["compare", "--target", "own_nets:apply", "--no-foreign-code"]
    code, _, err = command(capsys, *target)
    assert (code, err) == (2, ["funcnn: --target own_nets:apply: --no-foreign-code refuses it"])


def test_no_result_is_no_success(own, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(own)
    for name in ("leaves", "leaves_late"):
        override = ["--set", f"model.function=own_nets:{name}", "--set", "model.options={}"]
        code, out, err = command(capsys, "train", CONFIG, "--out", tmp_path / "run", *override)
        assert (code, out, len(err)) == (2, "", 1)
    target = ["--target", "own_nets:apply", "--args", "own_nets:leaves"]
    code, out, (line,) = command(capsys, "compare", *target)
    assert (code, out) == (2, "")
    assert "--args own_nets:leaves: it called sys.exit(0)" in line
    # Whatever else calls it: the program that `check` runs, for one.
    monkeypatch.setattr("funcnn.commands.doctor.doctor", lambda **_: sys.exit(0))
    assert command(capsys, "doctor") == (
        1,
        "",
        ["funcnn: sys.exit(0) was called: there is no result"],
    )


def test_the_traceback_of_foreign_code_is_shown_where_asked(own, capsys):
    override = ["--set", "model.function=own_nets:missing", "--set", "model.options={}"]
    with pytest.raises(ConfigError) as caught:
        main(["compare", str(own / "own.toml"), *override, "--traceback"])
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.slow
def test_nothing_is_unpickled(a_run):
    """Python itself says when a pickle looks up a class: it does not, when a run is evaluated."""
    code = (
        "import sys\n"
        "from funcnn.cli import main\n"
        "found = []\n"
        "sys.addaudithook(lambda name, _: found.append(name) if 'pickle' in name else None)\n"
        "print(main(['eval', sys.argv[1]]), found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, a_run], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_no_source_reads_a_pickle():
    for path in (ROOT / "funcnn").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"import (?:cloud)?pickle|import (?:dill|joblib|shelve)", text)
        assert "allow_pickle=True" not in text
