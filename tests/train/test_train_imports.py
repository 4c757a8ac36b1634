import subprocess
import sys


def test_the_slow_libraries_are_imported_only_when_used():
    slow = {"orbax", "orbax.checkpoint", "matplotlib", "rich", "tensorstore"}
    code = f"import sys, funcnn.train; print(*({slow!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
