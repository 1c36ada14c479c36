"""Runs every check behind a wall, each in a process that is confined as a rollout is.

``python -m harnessx.sandbox.probe WALL SENTINELS`` prints ``{check: what happened}`` as JSON: ``reached``, or
why not.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from harnessx.sandbox.base import Wall
from harnessx.sandbox.checks import CHECKS, Attempt, Refused, Sentinels
from harnessx.sandbox.inside import confine, enter
from harnessx.sandbox.kernel import die_with_parent

REACHED = "reached"
TIMEOUT_S = 5.0


def main() -> None:
    """Entry point."""
    wall, at = Wall.from_json(sys.argv[1]), Sentinels(**json.loads(sys.argv[2]))
    enter(wall)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    neighbour = os.path.join(wall.home, "neighbour")

    def settle() -> str:
        with open("secret", "w") as file:
            file.write(at.secret)
        return str(os.getpid())

    _, told = _confined(wall, neighbour, settle, stay=True)
    at = replace(at, sibling=int(_read(told)), neighbour=neighbour)
    found = {}
    for number, check in enumerate(CHECKS):
        pid, told = _confined(wall, os.path.join(wall.home, str(number)), partial(_tried, check.attempt, at))
        found[check.name] = _after(pid, _read(told))
    print(json.dumps(found))


def _confined(wall: Wall, scratch: str, work: Callable[[], str], *, stay: bool = False) -> tuple[int, int]:
    """Start ``work`` as a rollout is started: its pid, and where its answer can be read."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        return pid, told
    try:
        os.setsid()
        die_with_parent()
        os.mkdir(scratch)
        os.chdir(scratch)
        confine(wall, scratch)
        os.write(tell, work().encode())
        while stay:
            signal.pause()
    finally:
        os._exit(0)


def _tried(attempt: Attempt, at: Sentinels) -> str:
    """What came of it: ``reached``, the daemon it left, or the error."""
    try:
        left = attempt(at)
    except (Exception, Refused) as error:  # noqa: BLE001  (whatever stops it is the answer)
        return f"{type(error).__name__}: {error}"
    return REACHED if left is None else f"daemon {left}"


def _read(told: int) -> str:
    """The answer; '' where there is none in time."""
    try:
        ready, _, _ = select.select([told], [], [], TIMEOUT_S)
        return os.read(told, 4000).decode() if ready else ""
    finally:
        os.close(told)


def _after(pid: int, said: str) -> str:
    """What is left to say once the process is killed as the host's watchdog kills it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if not said.startswith("daemon "):
        return said or "it died"
    daemon = int(said.split()[1])
    time.sleep(0.05)
    try:
        os.kill(daemon, signal.SIGKILL)
    except ProcessLookupError:
        return "it died with its rollout"
    return REACHED


if __name__ == "__main__":
    main()
