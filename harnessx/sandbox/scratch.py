"""The folders behind a wall, as the host makes them and finds them."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

MEMORY = "/dev/shm"
ROOM = 2 << 30
MAX_ENTRIES = 4096
MAX_DEPTH = 32


def place() -> str:
    """Where folders of workers are made: in memory, where there is room, for a disk takes 2 ms to make one."""
    try:
        free = os.statvfs(MEMORY)
    except OSError:
        return tempfile.gettempdir()
    roomy = free.f_bavail * free.f_frsize >= ROOM and os.access(MEMORY, os.W_OK)
    return MEMORY if roomy else tempfile.gettempdir()


def furnish(folder: str) -> str:
    """Make in a fresh ``folder`` what a `Sandbox` wants there; returns the one that can be written."""
    for part in ("home", "root"):
        os.mkdir(os.path.join(folder, part), 0o700)
    return os.path.join(folder, "home")


def excess_of(folder: Path, most: int, pid: int) -> str:
    """What is too much: more than ``most`` bytes on disk in ``folder`` or held by process ``pid`` in removed files,
    too many entries, too deep; '' for nothing.

    The kernel bounds one file, and this all of them. A file that disappears while this looks counts for
    nothing. No link is followed; ``pid`` 0 is nobody. A removed file that is mapped and not open is bounded as
    memory, not here.
    """
    entries = 0
    try:
        size = _nameless(pid) if pid else 0
    except OSError as error:
        return f"holds what cannot be looked at ({error.strerror})"
    if size > most:
        return f"wrote more than {most >> 20} MB"
    waiting = [(str(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            for entry in os.scandir(path):
                entries += 1
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, depth + 1))
                if size > most:
                    return f"wrote more than {most >> 20} MB"
                if entries > MAX_ENTRIES or depth >= MAX_DEPTH:
                    return f"made more than {MAX_ENTRIES} files, or folders deeper than {MAX_DEPTH}"
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"made what cannot be looked at ({error.strerror})"
    return ""


def _nameless(pid: int) -> int:
    """Bytes on disk of the files that process ``pid`` holds open and that no folder has."""
    sizes: dict[tuple[int, int], int] = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat()
                if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                    sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())
