"""``python -m aegis.ablate RUN``: does each shipped edit still earn its place in the final harness?"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from aegis.views.terminal import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m aegis.ablate",
        description="Leave each shipped edit out of a finished run's final harness, test it, and write RUN/ablation/.",
    )
    parser.add_argument("run", help="run folder, e.g. results/<experiment>/<run>")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="name=value",
        help="alpha= error level of the whole ablation, cap= pairs for each edit, batch= pairs between barriers; "
        "by default those of the run's gate",
    )
    arguments = parser.parse_args(argv)

    def command() -> None:
        from aegis.ablation import ablate
        from aegis.views.ablation import show

        show(asyncio.run(ablate(Path(arguments.run), arguments.settings)), arguments.run)

    from harnessx.runner.pool import Drained

    try:
        return exit_code(command)
    except (Drained, KeyboardInterrupt):
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
