"""An exported program predicts what the model predicts, for any batch, where there is no funcnn."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported_models import MODELS, built, difference, rows

import funcnn as fnn


def read(path):
    return jax.export.deserialize(path.read_bytes())


@pytest.mark.parametrize("name", MODELS)
def test_the_file_predicts_what_the_model_does_for_other_batches(name, tmp_path):
    model, params, x = built(name)
    fnn.export_stablehlo(tmp_path / "net", model, params, rows(x, [0]))
    exported = read(tmp_path / "net")
    assert exported.platforms == ("cpu", "cuda")
    for numbers in ([0, 1, 0, 1, 1], [1]):
        some = rows(x, numbers)
        assert difference(exported.call(some), model(params, some)) < 2e-6


PROCESS = """
import sys
from typing import Any
sys.modules["funcnn"] = None  # whoever imports it now gets an ImportError
import jax, numpy as np
exported = jax.export.deserialize(open(sys.argv[1], "rb").read())
np.save(sys.argv[2], exported.call(np.load(sys.argv[3])))
assert not [name for name in sys.modules if name.startswith("funcnn.")]
"""


def test_a_process_without_funcnn_predicts(tmp_path):
    model, params, x = built("lenet")
    fnn.export_stablehlo(tmp_path / "net", model, params, x)
    np.save(tmp_path / "x.npy", np.concatenate([x, x, x[:1]]))
    files = [tmp_path / "net", tmp_path / "y.npy", tmp_path / "x.npy"]
    subprocess.run([sys.executable, "-c", PROCESS, *map(str, files)], check=True, timeout=300)
    y = model(params, jnp.concatenate([x, x, x[:1]]))
    assert difference(np.load(tmp_path / "y.npy"), y) < 2e-6


def four_rows(params, x):
    return x.reshape(4, -1) * params["a"]


def test_a_model_of_one_batch_size_is_exported_with_it(tmp_path):
    x, params = jnp.ones((4, 3)), {"a": jnp.array(2.0)}
    with pytest.raises(TypeError, match=r"left open: Cannot divide .*; open_batch=False fixes it"):
        fnn.export_stablehlo(tmp_path / "net", four_rows, params, x)
    assert not list(tmp_path.iterdir())
    fnn.export_stablehlo(tmp_path / "net", four_rows, params, x, open_batch=False)
    assert read(tmp_path / "net").call(x).sum() == 24


def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(tmp_path, key):
    wrong: Any = "dense"
    path, x = tmp_path / "net", jnp.ones((2, 3))
    dense = fnn.dense(2)
    params = dense.init(key, x)
    for args, kind, line in (
        ((wrong, params, x), TypeError, r"^export_stablehlo: expected a model, .* found str"),
        ((dense, params, (2, 3)), TypeError, r"x is an array or a jax.ShapeDtypeStruct, found int"),
        ((fnn.relu, {}, jnp.ones(())), ValueError, r"no first axis of one size, .* float32\[\]$"),
        ((lambda params, x: jnp.ones(2), {}, ()), ValueError, r"found no array$"),
        ((dense, {"w": params["w"][:2], "b": params["b"]}, x), ValueError, r"^linear: "),
        ((fnn.batch_norm(), fnn.batch_norm().init(key, x), x), ValueError, r"fold_statistics"),
    ):
        with pytest.raises(kind, match=line):
            fnn.export_stablehlo(path, *args)
        assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="nowhere"):
        fnn.export_stablehlo(tmp_path / "nowhere" / "net", dense, params, x)
