"""Taking more than its share: memory, disk, files, threads, processes, turns. Bounded where nothing stops it."""

from __future__ import annotations

from functools import partial

from adversarial.attack import REFUSED, Attack, Bite
from adversarial.sentinels import TOOK

_take = partial(Attack, sentinel=TOOK)
_watched = partial(_take, bite=Bite.LAX, lax="the watch over the scratch")

ATTACKS = (
    _take("1.25 GB of memory", "hoard = [bytearray(1 << 26) for _ in range(20)]\nself.reach()", ends="MemoryError"),
    _take("1.25 GB of memory by a map", "import mmap; mmap.mmap(-1, 5 << 28).close(); self.reach()",
          ends="Cannot allocate memory"),
    _take("1.25 GB of memory in one text", "text = 'x' * (5 << 28)\nself.reach()", ends="MemoryError"),
    _take("memory that has a name", "import os; os.close(os.memfd_create('hoard')); self.reach()"),
    _take("a file of 65 MB", "import os; handle = os.open('big', os.O_CREAT | os.O_RDWR)\n"
          "os.ftruncate(handle, 65 << 20); self.reach()", ends="File too large"),
    _watched("a file of 65 MB in advance", "import os; handle = os.open('big', os.O_CREAT | os.O_RDWR)\n"
          "os.posix_fallocate(handle, 0, 65 << 20); self.reach()", ends="File too large|not implemented|not permitted"),
    _watched("100 MB in small files", """
        for name in range(100):
            with open(str(name), "wb") as file:
                file.write(bytes(1 << 20))
        await asyncio.sleep(3)
        self.reach()
    """, ends="wrote more than 64 MB"),
    _watched("100 MB in files that are removed and held open", """
        import os
        held = []
        for name in range(10):
            held.append(open(str(name), "wb"))
            held[-1].write(bytes(10 << 20))
            held[-1].flush()
            os.unlink(str(name))
        await asyncio.sleep(3)
        self.reach()
    """, ends="wrote more than 64 MB"),
    _watched("100 MB in files that never had a name", """
        import os
        for _ in range(10):
            os.write(os.open(".", os.O_TMPFILE | os.O_RDWR), bytes(10 << 20))
        await asyncio.sleep(3)
        self.reach()
    """, ends="wrote more than 64 MB|OSError|PermissionError"),
    _watched("5,000 files", """
        import os
        for name in range(5000):
            os.close(os.open(str(name), os.O_CREAT))
        await asyncio.sleep(3)
        self.reach()
    """, ends="made more than 4096 files"),
    _watched("100 folders in each other", """
        import os
        for _ in range(100):
            os.mkdir("d")
            os.chdir("d")
        await asyncio.sleep(3)
        self.reach()
    """, ends="folders deeper than 32"),
    _watched("a folder that cannot be looked into", """
        import os
        os.umask(0o777)
        os.mkdir("shut")
        for name in range(100):
            with open(str(name), "wb") as file:
                file.write(bytes(1 << 20))
        await asyncio.sleep(3)
        self.reach()
    """, ends="wrote more than 64 MB|made what cannot be looked at|PermissionError"),
    _take("500 open files", "import os; held = [open(os.devnull) for _ in range(500)]; self.reach()",
          ends="Too many open files"),
    _take("300 pipes", "import os; held = [os.pipe() for _ in range(300)]; self.reach()", ends="Too many open files"),
    _take("40 processes", """
        import os, time
        for _ in range(40):
            if os.fork() == 0:
                time.sleep(1)
                os._exit(0)
        self.reach()
    """),
    _take("40 processes that fork each other", """
        import os, time
        told, tell = os.pipe()
        def on(left):
            os.write(tell, b"x")
            if left and os.fork() == 0:
                on(left - 1)
            time.sleep(2)
            os._exit(0)
        if os.fork() == 0:
            on(40)
        for _ in range(40):
            os.read(told, 1)
        self.reach()
    """),
    _take("40 threads", """
        import threading, time
        threads = [threading.Thread(target=time.sleep, args=(0.2,), daemon=True) for _ in range(40)]
        for thread in threads:
            thread.start()
        self.reach()
    """, ends="can't start new thread"),
    _take("threads of an executor", """
        await asyncio.get_running_loop().run_in_executor(None, len, "")
        self.reach()
    """, ends="can't start new thread"),
    _take("more than its limits by raising them", """
        import resource
        for what in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
            resource.setrlimit(what, (4 << 30, 4 << 30) if what != resource.RLIMIT_NOFILE else (900, 900))
        self.reach()
    """),
    _take("a processor to itself", "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); self.reach()"),
    _take("another turn than others",
          "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)); self.reach()"),
    _take("to be found by nobody who kills for memory", """
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")
        self.reach()
    """, ends=REFUSED),
)  # fmt: skip
