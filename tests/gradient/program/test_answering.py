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
    return done.returncode, done.stdout[:16], done.stderr


def test_an_answer_and_an_error_come_through():
    assert answer(lambda: threading.current_thread() is threading.main_thread(), 60.0) is False
    with pytest.raises(SystemExit, match="7"):
        answer(lambda: sys.exit(7), 60.0)


def test_steps_are_signs_that_it_goes_on_and_only_for_the_patient():
    def steps():
        for _ in range(20):
            time.sleep(0.1)
            step(lambda: "one of many")
        return "done"

    assert answer(steps, 0.4, patient=True) == "done"
    with pytest.raises(NoAnswer, match=r"^no answer in 0\.4 s.* in one of many$"):
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
    with pytest.raises(NoAnswer, match=r"^no answer in 0\.1 s, nor .* of a processor$"):
        answer(lambda: time.sleep(5.0), 0.1)


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
    end = f"\n    end_with({code})\n"
    assert run(COMPILED + end) == (code, "no answer in 3 s", "")


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
        end_with(1)
    """
    assert run(program) == (1, "no answer in 3 s", "")


def answered(seconds, of):
    """Asleep, this process uses no processor, as one that waits for others that have them."""
    try:
        return answer(lambda: [time.sleep(0.01) for _ in range(round(100 * of))], seconds)
    except NoAnswer as error:
        return str(error)


def test_time_that_other_processes_had_is_not_counted_but_three_times_is_enough():
    assert answered(0.15, of=0.3) == [None] * 30
    start = time.monotonic()
    assert answered(0.02, of=5) == "no answer in 0.02 s, nor in 0.06 s with 0 s of a processor"
    assert time.monotonic() - start < 3


class Deaf:
    """What is raised in it is lost."""

    def __del__(self):
        time.sleep(0.2)


def test_what_is_lost_in_the_collector_is_said_again(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    def endless():
        Deaf()
        while True:
            pass

    with pytest.raises(NoAnswer):
        answer(endless, 0.05)
    assert not told
