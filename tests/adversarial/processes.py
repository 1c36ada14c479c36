"""Other processes: to signal, stop, trace, slow or change the host and other rollouts."""

from __future__ import annotations

from functools import partial

from adversarial.attack import REFUSED, Attack
from adversarial.sentinels import CHANGED, DISTURBED, SPOKE, TOLD, TOOK, seen

_HOST = seen("the host is not as it was")
_CALL = """
def call(number, *args):
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def vector(address, size):
    import struct
    return struct.pack("QQ", address, size)

NUMBERS = {
    "x86_64": {"readv": 310, "writev": 311, "ptrace": 101},
    "aarch64": {"readv": 270, "writev": 271, "ptrace": 117},
}

def numbered(name):
    import os
    return NUMBERS[os.uname().machine][name]

def siblings():
    import glob, os
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid() and glob.glob(f"/proc/{pid}/stat"):
            if int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]) == os.getppid():
                yield int(pid)
"""
_on_host = partial(Attack, head=_CALL, sentinel=_HOST, alone=True)
_on_others = partial(Attack, head=_CALL, sentinel=DISTURBED, alone=True)

ATTACKS = (
    _on_host("signal the host", "import os, signal; os.kill(AT['host'], signal.SIGUSR1); await asyncio.sleep(0.05)"),
    _on_host("signal the host by a handle of its process", """
        import os, signal
        pidfd = os.pidfd_open(AT["host"])
        signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
        await asyncio.sleep(0.05)
    """),
    _on_host("have a socket signal the host", """
        import fcntl, os, signal, socket
        one, other = socket.socketpair()
        fcntl.fcntl(one, fcntl.F_SETOWN, AT["host"])
        fcntl.fcntl(one, 10, signal.SIGUSR1)
        fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)
        other.send(b"x")
        await asyncio.sleep(0.05)
    """),
    Attack("slow the host down", """
        import os
        now = os.getpriority(os.PRIO_PROCESS, AT["host"])
        os.setpriority(os.PRIO_PROCESS, AT["host"], min(now + 1, 19))
        self.reach()
    """, TOOK, alone=True),
    _on_host("lower the limits of the host from outside", """
        import resource
        _, hard = resource.prlimit(AT["host"], resource.RLIMIT_STACK)
        resource.prlimit(AT["host"], resource.RLIMIT_STACK, (1 << 20, hard))
    """),
    _on_host("write into the memory of the host", """
        import ctypes
        text = ctypes.create_string_buffer(b"spoiled")
        mine, theirs = vector(ctypes.addressof(text), 7), vector(AT["board"], 7)
        call(numbered("writev"), AT["host"], mine, 1, theirs, 1, 0)
    """),
    _on_host("write into the memory of the host by its file", """
        with open(f"/proc/{AT['host']}/mem", "r+b", 0) as memory:
            memory.seek(AT["board"])
            memory.write(b"spoiled")
    """),
    Attack("read the memory of the host", """
        import ctypes
        text = ctypes.create_string_buffer(40)
        mine, theirs = vector(ctypes.addressof(text), 30), vector(AT["memory"], 30)
        call(numbered("readv"), AT["host"], mine, 1, theirs, 1, 0)
        self.take(text.raw)
    """, TOLD, head=_CALL),
    Attack("trace the host", """
        call(numbered("ptrace"), 0x4206, AT["host"], 0, 0)
        self.reach()
    """, TOOK, head=_CALL, alone=True),
    Attack("take a handle of the host", """
        import os
        handle = call(438, call(434, AT["host"], 0), AT["handle"], 0)
        self.take(os.pread(handle, 100, 0))
    """, TOLD, head=_CALL),
    Attack("write on the output of the host", """
        with open(f"/proc/{AT['host']}/fd/1", "a") as output:
            output.write((AT["mark"] + " ") * 10_000)
    """, SPOKE),
    _on_others("kill its neighbours", """
        import os
        for pid in siblings():
            os.kill(pid, 9)
        await asyncio.sleep(0.05)
    """),
    _on_others("kill what forks rollouts", "import os; os.kill(os.getppid(), 9); await asyncio.sleep(0.2)"),
    _on_others("kill the group of what forks rollouts", """
        import os
        os.killpg(os.getpgid(os.getppid()), 9)
        await asyncio.sleep(0.2)
    """, ends=REFUSED + "|No such process"),
    _on_others("bend the memory of its neighbours", """
        for pid in siblings():
            bend(pid)
    """, head=_CALL + """
def bend(pid):
    for line in open(f"/proc/{pid}/maps"):
        if "[heap]" in line:
            first, last = (int(part, 16) for part in line.split()[0].split("-"))
            with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
                memory.seek(first)
                memory.write(bytes(last - first))
"""),
    Attack("put a file into the folder of what forks rollouts", """
        import os
        open(f"/proc/{os.getppid()}/root{AT['drop']}/there", "w").close()
    """, CHANGED),
)  # fmt: skip
