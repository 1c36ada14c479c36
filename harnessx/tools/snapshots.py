"""Checkpoints of a folder: each content is kept once, by its hash; how many and how much is bounded."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from harnessx.errors import ToolError
from harnessx.sandbox.base import CAPS
from harnessx.tools.folder import Folder, remove

MAX_KEPT = 16
"""Checkpoints at once; the oldest goes first."""
MAX_BYTES = 2 * CAPS.disk_bytes
"""Of all contents kept."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a folder held: files as content and mode, links as where they lead, folders as their mode."""

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)


class Snapshots:
    """Checkpoints of ``folder``, by label, kept in ``store``."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder, self._store = folder, store
        self._kept: dict[str, Snapshot] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """From the oldest to the newest."""
        return tuple(self._kept)

    def save(self, label: str) -> int:
        """Keep what the folder holds under ``label``, in place of what was kept so; how many files.

        Raises:
            ToolError: there is no room for its contents.
        """
        self._store.mkdir(exist_ok=True)
        snapshot = Snapshot()
        for path, about in Folder(self._folder).entries():
            mode = stat.S_IMODE(about.st_mode) & 0o777
            if stat.S_ISLNK(about.st_mode):
                snapshot.links[path] = os.readlink(self._folder / path)
            elif stat.S_ISDIR(about.st_mode):
                snapshot.folders[path] = mode
            elif stat.S_ISREG(about.st_mode):
                snapshot.files[path] = (self._keep(self._folder / path), mode)
        self._kept.pop(label, None)
        self._kept[label] = snapshot
        while len(self._kept) > MAX_KEPT:
            del self._kept[self.labels[0]]
        self._sweep()
        if sum(entry.stat().st_size for entry in os.scandir(self._store)) > MAX_BYTES:
            del self._kept[label]
            self._sweep()
            raise ToolError(f"no room for a checkpoint: contents of more than {MAX_BYTES >> 20} MB would be kept")
        return len(snapshot.files)

    def restore(self, label: str) -> None:
        """Make the folder hold what it held at ``label``; checkpoints made later stay.

        Raises:
            ToolError: there is no such checkpoint.
        """
        if label not in self._kept:
            raise ToolError(f"there is no checkpoint {label!r:.100}; there are: {', '.join(self._kept) or 'none'}")
        snapshot = self._kept[label]
        remove(str(self._folder))
        os.mkdir(self._folder, 0o700)
        for path in snapshot.folders:
            os.mkdir(self._folder / path)
        for path, (content, mode) in snapshot.files.items():
            shutil.copyfile(self._store / content, self._folder / path)
            os.chmod(self._folder / path, mode)
        for path, target in snapshot.links.items():
            os.symlink(target, self._folder / path)
        for path, mode in reversed(snapshot.folders.items()):
            os.chmod(self._folder / path, mode)

    def _keep(self, file: Path) -> str:
        """The name of a file's content in the store."""
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source:
            name = hashlib.file_digest(source, "sha256").hexdigest()
            kept = self._store / name
            if not kept.exists():
                source.seek(0)
                with kept.open("wb") as target:
                    shutil.copyfileobj(source, target)
        return name

    def _sweep(self) -> None:
        """Remove contents that no checkpoint has."""
        held = {content for snapshot in self._kept.values() for content, _ in snapshot.files.values()}
        for entry in list(os.scandir(self._store)):
            if entry.name not in held:
                os.unlink(entry.path)
