"""Outliving the rollout: daemons, children, programs, and how they would escape their end."""

from __future__ import annotations

from functools import partial

from adversarial.attack import QUIET, Attack, Bite
from adversarial.sentinels import OUTLIVED, TOOK

_HEAD = """
def named():
    import ctypes
    ctypes.CDLL(None).prctl(15, AT["mark"].encode(), 0, 0, 0)

def stay(deaf=False):
    import os, signal, time
    named()
    if deaf:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(20)
    os._exit(0)
"""
_leave = partial(Attack, sentinel=OUTLIVED, head=_HEAD)
_PROGRAM = "[AT['python'], '-S', '-c', 'import time; time.sleep(20)', AT['mark']]"

ATTACKS = (
    _leave("a daemon", """
        import os
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                stay()
            os._exit(0)
        os.wait()
        await asyncio.sleep(0.1)
    """),
    _leave("a daemon that ignores signals", """
        import os
        if os.fork() == 0:
            os.setsid()
            stay(deaf=True)
        await asyncio.sleep(0.1)
    """),
    _leave("a child made by a raw call", """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        child = libc.syscall(number, 17, 0, 0, 0, 0)
        if child < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if child == 0:
            os.setsid()
            stay()
        await asyncio.sleep(0.1)
    """),
    _leave("a program in a session of its own", f"""
        import subprocess
        subprocess.Popen({_PROGRAM}, start_new_session=True)
        await asyncio.sleep(0.2)
    """),
    _leave("a program by the shell in the background", """
        import os
        if os.system(f"setsid sh -c 'sleep 20; : {AT['mark']}' >/dev/null 2>&1 &"):
            raise PermissionError("no shell")
        await asyncio.sleep(0.2)
    """),
    _leave("a program that is spawned", f"""
        import os
        os.posix_spawn(AT["python"], {_PROGRAM}, {{}}, setsid=True)
        await asyncio.sleep(0.2)
    """),
    _leave("a process of a pool", """
        import multiprocessing, os
        def far():
            os.setsid()
            stay()
        multiprocessing.get_context("fork").Process(target=far).start()
        await asyncio.sleep(0.2)
    """, ends="PermissionError|FileNotFoundError|Operation not permitted"),
    _leave("its own process, that goes on after its end", """
        import sys
        worker = sys.modules["__main__"]
        send = worker.WirePort.send
        def slowly(self, frame):
            named()
            send(self, frame)
            if frame["t"] == "end":
                stay(deaf=True)
        worker.WirePort.send = slowly
    """, ends=QUIET, bite=Bite.LAX, lax="the end of its processes"),
    Attack("switch off what ends it with its parent", """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(1, 0, 0, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.reach()
    """, TOOK),
)  # fmt: skip
