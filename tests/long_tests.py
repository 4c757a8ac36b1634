"""Writes `long_tests.txt`: the tests that are left out of the quick suite for their length.

    python -m pytest -m "not slow and not battery" --durations=0 --durations-min=0.05 > durations
    python tests/long_tests.py durations more_durations

Of several Pythons and versions of JAX, each on a quiet machine and with `.pytest_cache/d/xla`
empty: what was compiled before is quick.
"""

import collections
import re
import sys
from pathlib import Path

LISTED = Path(__file__).with_name("long_tests.txt")
SECONDS = 0.6  # that a test may take, its own fixtures included, and stay in the quick suite


def long_tests(durations: str, seconds: float = SECONDS) -> list[str]:
    """The tests that took longer, of the table that `pytest --durations` prints.

    >>> long_tests("0.40s setup    test_a.py::test_b[2]\\n0.30s call     test_a.py::test_b[2]")
    ['test_a.py::test_b[2]']
    """
    taken: dict[str, float] = collections.defaultdict(float)
    for line in durations.splitlines():
        row = re.match(r"\s*([\d.]+)s (?:setup|call)\s+(\S.*)", line)
        if row:
            taken[row[2].rstrip()] += float(row[1])
    return sorted(test for test, took in taken.items() if took > seconds)


if __name__ == "__main__":
    measured = [long_tests(Path(path).read_text("utf-8")) for path in sys.argv[1:]]
    LISTED.write_text("".join(f"{test}\n" for test in sorted(set().union(*measured))), "utf-8")
