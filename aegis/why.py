"""``python -m aegis.why RUN harness.yaml:17``: which edit brought a line of the best harness."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aegis.views.terminal import exit_code
from aegis.views.why import show


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aegis.why", description="Name the edit behind a line.")
    parser.add_argument("run", help="run folder, e.g. results/<experiment>/<run>")
    parser.add_argument("line", metavar="FILE:LINE", help="a line of best/, e.g. harness.yaml:17")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: show(arguments.run, arguments.line))


if __name__ == "__main__":
    sys.exit(main())
