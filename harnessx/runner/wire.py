"""The wire between host and worker: length-prefixed JSON frames that carry deltas.

A frame is a 4-byte big-endian length and a JSON object with a ``t`` (type). A message crosses once: a
request is "the first ``keep`` messages of the previous request of this path, then ``add``, then
``tail`` for this request only"; system prompt and tools cross when they change. So a step costs
O(new content) on the wire. Nothing is ever unpickled or imported.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from harnessx.errors import Failure, LimitReached, ModelFailure, Source, StopReason, ToolError
from harnessx.messages import Conversation, Message, ModelRequest, ToolSchema

VERSION = 1
MAX_FRAME = 32 * 1024 * 1024
Frame: TypeAlias = dict[str, Any]

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class WireError(Exception):
    """The peer sent something that is not a frame of this protocol."""


def pack(frame: Mapping[str, Any]) -> bytes:
    """One frame as bytes."""
    body = _encode(frame).encode()
    return len(body).to_bytes(4, "big") + body


class Channel(asyncio.Protocol):
    """Frames over a stream socket.

    Args:
        on_frame: called with each frame.
        on_close: called once, with the reason ('' for a clean end).
    """

    def __init__(self, on_frame: Callable[[Frame], None], on_close: Callable[[str], None]) -> None:
        self._on_frame, self._on_close = on_frame, on_close
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._broken = ""

    @classmethod
    async def over(
        cls, sock: socket.socket, on_frame: Callable[[Frame], None], on_close: Callable[[str], None]
    ) -> Channel:
        """A channel on a connected socket, which it then owns."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(on_frame, on_close), sock=sock)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, size = 0, len(buffer)
        while size - start >= 4:
            length = int.from_bytes(buffer[start : start + 4], "big")
            if length > MAX_FRAME:
                return self._break(f"a frame of {length} bytes (at most {MAX_FRAME})")
            if size - start - 4 < length:
                break
            try:
                frame = json.loads(buffer[start + 4 : start + 4 + length])
            except (ValueError, RecursionError) as error:
                return self._break(f"a frame that is not JSON ({error})")
            if not isinstance(frame, dict) or not isinstance(frame.get("t"), str):
                return self._break("a frame without a type")
            start += 4 + length
            try:
                self._on_frame(frame)
            except (WireError, KeyError, TypeError, ValueError) as error:
                return self._break(f"a malformed {frame['t']!r} frame ({type(error).__name__}: {error})")
        del buffer[:start]
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_close(self._broken or (str(exc) if exc else ""))

    def send(self, frame: Mapping[str, Any]) -> None:
        """Queue a frame; dropped when the peer is gone (``on_close`` tells)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(frame))

    def close(self) -> None:
        """Flush and close."""
        if self._transport is not None:
            self._transport.close()

    def _break(self, reason: str) -> None:
        self._broken = reason
        if self._transport is not None:
            self._transport.abort()


class RequestWriter:
    """Turns requests into deltas against the previous request of the same path."""

    def __init__(self) -> None:
        self._last: dict[str, ModelRequest] = {}

    def write(self, request: ModelRequest, path: str) -> Frame:
        """The delta frame fields."""
        last = self._last.get(path)
        self._last[path] = request
        log = request.messages.log
        keep = 0 if last is None else log.shared_prefix(last.messages.log)
        frame: Frame = {"path": path, "keep": keep, "role": request.role}
        frame["add"] = [m.to_json() for m in log[keep:]]
        if request.messages.tail:
            frame["tail"] = [m.to_json() for m in request.messages.tail]
        if last is None or last.system != request.system:
            frame["system"] = request.system
        if last is None or last.tools != request.tools:
            frame["tools"] = [tool.to_json() for tool in request.tools]
        if request.sampling:
            frame["sampling"] = dict(request.sampling)
        return frame


class RequestReader:
    """Inverse of `RequestWriter`, on the side that does not trust it."""

    def __init__(self) -> None:
        self._log: dict[str, Conversation] = {}
        self._system: dict[str, str] = {}
        self._tools: dict[str, tuple[ToolSchema, ...]] = {}

    def read(self, frame: Frame) -> tuple[ModelRequest, str]:
        """The request and its path.

        Raises:
            WireError: a delta against nothing, or fields of wrong types.
        """
        path, keep = frame["path"], frame["keep"]
        before = self._log.get(path)
        if before is None:
            before = Conversation()
        if not isinstance(keep, int) or not 0 <= keep <= len(before):
            raise WireError(f"keep={keep!r} of {len(before)} messages")
        added = [Message.from_json(m) for m in frame["add"]]
        log = before.prefix(keep).append(*added) if added or keep != len(before) else before
        self._log[path] = log
        if "system" in frame:
            self._system[path] = _text(frame["system"])
        if "tools" in frame:
            tools = (ToolSchema(_text(t["name"]), _text(t["description"]), t["parameters"]) for t in frame["tools"])
            self._tools[path] = tuple(tools)
        tail = [Message.from_json(m) for m in frame.get("tail", ())]
        messages = log.with_tail(*tail) if tail else log
        system, tools_now = self._system[path], self._tools[path]
        return ModelRequest(system, messages, tools_now, _text(frame["role"]), frame.get("sampling")), path


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WireError(f"text expected, not {type(value).__name__}")
    return value


def error_to_json(error: BaseException) -> Frame:
    """An error as it crosses the wire."""
    match error:
        case LimitReached():
            return {"kind": "limit", "reason": error.reason.value, "message": str(error)}
        case ToolError():
            return {"kind": "tool", "message": str(error)}
        case ModelFailure():
            return {"kind": "model", "message": str(error), "transient": error.transient}
        case Failure():
            return {"kind": "failure", "source": error.source.value, "message": str(error)}
        case _:
            return {"kind": "other", "message": f"{type(error).__name__}: {error}"}


def error_from_json(data: Frame) -> Exception:
    """Inverse of `error_to_json`: what the worker's loop raises when the host refuses."""
    match data["kind"]:
        case "limit":
            return LimitReached(StopReason(data["reason"]), data["message"])
        case "tool":
            return ToolError(data["message"])
        case "model":
            return ModelFailure(data["message"], transient=bool(data["transient"]))
        case "failure":
            return Failure(Source(data["source"]), data["message"])
        case _:
            return Failure(Source.WORKER, data["message"])
