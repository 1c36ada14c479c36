"""A program that speaks the Model Context Protocol on its standard streams: lines of bounded length, and its end.

The `mcp` package's own transport keeps a line whole in memory however long it is, and hands the program this
process's environment. Here a line that is too long is passed over while it is read, and who waits is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from io import FileIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

TOO_LONG = -32_055
"""Code of the error that stands for an answer of more bytes than allowed; of those that JSON-RPC leaves free."""
EXIT_S = 0.5
"""How long a program may take to end once its input has."""
_CHUNK = 1 << 16
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM")


def harmless() -> dict[str, str]:
    """Of this process's environment, what any program may know."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


@contextlib.asynccontextmanager
async def speaking(command: Sequence[str], env: Mapping[str, str], most: int, cwd: str | None = None) -> AsyncIterator[
    tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]
]:  # fmt: skip
    """The two streams of a client session with a fresh process of ``command``, whose whole group ends with this.

    Args:
        env: all that the program is told.
        most: bytes of a line.

    Raises:
        OSError: the program cannot be started.
    """
    ours, theirs = os.pipe()  # our own: asyncio waits for a process until the pipes that it made are read to the end
    with open(ours, "rb", buffering=0) as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=theirs,
                stderr=asyncio.subprocess.DEVNULL,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        async with _streams(process, output, most) as streams:
            yield streams


@contextlib.asynccontextmanager
async def _streams(process: asyncio.subprocess.Process, output: FileIO, most: int) -> AsyncIterator[Any]:
    """The two streams of a client session with ``process``, which ends with this."""
    import anyio

    stdout, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), output)
    heard, reading = anyio.create_memory_object_stream[Any](0)
    writing, said = anyio.create_memory_object_stream[Any](0)
    line = _Line(process, stdout, most)
    work = [asyncio.ensure_future(line.read(heard)), asyncio.ensure_future(line.write(said, heard))]
    try:
        yield reading, writing
    finally:
        for task in work:
            task.cancel()
        await asyncio.shield(_end(process))
        pipe.close()
        await asyncio.gather(*work, return_exceptions=True)
        for stream in (heard, reading, writing, said):
            stream.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the program and all it has started in its group."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EXIT_S):
            await process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


class _Line:
    """The two directions of one program."""

    def __init__(self, process: asyncio.subprocess.Process, stdout: asyncio.StreamReader, most: int) -> None:
        self._process, self._stdout, self._most = process, stdout, most
        self._open: set[Any] = set()
        """Requests that have no answer yet."""

    async def read(self, heard: Any) -> None:
        """Hand on each line that is a message; others are passed over. The end of the program ends the stream."""
        import anyio
        from mcp.shared.message import SessionMessage
        from mcp.types import jsonrpc_message_adapter

        stdout, buffer, skipping = self._stdout, bytearray(), False
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError), heard:
            while chunk := await stdout.read(_CHUNK):
                buffer += chunk
                while (end := buffer.find(b"\n")) >= 0:
                    line, buffer = bytes(buffer[:end]), buffer[end + 1 :]
                    if skipping or len(line) > self._most:
                        await self._give_up(heard)
                        skipping = False
                        continue
                    with contextlib.suppress(ValueError):  # a line for people
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                        self._open.discard(getattr(message, "id", None))
                        await heard.send(SessionMessage(message))
                if len(buffer) > self._most:
                    skipping = True
                    buffer.clear()

    async def _give_up(self, heard: Any) -> None:
        """Who waits for an answer gets an error: whose it was, its line would have said."""
        from mcp.shared.message import SessionMessage
        from mcp.types import ErrorData, JSONRPCError

        for ident in sorted(self._open, key=str):
            error = ErrorData(code=TOO_LONG, message=f"the answer is longer than {self._most:,} bytes")
            await heard.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=ident, error=error)))
        self._open.clear()

    async def write(self, said: Any, heard: Any) -> None:
        """Pass on what the session says; a program that takes nothing any more has ended."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            async for item in said:
                message = item.message
                if getattr(message, "method", None) is not None and getattr(message, "id", None) is not None:
                    self._open.add(message.id)
                stdin.write(message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await stdin.drain()
        except (OSError, ValueError):
            heard.close()
