"""What a wall leaves when its host is killed: nothing, at whatever moment that was.

Each process of a wall asks Linux to end it with its parent, but only once it runs: a parent that is killed before
leaves a child that never hears of it, and may wait for ever. So they share a process group with one more, which
has nothing but the end of a pipe, and ends the group when the host's end of that pipe is closed. Whatever way a
host ends, Linux closes it; and a child of the host holds it too until it has joined the group and begun, so that
none can be too late.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Final

_KEEPER: Final = ("/bin/sh", "-c", "read -r _; kill -KILL 0")


class Leash:
    """A process group that ends with this process, and at `end`.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self) -> None:
        told, self._tell = os.pipe()
        nowhere = subprocess.DEVNULL
        try:
            self._keeper = subprocess.Popen(
                _KEEPER, stdin=told, stdout=nowhere, stderr=nowhere, env={}, cwd="/", process_group=0
            )
        except OSError:
            os.close(self._tell)
            raise
        finally:
            os.close(told)

    @property
    def group(self) -> int:
        """The number of the group, for ``process_group=`` of what is to be on it. Nobody else's until `end`."""
        return self._keeper.pid

    def end(self) -> None:
        """Kill the group. Twice is no error."""
        if self._keeper.returncode is None:
            os.close(self._tell)
            os.killpg(self.group, signal.SIGKILL)
            self._keeper.wait()
