"""A world of its own, where the kernel lets anybody make one (namespaces(7)).

No network interface, no other process, no shared memory, and a file tree that holds only what the wall
shows. All of it doubles what Landlock and seccomp refuse, and hides besides that what is refused exists.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from collections.abc import Sequence
from pathlib import Path

from harnessx.sandbox import kernel
from harnessx.sandbox.base import Wall
from harnessx.sandbox.kernel import MS_BIND, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC

_USER, _PID, _NET, _IPC, _UTS, _MOUNT = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x04000000, 0x00020000
_MOUNT_SETATTR = 442
_READ_ONLY, _NO_SUID = 0x1, 0x2
_RECURSIVE = 0x8000


def probe() -> bool:
    """Whether this process could make all of them; tried in a child."""
    child = os.fork()
    if child == 0:
        try:
            unshare()
            kernel.mount("", "/", flags=MS_REC | MS_PRIVATE)
            os._exit(0)
        except BaseException:  # noqa: BLE001  (a fork of somebody else's process may not run on)
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def unshare() -> None:
    """Leave the host's namespaces. The next child is the first of the new process namespace.

    Raises:
        OSError: not allowed here.
    """
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(_USER | _PID | _NET | _IPC | _UTS | _MOUNT)
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def keep_open() -> None:
    """Start the first process of the new process namespace: it waits, and when it ends all others do."""
    if os.fork() == 0:
        try:
            kernel.die_with_parent()
            os.closerange(0, os.sysconf("SC_OPEN_MAX"))
            while True:
                signal.pause()
        finally:
            os._exit(0)


def move_into(wall: Wall) -> None:
    """Make a tree of what ``wall`` shows, on its empty folder ``root``, and make that this process's root.

    Raises:
        OSError: a mount was refused.
    """
    root = wall.root
    kernel.mount("", "/", flags=MS_REC | MS_PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in wall.read:
        _bind(path, root)
        _seal(root + path, recursive=True)
    for path in ("/dev/null", wall.home):
        _bind(path, root)
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.detach(".")
    _seal("/", recursive=False)
    os.chdir(wall.home)


def move_program_into(root: str, read: Sequence[str], home: str, at: str, room: int) -> None:
    """Make a tree for a program of the system on the empty folder ``root``, and make that this process's root.

    It has ``read`` as it is on this machine, ``home`` at ``at``, a ``/tmp`` of ``room`` bytes, and of ``/dev`` what
    cannot do harm. ``/proc`` is that of the new process namespace, where it may be had.

    Raises:
        OSError: a mount was refused.
    """
    kernel.mount("", "/", flags=MS_REC | MS_PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in read:
        if os.path.islink(path):
            Path(root + path).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(os.readlink(path), root + path)
        else:
            _bind(path, root)
            _seal(root + path, recursive=True)
    for path in ("/dev/null", "/dev/zero", "/dev/urandom"):
        _bind(path, root)
    _bind(home, root, at)
    for path in ("/tmp", "/proc"):
        os.mkdir(root + path)
    kernel.mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={room},mode=1777")
    with contextlib.suppress(OSError):  # a container that hides parts of its own
        kernel.mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV)
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.detach(".")
    _seal("/", recursive=False)


def _bind(path: str, root: str, at: str = "") -> None:
    target = Path(root + (at or path))
    if os.path.isdir(path):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    kernel.mount(path, str(target), flags=MS_BIND | MS_REC)


def _seal(path: str, *, recursive: bool) -> None:
    """Nothing below ``path`` may be written any more (mount_setattr(2), Linux 5.12)."""
    attributes = struct.pack("QQQQ", _READ_ONLY | _NO_SUID, 0, 0, 0)
    flags = _RECURSIVE if recursive else 0
    kernel.syscall(_MOUNT_SETATTR, f"seal {path}", -100, path.encode(), flags, attributes, len(attributes))
