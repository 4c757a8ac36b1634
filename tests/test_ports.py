"""The ports run, resume after an interruption as if there had been none, and are counted."""

import importlib.util
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from funcnn import load_run
from funcnn.cli import main
from funcnn.train import Checkpoints

HOME = Path(__file__).parent.parent / "examples" / "ports"
TASKS = ("resnet", "text", "vae", "table", "physics", "fine_tuning")
# What a program needs that the tests do not install.
NEEDS = {
    **{f"{task}/pytorch": ("torch",) for task in TASKS},
    "table/flax_nnx": ("pandas",),
    "table/pytorch": ("torch", "pandas"),
}
PROGRAMS = [f"{task}/{side}" for task in TASKS for side in ("flax_nnx", "pytorch")]
PROGRAMS.append("fine_tuning/with_funcnn")  # the other five are trained from the command line


def load(path, monkeypatch):
    """A program as a module, with its folder first on the path, as when it is run."""
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"ports_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(request, monkeypatch, tmp_path):
    """The program, which saves after two steps, in an empty folder and with JAX's own defaults."""
    for needed in NEEDS.get(request.param, ()):
        pytest.importorskip(needed, reason=f"{needed} is not installed: pip install {needed}")
    monkeypatch.chdir(tmp_path)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        module = load(HOME / f"{request.param}.py", monkeypatch)
        monkeypatch.setattr(module, "SAVE_EVERY", 2)
        yield module
    for helper in ("pretrain", "make_table"):
        sys.modules.pop(helper, None)


def interrupt_at_each_save(program, patch):
    """Have the program be interrupted whenever its library has saved."""
    libraries = {"ocp": "CheckpointManager", "Checkpoints": None, "torch": None}
    name = next(name for name in libraries if hasattr(program, name))
    library = getattr(program, name)
    library = getattr(library, libraries[name]) if libraries[name] else library
    save = library.save

    def save_and_stop(*args, **kwargs):
        save(*args, **kwargs)
        raise KeyboardInterrupt

    patch.setattr(library, "save", save_and_stop)
    if name == "Checkpoints":  # which `fit` has save beside the training
        patch.setattr(library, "save_in_background", save_and_stop)


def losses(said):
    return [line for line in said.splitlines() if line.startswith("step ")]


def saved(program):
    """The numbers of the last checkpoint: the accuracy of a few steps is a coarse one."""
    if hasattr(program, "Checkpoints"):
        return jax.tree.leaves(Checkpoints(max(program.RUN.iterdir())).params())
    return jax.tree.leaves(program.torch.load(program.RUN)) if hasattr(program, "torch") else []


# PyTorch's own, as torch.func is imported.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, indirect=True)
def test_a_port_goes_on_where_it_was_interrupted(program, monkeypatch, tmp_path, capsys):
    # The saves of fine-tuning lie in both of its halves, and between them.
    steps = 8 if "fine_tuning" in program.__name__ else 4
    once = program.main(steps=steps)
    assert math.isfinite(once)
    said = losses(capsys.readouterr().out)
    assert len(said) == steps // 2
    numbers = saved(program)

    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    with monkeypatch.context() as patch:
        interrupt_at_each_save(program, patch)
        for _ in said:
            with pytest.raises(KeyboardInterrupt):
                program.main(steps=steps)
    assert program.main(steps=steps) == pytest.approx(once, rel=1e-5)
    if not hasattr(program, "Checkpoints"):  # which prints when a phase has ended
        assert losses(capsys.readouterr().out) == said
    for number, resumed in zip(numbers, saved(program), strict=True):
        np.testing.assert_allclose(resumed, number, rtol=1e-5, atol=1e-6)


QUICK = ("vae", "table")
CONFIGS = [
    pytest.param(task, marks=() if task in QUICK else pytest.mark.slow)
    for task in TASKS
    if task != "fine_tuning"
]


@pytest.mark.parametrize("task", CONFIGS)
def test_a_port_to_funcnn_trains_from_the_command_line_and_goes_on(task, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    sys.modules.pop("with_funcnn", None)
    if task == "table":
        make_table = load(HOME / "table" / "make_table.py", monkeypatch).make_table
        make_table(Path("runs/ports/table.csv"))
    short = ["train.steps_per_call=2", "train.evaluate_every=2", "train.checkpoint_every=2"]
    command = ["train", str(HOME / task / "funcnn.toml")]
    for change in short:
        command += ["--set", change]
    assert main([*command, "--set", "train.steps=4", "--out", "whole"]) == 0
    assert main([*command, "--set", "train.steps=2", "--out", "parts"]) == 0
    assert main([*command, "--set", "train.steps=4", "--out", "parts", "--resume"]) == 0
    whole, parts = (load_run(run) for run in ("whole", "parts"))
    assert parts.step == whole.step
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)
    sys.modules.pop("with_funcnn", None)


SOURCE = '''"""A module
of two lines."""

import os  # a comment beside code


# A comment.
class A:
    """A docstring."""

    text = """a string,

    and no docstring"""

    def f(self):
        """A docstring over

        three lines.
        """
        return os.path.join(
            # within a statement
            "a", "b")
'''


def test_lines_are_counted(monkeypatch):
    counter = load(HOME / "count_lines.py", monkeypatch)
    # import, class, three of the text, def, and three of return less its comment.
    assert counter.python_lines(SOURCE) == 8
    assert counter.python_lines("") == 0
    assert counter.python_lines('def f(): "A docstring."') == 0
    assert counter.toml_lines('# one\n[a]\n\nb = "#"  # two\nc = [\n  1,\n]\n') == 5
    with pytest.raises(SyntaxError):
        counter.python_lines("def")


def test_both_sides_of_funcnn_are_counted_and_a_side_that_is_not_there_is_a_dash(
    monkeypatch, tmp_path
):
    counter = load(HOME / "count_lines.py", monkeypatch)
    assert all(counter.counted(task, side) for task in TASKS for side in ("Flax NNX", "PyTorch"))
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "funcnn.toml").write_text("a = 1\n")
    (tmp_path / "vae" / "with_funcnn.py").write_text("b = 2\nc = 3\n")
    (tmp_path / "vae" / "helper.py").write_text("d = 4\n")
    monkeypatch.setattr(counter, "HOME", tmp_path)
    header, *rows = (row.split() for row in counter.table().splitlines())
    assert header == ["task", "funcnn", "Flax", "NNX", "PyTorch"]
    assert rows[TASKS.index("vae")] == ["vae", "3", "-", "-"]
    assert rows[TASKS.index("text")] == ["text", "-", "-", "-"]
