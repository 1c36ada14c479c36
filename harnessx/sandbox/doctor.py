"""What is enforced on this machine, found by trying it: every check, behind every wall, and outside as control.

A check whose control does not reach its sentinel either proves nothing, and is said to have no control.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harnessx.sandbox import landlock
from harnessx.sandbox.base import Sandbox, Wall
from harnessx.sandbox.checks import CHECKS, Check, Sentinels
from harnessx.sandbox.choose import BACKENDS, strongest
from harnessx.sandbox.probe import REACHED
from harnessx.sandbox.scratch import furnish
from harnessx.sandbox.view import environment, start

TIMEOUT_S = 120.0
MODULE = "harnessx.sandbox.probe"


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of every check: outside any wall, and behind each that works here."""

    control: Mapping[str, str]
    behind: Mapping[str, Mapping[str, str]]
    missing: Mapping[str, str]
    """What each backend that does not work here lacks."""

    def status(self, sandbox: Sandbox, check: Check) -> str:
        """``enforced``, ``no control``, ``open`` where nothing was promised, or ``NOT ENFORCED``."""
        if self.behind[sandbox.name][check.name] == REACHED:
            return "NOT ENFORCED" if check.layers & sandbox.layers() else "open"
        return "enforced" if self.control[check.name] == REACHED else "no control"

    @property
    def broken(self) -> list[str]:
        """Promises that are not kept."""
        walls = [sandbox for sandbox in BACKENDS if sandbox.name in self.behind]
        return [f"{w.name}: {c.name}" for w in walls for c in CHECKS if self.status(w, c) == "NOT ENFORCED"]


def examine() -> Examination:
    """Try everything."""
    missing = {sandbox.name: sandbox.missing() for sandbox in BACKENDS}
    behind = {s.name: _probe(s) for s in BACKENDS if not missing[s.name] and s.name != "none"}
    return Examination(_probe(None), behind, {name: why for name, why in missing.items() if why})


def _probe(sandbox: Sandbox | None) -> Mapping[str, str]:
    """What the checks reach behind ``sandbox``; None: in an ordinary child of this process."""
    with tempfile.TemporaryDirectory(prefix="walled-") as name, _sentinels() as at:
        folder = os.path.realpath(name)
        home, told = furnish(folder), json.dumps(asdict(at))
        if sandbox is None:
            command = start(MODULE, Wall(home).to_json(), told)
            told_of = environment() | {"SECRET": at.secret}
        else:
            command, told_of = sandbox.command(MODULE, (told,), folder), environment()
        done = subprocess.run(
            command, env=told_of, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            timeout=TIMEOUT_S, check=False, pass_fds=[at.handle] if sandbox is None else [],
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the checks did not run behind {sandbox.name if sandbox else 'no wall'}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


@contextmanager
def _sentinels() -> Iterator[Sentinels]:
    """Files, sockets and a process, put up to be reached."""
    secret = secrets.token_hex(16)
    with ExitStack() as stack:
        folder = os.path.realpath(stack.enter_context(tempfile.TemporaryDirectory(prefix="outside-")))
        for file in ("secret", "spoiled", "removed"):
            Path(folder, file).write_text(secret)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for address in (f"{folder}/socket", f"\0{secret}"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        host = subprocess.Popen([sys.executable, "-S", "-c", "input()"], env={"SECRET": secret}, stdin=subprocess.PIPE)
        stack.callback(host.wait)
        stack.callback(host.kill)
        handle = stack.enter_context(open(f"{folder}/secret", "rb"))
        yield Sentinels(folder, secret, tcp.getsockname()[1], udp.getsockname()[1], host.pid, handle.fileno())


def table(found: Examination) -> str:
    """The examination, for people."""
    walls = [sandbox for sandbox in BACKENDS if sandbox.name in found.behind]
    width = max(len(check.name) for check in CHECKS) + 2
    rows = [" " * width + "".join(f"{wall.name:<14}" for wall in walls)]
    for check in CHECKS:
        cells = "".join(f"{found.status(wall, check):<14}" for wall in walls)
        rows.append(f"{check.name:<{width}}{cells}".rstrip())
    chosen = strongest()
    rows += [
        "",
        f"Linux {platform.release()} on {platform.machine()}, Landlock interface {landlock.abi() or 'absent'}",
        *(f"{wall.name}: layers {', '.join(sorted(wall.layers()))}" for wall in walls),
        *(f"{name}: not available; {why}" for name, why in found.missing.items()),
        f"isolation=auto is {chosen.name if chosen else 'inprocess: code edits are refused'}",
        *(f"BROKEN PROMISE: {promise}" for promise in found.broken),
    ]
    return "\n".join(rows)


def main() -> int:
    """Examine and print; 0 only if there is a wall, and every promise is kept."""
    found = examine()
    print(table(found))
    return 0 if found.behind and not found.broken else 1
