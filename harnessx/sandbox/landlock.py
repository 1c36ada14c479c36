"""Which files are there (landlock(7)): a list of what may be read, and one folder that may be written.

The three system calls are made directly: the package of that name on PyPI knows neither the rules for TCP
(Linux 6.7) nor the scopes for signals and abstract sockets (6.12). What Landlock does not cover in any
version (metadata of a file: mode, owner, times, attributes) is refused by `harnessx.sandbox.seccomp`.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Mapping
from functools import cache

from harnessx.sandbox.kernel import syscall

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE = 1 << 13, 1 << 14
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE | REFER | TRUNCATE
DEVICE = READ_FILE | WRITE_FILE | TRUNCATE
MAKE_SYM = 1 << 12
PROGRAM = READ | EXECUTE
WORKSPACE = WRITE | EXECUTE | MAKE_SYM
_OF_FILES = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each version of the interface knows; from 5 on all of them."""
_TCP, _SCOPES = 0b11, 0b11
"""bind and connect; abstract sockets and signals."""


@cache
def abi() -> int:
    """The version of Landlock here; 0 where there is none."""
    try:
        return syscall(_CREATE, "landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(rights: Mapping[str, int], *, tcp: bool = False) -> None:
    """Leave this process, and all that it starts, these rights below these paths, and no other.

    No TCP port may be bound or reached unless ``tcp``, and no process outside signalled, as far as this kernel has
    such rules. A path that is not there is passed over. Needs `harnessx.sandbox.kernel.no_new_privileges` before.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    known = (1 << _BITS.get(abi(), 16)) - 1
    attributes = struct.pack("QQQ", known, 0 if tcp else _TCP, _SCOPES)[: 8 if abi() < 4 else 16 if abi() < 6 else 24]
    ruleset = syscall(_CREATE, "landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for path, allowed in rights.items():
            _allow(ruleset, path, allowed & known)
        syscall(_RESTRICT, "landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            allowed &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", allowed, beneath))
        syscall(_ADD, f"landlock_add_rule {path}", ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)
