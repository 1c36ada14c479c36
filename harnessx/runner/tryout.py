"""The host's end of a smoke test: a process behind the wall, what it may take, and its answer, which is a claim.

The test belongs to the code it tests, and both run in the process that answers: so a pass is worth no more than
that of an empty test, and whoever relies on it replays the harness besides. A failure is worth a good reason.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from harnessx.harness import HarnessConfig
from harnessx.runner.folder import OwnFolder
from harnessx.sandbox.base import CAPS, Sandbox
from harnessx.sandbox.leash import Leash
from harnessx.sandbox.scratch import excess_of, furnish
from harnessx.sandbox.view import environment

MAX_ANSWER: Final = 1 << 16
"""Bytes that the process may say."""
MAX_ERROR = 500
"""Characters of an error."""
WATCH_S = 0.25
"""How often the host looks at what the test has written."""


@dataclass(frozen=True, slots=True)
class Tryout:
    """What came of it: ``tests`` ran, and ``error`` says why it is not ``ok``."""

    ok: bool
    tests: int = 0
    error: str = ""


async def try_out(sandbox: Sandbox, harness: HarnessConfig, tests: Mapping[str, str], timeout_s: float) -> Tryout:
    """Build ``harness`` and run ``tests`` (source by path) behind ``sandbox``; nothing of it is left after.

    Raises:
        OSError: no process can be started.
    """
    own = OwnFolder("harnessx-smoke-")
    folder, leash = os.path.realpath(own.name), Leash()
    try:
        home, order = furnish(folder), Path(folder, "order.json")
        order.write_text(json.dumps({"harness": harness.to_json(), "tests": dict(tests)}))
        with order.open("rb") as stdin:
            process = subprocess.Popen(
                sandbox.command("harnessx.runner.smoke", (), folder),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
                cwd=home,
                process_group=leash.group,
            )
        try:
            return await _outcome(process, Path(home), timeout_s)
        finally:
            leash.end()
            process.wait()
    finally:
        leash.end()
        own.cleanup()


async def _outcome(process: subprocess.Popen[bytes], home: Path, timeout_s: float) -> Tryout:
    assert process.stdout is not None
    said = asyncio.ensure_future(_said(process.stdout))
    excess = asyncio.ensure_future(_excess(home, process.pid))
    try:
        await asyncio.wait((said, excess), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if excess.done():
            return Tryout(False, error=f"the smoke test {excess.result()}")
        if said.done():
            return _claimed(said.result())
        return Tryout(False, error=f"no answer within {timeout_s:g} s")
    finally:
        excess.cancel()
        said.cancel()
        await asyncio.wait((said, excess))


async def _said(pipe: IO[bytes]) -> bytes:
    """All that the process says, or a little more than it may."""
    reader, said = asyncio.StreamReader(), bytearray()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    try:
        while len(said) <= MAX_ANSWER and (more := await reader.read(MAX_ANSWER)):
            said += more
    finally:
        transport.close()
    return bytes(said)


async def _excess(home: Path, pid: int) -> str:
    """What the test took too much of, as soon as it did."""
    while not (excess := excess_of(home, CAPS.disk_bytes, *_leaves(pid))):
        await asyncio.sleep(WATCH_S)
    return excess


def _leaves(pid: int) -> Iterator[int]:
    """The processes below ``pid`` that have none below them: the test is one of these."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it ended, or this kernel does not say
        below = []
    for child in below:
        yield from _leaves(int(child))
    if not below:
        yield pid


def _claimed(said: bytes) -> Tryout:
    """What the process says came of it; nothing it says can be anything but that, or a failure."""
    if len(said) > MAX_ANSWER:
        return Tryout(False, error=f"the process wrote more than {MAX_ANSWER >> 10} KB")
    try:
        answer = json.loads(said.rsplit(b"\n", 1)[-1])  # whatever else wrote there did so before
        ok, tests, error = answer["ok"], answer["tests"], answer["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return Tryout(False, error="the process died or wrote nonsense")
    if type(ok) is not bool or type(tests) is not int or not isinstance(error, str):
        return Tryout(False, error="the process wrote nonsense")
    return Tryout(ok, tests, _sayable(error))


def _sayable(error: str) -> str:
    """``error`` as it can be written down: half a surrogate pair has no encoding."""
    return error[:MAX_ERROR].encode(errors="replace").decode()
