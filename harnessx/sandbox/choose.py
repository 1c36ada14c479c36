"""Which backend a name means, and which is the strongest that works here."""

from __future__ import annotations

from harnessx.errors import UserError
from harnessx.sandbox.base import Sandbox
from harnessx.sandbox.bubblewrap import Bubblewrap
from harnessx.sandbox.docker import Docker
from harnessx.sandbox.native import Landlock
from harnessx.sandbox.process import Process

BACKENDS: tuple[Sandbox, ...] = (Bubblewrap(), Landlock(), Docker(), Process())
"""From the strongest to none at all."""
_AUTOMATIC = ("bubblewrap", "landlock")


def backend(name: str) -> Sandbox:
    """The backend of that name (``process`` is a synonym of ``none``), if it works here.

    Raises:
        UserError: it does not; the message says what to install.
    """
    wanted = "none" if name == "process" else name
    found = next(sandbox for sandbox in BACKENDS if sandbox.name == wanted)
    if missing := found.missing():
        raise UserError(f"isolation={name} is not available here: {missing}")
    return found


def strongest() -> Sandbox | None:
    """The strongest wall there is here; None where there is none."""
    return next((b for b in BACKENDS if b.name in _AUTOMATIC and not b.missing()), None)
