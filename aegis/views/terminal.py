"""How the viewing commands speak: tables to standard output, one line and exit code 2 for a user's error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from harnessx.errors import UserError
from harnessx.redaction import redact

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 150
"""Columns where the output is no terminal: enough that no table folds."""


def console() -> Console:
    """Standard output; data is never read as markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def exit_code(command: Callable[[], None]) -> int:
    """Run ``command``: 0, or 2 after saying in one line what was wrong with the request."""
    try:
        command()
    except UserError as error:
        print(redact(f"error: {error}"), file=sys.stderr)
        return 2
    return 0
