"""The types say something: few are Any, and pyright refuses what the package would refuse."""

import ast
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import funcnn as fnn

PACKAGE = Path(fnn.__file__).parent
AT_MOST = 0.10

WRONG = """
import jax
import funcnn as fnn

net = fnn.chain(fnn.dense("10"), 3)
fnn.chain(fnn.conv())
fnn.check(fnn.rules.relu, level="quick")
fnn.rules.softmax([1.0, 2.0], axis="rows")
net.init("a seed", jax.numpy.ones((2, 3)))
"""
RIGHT = """
import jax
import jax.numpy as jnp
import funcnn as fnn

net = fnn.chain(fnn.dense(10), fnn.relu, fnn.conv(4, (3, 3)), lambda params, x: 2 * x)
params = net.init(jax.random.key(0), jax.ShapeDtypeStruct((2, 3), jnp.float32))
y: jax.Array = fnn.rules.softmax(jnp.ones((2, 3)), axis=-1)
ok: bool = fnn.check(fnn.rules.relu, level="full").ok
"""


def parameters(source):
    """All parameters of all functions but self and cls, and those without a type or with Any."""
    every = bare = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            a = node.args
            several = [x for x in (a.vararg, a.kwarg) if x is not None]
            for parameter in [*a.posonlyargs, *a.args, *a.kwonlyargs, *several]:
                if parameter.arg not in ("self", "cls"):
                    every += 1
                    kind = parameter.annotation
                    bare += kind is None or ast.unparse(kind) == "Any"
    return every, bare


def test_few_parameters_have_no_type_that_says_something():
    found = {path: parameters(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    every, bare = (sum(n[i] for n in found.values()) for i in range(2))
    worst = sorted(found, key=lambda path: -found[path][1])[:5]
    assert every > 3000
    assert bare <= AT_MOST * every, [(p.name, *found[p]) for p in worst]
    assert parameters("def f(self, x, y: Any, *z: int): pass") == (3, 2)


def errors(folder, source):
    file = folder / "user.py"
    file.write_text(source)
    program = shutil.which("pyright")
    if program is None:
        pytest.skip("pyright is not on the PATH")
    done = subprocess.run(
        [program, "--outputjson", file], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [d["range"]["start"]["line"] for d in found if d["severity"] == "error"]


@pytest.mark.slow
def test_a_users_mistakes_are_refused_before_they_run(tmp_path):
    assert sorted(set(errors(tmp_path, WRONG))) == [4, 5, 6, 7, 8]
    assert errors(tmp_path, RIGHT) == []
