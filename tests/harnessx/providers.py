"""Providers on loopback that keep books: they speak OpenAI's, Anthropic's and Ollama's protocols.

Every request is answered by the next line of a script, or refused; what was answered is counted as the provider
itself would bill it, whether or not the answer was of any use.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Books:
    """Tokens by the provider's own count."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    answers: list[dict[str, Any]] = field(default_factory=list)


class Endpoint(ThreadingHTTPServer):
    """The provider. The path of a request says which protocol it is of."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[tuple[int, Any]] = []
        self.loop: Any = None
        """Said once the script is over."""
        self.served, self.fingerprint = "served-1", ""
        self.seen: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.books = Books()
        self.guard = threading.Lock()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def v1(self) -> str:
        return f"{self.base}/v1"

    def says(self, content: str = "", calls: tuple[tuple[str, str], ...] = (), **more: Any) -> None:
        """Answer next with ``content`` and ``calls`` (name, arguments as text); ``more`` by protocol."""
        self.script.append((200, {"content": content, "calls": calls, **more}))

    def fails(self, status: int, message: str = "no luck") -> None:
        self.script.append((status, message))


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """The provider, while it is there."""
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/api/show"):  # what LiteLLM asks Ollama beside every call, about the model
            self._send(404, {"error": "no such model"})
            return
        with server.guard:
            server.seen.append(body)
            server.paths.append(self.path)
            status, said = server.script.pop(0) if server.script else (200, server.loop)
            data = self._answer(body, said) if status == 200 else {"error": {"message": said, "type": "x"}}
        self._send(status, data)

    def _send(self, status: int, data: dict[str, Any]) -> None:
        text = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _answer(self, body: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        prompt, completion = len(json.dumps(body)) // 4, 1 + len(json.dumps(said)) // 4
        cached = prompt * said.get("cached_percent", 0) // 100
        server, books = self.server, self.server.books
        books.prompt, books.completion = books.prompt + prompt, books.completion + completion
        books.cached += cached
        make = _anthropic if self.path.endswith("/messages") else _ollama if "/api/" in self.path else _openai
        answer = make(body, said, prompt, completion, cached)
        answer |= {"model": server.served}
        if make is _openai and server.fingerprint:
            answer["system_fingerprint"] = server.fingerprint
        books.answers.append(answer)
        return answer

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _openai(body: Any, said: Any, prompt: int, completion: int, cached: int) -> dict[str, Any]:
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": text}}
        for i, (name, text) in enumerate(said["calls"])
    ]
    message = {"role": "assistant", "content": said["content"] or None, **said.get("message", {})}
    choice = {"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}
    if calls:
        message["tool_calls"] = calls
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    usage["prompt_tokens_details"] = {"cached_tokens": cached}
    choices = [] if said.get("no_choice") else [choice]
    return {"id": "x", "object": "chat.completion", "created": 1, "choices": choices, "usage": usage}


def _anthropic(body: Any, said: Any, prompt: int, completion: int, cached: int) -> dict[str, Any]:
    content = [*said.get("thinking", []), *([{"type": "text", "text": said["content"]}] if said["content"] else [])]
    for i, (name, text) in enumerate(said["calls"]):
        content.append({"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": json.loads(text)})
    written = said.get("written", 0)
    usage = {"input_tokens": prompt - cached - written, "cache_read_input_tokens": cached}
    usage |= {"cache_creation_input_tokens": written, "output_tokens": completion}
    reason = "tool_use" if said["calls"] else "end_turn"
    head = {"id": "m", "type": "message", "role": "assistant"}
    return {**head, "content": content, "stop_reason": reason, "usage": usage}


def _ollama(body: Any, said: Any, prompt: int, completion: int, cached: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said["content"]}
    if said["calls"]:
        message["tool_calls"] = [{"function": {"name": n, "arguments": json.loads(a)}} for n, a in said["calls"]]
    counts = {"prompt_eval_count": prompt, "eval_count": completion}
    return {"created_at": "2026-01-01T00:00:00Z", "message": message, "done": True, "done_reason": "stop", **counts}
