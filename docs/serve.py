"""Build the documentation and show it: `python docs/serve.py`, then http://localhost:8000.

Needs what `pip install -e ".[docs]"` installs. Warnings are errors.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
SITE = HERE.parent / "build" / "site"


def build(out: Path = SITE) -> int:
    """Run Sphinx; its exit code, 0 where nothing was wrong."""
    options = ["-W", "--keep-going", "-b", "html", "-d", str(out.parent / f"{out.name}-doctrees")]
    return subprocess.call([sys.executable, "-m", "sphinx", *options, str(HERE), str(out)])


def serve(port: int, folder: Path = SITE) -> None:
    """Serve the site to this machine until Ctrl-C."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("localhost", port), handler) as server:
        print(f"http://localhost:{port} (stop with Ctrl-C)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Build the documentation and show it.")
    parser.add_argument("--build-only", action="store_true", help="build, and do not serve")
    parser.add_argument("--port", type=int, default=8000, help="8000 unless given")
    parser.add_argument("--out", type=Path, default=SITE, metavar="DIR", help="build/site")
    given = parser.parse_args()
    code = build(given.out)
    if code or given.build_only:
        return code
    serve(given.port, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
