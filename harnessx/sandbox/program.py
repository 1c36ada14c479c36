"""A program of the system behind a wall: a shell that an agent uses, a tool server that is not trusted.

It may start others, which a rollout may not, so it has a wall of its own: the system's programs and libraries to
read and run, one folder to write, no network, no environment, no process but its own. All of it ends with its first
process. ``python -m harnessx.sandbox.program SPEC`` puts up the wall around itself and becomes the program.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harnessx.errors import UserError
from harnessx.sandbox import kernel, landlock, namespaces, seccomp
from harnessx.sandbox.base import CAPS, INSTALL

WORKSPACE = "/workspace"
"""Where a program finds its folder; without namespaces it has the name that it has on the host."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/passwd",
          "/etc/group", "/etc/nsswitch.conf", "/etc/localtime", "/etc/mime.types")  # fmt: skip
PROCESSES = 256
"""At once, where they can be counted: in namespaces."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Enclosure:
    """What a walled program is, and which layers it puts up itself."""

    command: tuple[str, ...]
    folder: str
    root: str
    """An empty folder, for a tree of its own."""
    read: tuple[str, ...] = ()
    namespaces: bool = False
    landlock: bool = False
    cpu_s: int = CAPS.cpu_s


def enclosed(isolation: str, command: Sequence[str], folder: str, root: str, read: Sequence[str] = ()) -> list[str]:
    """How to start ``command`` with ``folder`` as the one that it can write.

    What it is told of the host is what the caller starts this with, so let that be `environment`: the process that
    keeps a wall up can be seen from behind it, with its environment.

    Args:
        isolation: a resolved name (`harnessx.runner.isolation.resolve_isolation`).
        root: an empty folder.
        read: paths that it may read besides the system's.

    Raises:
        UserError: there is no wall for programs by that name.
    """
    seen = tuple(dict.fromkeys(path for path in (*SYSTEM, *map(os.path.realpath, read)) if os.path.exists(path)))
    inside = Enclosure(tuple(command), folder, root, seen, cpu_s=CAPS.cpu_s)
    match isolation:
        case "bubblewrap":
            return _bubblewrap(inside)
        case "landlock":
            from harnessx.sandbox.native import has_namespaces

            return _started(Enclosure(**{**asdict(inside), "namespaces": has_namespaces(), "landlock": True}))
        case "none" | "process":
            return _started(inside)
        case _:
            raise UserError(f"isolation={isolation} has no wall for programs; {INSTALL}")


def environment() -> dict[str, str]:
    """All that a walled program is told of the host."""
    return {"PATH": PATH, "HOME": WORKSPACE, "LANG": "C.UTF-8", "TMPDIR": "/tmp"}


def _started(inside: Enclosure) -> list[str]:
    from harnessx.sandbox.view import python, view

    path = os.pathsep.join(view().python_path)
    spec = json.dumps(asdict(inside))
    return ["/usr/bin/env", f"PYTHONPATH={path}", python(), "-S", "-P", "-s", "-B", "-m", __name__, spec]


def _bubblewrap(inside: Enclosure) -> list[str]:
    """The tree and the namespaces are its own; the limits it inherits (`limits`)."""
    links = [p for p in inside.read if os.path.islink(p)]
    shown = [part for p in inside.read if p not in links for part in ("--ro-bind", p, p)]
    shown += [part for p in links for part in ("--symlink", os.readlink(p), p)]
    return [str(shutil.which("bwrap")), "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
            *shown, "--proc", "/proc", "--dev", "/dev", "--size", str(CAPS.disk_bytes), "--tmpfs",
            "/tmp", "--bind", inside.folder, WORKSPACE, "--remount-ro", "/", "--chdir", WORKSPACE, "--",
            *inside.command]  # fmt: skip


def limits(cpu_s: int = CAPS.cpu_s) -> Callable[[], None]:
    """What a process does to itself before it becomes a program: caps on memory, the size of a file, and time."""
    wanted = {
        resource.RLIMIT_AS: 4 * CAPS.memory_bytes,
        resource.RLIMIT_FSIZE: CAPS.disk_bytes,
        resource.RLIMIT_NOFILE: 4 * CAPS.files,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_CORE: 0,
    }

    def apply() -> None:
        for what, most in wanted.items():
            _, hard = resource.getrlimit(what)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (most, most))

    return apply


def become(inside: Enclosure) -> None:
    """Put up the wall around this process and turn into the program.

    Raises:
        OSError: a layer cannot be had, or the program is not there.
    """
    kernel.die_with_parent()
    home, tmp = inside.folder, inside.folder
    if inside.namespaces:
        namespaces.unshare()
        child = os.fork()
        if child:
            os._exit(_code(os.waitpid(child, 0)[1]))
        kernel.die_with_parent()
        namespaces.move_program_into(inside.root, inside.read, inside.folder, WORKSPACE, CAPS.disk_bytes)
        home, tmp = WORKSPACE, "/tmp"
        resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
    os.chdir(home)
    limits(inside.cpu_s)()
    if inside.landlock:
        kernel.no_new_privileges()
        kernel.drop_capabilities()
        devices = dict.fromkeys(("/dev/null", "/dev/zero", "/dev/urandom"), landlock.DEVICE)
        written = dict.fromkeys((home, tmp), landlock.WORKSPACE)
        landlock.restrict(dict.fromkeys((*inside.read, "/proc"), landlock.PROGRAM) | devices | written)
        seccomp.install(seccomp.program_filter())
    told = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    os.execvpe(inside.command[0], inside.command, {**told, "HOME": home, "TMPDIR": tmp})


def _code(status: int) -> int:
    found = os.waitstatus_to_exitcode(status)
    return found if found >= 0 else 128 - found


def main(spec: str) -> None:
    """Entry point."""
    given: dict[str, Any] = json.loads(spec)
    try:
        become(Enclosure(**{**given, "command": tuple(given["command"]), "read": tuple(given["read"])}))
    except OSError as error:
        sys.stderr.write(f"the program cannot be started: {error}\n")
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1])
