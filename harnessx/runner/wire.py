"""The wire between host and worker: length-prefixed JSON frames that carry deltas.

A frame is a 4-byte big-endian length and a JSON object with a ``t`` (type). A message crosses once: a
request is "the first ``keep`` messages of the previous request of this path, then ``add``, then
``tail`` for this request only"; system prompt and tools cross when they change. So a step costs
O(new content) on the wire. Nothing is ever unpickled or imported.

Whatever arrives is checked here, once: size, depth and encoding of a frame, the type of every field of
a request. What passes can be hashed, stored and written down; what does not is a `WireError`, and ends
the connection.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, get_args

from harnessx.canonical import json_line
from harnessx.delegation import Allowance
from harnessx.errors import Failure, FetchRefused, LimitReached, ModelFailure, Source, StopReason, ToolError
from harnessx.messages import Conversation, Message, ModelRequest, Part, Role, ToolCall, ToolSchema
from harnessx.web import Fetch, body_from_json

VERSION = 5
MAX_FRAME = 32 * 1024 * 1024
"""Bytes a worker may send at once."""
MAX_DEPTH = 100
"""Levels of nesting in a frame: far below where encoders give up."""
MAX_PATHS = 64
"""Callers within one rollout."""
SAMPLING = frozenset(
    "temperature top_p top_k max_tokens stop seed presence_penalty frequency_penalty reasoning_effort".split()
)
"""What a harness may set for a request. Where the request goes, and with which key, is the host's alone."""
Frame: TypeAlias = dict[str, Any]

_ROLES = get_args(Role)


class WireError(Exception):
    """The peer sent something that is not a frame of this protocol."""


def pack(frame: Mapping[str, Any]) -> bytes:
    """One frame as bytes."""
    body = json_line(frame)
    return len(body).to_bytes(4, "big") + body


class Channel(asyncio.Protocol):
    """Frames over a stream socket.

    Args:
        on_frame: called with each frame; a `WireError`, `KeyError`, `TypeError` or `ValueError` that it
            raises means the frame was malformed.
        on_close: called once, with the reason ('' where the peer is just gone).
        limit: bytes of the longest frame that is accepted.
    """

    def __init__(
        self, on_frame: Callable[[Frame], None], on_close: Callable[[str], None], limit: int = MAX_FRAME
    ) -> None:
        self._on_frame, self._on_close, self._limit = on_frame, on_close, limit
        self._buffer = bytearray()
        self.received = 0
        """Bytes, from the beginning."""
        self._transport: asyncio.Transport | None = None
        self._broken = ""

    @classmethod
    async def over(
        cls,
        sock: socket.socket,
        on_frame: Callable[[Frame], None],
        on_close: Callable[[str], None],
        limit: int = MAX_FRAME,
    ) -> Channel:
        """A channel on a connected socket, which it then owns."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(on_frame, on_close, limit), sock=sock)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        self._buffer += data
        self.received += len(data)
        kind = "?"
        try:
            for body in bodies(self._buffer, self._limit):
                kind = "?"
                frame = unpack(body)
                kind = frame["t"]
                self._on_frame(frame)
        except WireError as error:
            self._break(str(error))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            self._break(f"a malformed {kind!r} frame ({type(error).__name__}: {error})")

    def connection_lost(self, exc: Exception | None) -> None:
        gone = exc is None or isinstance(exc, ConnectionError)  # a peer that was killed says nothing either way
        self._on_close(self._broken or ("" if gone else str(exc)))

    def send(self, frame: Mapping[str, Any]) -> None:
        """Queue a frame; dropped when the peer is gone (``on_close`` tells)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(frame))

    def close(self) -> None:
        """Flush and close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what was queued is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _break(self, reason: str) -> None:
        self._broken = reason
        self.abort()


def bodies(buffer: bytearray, limit: int = MAX_FRAME) -> Iterator[bytes]:
    """Cut the frames that are complete off the front of ``buffer``.

    Raises:
        WireError: a frame longer than ``limit`` bytes.
    """
    start = 0
    try:
        while len(buffer) - start >= 4:
            length = int.from_bytes(buffer[start : start + 4], "big")
            if length > limit:
                raise WireError(f"a frame of {length} bytes (at most {limit})")
            end = start + 4 + length
            if len(buffer) < end:
                return
            body, start = bytes(buffer[start + 4 : end]), end
            yield body
    finally:
        del buffer[:start]


def unpack(body: bytes) -> Frame:
    """The frame in ``body``.

    Raises:
        WireError: not a JSON object with a type, nested too deeply, or text that no encoding can hold.
    """
    try:
        frame = json.loads(body.decode())
        if b"\\u" in body:  # the one way in for half a surrogate pair, which nothing can store
            json_line(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame that is not JSON ({error})") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("t"), str):
        raise WireError("a frame without a type")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and not _fits(frame, MAX_DEPTH):
        raise WireError(f"a frame nested more than {MAX_DEPTH} deep")
    return frame


def _fits(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return not isinstance(value, list) or (depth > 0 and all(_fits(item, depth - 1) for item in value))


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
        path, keep = _text(frame["path"]), frame["keep"]
        before = self._log.get(path)
        if before is None:
            if len(self._log) == MAX_PATHS:
                raise WireError(f"more than {MAX_PATHS} paths")
            before = Conversation()
        if not isinstance(keep, int) or not 0 <= keep <= len(before):
            raise WireError(f"keep={keep!r} of {len(before)} messages")
        added = [_message(m) for m in frame["add"]]
        log = before.prefix(keep).append(*added) if added or keep != len(before) else before
        self._log[path] = log
        if "system" in frame:
            self._system[path] = _text(frame["system"])
        if "tools" in frame:
            self._tools[path] = tuple(_schema(t) for t in frame["tools"])
        tail = [_message(m) for m in frame.get("tail", ())]
        messages = log.with_tail(*tail) if tail else log
        system, tools = self._system[path], self._tools[path]
        return ModelRequest(system, messages, tools, _text(frame["role"]), _sampling(frame.get("sampling"))), path


def read_call(data: Mapping[str, Any]) -> ToolCall:
    """A tool call of the side that is not trusted.

    Raises:
        WireError, KeyError, TypeError, ValueError: fields missing, or of wrong types.
    """
    call = ToolCall(_text(data["id"]), _text(data["name"]), data["arguments"], data.get("raw"))
    if not isinstance(call.arguments, dict) or not (call.raw is None or isinstance(call.raw, str)):
        raise WireError(f"a call of {call.name!r} with arguments that are no object")
    return call


def read_allowances(data: object) -> list[Allowance]:
    """What the side that is not trusted asks for its sub-agents.

    Raises:
        WireError, KeyError: fields missing, or of wrong types.
    """
    if not isinstance(data, list):
        raise WireError("allowances that are no list")
    return [_allowance(row["steps"], row["tokens"], row["usd"]) for row in data]


def _allowance(steps: Any, tokens: Any, usd: Any) -> Allowance:
    whole = type(steps) is int and steps > 0 and (tokens is None or (type(tokens) is int and tokens > 0))
    if not whole or not (usd is None or (type(usd) in (int, float) and 0 < usd < math.inf)):
        raise WireError(f"an allowance of {steps!r} steps, {tokens!r} tokens, {usd!r} USD")
    return Allowance(steps, tokens, usd)


def read_fetch(data: Mapping[str, Any]) -> Fetch:
    """A request to the network of the side that is not trusted: well formed, and not yet allowed.

    Raises:
        WireError, KeyError, ValueError: fields missing, or of wrong types.
    """
    headers = data["headers"]
    if not isinstance(headers, dict):
        raise WireError("a request whose headers are no object")
    body = {kind: _text(data[kind]) for kind in ("text", "latin1") if kind in data}
    return Fetch(
        _text(data["url"]),
        _text(data["method"]),
        {name: _text(value) for name, value in headers.items()},
        body_from_json(body),
    )


def _message(data: Mapping[str, Any]) -> Message:
    content, ident, extra = data["content"], data.get("tool_call_id"), data.get("extra")
    if data["role"] not in _ROLES:
        raise WireError(f"a message of role {data['role']!r}")
    if not (ident is None or isinstance(ident, str)) or not (extra is None or isinstance(extra, dict)):
        raise WireError("a message with a tool_call_id or extra of a wrong type")
    if not isinstance(content, str):
        content = tuple(_part(part) for part in content)
    calls = data.get("tool_calls")
    return Message(data["role"], content, tuple(map(read_call, calls)) if calls else (), ident, extra)


def _part(data: Mapping[str, Any]) -> Part:
    if data["kind"] not in ("text", "image", "file"):
        raise WireError(f"content of kind {data['kind']!r}")
    return Part(data["kind"], *(_text(data.get(name, "")) for name in ("text", "sha256", "media_type")))


def _schema(data: Mapping[str, Any]) -> ToolSchema:
    if not isinstance(data["parameters"], dict):
        raise WireError("a tool whose parameters are no object")
    return ToolSchema(_text(data["name"]), _text(data["description"]), data["parameters"])


def _sampling(data: object) -> dict[str, Any] | None:
    if data is None:
        return None
    if not isinstance(data, dict) or not data.keys() <= SAMPLING:
        raise WireError(f"sampling {data!r}; a harness may set {', '.join(sorted(SAMPLING))}")
    return data


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WireError(f"text expected, not {type(value).__name__}")
    return value


def error_to_json(error: BaseException) -> Frame:
    """An error as it crosses the wire."""
    match error:
        case LimitReached():
            return {"kind": "limit", "reason": error.reason.value, "message": str(error)}
        case FetchRefused():
            return {"kind": "refused", "message": str(error)}
        case ToolError():
            return {"kind": "tool", "message": str(error)}
        case ModelFailure():
            return {"kind": "model", "message": unprefixed(error), "transient": error.transient}
        case Failure():
            return {"kind": "failure", "source": error.source.value, "message": unprefixed(error)}
        case _:
            return {"kind": "other", "message": f"{type(error).__name__}: {error}"}


def unprefixed(failure: Failure) -> str:
    """What a failure says, without its source: a `Failure` made from it says the same again."""
    return str(failure).removeprefix(f"{failure.source}: ")


def error_from_json(data: Frame) -> Exception:
    """Inverse of `error_to_json`: what the worker's loop raises when the host refuses."""
    match data["kind"]:
        case "limit":
            return LimitReached(StopReason(data["reason"]), data["message"])
        case "refused":
            return FetchRefused(data["message"])
        case "tool":
            return ToolError(data["message"])
        case "model":
            return ModelFailure(data["message"], transient=bool(data["transient"]))
        case "failure":
            return Failure(Source(data["source"]), data["message"])
        case _:
            return Failure(Source.WORKER, data["message"])
