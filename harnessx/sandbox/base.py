"""What a sandbox is: a way to start a Python module behind a wall. What the wall is: a value.

A backend starts the process; the process then walls itself in further (`harnessx.sandbox.inside`), before it
reads a line of evolved code. So a kernel that has more to offer adds a layer to every backend alike.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Protocol

INSTALL = "install bubblewrap (apt-get install bubblewrap), or run Linux 5.13 or newer with Landlock"
"""What to do where no wall can be had."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What one rollout may use up."""

    memory_bytes: int = 1 << 30
    """Of address space."""
    disk_bytes: int = 64 << 20
    """In one file; and in the whole scratch, by the host's watch."""
    files: int = 128
    """Open at once."""
    cpu_s: int = 600


CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Wall:
    """What a process behind the wall has, and which layers it puts up itself.

    ``read`` is readable whole, of ``listed`` only the names; ``home`` is the one folder that can be written.
    ``root`` is an empty folder for a tree of its own.
    """

    home: str = ""
    root: str = ""
    read: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    namespaces: bool = False
    landlock: bool = False
    seccomp: bool = False
    caps: Caps = CAPS

    def to_json(self) -> str:
        """As it is handed to the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Wall:
        """Inverse of `to_json`."""
        data: dict[str, Any] = json.loads(text)
        data |= {"read": tuple(data["read"]), "listed": tuple(data["listed"]), "caps": Caps(**data["caps"])}
        return cls(**data)


class Sandbox(Protocol):
    """One way to keep evolved code in."""

    name: str
    """The isolation, by its name in the settings."""
    inherits: bool
    """Whether what it starts has the handles of its starter. If not, a control socket is named by its path."""

    def missing(self) -> str:
        """What this machine lacks for it, with the remedy; '' where it works."""
        ...

    def layers(self) -> frozenset[str]:
        """What keeps evolved code in: of ``start`` (nothing is inherited), ``tree`` (a file tree of its own),
        ``landlock`` and ``seccomp``. `harnessx.sandbox.checks` says which of them keeps out what."""
        ...

    def command(self, module: str, args: tuple[str, ...], folder: str) -> list[str]:
        """How to start ``python -m module wall args…``, where ``wall`` is a `Wall` as JSON.

        ``folder`` is a fresh folder of the host; ``folder/home`` will be the process's own. The command
        wants `harnessx.sandbox.view.environment`, and keeps the standard streams.
        """
        ...
