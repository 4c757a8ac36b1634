"""An ONNX file predicts, in onnxruntime on a CPU, what the model predicts."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from exported_models import MODELS, built, difference, rows

import funcnn as fnn


def runtime(path):
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def predict(x):
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
        return session.run(None, dict(zip(names, arrays, strict=True)))

    return predict, session


@pytest.mark.parametrize("name", MODELS)
def test_the_runtime_predicts_what_the_model_does_for_other_batches(name, tmp_path):
    model, params, x = built(name)
    fnn.export_onnx(tmp_path / "net", model, params, rows(x, [0]))
    predict, session = runtime(tmp_path / "net")
    assert session.get_inputs()[0].shape[0] == "n"
    some = rows(x, [0, 1, 0, 1, 1])
    (y,) = predict(some)
    assert difference(y, model(params, some)) < 2e-6


TABLE = np.arange(12.0, dtype=np.float32).reshape(2, 6)
# Functions of one array (3, 4), made of what layers do not use.
FUNCTIONS = {
    "tails of log1p": lambda x: jnp.log1p(jnp.exp(20 * x)),
    "tails of expm1": lambda x: jnp.expm1(1e-6 * x) * 1e6 + jnp.expm1(x),
    "powers": lambda x: x**3 + jnp.square(x) + jnp.abs(x) ** jnp.float32(0.3) + 1 / x**2,
    "comparisons": lambda x: jnp.where((x != 0) & ~(x > 1) | jnp.isnan(x), x, x.clip(0, 1)),
    "reductions": lambda x: x.prod(1) + x.min(1) + jnp.argmax(x, 1).astype("float32"),
    "moved": lambda x: jnp.pad(x[:, ::-1][:, 1:3], ((0, 0), (2, 1)), constant_values=7.0),
    "products": lambda x: jnp.einsum("nd,md->nm", x, x @ jnp.eye(4)) @ jnp.ones((3, 1)),
    "taken": lambda x: jnp.take(TABLE, jnp.array([5, -1, 0]), axis=1)[0] + x[:, 0],
    "numbers": lambda x: x + jax.lax.broadcasted_iota("float32", (3, 4), 1),
    "a constant": lambda x: jnp.ones((2, 3)) * 2.0,
    "the input itself, twice": lambda x: {"a": x, "b": (x, jnp.broadcast_to(x[:, :1], (3, 4)))},
    "a loop without rows": lambda x: jax.lax.scan(lambda c, _: (c * 1.5, None), x, None, 3)[0],
    "a loop backwards": lambda x: jax.lax.scan(
        lambda c, row: (c + row, (c, row * c.sum())), x[0], x, reverse=True
    ),
    "a sum over windows": lambda x: jax.lax.reduce_window(
        x[..., None], 0.0, jax.lax.add, (1, 2, 1), (1, 1, 1), ((0, 0), (2, 1), (0, 0))
    ),
    "negative padding": lambda x: jax.lax.conv_general_dilated(
        x[:, None], jnp.arange(6.0).reshape(3, 1, 2), (1,), [(-1, 1)]
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_ones_own(name, tmp_path):
    f = FUNCTIONS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
    fnn.export_onnx(tmp_path / "net", lambda params, x: f(x), {}, x, open_batch=False)
    ys = runtime(tmp_path / "net")[0](x)
    for y, expected in zip(ys, jax.tree.leaves(f(x)), strict=True):
        assert difference(y, expected) < 2e-6


def test_inputs_and_outputs_have_the_names_of_their_trees(tmp_path):
    def swapped(params, x):
        return {"first": x["b"], "second": x["a"] + params["w"]}

    x = {"a": jnp.ones((2, 3)), "b": jnp.zeros((2, 1), "int32")}
    fnn.export_onnx(tmp_path / "net", swapped, {"w": jnp.ones(())}, x)
    _, session = runtime(tmp_path / "net")
    inputs = {given.name: given.shape for given in session.get_inputs()}
    assert inputs == {"x/a": ["n", 3], "x/b": ["n", 1]}
    assert [o.name for o in session.get_outputs()] == ["y/first", "y/second"]


def test_the_weights_stand_in_the_file_once_and_nothing_is_repeated(tmp_path):
    model, x = fnn.dense(100), jnp.ones((1, 50))
    fnn.export_onnx(tmp_path / "net", model, model.init(jax.random.key(0), x), x)
    assert 4 * 5100 < (tmp_path / "net").stat().st_size < 4 * 5100 + 1000
    nodes = onnx.load_from_string((tmp_path / "net").read_bytes()).graph.node
    assert [node.op_type for node in nodes] == ["MatMul", "Add", "Identity"]


def test_sizes_made_of_the_batch(tmp_path):
    def f(params, x):
        return x.reshape(2, -1).sum(1) / x.shape[0]

    fnn.export_onnx(tmp_path / "net", f, {}, jnp.ones((2, 4)))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    (y,) = runtime(tmp_path / "net")[0](x)
    assert difference(y, f({}, jnp.asarray(x))) < 2e-6


NOT_CONVERTED = {
    "while has no ONNX": lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: 2 * x, x),
    "cumsum has no ONNX": lambda x: jax.lax.cumsum(x),
    "an indexing other than of whole rows": lambda x: x[jnp.array([0, 1]), jnp.array([1, 0])],
    "a shape depends on the open batch as 4*n": lambda x: jnp.ones((4 * x.shape[0], 2)),
    "the model needs the size of the batch": lambda x: x.reshape(3, -1),
}


@pytest.mark.parametrize("line", NOT_CONVERTED)
def test_what_cannot_be_converted_is_said_in_one_line(line, tmp_path):
    with pytest.raises(TypeError, match=r"^export_onnx: [^\n]*$") as caught:
        fnn.export_onnx(
            tmp_path / "net", lambda params, x: NOT_CONVERTED[line](x), {}, jnp.ones((3, 4))
        )
    assert line in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_the_package_one_line_says_what_to_install(tmp_path):
    program = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'onnx' else find(name, *rest)\n"
        "import funcnn as fnn\n"
        "fnn.export_onnx('net', fnn.relu, {}, None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("export_onnx needs onnx: pip install 'funcnn[onnx]'")
    assert not list(tmp_path.iterdir())
