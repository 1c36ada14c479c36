"""A real HTTP server on loopback that does what its paths say, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Server(ThreadingHTTPServer):
    """``asked`` holds (method, path, headers, body) of every request, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def host(self) -> str:
        """As it is named in ``sandbox.allow_hosts``."""
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.server.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/count":
                self._say(f"answer {len(self.server.asked)}")
            case "/say":
                self._say(query["text"])
            case "/status":
                self._say("no", int(query["code"]), **{"retry-after": "0"})
            case "/busy":
                self._say("late", 503 if len(self.server.asked) < 3 else 200)
            case "/to":
                self._say("", int(query.get("code", "302")), location=query["url"])
            case "/loop":
                self._say("", 302, location="/loop")
            case "/big":
                self._say("x" * int(query["size"]))
            case "/slow":
                time.sleep(float(query["s"]))
                self._say("at last")
            case "/bytes":
                self._say(bytes(range(256)))
            case _:
                self._say("nothing here", 404)

    do_POST = do_HEAD = do_GET

    def _say(self, body: str | bytes, status: int = 200, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server, until the block ends."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
