"""Whatever arrives on the wire is read, or ends the connection with a reason; nothing else can happen."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_host import host

from harnessx.messages import Conversation, ModelRequest
from harnessx.runner.isolation import _Supervisor
from harnessx.runner.wire import (
    MAX_FRAME,
    Channel,
    RequestReader,
    WireError,
    bodies,
    error_from_json,
    pack,
    read_call,
    unpack,
)
from harnessx.runner.worker import failure_from

CASES = 500
FRAMES: list[dict[str, Any]] = [
    {"t": "complete", "id": 1, "path": "main", "keep": 0, "role": "main", "system": "", "tools": [
        {"name": "t", "description": "", "parameters": {}}], "sampling": {"seed": 1},
     "add": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"kind": "text", "text": "x"}],
             "tool_calls": [{"id": "c", "name": "t", "arguments": {"a": [1]}}]},
             {"role": "tool", "content": "r", "tool_call_id": "c", "extra": {"x": 1}}],
     "tail": [{"role": "user", "content": "b"}]},
    {"t": "complete", "id": 2, "path": "main", "keep": 1, "role": "main", "add": []},
    {"t": "call", "id": 3, "call": {"id": "c", "name": "t", "arguments": {}, "raw": None}},
    {"t": "fetch", "id": 4, "url": "http://a.org/", "method": "POST", "headers": {"a": "b"}, "text": "c"},
    {"t": "end", "stop": "finished", "answer": "a", "claims": {}},
    {"t": "failed", "kind": "failure", "source": "worker", "message": "m"},
    {"t": "failed", "kind": "contract", "at": ["p", "h", "f", "d"]},
]  # fmt: skip
DEEP: Any = 1
for _ in range(300):
    DEEP = [DEEP]
NASTY: list[Any] = [None, True, -1, 1.5, 10**30, "", "\ud800", "x" * 5000, [], {}, [[]], {"a": 1}, [None], DEEP,
                    float("nan"), {"kind": "text"}, "main[1]", "judge", "victory", {"": {"": []}}]  # fmt: skip


def wounded(frame: Any, rng: random.Random) -> Any:
    """A frame with one place replaced, removed or added."""
    frame = json.loads(json.dumps(frame))
    holder, key, at = None, None, frame
    while isinstance(at, dict | list) and at and (holder is None or rng.random() < 0.7):
        holder, key = at, rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        at = at[key]
    match rng.randrange(3):
        case 0:
            holder[key] = rng.choice(NASTY)
        case 1:
            del holder[key]
        case _ if isinstance(holder, dict):
            holder[rng.choice(["x", "t", "tail", "system", "raw", "extra"])] = rng.choice(NASTY)
    return frame


def stream(rng: random.Random) -> bytes:
    """Some frames, whole or wounded, as bytes that may be bent, cut or lengthened."""
    data = bytearray()
    for _ in range(rng.choice((1, 2, 4))):
        frame = rng.choice(FRAMES)
        for _ in range(rng.choice((0, 1, 1, 2))):
            frame = wounded(frame, rng)
        body = json.dumps(frame).encode()
        data += len(body).to_bytes(4, "big") + body
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        spot = rng.randrange(len(data) + 1)
        data[spot : spot + rng.choice((0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 4)))
    return bytes(data)


def many(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(max_examples=count, deadline=None, database=None, derandomize=count < 5000,
                    suppress_health_check=list(HealthCheck))  # fmt: skip


seeds = st.integers(0, 2**64).map(random.Random)
READ = (WireError, KeyError, TypeError, ValueError, RecursionError)
"""What a reader may raise: `Channel` turns each into the end of the connection."""


def attempt(read: Callable[[], object]) -> None:
    try:
        read()
    except READ:
        return


def readers(rng: random.Random) -> None:
    """Each reader by itself; a request that passes can be hashed and stored."""
    reader = RequestReader()
    buffer = bytearray(stream(rng))

    def frames() -> None:
        for body in bodies(buffer):
            frame = unpack(body)
            attempt(lambda frame=frame: hashed(reader, frame))
            attempt(lambda frame=frame: read_call(frame["call"]))
            attempt(lambda frame=frame: failure_from(frame))
            attempt(lambda frame=frame: error_from_json(frame))

    attempt(frames)
    assert len(buffer) <= MAX_FRAME


def hashed(reader: RequestReader, frame: dict[str, Any]) -> None:
    request, path = reader.read(frame)
    assert isinstance(request, ModelRequest)
    assert isinstance(request.messages, Conversation)
    assert len(request.digest()) == 32
    pack({"path": path, "messages": [message.to_json() for message in request.messages]})


async def supervised(rng: random.Random) -> None:
    """The host's end of a worker that sends the stream and hangs up: an ending or a failure, at once."""
    supervisor = _Supervisor(host(), 0, Path(), 5.0)  # never run: it has no process
    closed: list[str] = []

    def on_close(reason: str) -> None:
        closed.append(reason)
        supervisor._on_close(reason)

    channel = Channel(supervisor._on_frame, on_close)
    supervisor._channel = channel
    data = stream(rng)
    while data:
        size = rng.randrange(1, len(data) + 1)
        channel.data_received(data[:size])
        data = data[size:]
    await asyncio.sleep(0)
    for task in list(supervisor._serving):
        await asyncio.wait([task], timeout=5)
    channel.connection_lost(None)
    assert supervisor._ending.done()
    assert len(closed) == 1
    error = supervisor._ending.exception()
    assert error is None or str(error)


@many(CASES)
@given(seeds)
def test_what_is_no_request_is_refused_and_what_is_one_can_be_stored(rng):
    readers(rng)


@many(100)
@given(seeds)
def test_a_worker_that_talks_nonsense_comes_to_an_end_with_a_reason(rng):
    asyncio.run(supervised(rng))


def test_some_of_the_nonsense_is_read():
    """Else nothing would have been tested behind the first check."""
    reader, read = RequestReader(), 0
    for seed in range(50):
        rng = random.Random(seed)
        frame = wounded(FRAMES[0], rng)
        try:
            reader.read(unpack(json.dumps(frame).encode()))
            read += 1
        except READ:
            continue
    assert 5 < read < 45


@pytest.mark.nightly
@many(10_000)
@given(seeds)
def test_nightly_what_is_no_request_is_refused_and_what_is_one_can_be_stored(rng):
    readers(rng)


@pytest.mark.nightly
@many(10_000)
@given(seeds)
def test_nightly_a_worker_that_talks_nonsense_comes_to_an_end_with_a_reason(rng):
    asyncio.run(supervised(rng))
