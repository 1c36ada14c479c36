"""Starts a command: from the first moment on, Ctrl-C is a word and not a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def start(name: str, job: Callable[[dict[str, Any]], float | None]) -> None:
    """`aegis.cli.hydra_main`, imported here since imports are what a command spends its first second on."""
    try:
        from aegis.cli import hydra_main

        hydra_main(name, job)
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        sys.exit(130)
