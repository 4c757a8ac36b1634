"""What is handed back is small: few elements, short numbers, a plain cotangent."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from funcnn.core.registry import Case
from funcnn.gradient.hunt.judging import Score, Trial
from funcnn.gradient.hunt.place import Hunted
from funcnn.gradient.hunt.search import Wrong
from funcnn.gradient.hunt.shrinking import Shrinking


def shrunk(f, x, w, seconds=60.0):
    hunted = Hunted.of_function("f", f, Case("one", (x,)), None)
    trial = Trial((x,), (w,), ("normal", "normal"))
    wrong = Wrong(hunted.at({}), trial, Score(2.0), "")
    return Shrinking(wrong, time.monotonic() + seconds).run().trial


def square(factor):
    made = jax.custom_vjp(lambda x: x * x)
    made.defvjp(lambda x: (x * x, x), lambda x, dy: (2 * factor(x, dy) * x * dy,))
    return made


def test_one_element_and_one_digit_are_left():
    f = square(lambda x, dy: jnp.where(x > 50, 1.1, 1.0))
    x = np.array([0.123, 61.2345, -0.7, 3.3], np.float32)
    small = shrunk(f, x, np.array([0.37, -1.81, 0.2, 0.9], np.float32))
    assert small.x[0].shape == (1,)
    assert small.x[0][0] in (60.0, 100.0)
    assert small.w[0].tolist() == [1.0]


def test_what_must_be_large_stays_so():
    f = square(lambda x, dy: jnp.where(jnp.sum(jnp.abs(dy) > 5) >= 2, 1.1, 1.0))
    x = np.array([0.123, 61.2345, -0.7], np.float32)
    small = shrunk(f, x, np.array([7.77, -9.81, 0.2], np.float32))
    assert small.x[0].shape == (2,)
    assert set(np.abs(small.w[0]).tolist()) <= {8.0, 10.0}


def test_without_time_nothing_is_lost():
    f = square(lambda x, dy: 1.1)
    x, w = np.array([0.123, 4.5], np.float32), np.array([0.37, -1.81], np.float32)
    small = shrunk(f, x, w, seconds=-1.0)
    assert (small.x[0].tolist(), small.w[0].tolist()) == (x.tolist(), w.tolist())
