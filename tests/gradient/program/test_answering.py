"""What does not return is stopped: in time, in whatever it is, and the process ends."""

import subprocess
import sys
import textwrap
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from funcnn.gradient.program.answering import NoAnswer, answer, step


def run(program):
    """Exit code, stdout and stderr of a program, in a process that must end by itself."""
    lines = "from funcnn.gradient.program.answering import NoAnswer, answer, end_with\n"
    done = subprocess.run(
        [sys.executable, "-c", lines + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_answer_and_an_error_come_through():
    assert answer(lambda: threading.current_thread() is threading.main_thread(), 60.0) is False
    with pytest.raises(SystemExit, match="7"):
        answer(lambda: sys.exit(7), 60.0)


def test_steps_are_signs_that_it_goes_on_and_only_for_the_patient():
    def steps():
        for _ in range(6):
            time.sleep(0.1)
            step(lambda: "one of many")
        return "done"

    assert answer(steps, 0.4, patient=True) == "done"
    with pytest.raises(NoAnswer, match=r"^no answer in 0\.4 s in one of many$"):
        answer(steps, 0.4)


def test_a_program_that_is_compiled_is_a_sign_too():
    def programs():
        for n in range(1, 8):
            time.sleep(0.25)
            jax.jit(lambda x: jnp.sin(x) * x)(jnp.ones(n))
        return "done"

    assert answer(programs, 1.5, patient=True) == "done"


def test_the_step_of_an_earlier_answer_is_not_named():
    answer(lambda: step(lambda: "the earlier"), 60.0)
    with pytest.raises(NoAnswer, match=r"^no answer in 0\.1 s$"):
        answer(lambda: time.sleep(1.0), 0.1)


COMPILED = """
    import jax, jax.numpy as jnp
    endless = jax.jit(lambda x: jax.lax.while_loop(lambda x: x > -1, lambda x: x + 1, x))
    try:
        answer(lambda: endless(1.0).block_until_ready(), 3.0)
    except NoAnswer as error:
        print(error)
"""


@pytest.mark.parametrize("code", [1, 0])
def test_a_process_ends_whatever_goes_on_in_compiled_code(code):
    end = "" if code else "\n    end_with(0)\n"
    assert run(COMPILED + end) == (code, "no answer in 3 s\n", "")


def test_a_callback_that_is_stopped_says_nothing():
    program = """
        import jax, time
        def wait(x):
            while True:
                time.sleep(0.01)
        hangs = jax.jit(lambda x: jax.pure_callback(wait, jax.typeof(x), x))
        try:
            answer(lambda: hangs(1.0).block_until_ready(), 3.0)
        except NoAnswer as error:
            print(error)
    """
    assert run(program) == (1, "no answer in 3 s\n", "")
