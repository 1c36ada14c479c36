"""Behind the wall: what a process does to itself before it reads a line of evolved code.

`enter` is for the process that forks rollouts, `confine` for each rollout. Every layer that the wall asks
for stands when they return, or they raise: there is no weaker wall than the one that was promised.
"""

from __future__ import annotations

import os
import resource

from harnessx.sandbox import kernel, landlock, namespaces, seccomp
from harnessx.sandbox.base import Caps, Wall


def enter(wall: Wall) -> None:
    """Put up the wall around this process and all that it will start. One thread only.

    Raises:
        OSError: a layer cannot be had.
    """
    kernel.die_with_parent()
    if wall.namespaces:
        namespaces.unshare()
        namespaces.move_into(wall)
    if wall.landlock or wall.seccomp:
        kernel.no_new_privileges()
        kernel.drop_capabilities()
    if wall.landlock:
        landlock.restrict(
            dict.fromkeys(wall.listed, landlock.READ_DIR)
            | dict.fromkeys(wall.read, landlock.READ)
            | {wall.home: landlock.WRITE, "/dev/null": landlock.DEVICE}
        )
    if wall.seccomp:
        seccomp.install(seccomp.zygote_program())
        seccomp.rollout_program(0)  # what this prepares, every rollout shares
    if wall.namespaces:
        namespaces.keep_open()
    kernel.die_with_parent()  # again: Linux forgets it where rights change


def confine(wall: Wall, scratch: str) -> None:
    """Leave this process one folder, one thread, its own signals, and what its caps allow.

    Raises:
        OSError: a layer cannot be had.
    """
    if wall.landlock:
        beneath = [p for p in wall.read if not p.startswith(tuple(f"{q}/" for q in wall.listed))]
        landlock.restrict(
            dict.fromkeys((*beneath, *wall.listed), landlock.READ)
            | {scratch: landlock.WRITE, "/dev/null": landlock.DEVICE}
        )
    if wall.seccomp:
        _limit(wall.caps)
        seccomp.install(seccomp.rollout_program(os.getpid()))


def _limit(caps: Caps) -> None:
    for what, most in (
        (resource.RLIMIT_AS, caps.memory_bytes),
        (resource.RLIMIT_FSIZE, caps.disk_bytes),
        (resource.RLIMIT_NOFILE, caps.files),
        (resource.RLIMIT_CPU, caps.cpu_s),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
