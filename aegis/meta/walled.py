"""``python -m aegis.meta.walled <wall> <program> …``: a program behind a wall, and everything it starts ended with it.

The wall is for files (Landlock): what is named may be read, or written; nothing else is there. The network is open,
for a coding agent asks its own model. Whatever the program leaves running is killed when it ends, also what has left
its process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from harnessx.sandbox import kernel, landlock

PR_SET_CHILD_SUBREAPER = 36
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/sys/devices/system/cpu",
          "/run/systemd/resolve", "/proc/sys", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/version",
          "/proc/filesystems", "/proc/uptime", "/proc/loadavg")  # fmt: skip
"""Where programs, their libraries and the names of hosts are. Not the processes: their variables hold keys, and
Landlock lets them be read."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
MOST_BYTES = 64 << 20
"""Of one file that is written."""
EVERYTHING = (1 << 16) - 1
"""All rights on files; links and pipes in its own folder are its own affair."""


@dataclass(frozen=True, slots=True)
class Wall:
    """What is readable besides `SYSTEM`, and what is writable. ``up`` is False where no wall is wanted."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    up: bool = True

    def to_json(self) -> str:
        """As it is handed to this module."""
        return json.dumps(asdict(self))


def missing() -> str:
    """What this machine lacks for the wall, with the remedy; '' where it works."""
    if sys.platform != "linux" or not landlock.abi():
        return "this kernel has no Landlock (Linux 5.13 or newer); set meta.wall=none for a command that you trust"
    return ""


def put_up(wall: Wall) -> None:
    """Leave this process, and all that it starts, what ``wall`` names."""
    kernel.no_new_privileges()
    read = landlock.READ | landlock.EXECUTE
    rights = dict.fromkeys((*SYSTEM, *wall.read), read) | dict.fromkeys(DEVICES, landlock.DEVICE)
    landlock.restrict(rights | dict.fromkeys(wall.write, EVERYTHING), tcp=True)


def run(wall: Wall, command: Sequence[str]) -> int:
    """Run the program to its end; its exit code, 127 where it cannot be started."""
    kernel.die_with_parent()
    kernel.prctl(PR_SET_CHILD_SUBREAPER, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    if wall.up:
        put_up(wall)
    try:
        code = subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        code = 127
    finally:
        end_all(children)
    return code if code >= 0 else 128 - code


def end_all(listed: int) -> None:
    """Kill every process that descends from this one: orphans come here, so there is an end to them.

    ``listed`` is an open file that lists the children (proc(5)).
    """
    while children := [int(pid) for pid in os.pread(listed, 1 << 16, 0).split()]:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


if __name__ == "__main__":
    named = json.loads(sys.argv[1])
    sys.exit(run(Wall(tuple(named["read"]), tuple(named["write"]), named["up"]), sys.argv[2:]))
