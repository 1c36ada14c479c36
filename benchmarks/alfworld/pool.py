"""Child processes that play games: started when needed, reused, retired before they grow large.

TextWorld never runs in the caller's process: it leaks memory with every game, blocks while it thinks,
and writes to stdout. A child serves one episode at a time; there are as many as episodes are open.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from harnessx.errors import Failure, Source

GAMES_PER_PROCESS = 20
"""A child is retired after so many games: each leaves 1-2 MB behind."""

KEPT_IDLE = 8
"""So many children wait for the next episode; what is more is retired."""

PATIENCE_S = 120.0
"""A child that is silent for so long has hung and is killed."""

_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH")


class GameProcess:
    """One child. Its methods block; `GamePool` calls them from threads."""

    def __init__(self) -> None:
        self.games = 0
        self.busy = False
        """From a request until its answer is read: set by the pool, cleared by `ask`."""
        self._stderr = TemporaryFile()  # noqa: SIM115 (closed by end)
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.alfworld.game_process", str(translation_folder())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_child_variables(),
            start_new_session=True,  # an interrupt at the terminal is the parent's to handle
            text=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def ask(self, request: dict[str, str]) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            Failure: the child died, or was killed because it hung. It serves no further request.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        watchdog = threading.Timer(PATIENCE_S, self._child.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except OSError:  # a pipe without a reader: dead before it was asked
            line = ""
        finally:
            watchdog.cancel()
        if not line.endswith("\n"):
            raise Failure(Source.ENVIRONMENT, self._obituary())
        self.busy = False
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Kill the child and collect it. Idempotent."""
        self._child.kill()
        self._child.communicate()
        self._stderr.close()

    def _obituary(self) -> str:
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed its end and lives on
            self._child.kill()
            code = self._child.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"the ALFWorld game process ended with code {code}: {said[-1] if said else 'it said nothing'}"


class GamePool:
    """Hands out children, one per open episode. Works under any event loop, one after another too."""

    def __init__(self) -> None:
        self._idle: list[GameProcess] = []
        self._threads: ThreadPoolExecutor | None = None
        weakref.finalize(self, _end_all, self._idle)

    def acquire(self) -> GameProcess:
        """A child that plays nothing: one that waits, or a new one."""
        return self._idle.pop() if self._idle else GameProcess()

    async def ask(self, process: GameProcess, request: dict[str, str]) -> dict[str, Any]:
        """`GameProcess.ask`, off the event loop. A wait that is cancelled leaves ``process`` busy."""
        if self._threads is None:  # a child thinks on one core: more threads than cores would only queue
            self._threads = ThreadPoolExecutor((os.cpu_count() or 1) + 2, "alfworld")
        process.busy = True
        return await asyncio.get_running_loop().run_in_executor(self._threads, process.ask, request)

    def release(self, process: GameProcess) -> None:
        """Take a child back. It plays on unless it is old, one too many, or in the middle of something."""
        if process.busy or process.games >= GAMES_PER_PROCESS or len(self._idle) >= KEPT_IDLE:
            process.end()
        else:
            self._idle.append(process)


def _end_all(processes: list[GameProcess]) -> None:
    while processes:
        processes.pop().end()


def translation_folder() -> Path:
    """Where translated games are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "harnessx" / "alfworld"


def _child_variables() -> dict[str, str]:
    """No keys, no settings of the caller's: what it takes to start, and one hash seed for all."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    root = Path(__file__).resolve().parents[2]
    # The package makes the folder ALFWORLD_DATA names when it is imported: give it one that exists.
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONPATH": str(root), "ALFWORLD_DATA": str(root)}
