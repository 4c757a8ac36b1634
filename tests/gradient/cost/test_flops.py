"""Operations are counted as the compiler counts them, loops as often as they run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnn.gradient.cost.flops import compiled_expense, count_operations


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def flops(f, *args):
    return count_operations(jax.make_jaxpr(f)(*args)).flops


def conv(x, w, **options):
    strides = options.pop("strides", (1, 1))
    padding = options.pop("padding", "SAME")
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=numbers, **options
    )


def by_the_compiler(f, *args):
    return (jax.jit(f).lower(*args).compile().cost_analysis() or {})["flops"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": (2, 1), "padding": "VALID"},
        {"lhs_dilation": (2, 3), "padding": ((2, 0), (1, 4))},
        {"rhs_dilation": (2, 1)},
    ],
)
def test_a_convolution_counts_the_pairs_that_meet_as_the_compiler_does(options):
    args = shape(2, 6, 5, 4), shape(3, 2, 4, 3)

    def f(x, w):
        return conv(x, w, **options)

    assert flops(f, *args) == by_the_compiler(f, *args)


def test_groups_and_the_gradient_of_a_strided_convolution():
    def f(x, w):
        return conv(x, w, strides=(2, 2), padding="VALID", feature_group_count=2)

    x, w = shape(2, 7, 7, 4), shape(3, 3, 2, 6)
    out = 2 * 3 * 3 * 6
    assert flops(f, x, w) == 2 * out * 3 * 3 * 2

    def dx(x, w):
        return jax.grad(lambda x: f(x, w).sum())(x)

    # The holes of the dilated cotangent meet nothing: as many products as forwards.
    assert flops(dx, x, w) == 2 * out * 3 * 3 * 2


def test_products_elementwise_and_reductions():
    assert flops(lambda a, b: a @ b, shape(2, 3), shape(3, 5)) == 2 * 2 * 3 * 5
    batched = shape(4, 2, 3), shape(4, 3, 5)
    assert flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), *batched) == 4 * 2 * 2 * 3 * 5
    assert flops(lambda a: jnp.sum(jnp.sin(a)), shape(3, 5)) == 15 + 15
    assert flops(lambda a: a.T.reshape(-1)[::2], shape(3, 5)) == 0
    windows = {"window_dimensions": (2, 2), "window_strides": (2, 2), "padding": "VALID"}
    pool = flops(lambda a: jax.lax.reduce_window(a, -jnp.inf, jax.lax.max, **windows), shape(4, 4))
    assert pool == 4 * 4
    assert flops(lambda a: jnp.sort(a, axis=0), shape(8, 2)) == 8 * 2 * 3
    assert flops(lambda a: jnp.sort(a, axis=1), shape(8, 2)) == 8 * 2 * 1


def test_a_scan_counts_as_often_as_it_runs_and_the_compiler_counts_it_once():
    def f(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=7)[0]

    args = shape(2, 3), shape(3, 3)
    assert flops(f, *args) == 7 * 2 * 2 * 3 * 3
    # The counter of the loop is all that comes on top of one step.
    assert by_the_compiler(f, *args) < 2 * 2 * 2 * 3 * 3
    assert flops(jax.jit(f), *args) == flops(f, *args)


def test_what_the_results_do_not_need_is_not_counted():
    def f(x):
        dead = jnp.sin(x) @ jnp.cos(x)
        (_, carried), ys = jax.lax.scan(
            lambda c, _: ((c[0] + 1.0, c[1] * 2), jnp.exp(c[0])), (x, x), None, length=3
        )
        return carried, dead, ys

    assert flops(lambda x: jax.jit(f)(x)[0], shape(4, 4)) == 3 * 16


def test_checkpoint_counts_what_is_computed_again():
    def f(x, w):
        return jnp.sum(jnp.tanh(x @ w))

    args = shape(3, 4), shape(4, 5)
    plain = flops(jax.value_and_grad(f), *args)
    again = flops(jax.value_and_grad(jax.checkpoint(f)), *args)
    assert again == plain + 2 * 3 * 4 * 5 + 3 * 5


def test_the_branch_that_a_constant_takes_is_counted():
    x = jnp.ones((4, 4))

    def count(on):
        chosen = lambda x: jax.lax.cond(on, lambda x: x @ x, jnp.sin, x)  # noqa: E731
        return count_operations(jax.make_jaxpr(chosen)(x))

    counts = [count(on) for on in (True, False)]
    assert [count.flops for count in counts] == [2 * 4**3, 16]
    assert not any(count.notes for count in counts)


def test_one_branch_of_a_cond_on_the_platform_is_counted_and_the_dearest_of_another():
    def by_platform(x):
        return jax.lax.platform_dependent(x, cuda=lambda x: x @ x @ x, default=jnp.sin)

    assert flops(by_platform, shape(4, 4)) == 16

    def by_value(x, on):
        return jax.lax.cond(on, lambda x: x @ x, jnp.sin, x)

    count = count_operations(jax.make_jaxpr(by_value)(shape(4, 4), True))
    assert count.flops - 2 * 4**3 <= 1  # and the index of the branch
    assert count.notes == ("a cond: its dearest branch is counted",)


def test_what_cannot_be_counted_is_said():
    def loop(x):
        return jax.lax.while_loop(lambda x: x.sum() < 10, lambda x: x * 2, x)

    count = count_operations(jax.make_jaxpr(loop)(shape(3)))
    assert count.flops == 3 + 1 + 3
    assert count.notes == ("a while loop: counted once, its trip count is not known",)

    def host(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((3,), jnp.float32), x)

    assert count_operations(jax.make_jaxpr(host)(shape(3))).notes == ("pure_callback: not counted",)


def test_rules_count_what_runs():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (jnp.sin(x), None), lambda _, dy: (jnp.exp(jnp.exp(dy)),))
    assert flops(f, shape(5)) == 5
    assert flops(jax.grad(lambda x: f(x).sum()), shape(5)) == 10


def test_memory_is_the_compilers():
    def f(x):
        return (x[:, None] * x[None, :]) @ x

    compiled = jax.jit(f).lower(shape(64)).compile()
    found = compiled_expense(compiled)
    memory = compiled.memory_analysis()
    assert memory is not None
    assert found.temporary_bytes == memory.temp_size_in_bytes > 0
    assert found.bytes_accessed >= 2 * 4 * 64
