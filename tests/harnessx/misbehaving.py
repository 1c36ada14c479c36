"""A provider on loopback that misbehaves on a schedule, and a thin client of it for tests that need no LiteLLM.

It speaks the OpenAI chat-completions protocol. Asked as the model of `runner_world`, it says three words and
is done; every request is answered, or spoilt, as the schedule says.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from harnessx.canonical import digest_of
from harnessx.errors import ModelFailure
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, Usage
from harnessx.models.base import CallContext

OK = "ok"
FAULTS = ("429", "429 after", "500", "hang", "truncated", "not json", "wrong schema", "huge", "reset")
"""What can go wrong; ``429 after`` names the seconds to wait."""
AFTER_S = 0.2
HANG_S = 3.0
TURNS = 3
Schedule = Callable[[int, Mapping[str, Any]], str]
"""The number of the request and its body -> `OK`, or one of `FAULTS`."""


def in_turn(kinds: Sequence[str]) -> Schedule:
    """One kind after the other, then all is well."""
    return lambda n, body: kinds[n] if n < len(kinds) else OK


def at_random(share: float, kinds: Sequence[str], seed: int = 0) -> Schedule:
    """A fault with probability ``share``."""

    def choose(n: int, body: Mapping[str, Any]) -> str:
        rng = random.Random(f"{seed}/{n}")
        return rng.choice(kinds) if rng.random() < share else OK

    return choose


@dataclass(frozen=True)
class Request:
    """One request, as the provider saw it."""

    at: float
    kind: str
    at_once: int
    body: Mapping[str, Any]


class Misbehaving(ThreadingHTTPServer):
    """The provider. ``latency`` seconds pass before an answer, none before a refusal."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, schedule: Schedule, latency: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.schedule, self.latency = schedule, latency
        self.seen: list[Request] = []
        self.running = 0
        self.guard = threading.Lock()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def count(self, kind: str) -> int:
        return sum(request.kind == kind for request in self.seen)

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up on a huge answer has a reason."""


@contextmanager
def misbehaving(schedule: Schedule, latency: float = 0.0) -> Iterator[Misbehaving]:
    """The provider, while it is there."""
    server = Misbehaving(schedule, latency)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Misbehaving
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.guard:
            server.running += 1
            kind = server.schedule(len(server.seen), body)
            server.seen.append(Request(time.monotonic(), kind, server.running, body))
        try:
            self._answer(kind, body)
        finally:
            with server.guard:
                server.running -= 1

    def _answer(self, kind: str, body: Mapping[str, Any]) -> None:
        whole = json.dumps(_completion(body)).encode()
        if not kind.startswith("429"):
            time.sleep(HANG_S if kind == "hang" else self.server.latency)
        match kind:
            case "429" | "429 after":
                after = {"retry-after": str(AFTER_S)} if kind == "429 after" else {}
                self._send(429, b'{"error": {"message": "slow down"}}', **after)
            case "500" | "401":
                self._send(int(kind), b'{"error": {"message": "no luck"}}')
            case "truncated":
                self._send(200, whole[: len(whole) // 2], announced=len(whole))
                self._reset()
            case "not json":
                self._send(200, whole[:-9])
            case "wrong schema":
                self._send(200, b'{"id": "x", "object": "chat.completion", "choices": []}')
            case "huge":
                self._send(200, json.dumps(_completion(body, "x" * 10_000_000)).encode())
            case "reset":
                self._reset()
            case _:
                self._send(200, whole)

    def _send(self, status: int, data: bytes, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data) if announced is None else announced))
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        """Hang up without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _completion(body: Mapping[str, Any], content: str = "done") -> dict[str, Any]:
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if turn < TURNS and body.get("tools") and content == "done":
        function = {"name": "say", "arguments": json.dumps({"text": f"word {turn}"})}
        message |= {"content": None, "tool_calls": [{"id": f"c{turn}", "type": "function", "function": function}]}
    reason = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "served-1",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip


@dataclass
class Thin:
    """A client of the protocol above in few lines, which starts at once."""

    port: int
    price: float | None = None
    name: str = "thin"
    digest: str = field(default="thin-1", init=False)
    remote: ClassVar[bool] = True

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        try:
            status, headers, body = await self._post(json.dumps(self._written(request)).encode())
            if status != 200:
                after = float(headers["retry-after"]) if "retry-after" in headers else None
                transient = status in (408, 429) or status >= 500
                raise ModelFailure(f"thin: {status}", transient=transient, status=status, retry_after=after)
            return self._read(json.loads(body))
        except (OSError, EOFError, ValueError, LookupError) as error:
            raise ModelFailure(f"thin: {type(error).__name__}: {error}") from error

    async def _post(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"POST /v1 HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            return int(status.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
        finally:
            writer.close()

    def _written(self, request: ModelRequest) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        return {"messages": messages, "tools": [tool.name for tool in request.tools], "of": digest_of([request.system])}

    def _read(self, body: Mapping[str, Any]) -> ModelResponse:
        message = body["choices"][0]["message"]
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls", ())
        )
        return ModelResponse(message["content"] or "", calls, Usage(7, 3, 0, self.price), "served-1")
