"""The host's errand to tool servers of the Model Context Protocol: `harnessx.servers.ToolServer` says which.

A session is an `Environment`, opened by its first call. What the agent asked wrongly, too much or too slowly is an
error result; a server that cannot be started, or answers nothing any more, is a `Failure` of source ``server``, and
the rollout is missing. Which of the two it is, a question to the server decides. The package `mcp` is imported here
and in `harnessx.runner.stdio`, inside functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harnessx.errors import Failure, HarnessxError, Source, ToolError, UserError
from harnessx.messages import ToolCall, ToolSchema
from harnessx.redaction import redact
from harnessx.runner.folder import OwnFolder
from harnessx.runner.stdio import TOO_LONG, harmless, speaking
from harnessx.sandbox.program import enclosed, environment
from harnessx.servers import Listing, ToolServer, looked_up, offered, plain
from harnessx.tasks import ToolResult

if TYPE_CHECKING:
    import httpx2
    from mcp import Client

MAX_PAGES = 16
"""Of a listing."""
ALIVE_S = 5.0
"""How long a server may take to show that it is there, after a call that got no answer."""
Wrap: TypeAlias = Callable[[Sequence[str]], contextlib.AbstractAsyncContextManager[tuple[list[str], str]]]
"""Puts a command behind a wall: what to start instead, and in which folder."""


class Session:
    """One rollout's connection to one server (an `Environment`).

    Args:
        listing: what is offered of it.
        walled: how a `ToolServer.walled` program is put behind a wall.
    """

    def __init__(self, listing: Listing, walled: Wrap | None = None) -> None:
        self._server, self._walled = listing.server, walled
        self._listing = listing
        self._life: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._http: _Bounded | None = None

    @property
    def tools(self) -> tuple[ToolSchema, ...]:
        """What the server offers."""
        return self._listing.tools

    async def reset(self) -> str:
        """A server says nothing of itself."""
        return ""

    async def step(self, call: ToolCall) -> ToolResult:
        """Ask the server to run its tool.

        Raises:
            ToolError: it says no, or its answer is too long, too late or none.
            Failure: it cannot be started, or is gone.
        """
        from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult

        name = call.name.removeprefix(f"{self._server.name}__")
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(call.arguments)))
        found = await self._asked(request, CallToolResult)
        return ToolResult(_readable(found, self._server.result_chars), bool(found.is_error))

    async def listed(self) -> Listing:
        """What the server offers now.

        Raises:
            UserError: it offers what cannot be taken over.
            Failure: it cannot be asked.
        """
        from mcp.types import ListToolsRequest, ListToolsResult, PaginatedRequestParams

        said: dict[str, tuple[str, dict[str, Any]]] = {}
        cursor = None
        for _ in range(MAX_PAGES):
            request = ListToolsRequest(params=PaginatedRequestParams(cursor=cursor))
            page = await self._asked(request, ListToolsResult)
            said |= {tool.name: (tool.description or "", dict(tool.input_schema)) for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                return offered(self._server, said)
        raise UserError(f"servers.{self._server.name} lists its tools on more than {MAX_PAGES} pages")

    async def close(self) -> None:
        """End the connection, and the program. Twice is no error."""
        self._over.set()
        if self._life is not None:
            await asyncio.wait([self._life])

    async def _asked(self, request: Any, kind: type[Any]) -> Any:
        from mcp.shared.exceptions import MCPError
        from pydantic import ValidationError

        client = await self._client()
        try:
            return await client.session.send_request(request, kind)
        except ValidationError as error:
            raise ToolError(f"{self._server.name} gave an answer that is none") from error
        except MCPError as error:
            if error.code == TOO_LONG or (self._http is not None and self._http.exceeded):
                raise ToolError(f"the answer is longer than {self._server.answer_bytes:,} bytes") from error
            if not await self._alive(client):
                raise self._gone(error) from error
            raise ToolError(_cut(plain(str(error)) or "no answer", 2_000)) from error
        except _transport_errors() as error:
            raise self._gone(error) from error

    async def _alive(self, client: Client) -> bool:
        """Whether the server answers at all: then a call that got no answer was at fault, and not the server."""
        from mcp.shared.exceptions import MCPError
        from mcp.types import ListToolsRequest, ListToolsResult

        try:
            async with asyncio.timeout(ALIVE_S):
                await client.session.send_request(ListToolsRequest(), ListToolsResult)
        except (MCPError, ValueError):
            return False
        except _transport_errors():  # a timeout among them
            return False
        return True

    def _gone(self, error: BaseException) -> Failure:
        said = redact(_cut(plain(str(error)) or type(error).__name__, 300))
        return Failure(Source.SERVER, f"{self._server.name}: {said}")

    async def _client(self) -> Client:
        """The open connection. It lives in a task of its own: what opens it there, closes it there."""
        if self._life is None:
            self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
            self._life = asyncio.ensure_future(self._live())
        return await asyncio.shield(self._ready)

    async def _live(self) -> None:
        from mcp import Client

        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # what a server sends is no matter for this terminal
        server = self._server
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(server.timeout_s):
                    transport = await stack.enter_async_context(self._transport())
                    client = Client(transport, read_timeout_seconds=server.timeout_s, cache=None)
                    await stack.enter_async_context(client)
                self._ready.set_result(client)
                await self._over.wait()
        except HarnessxError as error:
            self._settle(error)
        except TimeoutError:
            self._settle(self._gone(TimeoutError(f"it does not begin within {server.timeout_s:g} s")))
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  (a library of many layers; the cause is told)
            self._settle(self._gone(_innermost(error)))

    def _settle(self, error: Exception) -> None:
        """Who waits for the connection is told why there is none; who has it finds out at the next call."""
        if not self._ready.done():
            self._ready.set_exception(error)

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        """What a client of the package takes for a transport."""
        server = self._server
        if server.url:
            from mcp.client.streamable_http import streamable_http_client

            self._http, client = _http_client(server)
            async with client:
                yield streamable_http_client(
                    server.url, http_client=client, terminate_on_close=True, max_sse_event_size=None
                )
            return
        env = looked_up(f"servers.{server.name}.env", server.env)
        async with contextlib.AsyncExitStack() as stack:
            command, folder, told = list(server.command), None, harmless()
            if self._walled is not None:
                command, folder = await stack.enter_async_context(self._walled(command))
                told = environment()
            yield speaking(command, {**told, **env}, server.answer_bytes, folder)


def _transport_errors() -> tuple[type[Exception], ...]:
    """What a connection that is over raises at who still uses it."""
    import anyio

    return (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, OSError, RuntimeError)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Bounded:
    """What a server of streamable HTTP may send in one answer; a coded answer is refused, for it may unfold."""

    def __init__(self, most: int) -> None:
        self.most, self.exceeded = most, False


def _http_client(server: ToolServer) -> tuple[_Bounded, httpx2.AsyncClient]:
    """A client without proxies, cookies or keys of this process, that reads bounded answers."""
    import httpx2

    bound = _Bounded(server.answer_bytes)

    class Stream(httpx2.AsyncByteStream):
        def __init__(self, inner: Any) -> None:
            self._inner, self._size = inner, 0

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._inner:
                self._size += len(chunk)
                if self._size > bound.most:
                    bound.exceeded = True
                    raise httpx2.StreamError("the answer is too long")
                yield chunk

        async def aclose(self) -> None:
            await self._inner.aclose()

    class Transport(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST":
                bound.exceeded = False
            response = await super().handle_async_request(request)
            if response.headers.get("content-encoding", "identity") != "identity":
                await response.aclose()
                raise httpx2.DecodingError("the answer is coded, which was not asked for")
            response.stream = Stream(response.stream)
            return response

    headers = {"accept-encoding": "identity", **looked_up(f"servers.{server.name}.headers", server.headers)}
    patience = httpx2.Timeout(server.timeout_s, read=None)  # the session bounds each answer
    client = httpx2.AsyncClient(transport=Transport(), headers=headers, timeout=patience, trust_env=False)
    return bound, client


def _readable(found: Any, most: int) -> str:
    """A result as a model reads it: texts as they are, of anything else what it is."""
    parts: list[str] = []
    for block in found.content:
        resource = getattr(block, "resource", None)
        text = getattr(block, "text", None) if resource is None else getattr(resource, "text", None)
        if text is None:
            kind = getattr(resource or block, "mime_type", None) or getattr(block, "type", "data")
            where = getattr(resource or block, "uri", "")
            text = f"[{kind}{f' at {where}' if where else ''}, not shown]"
        parts.append(str(text))
    if not parts and found.structured_content is not None:
        parts.append(json.dumps(found.structured_content, ensure_ascii=False))
    return _cut(plain("\n".join(parts)), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n[cut: the first {most:,} of {len(text):,} characters]"


def walled(server: ToolServer, isolation: str) -> Wrap | None:
    """How the program of ``server`` is put behind a wall, for `Session`; None where it is not to be."""
    if not server.walled:
        return None

    @contextlib.asynccontextmanager
    async def wrap(command: Sequence[str]) -> AsyncIterator[tuple[list[str], str]]:
        folder = OwnFolder("harnessx-server-")
        try:
            home, root = (Path(folder.name).resolve() / name for name in ("work", "root"))
            home.mkdir(0o700)
            root.mkdir(0o700)
            yield enclosed(isolation, command, str(home), str(root), server.read), str(home)
        except UserError as error:
            raise Failure(Source.SANDBOX, f"{server.name}: {error}") from error
        finally:
            folder.cleanup()

    return wrap
