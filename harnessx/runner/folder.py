"""A temporary folder that outlives no kill for long: the next process that makes one removes what was left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from harnessx.sandbox.scratch import remove


class OwnFolder:
    """A folder in ``place`` (the temporary one), locked by its process for as long as both are there.

    A process that is killed leaves its folder, without the lock: it is removed when the next `OwnFolder` of the
    same ``prefix`` is made. What is locked, of another user or not yet named is let be.
    """

    def __init__(self, prefix: str, place: str | None = None) -> None:
        place = place or tempfile.gettempdir()
        _sweep(Path(place), prefix)
        fresh = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=place))
        self._lock: int | None = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.name = str(fresh.rename(fresh.with_name(fresh.name[1:])))
        """Its path. It has this name only now that it is locked."""

    def cleanup(self) -> None:
        """Remove it with all that is in it. Twice is no error."""
        remove(Path(self.name))
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def _sweep(place: Path, prefix: str) -> None:
    for folder in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # another user's, or removed meanwhile
            found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
            finally:
                os.close(found)
