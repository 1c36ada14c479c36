"""How a harness's own code is kept apart, and the host's end of a worker.

``process``: a plain child process with an empty environment, no inherited handle and an empty working
folder of its own. That separates memory, keys and crashes; it is no wall against code that means harm.
``inprocess``: beside the host, for harnesses made of built-in parts only. ``none`` is the same for
any harness, and every report says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from harnessx.errors import Failure, HarnessxError, Source, StopReason, UserError, boundary
from harnessx.harness import HarnessConfig
from harnessx.loop import Ending, Episode, RunLoop
from harnessx.messages import ModelRequest, ToolCall
from harnessx.runner.folder import OwnFolder
from harnessx.runner.host import Host
from harnessx.runner.wire import VERSION, Channel, Frame, RequestReader, WireError, error_to_json, read_call
from harnessx.runner.worker import episode_to_json, failure_from

Isolation: TypeAlias = Literal["auto", "bubblewrap", "landlock", "docker", "process", "inprocess", "none"]
AVAILABLE = ("process", "inprocess", "none")
MAX_IN_FLIGHT = 256
"""Frames of one worker that may wait for an answer."""


def resolve_isolation(name: str) -> str:
    """The isolation that ``name`` means here; ``auto`` takes the strongest there is.

    Raises:
        UserError: unknown, or not available in this version.
    """
    if name not in get_args(Isolation):
        raise UserError(f"unknown isolation {name!r}; valid: {', '.join(get_args(Isolation))}")
    if name == "auto":
        return "process"
    if name not in AVAILABLE:
        raise UserError(f"isolation={name} is not available here; available: auto, {', '.join(AVAILABLE)}")
    return name


class Workers:
    """Runs the loop in the right place: built-in harnesses here, others in a worker process each.

    Args:
        isolation: a resolved name.
        stall_s: a worker that owes the host a frame for longer is killed (``harness_error``).
    """

    def __init__(self, isolation: str, *, stall_s: float = 30.0) -> None:
        self._isolation, self._stall_s = isolation, stall_s
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._home: OwnFolder | None = None

    async def execute(self, harness: HarnessConfig, episode: Episode, host: Host) -> Ending:
        """Run the untrusted side of one rollout (an `Execute`).

        Raises:
            Failure: the worker died, stalled or talked nonsense (source ``worker``); no worker could be
                had (source ``sandbox``, and then it is the host's failure too).
        """
        if self._isolation == "none":
            return await RunLoop(harness, episode, host, allow_assets=True).run()
        if self._isolation == "inprocess" or not harness.has_code:
            return await RunLoop(harness, episode, host).run()
        try:
            with boundary(Source.SANDBOX):
                sock, pid, home = await self._fork(harness)
        except Failure as failure:
            host.failure = failure
            raise
        try:
            return await _Supervisor(host, pid, self._stall_s).run(sock, episode)
        finally:
            _remove(home)

    async def _fork(self, harness: HarnessConfig) -> tuple[socket.socket, int, Path]:
        """A new worker for ``harness``: the socket to it, its pid, its folder."""
        if self._zygote is None or self._zygote.poll() is not None:
            self._start()
        assert self._control is not None
        assert self._home is not None
        home = Path(self._home.name)
        order = json.dumps(harness.to_json()).encode()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with theirs:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            await loop.sock_sendall(ours, len(order).to_bytes(4, "big") + order)
            answer = await loop.sock_recv(ours, 4)
            if len(answer) < 4:
                raise Failure(Source.SANDBOX, "the process that forks workers died")
        except BaseException:  # a cancelled wait included: the worker sees its socket close, and ends
            ours.close()
            raise
        pid = int.from_bytes(answer, "big")
        return ours, pid, home / str(pid)

    def _start(self) -> None:
        self.close()
        self._home = OwnFolder("harnessx-worker-")
        ours, theirs = socket.socketpair()
        with theirs:
            self._zygote = subprocess.Popen(
                # isolated like -I, but with one hash seed: sets have the same order in every worker
                [sys.executable, "-P", "-s", "-B", "-m", "harnessx.runner.worker", str(theirs.fileno())],
                env={"PYTHONHASHSEED": "0"},
                cwd=self._home.name,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._control = ours

    def close(self) -> None:
        """End the zygote; running workers die with it."""
        if self._control is not None:
            self._control.close()
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
        if self._home is not None:
            self._home.cleanup()
        self._zygote = self._control = self._home = None


def _remove(folder: Path) -> None:
    """Remove a worker's folder, which is empty as a rule."""
    try:
        folder.rmdir()
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


class _Supervisor:
    """The host's end of one worker: serves its frames, watches that it does not stall."""

    def __init__(self, host: Host, pid: int, stall_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._host, self._pid, self._stall_s = host, pid, stall_s
        self._ending: asyncio.Future[Ending] = loop.create_future()
        self._channel: Channel | None = None
        self._reader = RequestReader()
        self._serving: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None

    async def run(self, sock: socket.socket, episode: Episode) -> Ending:
        self._channel = await Channel.over(sock, self._on_frame, self._on_close)
        self._channel.send({"t": "start", "version": VERSION, "episode": episode_to_json(episode)})
        self._expect()
        try:
            return await self._ending
        finally:
            self._relax()
            for task in self._serving:
                task.cancel()
            self._channel.close()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _on_frame(self, frame: Frame) -> None:
        if self._ending.done():
            return
        match frame["t"]:
            case "complete":
                request, path = self._reader.read(frame)
                self._serve(frame["id"], self._complete(request, path))
            case "call":
                self._serve(frame["id"], self._call(read_call(frame["call"])))
            case "end":
                answer, claims = frame["answer"], frame["claims"]
                if not isinstance(answer, str) or not isinstance(claims, dict):
                    raise WireError("an ending needs an answer and claims")
                self._ending.set_result(Ending(StopReason(frame["stop"]), answer, claims))
            case "failed":
                self._ending.set_exception(failure_from(frame))
            case other:
                raise WireError(f"unknown type {other!r}")

    def _on_close(self, reason: str) -> None:
        self._fail(f"sent {reason}" if reason else "ended before its rollout did")

    def _serve(self, ident: object, work: Coroutine[Any, Any, Frame]) -> None:
        if len(self._serving) >= MAX_IN_FLIGHT:
            work.close()
            raise WireError(f"more than {MAX_IN_FLIGHT} frames at once")
        self._relax()
        task = asyncio.ensure_future(self._reply(ident, work))
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not self._serving and not self._ending.done():
            self._expect()

    async def _complete(self, request: ModelRequest, path: str) -> Frame:
        return {"response": (await self._host.complete(request, path)).to_json()}

    async def _call(self, call: ToolCall) -> Frame:
        result = await self._host.call(call)
        return {"content": result.content, "is_error": result.is_error, "done": result.done}

    async def _reply(self, ident: object, work: Coroutine[Any, Any, Frame]) -> None:
        assert self._channel is not None
        try:
            self._channel.send({"t": "ok", "id": ident, **await work})
        except HarnessxError as error:  # the host keeps its own failure; the worker is told and unwinds
            self._channel.send({"t": "error", "id": ident, "error": error_to_json(error)})
        except Exception as error:  # noqa: BLE001  (no order of a worker may go unanswered)
            self._fail(f"asked for what cannot be served ({type(error).__name__}: {error})")

    def _expect(self) -> None:
        self._relax()
        self._watch = asyncio.get_running_loop().call_later(self._stall_s, self._stalled)

    def _relax(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _stalled(self) -> None:
        self._fail(f"said nothing for {self._stall_s:g} s")

    def _fail(self, what: str) -> None:
        if not self._ending.done():
            self._ending.set_exception(Failure(Source.WORKER, f"the worker {what}"))
