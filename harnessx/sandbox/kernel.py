"""The few system calls that Python has no name for. Each raises `OSError`, with what was tried."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from functools import cache

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 24, 22, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
LAST_CAPABILITY = 63
_CAPABILITY_VERSION_3 = 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


@cache
def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """``result``, or the error behind it.

    Raises:
        OSError: ``result`` is negative.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, what: str, *args: object) -> int:
    """A raw system call; integers are passed as 64 bits wide."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return checked(libc().syscall(ctypes.c_long(number), *wide), what)


def prctl(option: int, *args: int) -> int:
    """prctl(2)."""
    wide = [ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    return checked(libc().prctl(option, *wide), f"prctl({option})")


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def no_new_privileges() -> None:
    """From here on no program that is started gains rights, whatever its file says."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every capability, for good (capabilities(7))."""
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # past the last one this kernel knows, or not ours to drop: the sets below are emptied anyway
            break
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header, nothing = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    checked(libc().capset(header, nothing), "capset")


def unshare(flags: int) -> None:
    """unshare(2)."""
    checked(libc().unshare(flags), f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    texts = [text.encode() or None for text in (source, target, kind)]
    checked(libc().mount(*texts, ctypes.c_ulong(flags), data.encode() or None), f"mount {source} on {target}")


def detach(target: str) -> None:
    """Unmount ``target`` once nobody uses it any more (umount2(2), MNT_DETACH)."""
    checked(libc().umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    syscall(_PIVOT_ROOT[platform.machine()], f"pivot_root {new}", new.encode(), old.encode())
