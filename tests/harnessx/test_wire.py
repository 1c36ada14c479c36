"""The wire: what crosses as deltas arrives whole, and what is no frame ends as the worker's fault."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_drive import World
from worker_drive import WALL, code, hostile, rollout

from harnessx.errors import Failure, LimitReached, ModelFailure, Outcome, Source, StopReason, ToolError
from harnessx.harness import HarnessConfig
from harnessx.hooks import Hook
from harnessx.loop import Episode
from harnessx.messages import Conversation, Message, ModelRequest, Part, ToolCall, ToolSchema
from harnessx.runner import isolation
from harnessx.runner.isolation import Workers
from harnessx.runner.wire import (
    MAX_FRAME,
    VERSION,
    Channel,
    RequestReader,
    RequestWriter,
    error_from_json,
    error_to_json,
    pack,
    unpack,
)
from harnessx.runner.worker import episode_to_json

# --- requests as deltas -------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda v: st.lists(v, max_size=2), max_leaves=3
)
objects = st.dictionaries(texts, values, max_size=2)
calls = st.builds(ToolCall, texts, texts, objects, st.none() | texts)
parts = st.builds(Part, st.sampled_from(["text", "image", "file"]), texts, texts, texts)
messages = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "tool"]),
    texts | st.lists(parts, max_size=2).map(tuple),
    st.lists(calls, max_size=2).map(tuple),
    st.none() | texts,
    st.none() | st.dictionaries(texts, texts, min_size=1, max_size=2),
)
few = st.lists(messages, max_size=3)
tools = st.lists(st.builds(ToolSchema, texts, texts, objects), max_size=2).map(tuple)
changes = st.fixed_dictionaries(
    {"path": st.sampled_from(["main", "main[1]", "processor:judge"]), "cut": st.integers(0, 4), "add": few},
    optional={"tail": few, "system": texts, "tools": tools, "sampling": st.just({"temperature": 0.5}), "edit": few},
)


@settings(max_examples=60, deadline=None)
@given(st.lists(changes, max_size=8))
def test_a_request_arrives_as_it_was_sent_however_the_history_was_edited(steps):
    writer, reader = RequestWriter(), RequestReader()
    log, system, offered = Conversation(), "", ()
    for change in steps:
        log = log.prefix(max(0, len(log) - change["cut"])).append(*change["add"])
        if "edit" in change:
            log = Conversation([*change["edit"], *log[1:]])
        system, offered = change.get("system", system), change.get("tools", offered)
        seen = log.with_tail(*change["tail"]) if "tail" in change else log
        sent = ModelRequest(system, seen, offered, "main", change.get("sampling"))
        frame = {"t": "complete", **writer.write(sent, change["path"])}
        got, path = reader.read(unpack(pack(frame)[4:]))
        assert path == change["path"]
        assert got.digest() == sent.digest()
        assert list(got.messages) == list(sent.messages)


def test_a_step_costs_what_is_new_and_not_what_was_said_before():
    writer, history = RequestWriter(), Conversation([Message("user", "x" * 10_000)])
    request = ModelRequest("system " * 1000, history, (ToolSchema("act"),))
    assert len(pack(writer.write(request, "main"))) > 17_000
    later = replace(request, messages=history.append(Message("assistant", "yes")))
    assert len(pack(writer.write(later, "main"))) < 150


@pytest.mark.parametrize(
    "error",
    [
        LimitReached(StopReason.TOKEN_LIMIT, "5 tokens"),
        ToolError("not like that"),
        ModelFailure("too many requests", transient=True),
        ModelFailure("no such model", transient=False),
        Failure(Source.ENVIRONMENT, "gone"),
    ],
)
def test_an_error_of_the_host_arrives_as_it_was_raised(error):
    arrived = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert getattr(arrived, "transient", None) == getattr(error, "transient", None)


# --- frames -------------------------------------------------------------------------------------------


async def connected(limit: int = MAX_FRAME) -> tuple[socket.socket, list[dict], asyncio.Future[str]]:
    """A raw socket, and what arrives of it at the other end: frames, then why it was closed."""
    ours, theirs = socket.socketpair()
    frames: list[dict] = []
    closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await Channel.over(theirs, frames.append, closed.set_result, limit)
    return ours, frames, closed


async def test_frames_arrive_whole_in_order_in_whatever_pieces_they_come():
    ours, frames, closed = await connected()
    sent = [{"t": "x", "n": n, "text": "ü" * n} for n in range(40)]
    data = b"".join(map(pack, sent))
    for start in range(0, len(data), 37):
        ours.send(data[start : start + 37])
        await asyncio.sleep(0)
    ours.close()
    assert await asyncio.wait_for(closed, 5) == ""
    assert frames == sent


async def test_a_frame_over_the_limit_is_refused_by_its_length_alone():
    ours, frames, closed = await connected(limit=100)
    ours.send(pack({"t": "fits"}) + (101).to_bytes(4, "big"))
    assert "101 bytes (at most 100)" in await asyncio.wait_for(closed, 5)
    assert frames == [{"t": "fits"}]
    ours.close()


async def test_nothing_is_read_after_a_broken_frame():
    ours, frames, closed = await connected()
    ours.send((4).to_bytes(4, "big") + b"nope" + pack({"t": "late"}))
    assert "not JSON" in await asyncio.wait_for(closed, 5)
    assert frames == []
    ours.close()


@pytest.mark.parametrize(("version", "served"), [(VERSION, True), (VERSION + 1, False)])
async def test_only_a_host_of_the_same_version_is_served(version, served):
    workers = Workers(WALL)
    sock, _, _ = await workers.fork(HarnessConfig([]))
    sock.setblocking(True)
    sock.settimeout(5)
    sock.sendall(pack({"t": "start", "version": version, "episode": episode_to_json(Episode("t", "Hello."))}))
    assert bool(sock.recv(1)) == served
    sock.close()
    workers.close()


# --- a harness that speaks the wire itself ------------------------------------------------------------

GOOD = code("yield event", Hook.BEFORE_MODEL)
ATTACKS = {
    "nonsense": "send(bytes([255]) * 40)",
    "a frame too long": "send(b'', 1 << 31)",
    "a frame cut off": "send(b'{', 100); await asyncio.sleep(0.1); os._exit(0)",
    "no JSON": "send(b'nope')",
    "no encoding": """send(b'{"t": "' + bytes([0xed, 0xa0, 0x80]) + b'"}')""",
    "no object": "tell([1])",
    "no type": "tell({})",
    "a bottomless frame": "send(b'[' * 100_000)",
    "an unknown type": "tell({'t': 'shutdown'})",
    "no id": "ask.pop('id'); tell(ask)",
    "nothing asked": "tell({'t': 'complete', 'id': 1})",
    "half a surrogate pair": "call['call']['arguments'] = {'text': chr(0xD800)}; tell(call)",
    "a path that is no text": "tell({**ask, 'path': []})",
    "messages that are not there": "tell({**ask, 'keep': 3})",
    "fewer messages than none": "tell({**ask, 'keep': -1})",
    "no messages": "tell({**ask, 'add': None})",
    "a message that is none": "tell({**ask, 'add': ['x']})",
    "a message of no role": "tell({**ask, 'add': [{'role': 5, 'content': ''}]})",
    "a message of no content": "tell({**ask, 'add': [{'role': 'user', 'content': 5}]})",
    "a part of no kind": "tell({**ask, 'add': [{'role': 'user', 'content': [{'kind': 1}]}]})",
    "extra that is no object": "tell({**ask, 'add': [{'role': 'user', 'content': '', 'extra': 5}]})",
    "calls that are none": "tell({**ask, 'add': [{'role': 'user', 'content': '', 'tool_calls': 'ab'}]})",
    "tools that are none": "tell({**ask, 'tools': [5]})",
    "a prompt that is no text": "tell({**ask, 'system': {}})",
    "another address for the key": "tell({**ask, 'sampling': {'api_base': 'http://localhost'}})",
    "a call of no name": "call['call']['name'] = 5; tell(call)",
    "a call of no arguments": "call['call']['arguments'] = []; tell(call)",
    "a deep call": """
        deep = []
        for _ in range(500): deep = [deep]
        call["call"]["arguments"] = {"text": deep}; tell(call)""",
    "more calls than fit": "for i in range(1000): tell({**call, 'id': i})",
    "more callers than fit": "for i in range(1000): tell({**ask, 'id': i, 'path': f'p{i}'})",
    "an ending without claims": "end.pop('claims'); tell(end)",
    "an ending with claims of no name": "tell({**end, 'claims': [1]})",
    "an ending that says nothing": "tell({**end, 'answer': None})",
    "an ending for no reason": "tell({**end, 'stop': 'victory'})",
    "an ending that did not happen": "tell({**end, 'stop': 'environment_done'})",
    "an ending by a limit not reached": "tell({**end, 'stop': 'wall_limit'})",
    "a failure of the world": "tell({'t': 'failed', 'kind': 'failure', 'source': 'environment', 'message': 'x'})",
    "a failure of nobody": "tell({'t': 'failed', 'kind': 'failure', 'source': 'fate', 'message': 'x'})",
    "a contract of nobody": "tell({'t': 'failed', 'kind': 'contract'})",
}


@pytest.fixture(scope="module")
def workers():
    crew = Workers(WALL, stall_s=60)
    yield crew
    crew.close()


@pytest.mark.parametrize("attack", ATTACKS)
async def test_nonsense_on_the_wire_is_a_harness_error_at_once(workers, attack):
    started = time.monotonic()
    bad, good = await asyncio.gather(
        rollout(workers, hostile(ATTACKS[attack]), World(together=100_000)), rollout(workers, GOOD)
    )
    assert (bad.outcome, bad.stop_reason, bad.reward) == (Outcome.HARNESS_ERROR, StopReason.ERROR, 0.0)
    assert bad.error
    assert bad.to_jsonl().encode()
    assert good.passed
    assert time.monotonic() - started < 30  # the watchdog would have taken 60


async def test_a_role_that_nobody_serves_is_the_harness_error_of_who_asked(workers):
    attack = "await port.complete(ModelRequest('', Conversation(), (), 'judge'), 'main')"
    record = await rollout(workers, hostile(f"try: {attack}\nexcept Failure: os._exit(0)"))
    assert record.outcome is Outcome.HARNESS_ERROR


@pytest.mark.parametrize("text", ["''", "'x' * 200_000"], ids=["many frames", "long frames"])
async def test_what_a_worker_sends_in_all_is_bounded_because_the_record_keeps_it(workers, monkeypatch, text):
    monkeypatch.setattr(isolation, "MAX_SENT", 1 << 20)
    attack = f"while True: await port.call(ToolCall('', 'echo', {{'text': {text}}}))"
    bad, good = await asyncio.gather(rollout(workers, hostile(attack)), rollout(workers, GOOD))
    assert "more than 1 MB in one rollout" in bad.error
    assert good.passed
