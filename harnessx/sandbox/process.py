"""``none``: a process of its own, and no wall. The only override; every report says that it was used."""

from __future__ import annotations

from harnessx.sandbox.base import Wall
from harnessx.sandbox.view import start


class Process:
    """Separates memory, environment and crashes. Code that means harm reads this user's files."""

    name = "none"
    inherits = True

    def missing(self) -> str:
        """Nothing is needed."""
        return ""

    def layers(self) -> frozenset[str]:
        """None of them: it promises nothing."""
        return frozenset()

    def command(self, module: str, args: tuple[str, ...], folder: str) -> list[str]:
        """How to start ``python -m module wall args…``."""
        return start(module, Wall(f"{folder}/home").to_json(), *args)
