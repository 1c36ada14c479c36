"""The folders behind a wall, as the host makes them and finds them."""

from __future__ import annotations

import os
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


def excess_of(folder: Path, most: int) -> str:
    """What is too much in ``folder``: more than ``most`` bytes on disk, too many entries, too deep; '' for nothing.

    The kernel bounds one file, and this all of them. A file that disappears while this looks counts for
    nothing. No link is followed.
    """
    size = entries = 0
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
