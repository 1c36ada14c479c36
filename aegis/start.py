"""Starts a command: from the first moment on, Ctrl-C is a word and not a traceback; so is a reader who has enough."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Any


def start(name: str, job: Callable[[dict[str, Any]], float | None]) -> None:
    """`aegis.cli.hydra_main`, imported here since imports are what a command spends its first second on."""
    try:
        from aegis.cli import hydra_main

        try:
            hydra_main(name, job)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        if not _unread():
            raise
        sys.exit(1)


def _unread() -> bool:
    """Whether nobody reads standard output any more; what it still holds is then dropped."""
    output = select.poll()
    output.register(sys.stdout, 0)  # an error is reported whether asked for or not
    if not any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
