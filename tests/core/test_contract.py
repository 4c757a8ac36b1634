"""The contract of a backward pass: every breach is named, those too that JAX passes in silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.core.contract import Contract, leaf_names
from funcnn.core.registry import Rule

PARAMETERS = ("params", "n", "b")
ARGS = ({"w": jnp.ones((2, 3))}, jnp.array([1, 2]), None)
RIGHT = ({"w": jnp.zeros((2, 3))}, None, None)


def planted(backward):
    def scale(x, n):
        return x * n.astype(x.dtype)

    rule = Rule(scale, "scale")
    rule.defvjp(lambda x, n: (scale(x, n), n), backward)
    return lambda: jax.grad(rule)(jnp.float32(2.0), jnp.int32(3))


def contract():
    return Contract.of("planted", PARAMETERS, ARGS)


def test_a_right_tree_passes_unchanged():
    enforced = contract().enforce(RIGHT)
    assert enforced[0]["w"] is RIGHT[0]["w"]
    assert enforced[1:] == (None, None)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (jnp.zeros((3, 2)), r"params\['w'\]: expected float32\[2, 3\], found float32\[3, 2\]"),
        (jnp.zeros(()), r"params\['w'\]: expected float32\[2, 3\], found float32\[\]"),
        (jnp.zeros((2, 3), int), r"params\['w'\]: expected float32\[2, 3\], found int32\[2, 3\]"),
        (
            jnp.zeros((2, 3), "bfloat16"),
            r"params\['w'\]: expected float32\[2, 3\], found bfloat16\[2, 3\]",
        ),
        (None, r"params\['w'\]: expected float32\[2, 3\], found None"),
    ],
)
def test_a_wrong_leaf_is_named_with_what_was_expected_and_found(found, message):
    with pytest.raises(TypeError, match=r"^planted: cotangent of argument " + message + "$"):
        contract().enforce(({"w": found}, None, None))


def test_an_argument_without_cotangent_gets_none():
    with pytest.raises(
        TypeError,
        match=r"^planted: cotangent of argument n: int32\[2\] has no cotangent: expected None, "
        r"found float32\[2\]$",
    ):
        contract().enforce((RIGHT[0], jnp.zeros(2), None))
    with pytest.raises(TypeError, match=r"argument n: int32\[2\] has no cotangent: .* int32\[2\]$"):
        contract().enforce((RIGHT[0], jnp.zeros(2, int), None))
    with pytest.raises(TypeError, match=r"argument b: None has no cotangent: expected None"):
        contract().enforce((RIGHT[0], None, jnp.zeros(3)))


def test_float0_is_none():
    zero = np.zeros(2, jax.dtypes.float0)
    assert contract().enforce((RIGHT[0], zero, None))[1] is None


@pytest.mark.parametrize("wrong", [RIGHT[:2], ({"v": RIGHT[0]["w"]}, None, None), ()])
def test_a_wrong_tree_is_shown_with_the_arguments(wrong):
    with pytest.raises(
        TypeError, match=r"planted: backward must return .*'params', 'n', 'b'.*expected .*, found "
    ):
        contract().enforce(wrong)


@pytest.mark.parametrize("wrong", [list(RIGHT), jnp.zeros((2, 3)), None])
def test_anything_but_a_tuple_is_refused(wrong):
    with pytest.raises(TypeError, match="planted: backward must return a tuple of cotangents"):
        contract().enforce(wrong)


def test_a_rule_enforces_its_contract_where_jax_is_silent():
    assert planted(lambda n, dy: (dy * n.astype(dy.dtype), None))() == 3.0
    message = r"scale: cotangent of argument x: expected float32\[\], found int32\[\]"
    with pytest.raises(TypeError, match=message):
        planted(lambda n, dy: (n, None))()
    with pytest.raises(TypeError, match=r"scale: cotangent of argument x: .* found bfloat16\[\]"):
        planted(lambda n, dy: (dy.astype("bfloat16"), None))()
    with pytest.raises(TypeError, match=r"scale: cotangent of argument x: .* found None"):
        planted(lambda n, dy: (None, None))()
    with pytest.raises(TypeError, match=r"scale: cotangent of argument n: int32\[\] has no"):
        planted(lambda n, dy: (dy, dy))()
    with pytest.raises(TypeError, match="scale: backward must return a tuple"):
        planted(lambda n, dy: [dy, None])()

    plain = jax.custom_vjp(lambda x: 2 * x)
    plain.defvjp(lambda x: (2 * x, None), lambda _, dy: (jnp.zeros((), int),))
    assert jax.grad(plain)(1.0) == 0  # what the contract is for


def test_the_contract_is_of_one_call(key):
    rule = Rule(lambda x: 2 * x, "double")
    rule.defvjp(lambda x: (2 * x, None), lambda _, dy: (2 * dy,))
    for dtype, shape in (("float32", (3,)), ("bfloat16", (2, 2)), ("float16", ())):
        x = jnp.ones(shape, dtype)
        (dx,) = jax.vjp(rule, x)[1](x)
        assert (dx.dtype, dx.shape) == (x.dtype, x.shape)


def test_it_travels_as_a_residual_without_arrays():
    assert jax.tree.leaves(contract()) == []
    assert contract() == contract()
    assert hash(contract()) == hash(contract())


def test_leaf_names_of_nested_arguments():
    tree = jax.tree.structure(({"a": [0, 1]}, 0))
    assert leaf_names(("params", "x"), tree) == ["params['a'][0]", "params['a'][1]", "x"]
