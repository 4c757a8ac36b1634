"""A forward pass of one's own: parts by name, drawn from shapes, and the way back through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnn as fnn
from funcnn.core.backprop import backprop, backprop_steps
from funcnn.core.composite import composite
from funcnn.core.layer import fold_path
from funcnn.core.parts import outputs_of
from funcnn.gradient.program.without_rules import without_rules

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
ROWS = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)), jnp.float32)


def skip(run, x):
    wide = run("down", x)
    narrow = run("bottom", run("pool", wide))
    return run("head", jnp.concatenate([wide, run("up", narrow)], axis=-1))


def skipping():
    return composite(
        skip,
        down=fnn.chain(fnn.conv(2, (3, 3)), fnn.batch_norm(), fnn.relu),
        pool=fnn.max_pool((2, 2)),
        bottom=fnn.chain(fnn.conv(3, (3, 3)), fnn.dropout(0.5), fnn.relu),
        up=fnn.conv_transposed(2, (2, 2), stride=2),
        head=fnn.conv(1, (1, 1)),
    )


def encode(run, x, key):
    hidden = run("encoder", x)
    mean, log_variance = run("mean", hidden), run("log_variance", hidden)
    noise = 0.0 if key is None else jax.random.normal(key, mean.shape, mean.dtype)
    z = mean + jnp.exp(0.5 * log_variance) * noise
    return run("decoder", z), mean, log_variance


def variational():
    return composite(
        encode,
        encoder=fnn.chain(fnn.dense(5), fnn.tanh),
        mean=fnn.dense(2),
        log_variance=fnn.dense(2),
        decoder=fnn.dense(4),
    )


def twice(run, x):
    one, other = run("shared", x), run("shared", -x)
    return {"product": run("norm", one) * run("norm", other), "difference": one - 2 * other}


def siamese():
    shared = fnn.chain(fnn.dense(3), fnn.tanh, fnn.dropout(0.5))
    return composite(twice, shared=shared, norm=fnn.batch_norm())


def remember(run, x):
    tokens, lengths = x
    carry, y = run("memory", None, run("embedding", tokens), lengths)
    return run("both", y[:, -1], carry[0])


def reading():
    return composite(
        remember,
        embedding=fnn.embedding(5, 3),
        memory=fnn.lstm(4),
        both=composite(
            lambda run, x: run("a", x[0]) + run("b", x[1]), a=fnn.dense(2), b=fnn.dense(2)
        ),
    )


TOKENS = jnp.asarray(np.random.default_rng(2).integers(0, 5, (3, 6)))
MODELS = {
    "skip": (skipping, IMAGES),
    "variational": (variational, ROWS),
    "twice": (siamese, ROWS),
    "reading": (reading, (TOKENS, jnp.array([6, 2, 4]))),
    "nested": (lambda: fnn.chain(fnn.dense(4), fnn.residual(variational_mean())), ROWS),
}


def variational_mean():
    return composite(lambda run, x: run("inner", x)[0], inner=variational())


def like(tree, seed=3):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(random.normal(size=a.shape), a.dtype), tree)


def setting(name, key):
    make, x = MODELS[name]
    model = make()
    params = model.init(key, x)
    return model, params, x, like(model(params, x, key=key))


def gradients(f, params, x, dy):
    """Those of the params, and of x where it is of floats."""

    def loss(params, x):
        leaves = zip(jax.tree.leaves(dy), jax.tree.leaves(f(params, x)), strict=True)
        return sum(jnp.vdot(a, b) for a, b in leaves)

    if isinstance(x, tuple):
        return jax.grad(loss)(params, x), (None, None)
    return jax.grad(loss, (0, 1))(params, x)


# What it computes


def test_a_skip_is_the_same_function_written_out(key):
    model, params, x, dy = setting("skip", key)

    def plain(params, x):
        own = lambda name: fold_path(key, name)  # noqa: E731
        wide = model.parts["down"](params["down"], x, key=own("down"))
        pooled = fnn.rules.max_pool(wide, window=(2, 2))
        narrow = model.parts["bottom"](params["bottom"], pooled, key=own("bottom"))
        up = fnn.rules.conv_transposed(narrow, params["up"]["w"], params["up"]["b"], stride=2)
        both = jnp.concatenate([wide, up], axis=-1)
        return both @ params["head"]["w"][0, 0] + params["head"]["b"][None, None, None]

    found = gradients(lambda p, x: model(p, x, key=key), params, x, dy)
    expected = gradients(plain, params, x, dy)
    np.testing.assert_allclose(model(params, x, key=key), plain(params, x), rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_several_outputs_and_a_key_of_the_flow(key):
    model, params, x, _ = setting("variational", key)

    def plain(params, x, key):
        dense = lambda name, x: x @ params[name]["w"] + params[name]["b"][None]  # noqa: E731
        inside = params["encoder"]["dense_0"]
        hidden = jnp.tanh(x @ inside["w"] + inside["b"][None])
        mean, log_variance = dense("mean", hidden), dense("log_variance", hidden)
        noise = jax.random.normal(fold_path(key, ""), mean.shape)
        return dense("decoder", mean + jnp.exp(log_variance / 2) * noise), mean, log_variance

    for found, expected in zip(model(params, x, key=key), plain(params, x, key), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    first, again = model(params, x)[0], model(params, x)[0]  # without noise
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, model(params, x, key=key)[0])


# The way back


@pytest.mark.parametrize("name", MODELS)
def test_backprop_is_the_gradient_without_any_rule(name, key):
    with jax.enable_x64(True):
        model, params, x, dy = setting(name, key)
        params, x, dy = jax.tree.map(
            lambda a: a.astype("float64") if a.dtype == "float32" else a, (params, x, dy)
        )
        dparams, dx = jax.jit(lambda p, x: backprop(model, p, x, dy, key=key)[:2])(params, x)
        f = without_rules(lambda p, x: model(p, x, key=key))
        expected = jax.jit(lambda p, x: gradients(f, p, x, dy))(params, x)
        assert jax.tree.structure((dparams, dx)) == jax.tree.structure(expected)
        for found, leaf in zip(
            jax.tree.leaves((dparams, dx)), jax.tree.leaves(expected), strict=True
        ):
            assert found.dtype == np.float64
            assert np.any(leaf)
            np.testing.assert_allclose(found, leaf, rtol=1e-10, atol=1e-12)


def test_jax_grad_and_backprop_agree_bit_for_bit(key):
    model, params, x, dy = setting("skip", key)
    dparams, dx, _ = backprop(model, params, x, dy, key=key)
    expected = gradients(lambda p, x: model(p, x, key=key), params, x, dy)
    for found, leaf in zip(jax.tree.leaves((dparams, dx)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, leaf)


def test_a_part_that_is_called_twice_has_a_delta_for_each_call(key):
    model, params, x, dy = setting("twice", key)
    steps = list(backprop_steps(model, params, x, dy, key=key))
    assert [path for path, _, _ in steps if "/" not in path] == [
        *("composite", "norm:1", "norm", "shared:1", "shared")
    ]
    _, outputs = outputs_of(model, params, x, key)
    assert {path: delta.shape for path, _, delta in steps[1:]} == {
        path: output.shape for path, output in outputs.items()
    }


def test_a_result_that_nobody_uses_has_no_gradient(key):
    def flow(run, x):
        run("idle", x)
        return jax.lax.stop_gradient(run("fixed", x)) * run("used", x)

    model = composite(flow, idle=fnn.dense(2), fixed=fnn.dense(2), used=fnn.dense(2))
    params = model.init(key, ROWS)
    dparams, dx, _ = backprop(model, params, ROWS, jnp.ones((3, 2)))
    expected = gradients(model, params, ROWS, jnp.ones((3, 2)))
    for found, leaf in zip(jax.tree.leaves((dparams, dx)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, leaf, rtol=1e-5, atol=1e-6)
    assert not np.any(dparams["idle"]["w"])
    assert not np.any(dparams["fixed"]["w"])
    assert np.any(dparams["used"]["w"])


def test_what_backprop_cannot_go_through_is_named_with_its_line(key):
    def flow(run, x):
        return run("head", jnp.sin(x))

    model = composite(flow, head=fnn.dense(2))
    params = model.init(key, ROWS)
    line = flow.__code__.co_firstlineno + 1
    with pytest.raises(TypeError, match=rf"in flow: sin at .*test_composite\.py:{line} has no"):
        backprop(model, params, ROWS, jnp.ones((3, 2)))
    assert np.any(jax.grad(lambda x: model(params, x).sum())(ROWS))  # jax.grad can
    # A repeat of it has no rule of its own round it.
    two = fnn.repeat(composite(lambda run, x: run("head", jnp.sin(x)), head=fnn.dense(4)), 2)
    params = two.init(key, ROWS)
    grads = jax.grad(lambda p: two(p, ROWS).sum())(params)
    plain = jax.grad(lambda p: without_rules(two)(p, ROWS).sum())(params)
    np.testing.assert_allclose(grads["head"]["w"], plain["head"]["w"], rtol=1e-4, atol=1e-5)


def test_a_part_without_a_rule_is_named_by_its_path(key):
    model = composite(lambda run, x: run("block", x), block=fnn.chain(fnn.dense(2), own))
    with pytest.raises(TypeError, match=r"no hand-derived backward pass in block/own_0"):
        backprop(model, model.init(key, ROWS), ROWS, jnp.ones((3, 2)))


def own(params, x):
    return x


# Init


def test_params_follow_the_names_and_not_the_order(key):
    parts = {"a": fnn.dense(3), "b": fnn.dense(3)}
    one = composite(lambda run, x: run("a", x) + run("b", x), **parts)
    other = composite(
        lambda run, x: run("b", x) + run("a", x), b=parts["b"], more=fnn.relu, a=parts["a"]
    )
    with pytest.raises(ValueError, match=r"the flow never calls more: call it, run\('more', x\)"):
        other.init(key, ROWS)
    other = composite(lambda run, x: run("b", x) + run("a", x), b=parts["b"], a=parts["a"])
    first, second = one.init(key, ROWS), other.init(key, ROWS)
    assert list(first) == ["a", "b"]
    assert list(second) == ["b", "a"]
    for name in first:
        np.testing.assert_array_equal(first[name]["w"], second[name]["w"])
        drawn = parts[name].init(fold_path(key, name), ROWS)["w"]
        np.testing.assert_allclose(first[name]["w"], drawn, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_init_takes_shapes_alone_and_computes_nothing(name, key):
    make, x = MODELS[name]
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x)
    params, drawn = make().init(key, shapes), make().init(key, x)
    assert jax.tree.structure(params) == jax.tree.structure(drawn)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(drawn), strict=True):
        np.testing.assert_array_equal(a, b)
    traced = jax.eval_shape(make().init, key, x)
    assert jax.tree.map(jnp.shape, traced) == jax.tree.map(jnp.shape, dict(params))


def test_nested_composites_are_not_traced_twice_for_each_level(key):
    calls = []

    def init(key, x):
        calls.append(x)
        return {"w": jnp.ones(x.shape[-1:], x.dtype)}

    model = fnn.as_layer(lambda params, x: x, init=init)
    for _ in range(6):
        model = composite(lambda run, x: run("inner", x), inner=model)
    model.init(key, ROWS)
    assert len(calls) < 2**6 / 2


def test_an_error_says_in_which_part_it_arose(key):
    model = composite(lambda run, x: run("block", x[:, 0]), block=fnn.chain(fnn.max_pool((2, 2))))
    with pytest.raises(ValueError, match="max_pool") as caught:
        model.init(key, ROWS)
    assert "in layer block, on an input of shape (3,)" in caught.value.__notes__


# What it shares with the other compositions


def test_statistics_of_a_norm_that_is_called_twice_are_their_mean(key):
    def flow(run, x):
        return run("norm", x) + run("norm", x[:1] * 3)

    model = composite(flow, norm=fnn.batch_norm())
    params = model.init(key, ROWS)
    y, statistics = model.value_and_statistics(params, ROWS, key)
    np.testing.assert_allclose(y, model(params, ROWS, key=key), rtol=1e-6)
    assert list(statistics) == ["norm"]
    mean, variance, count = statistics["norm"]
    np.testing.assert_array_equal(count, 4)
    expected = 0.75 * ROWS.mean(0) + 0.25 * 3 * ROWS[0]
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, 0.75 * ROWS.var(0), rtol=1e-4, atol=1e-6)
    folded = fnn.fold_statistics(params, statistics)
    assert np.all(np.isfinite(model(folded, ROWS)))


def test_statistics_and_their_absence_carry_the_path(key):
    model, params, x, _ = setting("skip", key)
    assert list(model.statistics(params, x, key)) == ["down/batch_norm_0"]
    with pytest.raises(ValueError, match=r"^down/batch_norm_0: no statistics to evaluate with"):
        model(params, x)
    params["up"].pop("w")
    with pytest.raises(KeyError, match="up: parameter 'w' is missing"):
        model(params, x, key=key)


def test_a_part_may_be_asked_for_evaluation_and_given_a_key(key):
    def flow(run, x):
        return run("drop", x), run("drop", x), run("drop", x, key=None), run("drop", x, key=key)

    model = composite(flow, drop=fnn.dropout(0.5))
    first, second, none, given = model({}, ROWS, key=jax.random.key(1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(none, ROWS)
    np.testing.assert_array_equal(given, fnn.dropout(0.5)({}, ROWS, key=key))
    again = model({}, ROWS, key=jax.random.key(1))
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(model({}, ROWS)[0], ROWS)

    norm = composite(lambda run, x: run("norm", x, key=None), norm=fnn.batch_norm())
    params = {"norm": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}
    params["norm"] |= {"mean": jnp.zeros(4), "variance": jnp.ones(4)}
    y, statistics = norm.value_and_statistics(params, ROWS, key)
    assert statistics == {}
    np.testing.assert_allclose(y, ROWS, rtol=1e-4)


def test_summary_and_census_see_the_parts(key):
    model, params, x, _ = setting("skip", key)
    text = fnn.summary(model, params, x)
    assert "down/batch_norm_0" in text
    assert "float32[2, 4, 4, 2]" in text
    assert repr(model).startswith("composite(down=chain(conv_0=conv")
    found = fnn.census(lambda p: model(p, x, key=key).sum(), params)
    rules = {row.name for row in found.rules}
    assert rules == {"conv", "batch_norm", "relu", "max_pool", "dropout", "conv_transposed"}


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: composite(fnn.relu), TypeError, r"first a function flow\(run, x\), found relu"),
        (lambda: composite(lambda x: x, a=fnn.relu), TypeError, r"takes \(x\): a flow takes"),
        (lambda: composite(lambda run, x: x), ValueError, "at least one layer"),
        (lambda: composite(lambda run, x: x, a=fnn.dense), TypeError, r"write dense\(\.\.\.\)"),
    ],
)
def test_what_is_no_flow_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_name_that_is_not_there_is_told_with_the_nearest(key):
    model = composite(lambda run, x: run("encodr", x), encoder=fnn.relu, head=fnn.dense(2))
    words = r"there is no part 'encodr' \(did you mean 'encoder'\?\), of encoder, head"
    with pytest.raises(ValueError, match=words):
        model.init(key, ROWS)
    with pytest.raises(ValueError, match=words):
        model({}, ROWS)
    with pytest.raises(TypeError, match=r"a part is called on its input, run\('a', x\)"):
        composite(lambda run, x: run("a"), a=fnn.relu)({}, ROWS)
    with pytest.raises(TypeError, match="init needs a key"):
        model.init(None, ROWS)  # pyright: ignore[reportArgumentType]
