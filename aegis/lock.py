"""One process owns a run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from harnessx.errors import UserError


class RunLock:
    """Ownership of a run folder by one process. The kernel holds it, so that it ends with the process.

    So there is no stale lock to judge by pid and boot id: a killed owner, a reboot or a reused pid
    leave none. The file only names the owner for the message to whoever comes second, and is never
    removed, or two newcomers could each hold a file of that name.
    """

    def __init__(self, file: Path) -> None:
        """Take the lock ``file``, creating it.

        Raises:
            UserError: another process has it; names its pid.
            OSError: the file cannot be written, or its file system has no locks.
        """
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode() or "(starting)"
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise UserError(
                f"{file.parent} is in use by process {owner}: let it finish, end it, or set another run.dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor: int | None = descriptor
        # A forked child shares the lock; it must not outlive the owner through one.
        os.register_at_fork(after_in_child=self._forget)

    def release(self) -> None:
        """Let the next process in. Idempotent."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
        self._forget()

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
