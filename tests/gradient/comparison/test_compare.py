"""`compare` judges each leaf of a program, names layer and rule, and is never ok about nothing."""

import json

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn import rules
from funcnn.core.composition import chain
from funcnn.core.layer import layer_from_rule
from funcnn.gradient.comparison.compare import compare
from funcnn.layers import dense

X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


def foreign(factor=1.0):
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (factor * dy * jnp.cos(x),))
    return sine


def model_with(relu):
    act = layer_from_rule(relu)
    return chain(block=chain(dense(4), act), again=chain(dense(4), act), head=dense(1))


def params_of(model):
    shapes = jax.eval_shape(lambda key: model.init(key, X), jax.random.key(0))
    random = np.random.default_rng(1)
    return jax.tree.map(lambda s: random.normal(size=s.shape).astype(s.dtype), shapes)


def loss_of(model):
    return lambda params, x: (model(params, x) ** 2).sum()


def spoiled_relu():
    return rules.relu.replace(backward=lambda y, dy: (1.001 * rules.relu.backward(y, dy)[0],))


# A model of layers


def test_a_right_model_passes_leaf_by_leaf():
    model = model_with(rules.relu)
    params = params_of(model)
    report = compare(loss_of(model), params, X, pairs=0, cost=False)
    assert report.ok, str(report)
    assert [row.leaf for row in report.leaves] == [
        f"{layer}/{name}"
        for layer in ("again/dense_0", "block/dense_0", "head")
        for name in ("b", "w")
    ]
    assert all(row.verdict in {"TIE", "MANUAL", "AUTO"} for row in report.leaves)
    assert report.culprits == ()
    text = str(report)
    assert text.startswith("5 hand-written rules: ")
    assert "linear 3" in text
    assert "relu 2" in text
    assert text.splitlines()[-1].startswith("OK: 6 leaves against float64 truth: ")


def test_a_rule_scaled_by_1001_is_named_with_its_layer():
    model = model_with(spoiled_relu())
    params = params_of(model)
    report = compare(loss_of(model), params, X, pairs=0, cost=False)
    assert not report.ok
    wrong = {row.leaf for row in report.leaves if row.verdict == "WRONG"}
    # The head stands behind both, so that its own gradient is right.
    assert wrong == {f"{layer}/dense_0/{n}" for layer in ("block", "again") for n in "bw"}
    assert {str(site) for site in report.culprits} == {
        "relu in block/relu_0",
        "relu in again/relu_0",
    }
    text = str(report)
    assert "WRONG rule: relu in block/relu_0" in text
    assert "WRONG again/dense_0/w: manual = 1.001 x truth" in text
    assert "FAILED: 6 leaves against float64 truth: " in text


def test_one_wrong_site_among_right_ones_is_found():
    right, wrong = layer_from_rule(rules.relu), layer_from_rule(spoiled_relu())
    model = chain(first=chain(dense(4), right), second=chain(dense(4), wrong), head=dense(1))
    report = compare(loss_of(model), params_of(model), X, pairs=0, cost=False)
    assert [str(site) for site in report.culprits] == ["relu in second/relu_0"]


# Reports about nothing


def test_no_rules_is_not_ok():
    report = compare(lambda x: jnp.sin(x).sum(), X, pairs=0, cost=False)
    assert not report.ok
    assert report.sites == ()
    assert "0 hand-written rules found" in str(report)
    assert str(report).endswith("NOT COMPARED: the function calls no hand-written rule")
    # A foreign rule leaves no trace in what jax.grad returns.
    assert not compare(
        lambda x: jax.grad(lambda x: foreign(2.0)(x).sum())(x).sum(), X, pairs=0, cost=False
    ).ok


def test_dead_params_are_zero_as_they_are_by_autodiff():
    def loss(params):
        return foreign()(params["used"]).sum() + 0 * params["dead"].sum()

    report = compare(loss, {"used": X, "dead": X}, pairs=0, cost=False)
    verdicts = {row.leaf: row.verdict for row in report.leaves}
    assert verdicts["dead"] == "TIE"
    assert verdicts["used"] != "WRONG"
    assert report.ok
    assert "TIE dead: the true gradient is zero everywhere, and so is this" in str(report)
    # Where there is nothing else, nothing is proved.
    alone = compare(lambda x: (0 * foreign()(x)).sum(), X, pairs=0, cost=False)
    assert not alone.ok
    assert str(alone).splitlines()[-1].startswith("INCONCLUSIVE")


def test_without_truth_there_is_no_pass():
    def loss(x):
        host = jax.pure_callback(lambda a: np.asarray(a), jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        return (foreign()(x) * jax.lax.stop_gradient(host)).sum()

    report = compare(loss, X, pairs=0, cost=False)
    assert not report.ok
    assert report.leaves == ()
    assert str(report).splitlines()[-1].startswith("NO TRUTH: ")


@pytest.mark.parametrize(("factor", "ok"), [(1, True), (7, False)])
def test_a_rule_without_reverse_mode_is_held_against_forward_mode(factor, ok):
    @jax.custom_vjp
    def until_large(x):
        return jax.lax.while_loop(lambda c: c[0, 0] < 10.0, lambda c: 2 * c, x)

    def forward(x):
        y = until_large(x)
        return y, y[0, 0] / x[0, 0]

    until_large.defvjp(forward, lambda res, dy: (factor * res * dy,))
    report = compare(lambda x: until_large(jnp.abs(x)).sum(), X, pairs=0, cost=False)
    assert report.ok is ok, str(report)
    assert ok or [site.name for site in report.culprits] == ["until_large"]


# Arguments


def test_argnums_and_paths():
    sine = foreign()

    def loss(params, n, x):
        return (sine(params["w"] * x) * n.astype(x.dtype)).sum()

    args = {"w": X}, jnp.int32(2), X
    assert [r.leaf for r in compare(loss, *args, pairs=0, cost=False).leaves] == ["w"]
    assert [r.leaf for r in compare(loss, *args, argnums=2, pairs=0, cost=False).leaves] == ["x"]
    both = compare(loss, *args, argnums=(0, 2), pairs=0, cost=False)
    assert both.ok
    assert [r.leaf for r in both.leaves] == ["params/w", "x"]
    with pytest.raises(TypeError, match=r"array in argument 1 to differentiate, found ArrayImpl"):
        compare(loss, *args, argnums=1, pairs=0, cost=False)


def test_argnums_choose_the_wrong_leaf():
    wrong, right = foreign(1.5), foreign()
    report = compare(
        lambda a, b: (wrong(a) + right(b)).sum(), X, 2 * X, argnums=(0, 1), pairs=0, cost=False
    )
    assert {r.leaf: r.verdict == "WRONG" for r in report.leaves} == {"a": True, "b": False}


def test_aux_is_passed_over():
    sine = foreign()

    def loss(x):
        return sine(x).sum(), {"metric": x}

    assert compare(loss, X, has_aux=True, pairs=0, cost=False).ok
    with pytest.raises(TypeError, match="has_aux=True where it returns more"):
        compare(loss, X, pairs=0, cost=False)


@pytest.mark.parametrize(
    ("f", "found"),
    [(lambda x: foreign()(x), r"float32\[5,3\]"), (lambda x: x.astype(int).sum(), "int32")],
)
def test_the_result_must_be_a_scalar(f, found):
    with pytest.raises(TypeError, match=f"compare: f must return a floating-point scalar.*{found}"):
        compare(f, X, pairs=0, cost=False)


# The file and the times


def lines_of(report, path):
    report.to_json(path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_lines_of_the_file(tmp_path):
    wrong = foreign(1.5)
    report = compare(lambda p: wrong(p["a"]).sum() + p["b"].sum(), {"a": X, "b": X}, pairs=0)
    lines = lines_of(report, tmp_path / "rows.jsonl")
    kinds = [line["kind"] for line in lines]
    assert kinds == ["leaf", "leaf", "site", "arm", "arm", "arm", "program"]
    assert [(line["leaf"], line["shape"], line["verdict"]) for line in lines[:2]] == [
        ("a", [5, 3], "WRONG"),
        ("b", [5, 3], "TIE"),
    ]
    assert lines[0]["manual"] == pytest.approx(0.5 / np.finfo(np.float32).eps, rel=1e-3)
    assert (lines[2]["site"], lines[2]["verdict"]) == ("sine", "WRONG")
    assert lines[2]["contributed"] == pytest.approx(lines[0]["manual"], rel=1e-2)
    assert "test_compare.py" in lines[2]["source"]
    assert [line["name"] for line in lines[3:6]] == ["automatic", "checkpointed", "manual"]
    assert all(line["flops"] > 0 and line["seconds_median"] is None for line in lines[3:6])
    assert lines[6] == {
        "kind": "program",
        "ok": False,
        "rules": {"sine": 1},
        "kept": [],
        "culprits": ["sine"],
        "not_compared": [],
        "no_truth": "",
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def test_a_forward_pass_with_another_value_is_named():
    def halves(x):
        y, res = rules.tanh.forward(x)
        return y / 2, res

    def loss(x):
        return (rules.tanh.replace(forward=halves)(rules.sigmoid(x)) ** 2).sum()

    report = compare(loss, X, pairs=0, cost=False)
    assert not report.ok
    assert [site.name for site in report.culprits] == ["tanh"]


def test_times_stand_in_the_report_only_when_asked_for():
    sine = foreign()
    timed = compare(lambda x: sine(x).sum(), X, pairs=2)
    assert timed.timing is not None
    assert timed.timing.pairs == 2
    assert str(timed.timing) in str(timed)
    assert compare(lambda x: sine(x).sum(), X, pairs=0, cost=False).timing is None


# Low precision, other libraries


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.05, False)])
def test_bfloat16_is_judged_in_its_own_precision(factor, ok):
    sine = foreign(factor)
    report = compare(
        lambda x: sine(x).astype(jnp.float32).sum(), X.astype("bfloat16"), pairs=0, cost=False
    )
    assert report.leaves[0].dtype == "bfloat16"
    assert report.ok is ok, str(report)


def linen(sine):
    net = flax.linen.Sequential([flax.linen.Dense(4), flax.linen.relu, sine, flax.linen.Dense(1)])
    shapes = jax.eval_shape(net.init, jax.random.key(0), X)
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda s: random.normal(size=s.shape).astype(s.dtype), shapes)

    def loss(params):
        y: jax.Array = net.apply(params, X)  # pyright: ignore[reportAssignmentType]
        return (y**2).sum()

    return loss, params


def eqx(sine):
    net = equinox.nn.MLP(3, 1, 4, 1, activation=sine, key=jax.random.key(0))
    params, rest = equinox.partition(net, equinox.is_inexact_array)
    return lambda params: (jax.vmap(equinox.combine(params, rest))(X) ** 2).sum(), params


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.001, False)])
@pytest.mark.parametrize("make", [linen, eqx])
def test_models_of_other_libraries(make, factor, ok):
    loss, params = make(foreign(factor))
    report = compare(loss, params, pairs=0, cost=False)
    assert report.ok is ok, str(report)
    assert len(report.leaves) == 4
    assert {site.name for site in report.culprits} == (set() if ok else {"sine"})


@pytest.mark.parametrize("factor", [1, 7])
def test_a_rule_that_closes_over_what_its_function_computes(factor):
    """Its backward pass knows that array where the function is traced, and nowhere else."""

    def loss(x):
        a = jnp.arange(4.0)

        @jax.custom_vjp
        def weighed(t):
            return jnp.sum(a * t**2)

        weighed.defvjp(lambda t: (weighed(t), t), lambda t, d: (factor * 2 * d * a * t,))
        return weighed(x)

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        report = compare(loss, jnp.ones(4), pairs=0)
    (row,) = report.leaves
    assert (row.verdict, report.ok) == (("TIE", True) if factor == 1 else ("WRONG", False))
    assert [site.name for site in report.culprits] == ([] if factor == 1 else ["weighed"])


def test_a_reference_that_jax_cannot_place_is_no_truth():
    """By itself the reference would have to guess how a row of a table lies on the devices."""
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        rows = jax.NamedSharding(mesh, jax.P("d"))
        ids = jax.device_put(jnp.array([0, 1, 1, 0]), rows)
        table = jax.device_put(jnp.ones((3, 2)), jax.NamedSharding(mesh, jax.P()))
        report = compare(lambda table: rules.embedding(table, ids).sum(), table, pairs=0)
    assert not report.ok
    assert "out_sharding" in report.no_truth
