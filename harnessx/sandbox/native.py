"""``landlock``: what the kernel gives any process that asks, with nothing installed (Linux 5.13 or newer)."""

from __future__ import annotations

import sys
from functools import cache

from harnessx.sandbox import landlock, namespaces, seccomp
from harnessx.sandbox.base import INSTALL, Wall
from harnessx.sandbox.view import start, view


class Landlock:
    """Landlock for files, seccomp for everything else, namespaces around both where they are allowed."""

    name = "landlock"
    inherits = True

    def missing(self) -> str:
        """What this machine lacks for it, with the remedy; '' where it works."""
        if sys.platform != "linux" or not landlock.abi():
            return f"this kernel has no Landlock; {INSTALL}"
        try:
            seccomp.zygote_program()
        except OSError as error:
            return f"{error.strerror}; install bubblewrap"
        return ""

    def layers(self) -> frozenset[str]:
        """The layers that stand."""
        return frozenset({"start", "landlock", "seccomp"} | ({"tree"} if has_namespaces() else set()))

    def command(self, module: str, args: tuple[str, ...], folder: str) -> list[str]:
        """How to start ``python -m module wall args…``."""
        seen = view()
        wall = Wall(f"{folder}/home", f"{folder}/root", seen.read, seen.listed, has_namespaces(), True, True)
        return start(module, wall.to_json(), *args)


@cache
def has_namespaces() -> bool:
    """Whether this machine lets anybody make namespaces; tried once."""
    return namespaces.probe()
