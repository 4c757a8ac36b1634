"""A rule by hand: the cube, with its derivative derived, registered, checked and made wrong.

python examples/rule_by_hand.py
"""

import jax
import jax.numpy as jnp

import funcnn as fnn


@fnn.rule
def cube(x):
    """y = x^3, element by element.

    Shapes: x, y (...). Derivation: dy/dx = 3 x^2, so dx = 3 x^2 dy.
    Kept for the backward pass: x.
    """
    return x**3


def cube_forward(x):
    return x * x * x, x  # the value, and what the backward pass needs


def cube_backward(x, dy):
    return (3 * x * x * dy,)  # one cotangent for each argument


cube.defvjp(cube_forward, cube_backward)


@cube.defcases
def cube_cases(key):
    yield fnn.Case("normal", (jax.random.normal(key, (5, 7)),))
    yield fnn.Case("zeros", (jnp.zeros(3),))
    yield fnn.Case("empty", (jnp.zeros((0, 3)),))


def main():
    x = jnp.array([1.0, 2.0])
    print("value    ", cube(x))
    print("gradient ", jax.grad(lambda x: cube(x).sum())(x), "by the rule")
    automatic = fnn.without_rules(lambda x: cube(x).sum())
    print("gradient ", jax.grad(automatic)(x), "by JAX, of the reference")

    print(fnn.check(cube))
    wrong = cube.replace(backward=lambda x, dy: (2 * x * x * dy,))
    print(fnn.check(wrong))


if __name__ == "__main__":
    main()
