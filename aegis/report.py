"""``python -m aegis.report RUN``: render a run's ``report.html`` again and print where it is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aegis.views.report import write
from aegis.views.terminal import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aegis.report", description="Render report.html of a run.")
    parser.add_argument("run", help="run folder, e.g. results/<experiment>/<run>")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: print(write(arguments.run)))


if __name__ == "__main__":
    sys.exit(main())
