"""A head and a loss in one: the same loss, gradient and weight as logits and loss apart."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest

import funcnn as fnn
from funcnn.data.batches import MASK
from funcnn.gradient.cost.flops import compiled_expense
from funcnn.task.kinds.language import language
from funcnn.task.losses.softmax_cross_entropy import softmax_cross_entropy
from funcnn.task.measured import WEIGHT, Measured
from funcnn.task.scored import head_of

SMALL: dict[str, Any] = {"width": 8, "depth": 2, "heads": 2}
MODELS = {
    "tied": fnn.models.gpt(11, length=6, dropout=0.1, **SMALL),
    "head": fnn.models.llama(11, hidden=12, **SMALL),
    "recurrent": fnn.models.char_rnn(11, width=4, hidden=[5]),
    "narrow": fnn.compute_in(fnn.models.gpt(11, length=6, **SMALL), "bfloat16"),
}


def losses_of(ignored):
    """The loss as a config chooses it."""
    return functools.partial(softmax_cross_entropy, ignored=ignored)


def losses(measured, batch, params):
    def loss(params):
        value, found = measured.loss(params, batch, jax.random.key(3))
        return value, found.get(WEIGHT)

    return jax.value_and_grad(loss, has_aux=True)(params)


@pytest.mark.parametrize("ignored", [None, 0])
@pytest.mark.parametrize("rows", [None, (True, False, True)])
@pytest.mark.parametrize("name", MODELS)
def test_one_is_equal_to_apart(name, rows, ignored):
    model = MODELS[name]
    tokens = jax.random.randint(jax.random.key(0), (3, 6), 0, 11)
    batch = {"x": tokens, "y": jnp.roll(tokens, -1, 1)}
    batch |= {} if rows is None else {MASK: jnp.array(rows)}
    params = model.init(jax.random.key(1), tokens)
    apart = Measured(model, language(ignored), losses_of(ignored), {})
    one = dataclasses.replace(apart, task=language(ignored, fused=True))
    (value, weight), gradient = losses(apart, batch, params)
    (found, found_weight), found_gradient = losses(one, batch, params)
    near = {"rtol": 3e-2, "atol": 3e-3} if name == "narrow" else {"rtol": 1e-5, "atol": 1e-6}
    chex.assert_trees_all_close((found, found_gradient), (value, gradient), **near)
    assert (weight is None) == (found_weight is None)
    if weight is not None:
        assert float(weight) == float(found_weight)


def test_the_logits_never_stand_whole():
    model = fnn.models.gpt(20000, length=256, width=8, depth=1, heads=1)
    tokens = jnp.zeros((8, 256), int)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)
    apart = Measured(model, language(), losses_of(None), {})
    one = dataclasses.replace(apart, task=language(fused=True))
    logits = 8 * 256 * 20000 * 4

    def temporary_bytes(measured):
        step = jax.jit(jax.grad(lambda p, x: measured.loss(p, {"x": x, "y": x}, None)[0]))
        return compiled_expense(step.lower(params, tokens).compile()).temporary_bytes

    assert temporary_bytes(apart) > logits
    assert temporary_bytes(one) < logits / 2


def test_a_model_without_such_a_head_has_none():
    assert head_of(fnn.chain(fnn.dense(3))) is None
    assert head_of(fnn.dense(3)) is None
    assert head_of(fnn.chain(head=fnn.relu)) is None
