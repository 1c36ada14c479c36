"""Hosts that are killed while they start a wall: ``python starts.py WALL KILLS SEED WITHIN_S`` says what is left.

Each host is a fork of this process, in a session of its own, by which its processes are known after its end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from harnessx.runner.zygote import Zygote
from harnessx.sandbox import backend

PATIENCE_S = 5.0


def session(number: int) -> list[str]:
    """The living processes of a session, by their command."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, own, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(own) == number and state not in "ZX":
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
        except OSError:
            continue
    return found


def killed_at(wall: str, moment_s: float) -> int:
    """The session of a host that began to start ``wall`` and was killed so much later."""
    ready, tell = os.pipe()
    host = os.fork()
    if host == 0:
        try:
            os.setsid()
            os.write(tell, b"x")
            Zygote(backend(wall))
            signal.pause()
        finally:
            os._exit(0)
    os.read(ready, 1)
    time.sleep(moment_s)
    os.kill(host, signal.SIGKILL)
    os.waitpid(host, 0)
    os.close(ready)
    os.close(tell)
    return host


def main() -> None:
    """Kill, wait, look."""
    wall, kills, seed, within_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    backend(wall).command("-", (), "/-")  # what is found out once is found out before
    rng = random.Random(seed)
    sessions = [killed_at(wall, within_s * rng.random()) for _ in range(kills)]
    until = time.monotonic() + PATIENCE_S
    while any(map(session, sessions)) and time.monotonic() < until:
        time.sleep(0.02)
    for number in sessions:
        for left in session(number):
            print(left)


if __name__ == "__main__":
    main()
