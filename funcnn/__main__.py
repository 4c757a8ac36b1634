"""`python -m funcnn` is `funcnn`."""

import sys

from funcnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
