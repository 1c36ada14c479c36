"""How a harness's own code is kept apart, and the host's end of a worker.

Code that comes with a harness runs behind a `harnessx.sandbox`, in a process for each rollout with an
empty environment and one folder of its own. ``none`` is the same without the wall: it separates memory,
keys and crashes, and stops nobody who means harm; every report says so. ``inprocess`` runs harnesses made
of built-in parts beside the host, and refuses code. That is also what ``auto`` means where no wall can be had.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Coroutine
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from harnessx.delegation import Allowance
from harnessx.errors import Failure, HarnessxError, Source, StopReason, UserError, WorkerLost, boundary
from harnessx.harness import HarnessConfig
from harnessx.loop import Ending, Episode, RunLoop
from harnessx.messages import ModelRequest, ToolCall
from harnessx.runner.host import Host
from harnessx.runner.wire import (
    VERSION,
    Channel,
    Frame,
    RequestReader,
    WireError,
    error_to_json,
    read_allowances,
    read_call,
    read_fetch,
)
from harnessx.runner.worker import episode_to_json, failure_from
from harnessx.runner.zygote import Zygote, ZygoteLost
from harnessx.sandbox.base import CAPS
from harnessx.sandbox.choose import backend, strongest
from harnessx.sandbox.scratch import excess_of, remove
from harnessx.web import Fetch

Isolation: TypeAlias = Literal["auto", "bubblewrap", "landlock", "docker", "process", "inprocess", "none"]
MAX_IN_FLIGHT = 256
"""Frames of one worker that may wait for an answer."""
MAX_SENT = 256 << 20
"""Bytes that a worker may send in one rollout: what it sends stays in the record, in the host's memory."""
LEAST_SENT = 1024
"""Bytes for which a frame counts at least."""
WATCH_S = 0.25
"""How often the host looks at what a worker does and has written."""


def resolve_isolation(name: str) -> str:
    """The isolation that ``name`` means here.

    ``auto`` takes the strongest wall there is; without one, ``inprocess``. ``process`` is a synonym of ``none``.

    Raises:
        UserError: unknown, or not available here; the message says what to install.
    """
    if name not in get_args(Isolation):
        raise UserError(f"unknown isolation {name!r}; valid: {', '.join(get_args(Isolation))}")
    if name == "auto":
        found = strongest()
        return found.name if found is not None else "inprocess"
    return "inprocess" if name == "inprocess" else backend(name).name


class Workers:
    """Runs the loop in the right place: built-in harnesses here, others in a worker process each.

    Args:
        isolation: a resolved name.
        stall_s: a worker that owes the host a frame for longer is killed (``harness_error``).
    """

    def __init__(self, isolation: str, *, stall_s: float = 30.0) -> None:
        self._sandbox = None if isolation == "inprocess" else backend(isolation)
        self._stall_s = stall_s
        self.zygote: Zygote | None = None
        """What forks workers, once one was needed."""

    async def execute(self, harness: HarnessConfig, episode: Episode, host: Host) -> Ending:
        """Run the untrusted side of one rollout (an `Execute`).

        Raises:
            Failure: the worker died, stalled or talked nonsense (source ``worker``); no worker could be
                had (source ``sandbox``, and then it is the host's failure too).
        """
        if self._sandbox is None or not harness.has_code:
            return await RunLoop(harness, episode, host).run()
        try:
            with boundary(Source.SANDBOX):
                sock, pid, home = await self.fork(harness)
        except Failure as failure:
            host.failure = failure
            raise
        try:
            return await _Supervisor(host, pid, home, self._stall_s).run(sock, episode.masked())
        finally:
            remove(home)

    async def fork(self, harness: HarnessConfig) -> tuple[socket.socket, int, Path]:
        """A new worker for ``harness``: the socket to it, its pid, its folder. A zygote that was killed is replaced."""
        try:
            return await self._living().fork(harness)
        except ZygoteLost:
            return await self._living().fork(harness)

    def _living(self) -> Zygote:
        """The zygote, which is another once the last has ended; others may have found that out before."""
        if self.zygote is not None and self.zygote.ended:
            self.close()
        if self.zygote is None:
            assert self._sandbox is not None
            self.zygote = Zygote(self._sandbox)
        return self.zygote

    def close(self) -> None:
        """End the zygote; running workers die with it."""
        if self.zygote is not None:
            self.zygote.close()
        self.zygote = None


class _Supervisor:
    """The host's end of one worker: serves its frames, watches that it does not stall."""

    def __init__(self, host: Host, pid: int, home: Path, stall_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._host, self._pid, self._home, self._stall_s = host, pid, home, stall_s
        self._ending: asyncio.Future[Ending] = loop.create_future()
        self._channel: Channel | None = None
        self._reader = RequestReader()
        self._serving: set[asyncio.Task[None]] = set()
        self._frames = 0
        self._owes_since: float | None = None
        """Since when the worker owes a frame; None while the host does."""
        self._watch: asyncio.TimerHandle | None = None

    async def run(self, sock: socket.socket, episode: Episode) -> Ending:
        self._channel = await Channel.over(sock, self._on_frame, self._on_close)
        self._channel.send({"t": "start", "version": VERSION, "episode": episode_to_json(episode)})
        self._owes_since = time.monotonic()
        self._look()
        try:
            return await self._ending
        finally:
            if self._watch is not None:
                self._watch.cancel()
            for task in self._serving:
                task.cancel()
            self._channel.close()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _on_frame(self, frame: Frame) -> None:
        if self._ending.done():
            return
        self._count()
        match frame["t"]:
            case "complete":
                request, path = self._reader.read(frame)
                self._serve(frame["id"], self._complete(request, path))
            case "call":
                self._serve(frame["id"], self._call(read_call(frame["call"]), str(frame.get("path", "main"))))
            case "spawn":
                self._serve(frame["id"], self._spawn(read_allowances(frame["asked"])))
            case "join":
                self._serve(frame["id"], self._join(str(frame["path"]), StopReason(frame["stop"])))
            case "fetch":
                self._serve(frame["id"], self._fetch(read_fetch(frame)))
            case "end":
                answer, claims = frame["answer"], frame["claims"]
                if not isinstance(answer, str) or not isinstance(claims, dict):
                    raise WireError("an ending needs an answer and claims")
                self._ending.set_result(Ending(StopReason(frame["stop"]), answer, claims))
            case "failed":
                self._ending.set_exception(failure_from(frame))
            case other:
                raise WireError(f"unknown type {other!r}")

    def _count(self) -> None:
        assert self._channel is not None
        self._frames += 1
        if max(self._channel.received, self._frames * LEAST_SENT) > MAX_SENT:
            raise WireError(f"more than {MAX_SENT >> 20} MB in one rollout")

    def _on_close(self, reason: str) -> None:
        if reason:
            self._fail(f"sent {reason}")
        elif not self._ending.done():
            self._ending.set_exception(WorkerLost())

    def _serve(self, ident: object, work: Coroutine[Any, Any, Frame]) -> None:
        if len(self._serving) >= MAX_IN_FLIGHT:
            work.close()
            raise WireError(f"more than {MAX_IN_FLIGHT} frames at once")
        self._owes_since = None
        task = asyncio.ensure_future(self._reply(ident, work))
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not self._serving:
            self._owes_since = time.monotonic()

    async def _complete(self, request: ModelRequest, path: str) -> Frame:
        return {"response": (await self._host.complete(request, path)).to_json()}

    async def _spawn(self, asked: list[Allowance]) -> Frame:
        leases = await self._host.spawn(asked)
        return {"leases": [[lease.path, list(astuple(lease.granted))] for lease in leases]}

    async def _join(self, path: str, stop: StopReason) -> Frame:
        await self._host.join(path, stop)
        return {}

    async def _call(self, call: ToolCall, path: str) -> Frame:
        result = await self._host.call(call, path)
        return {"content": result.content, "is_error": result.is_error, "done": result.done}

    async def _fetch(self, request: Fetch) -> Frame:
        return {"fetched": (await self._host.fetch(request)).to_json()}

    async def _reply(self, ident: object, work: Coroutine[Any, Any, Frame]) -> None:
        assert self._channel is not None
        try:
            self._channel.send({"t": "ok", "id": ident, **await work})
        except HarnessxError as error:  # the host keeps its own failure; the worker is told and unwinds
            self._channel.send({"t": "error", "id": ident, "error": error_to_json(error)})
        except Exception as error:  # noqa: BLE001  (no order of a worker may go unanswered)
            self._fail(f"asked for what cannot be served ({type(error).__name__}: {error})")

    def _look(self) -> None:
        """Now and then: does it owe a frame for too long; has it written too much?

        What one file may hold the kernel sees to, what all of them may only this.
        """
        if self._owes_since is not None and time.monotonic() - self._owes_since > self._stall_s:
            self._fail(f"said nothing for {self._stall_s:g} s")
        elif excess := excess_of(self._home, CAPS.disk_bytes, self._pid):
            self._fail(excess)
        self._watch = asyncio.get_running_loop().call_later(min(WATCH_S, self._stall_s / 2), self._look)

    def _fail(self, what: str) -> None:
        if not self._ending.done():
            self._ending.set_exception(Failure(Source.WORKER, f"the worker {what}"))
