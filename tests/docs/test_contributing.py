"""What CONTRIBUTING.md adds works, and touches as many files as the page says."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import funcnn as fnn

PACKAGE = Path(fnn.__file__).parent
PAGE = (PACKAGE.parent / "CONTRIBUTING.md").read_text("utf-8")
KINDS = ["A check", "A rule", "A layer", "A model", "A loss", "A metric", "A task", "A data set"]
BLOCK = re.compile(r"(?:^`(funcnn/\S+)`\n\n)?^```(python|diff)\n(.*?)^```$", re.M | re.S)
USE = """
import jax, jax.numpy as jnp, numpy as np
import funcnn as fnn
from funcnn.config import (
    Config,
    DataConfig,
    LossConfig,
    MetricsConfig,
    ModelConfig,
    TaskConfig,
    dump_config,
    load_config,
)
from funcnn.experiment import build_experiment

tanh, x = fnn.rules.tanh, jnp.linspace(-1.0, 1.0, 5)


def loud(y, dy):
    jax.debug.print("dy {}", dy)
    return tanh.backward(y, dy)


def checks(report, *verdicts):
    return [r.check for r in report.results if r.verdict in verdicts]


right, wrong = fnn.check(tanh, x), fnn.check(tanh.replace(backward=loud), x)
assert right.ok and checks(right, "pass").count("quiet") == 1
assert right.results[-1].check == "quiet"
assert not wrong.ok and checks(wrong, "fail") == ["quiet"]

assert fnn.registered_rules()["scale"] is fnn.rules.scale and "scale" in fnn.rules.__all__
report = fnn.check(fnn.rules.scale)
assert report.ok, str(report)
wrong = fnn.rules.scale.replace(backward=lambda res, dy: (dy * res[1], jnp.zeros_like(res[1])))
assert not fnn.check(wrong).ok

assert "scale" in fnn.__all__ and "skipping" in fnn.__all__
net, x = fnn.chain(fnn.dense(3), fnn.scale(2.0)), jnp.ones((2, 4))
params = net.init(jax.random.key(0), x)
grads, _, _ = fnn.backprop(net, params, x, jnp.ones((2, 3)))
np.testing.assert_allclose(grads["scale_0"]["s"], net(params, x).sum(0) / 2, rtol=1e-5)

text = dump_config(
    Config(
        data=DataConfig(name="stripes"),
        model=ModelConfig(name="skipping", options={"width": 16, "classes": 2}),
        task=TaskConfig(name="coarse", options={"labels_a_class": 1}),
        loss=LossConfig(name="brier"),
        metrics=MetricsConfig(names=["accuracy", "surest"]),
    )
)
with open("own.toml", "w") as file:
    file.write(text)
experiment = build_experiment(load_config("own.toml", ["optimizer.learning_rate=0.01"]))
step = experiment.step(1)
state, batches, losses = experiment.first_state(), experiment.batches(), []
for i in range(60):
    state, metrics = step(state, batches(i))
    losses.append(float(metrics["loss"]))
assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), losses
found = experiment.evaluation(experiment.dataset.test)(state.params)
assert sorted(found) == ["accuracy", "loss", "surest"] and 0.5 < found["surest"] <= 1, found
print("done")
"""


def additions(page):
    """Of each kind: how many files it touches, and its blocks (path, language, text)."""
    found = {}
    parts = iter(re.split(r"^### (.*): (\d+) files?\n", page, flags=re.M)[1:])
    for title, count, section in zip(parts, parts, parts, strict=True):
        path, blocks = "", []
        for named, language, text in BLOCK.findall(section):
            path = named or path
            blocks.append((path, language, text))
        found[title] = int(count), blocks
    return found


def apply(root, path, language, text):
    """Write a new file, or change the lines of a diff, which stand in the file once."""
    file = root / path
    if language == "python":
        assert not file.exists(), f"{path} is there already"
        file.write_text(text, "utf-8")
        return
    lines = text.splitlines()
    old, new = ("".join(f"{x[1:]}\n" for x in lines if x[0] in f" {sign}") for sign in "-+")
    source = file.read_text("utf-8")
    assert source.count(old) == 1, f"CONTRIBUTING.md changes what {path} does not hold:\n{old}"
    file.write_text(source.replace(old, new), "utf-8")


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*.py*") if p.suffix != ".pyc"}


def add_all(root, page):
    shutil.copytree(PACKAGE, root / "funcnn", ignore=shutil.ignore_patterns("__pycache__"))
    for title, (count, blocks) in additions(page).items():
        before = contents(root)
        for block in blocks:
            apply(root, *block)
        after = contents(root)
        touched = {path for path in after if after[path] != before.get(path)}
        assert len(touched) == count, f"{title} touches {sorted(map(str, touched))}"
        assert len(after) == len(before) + 1, f"{title} is not one new file"


def without_a_name(root, page):
    """The new files in large folders whose maps do not name them."""
    blocks = [block for _, found in additions(page).values() for block in found]
    new = [root / path for path, language, _ in blocks if language == "python"]
    return [
        file.name
        for file in new
        if len(list(file.parent.glob("*.py"))) > 6
        and "of its file's name" not in (file.parent / "__init__.py").read_text()
        and file.stem
        not in (ast.get_docstring(ast.parse((file.parent / "__init__.py").read_text())) or "")
    ]


def test_the_additions_work_and_touch_what_the_page_says(tmp_path):
    assert list(additions(PAGE)) == KINDS
    add_all(tmp_path, PAGE)
    assert without_a_name(tmp_path, PAGE) == []
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"


def test_a_wrong_count_and_a_stale_line_are_noticed(tmp_path):
    with pytest.raises(AssertionError, match="A loss touches"):
        add_all(tmp_path / "count", PAGE.replace("### A loss: 1 file", "### A loss: 2 files"))
    with pytest.raises(AssertionError, match="does not hold"):
        add_all(
            tmp_path / "stale", PAGE.replace(" from funcnn.models.resnet", " from funcnn.resnet")
        )
