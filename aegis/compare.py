"""``python -m aegis.compare RUN RUN…``: runs side by side, by what the sealed tasks say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aegis.views.compare import show
from aegis.views.terminal import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aegis.compare", description="Compare finished runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; the first is the reference")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: show(arguments.runs))


if __name__ == "__main__":
    sys.exit(main())
