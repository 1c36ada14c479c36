"""The untrusted side: one process per rollout, forked from a pre-imported zygote.

``python -m harnessx.runner.worker WALL CONTROL`` is the zygote. It has an empty environment and no handle but
its control socket, and puts up its `Wall` before it takes any order. For each socket it receives there, it
reads a harness (length-prefixed JSON) from that socket, parses it, once, without compiling or running any
of its code, forks a child, and forgets both. The child makes a folder of its own, confines itself to it,
answers with the folder's name (`NAME` bytes), runs one rollout's loop over the socket, and exits. Zygote and
children die with their parents.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from harnessx.delegation import Allowance, Lease
from harnessx.errors import ContractViolation, Failure, Outcome, Source, StopReason
from harnessx.harness import HarnessConfig
from harnessx.loop import Episode, RunLoop
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, ToolSchema
from harnessx.runner.wire import (
    VERSION,
    Frame,
    RequestWriter,
    WireError,
    bodies,
    error_from_json,
    pack,
    unpack,
    unprefixed,
)
from harnessx.sandbox.base import Wall
from harnessx.sandbox.inside import confine, enter
from harnessx.sandbox.kernel import die_with_parent
from harnessx.tasks import ToolResult
from harnessx.web import Fetch, Fetched

MAX_MESSAGE = 2000
"""Characters of an error that cross the wire."""
READ_SIZE = 16 * 1024
"""Bytes taken at once; a longer frame is put together from several."""
NAME = 16
"""Bytes of the name of a rollout's folder."""
PARSED = 32
"""Harnesses that a zygote remembers."""


class WirePort:
    """The `Port` of a worker: every call is a frame to the host and a frame back.

    Sending blocks until the host has taken it; reading is the event loop's only business with the world.
    A host that is gone, or does not speak this version, ends the process.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.start: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._sock, self._buffer = sock, bytearray()
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._writer = RequestWriter()

    def listen(self) -> None:
        """Take frames from now on."""
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def send(self, frame: Frame) -> None:
        """Hand a frame to the host."""
        try:
            self._sock.sendall(pack(frame))
        except OSError:
            os._exit(0)

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
            self._buffer += data
            for body in bodies(self._buffer):
                self._on_frame(unpack(body))
        except (OSError, WireError):
            os._exit(1)
        if not data:
            os._exit(0)

    def _on_frame(self, frame: Frame) -> None:
        if frame["t"] == "start":
            if frame["version"] != VERSION:
                raise WireError(f"version {frame['version']}, not {VERSION}")
            self.start.set_result(frame)
            return
        waiting = self._waiting.pop(frame["id"], None)
        if waiting is None or waiting.done():
            return
        if frame["t"] == "error":
            waiting.set_exception(error_from_json(frame["error"]))
        else:
            waiting.set_result(frame)

    async def complete(self, request: ModelRequest, path: str) -> ModelResponse:
        """Ask the host's model."""
        frame = await self._ask({"t": "complete", **self._writer.write(request, path)})
        return ModelResponse.from_json(frame["response"])

    async def call(self, call: ToolCall, path: str = "main") -> ToolResult:
        """Ask the host to run an environment tool."""
        order: Frame = {"t": "call", "call": call.to_json()}
        frame = await self._ask(order if path == "main" else {**order, "path": path})
        return ToolResult(frame["content"], frame["is_error"], frame["done"])

    async def fetch(self, request: Fetch) -> Fetched:
        """Ask the host to ask another."""
        frame = await self._ask({"t": "fetch", **request.to_json()})
        return Fetched.from_json(frame["fetched"])

    async def spawn(self, asked: Sequence[Allowance]) -> list[Lease]:
        """Ask the host for budgets."""
        frame = await self._ask({"t": "spawn", "asked": [asdict(allowance) for allowance in asked]})
        return [Lease(path, Allowance(*granted)) for path, granted in frame["leases"]]

    async def join(self, path: str, stop: StopReason) -> None:
        """Tell the host that a sub-agent has ended."""
        await self._ask({"t": "join", "path": path, "stop": stop.value})

    async def _ask(self, frame: Frame) -> Frame:
        frame["id"] = next(self._ids)
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[frame["id"]] = future
        self.send(frame)
        return await future


async def run_worker(sock: socket.socket, harness: HarnessConfig | Exception) -> None:
    """Run the one rollout of ``harness`` that the host starts over ``sock``; or say why it cannot be built."""
    port = WirePort(sock)
    port.listen()
    started = await port.start
    try:
        if isinstance(harness, Exception):
            raise harness
        episode = episode_from_json(started["episode"])
        random.seed(episode.randomness)
        ending = await RunLoop(harness, episode, port, allow_assets=True).run()
        stop, claims = ending.stop_reason.value, dict(ending.claims)
        port.send({"t": "end", "stop": stop, "answer": ending.answer, "claims": claims})
    except Exception as error:  # noqa: BLE001  (the boundary of the process: the host is told)
        port.send({"t": "failed", **_confession(error)})


def _confession(error: Exception) -> dict[str, Any]:
    if isinstance(error, ContractViolation):
        at = [error.processor, error.hook, error.field, error.detail]
        return {"kind": "contract", "at": [_sayable(part) for part in at]}
    if isinstance(error, Failure):
        return {"kind": "failure", "source": error.source.value, "message": _sayable(unprefixed(error))}
    return {"kind": "failure", "source": "worker", "message": _sayable(f"{type(error).__name__}: {error}")}


def _sayable(text: str) -> str:
    """``text`` as it can be sent: half a surrogate pair has no encoding."""
    return text[:MAX_MESSAGE].encode(errors="replace").decode()


def failure_from(frame: Frame) -> Exception:
    """The host's reading of a ``failed`` frame: always the harness's fault, never the world's."""
    if frame["kind"] == "contract":
        processor, hook, field, detail = (str(part)[:MAX_MESSAGE] for part in frame["at"])
        return ContractViolation(processor, hook, field, detail)
    source = Source(frame["source"])
    blamed = source if source.outcome is Outcome.HARNESS_ERROR else Source.PROCESSOR
    return Failure(blamed, str(frame["message"])[:MAX_MESSAGE])


def episode_to_json(episode: Episode) -> Frame:
    """An episode as it crosses the wire."""
    return {
        "task_id": episode.task_id,
        "prompt": episode.prompt,
        "attempt": episode.attempt,
        "seed": episode.seed,
        "tools": [tool.to_json() for tool in episode.tools],
        "roles": list(episode.roles),
        "draws": episode.draws,
    }


def episode_from_json(data: Frame) -> Episode:
    """Inverse of `episode_to_json`."""
    tools = tuple(ToolSchema(**tool) for tool in data["tools"])
    named = (data["task_id"], data["prompt"], data["attempt"], data["seed"])
    return Episode(*named, tools, tuple(data["roles"]), data["draws"])


def zygote(control: socket.socket, wall: Wall) -> None:
    """Fork one child behind ``wall`` per order received on ``control``, until it closes."""
    os.environ.clear()
    asyncio.run(_rehearse())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    enter(wall)
    os.chdir(wall.home)
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        with socket.socket(fileno=fds[0]) as sock:
            harness = _received(sock)
            if harness is None:
                continue
            name = secrets.token_hex(NAME // 2)
            try:
                child = os.fork()
            except OSError:  # no memory, or what keeps its process namespace was killed: the host makes another zygote
                return
            if child == 0:
                control.close()
                _child(sock, harness, wall, name)


def _received(sock: socket.socket) -> HarnessConfig | Exception | None:
    """The harness that the host wants run over ``sock``; None when it has thought better of it."""
    try:
        text = _exactly(sock, int.from_bytes(_exactly(sock, 4), "big"))
    except OSError:
        return None
    return _parsed(text) if text else None


def _exactly(sock: socket.socket, size: int) -> bytes:
    """``size`` bytes, or none where the sender stops before."""
    found = bytearray()
    while len(found) < size:
        more = sock.recv(size - len(found))
        if not more:
            return b""
        found += more
    return bytes(found)


async def _rehearse() -> None:
    """Start a loop that nobody runs: what this imports and caches, every child shares."""
    from harnessx.processors import SystemPrompt

    harness = HarnessConfig.from_json(HarnessConfig([SystemPrompt(text="nothing")]).to_json())
    RunLoop(harness, Episode("", ""), WirePort(socket.socket()), allow_assets=True)


@lru_cache(maxsize=PARSED)
def _parsed(text: bytes) -> HarnessConfig | Exception:
    """The harness that ``text`` (JSON) means, or why there is none."""
    try:
        return HarnessConfig.from_json(json.loads(text))
    except Exception as error:  # noqa: BLE001  (whatever is wrong with it, its rollouts will say)
        return error.with_traceback(None)
    finally:
        gc.collect()
        gc.freeze()  # what is here now, no child's collection touches


def _child(sock: socket.socket, harness: HarnessConfig | Exception, wall: Wall, name: str) -> None:
    try:
        os.setsid()
        die_with_parent()
        home = os.path.join(wall.home, name)  # the host removes it
        os.mkdir(home, 0o700)
        os.chdir(home)
        tempfile.tempdir = home
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        confine(wall, home)
        sock.send(name.encode())
        _mute()
        asyncio.SelectorEventLoop().run_until_complete(run_worker(sock, harness))  # run() does what nobody needs here
    except OSError as error:
        sys.stderr.write(f"harnessx.runner.worker: {error}\n")
    finally:
        os._exit(0)


def _mute() -> None:
    """Standard streams of its own, to nowhere: the flags of what all rollouts were given, all would share."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # so far it might complain on the terminal; a harness may not
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _called(control: str) -> socket.socket:
    """The host's end of the line: an inherited handle, or a socket by its path."""
    if control.isdigit():
        return socket.socket(fileno=int(control))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(control)
    return sock


if __name__ == "__main__":
    die_with_parent()
    zygote(_called(sys.argv[2]), Wall.from_json(sys.argv[1]))
