"""One command of a shell behind a wall, with bounds on its time, its output and what it writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from harnessx.sandbox.base import CAPS
from harnessx.sandbox.program import WORKSPACE, enclosed, environment, limits
from harnessx.sandbox.scratch import excess_of

SHOWN = 6_000
"""Characters of an output that are shown, from its beginning and from its end."""
LOOK_S = 0.25
"""How often it is looked at what a command has written."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended. ``why`` says what ended it, if it did not itself."""

    output: str
    code: int
    why: str = ""


async def run(isolation: str, script: str, folder: Path, root: Path, timeout_s: float) -> Done:
    """Run ``script`` in ``folder`` (``/workspace`` where it runs); whatever it started ends with it.

    Args:
        isolation: a resolved name.
        root: an empty folder, where the wall may make a tree.

    Raises:
        UserError: that isolation has no wall for programs.
        OSError: the wall cannot be put up.
    """
    ours, theirs = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *enclosed(isolation, ("/bin/sh", "-c", script), str(folder), str(root)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environment(),
            start_new_session=True,
            preexec_fn=limits(int(timeout_s) + 1),
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    kept, watch = _Kept(), asyncio.ensure_future(_watch(process, folder, timeout_s))
    reading = asyncio.ensure_future(kept.read(ours))
    try:
        await process.wait()
    finally:
        watch.cancel()
        _kill(process)
        await process.wait()
        await asyncio.wait([reading], timeout=LOOK_S)  # what got away may hold the pipe
        reading.cancel()
        await asyncio.wait([reading, watch])
    why = watch.result() if not watch.cancelled() else excess_of(folder, CAPS.disk_bytes)
    return Done(kept.text.replace(str(folder), WORKSPACE), process.returncode or 0, why)


async def _watch(process: asyncio.subprocess.Process, folder: Path, timeout_s: float) -> str:
    """End the process once it takes too long or writes too much; says which."""
    left = timeout_s
    while left > 0:
        await asyncio.sleep(min(LOOK_S, left))
        left -= LOOK_S
        if excess := excess_of(folder, CAPS.disk_bytes):
            _kill(process)
            return excess
    _kill(process)
    return f"took longer than {timeout_s:g} s"


def _kill(process: asyncio.subprocess.Process) -> None:
    """End the whole group; the process namespace behind it, where there is one, ends too."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class _Kept:
    """The beginning and the end of an output; what lies between is read and forgotten."""

    def __init__(self) -> None:
        self._head, self._tail, self._size = bytearray(), bytearray(), 0

    async def read(self, handle: int) -> None:
        """Read a pipe to its end, and close it."""
        stream, loop = asyncio.StreamReader(), asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(handle, "rb"))
        try:
            await self._take(stream)
        finally:
            pipe.close()

    async def _take(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(1 << 16):
            self._size += len(chunk)
            room = 4 * SHOWN - len(self._head)
            self._head += chunk[:room]
            self._tail = (self._tail + chunk[room:])[-4 * SHOWN :] if len(chunk) > room else self._tail

    @property
    def text(self) -> str:
        """The output, with a line for what is left out."""
        whole = len(self._head) + len(self._tail) == self._size
        text = (self._head + (self._tail if whole else b"")).decode(errors="replace")
        if whole and len(text) <= 2 * SHOWN:
            return text
        end = text if whole else self._tail.decode(errors="replace")
        return f"{text[:SHOWN]}\n[… cut: {self._size:,} bytes in all …]\n{end[-SHOWN:]}"
