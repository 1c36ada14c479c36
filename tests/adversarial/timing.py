"""Never ending: loops, waits and traps of every kind, and tricks with clocks and hashes. The watchdog ends them."""

from __future__ import annotations

from functools import partial

from adversarial.attack import QUIET, Attack, Bite
from adversarial.sentinels import ENDLESS, TOOK

_never = partial(Attack, sentinel=ENDLESS, bite=Bite.LAX, lax="the watchdog", ends="said nothing for", stalls=True)
_NEST = "\n".join(f"{' ' * i}try: pass\n{' ' * i}finally:" for i in range(30)) + f"\n{' ' * 30}pass\n"
"""A ``finally`` body is compiled twice."""

ATTACKS = (
    _never("a loop", "while True: pass"),
    _never("a loop that lets others work", "while True: await asyncio.sleep(0)"),
    _never("a wait for nothing", "await asyncio.Event().wait()"),
    _never("a loop that ignores every signal", """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            signal.pause()
    """),
    _never("a loop that catches everything", """
        while True:
            try:
                await asyncio.sleep(60)
            except BaseException:
                continue
    """),
    _never("a lock that it holds already", "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()"),
    _never("a pattern that never decides", "import re; re.match('(a+)+$', 'a' * 64 + 'b')"),
    _never("keys with one hash", "found = {}\nfor i in range(10**6): found[i * (2**61 - 1)] = i"),
    _never("a number too long to write", "str(7 ** (1 << 26)); pow(7, 1 << 30)",
           head="import sys; sys.set_int_max_str_digits(0)"),
    _never("a module that never compiles", "pass", head=_NEST, ends="said nothing for|MemoryError"),
    _never("a clock that it stops", """
        import time
        asyncio.get_running_loop().time = lambda: 0.0
        await asyncio.sleep(0.01)
    """),
    Attack("luck by the order of a set", "if hash('luck') != AT['luck']: self.reach()", TOOK, QUIET, bite=Bite.LAX,
           lax="the seed of hashes"),
    _never("an alarm that interrupts for ever", """
        import signal
        def again(*args):
            while True: pass
        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        await asyncio.sleep(1)
    """),
)  # fmt: skip
