"""What was recorded is not paid for twice, and a world that tells two stories is found out."""

from __future__ import annotations

import asyncio
import json

import pytest
from runner_world import Judge, Room, lines

from harnessx.errors import Failure, Source
from harnessx.messages import ModelResponse, ToolCall, Usage
from harnessx.runner.cassette import Cassette, Entry, Freshness, RecordedVerifier, RecordedWorld, ResponseTape
from harnessx.tasks import Task, ToolResult
from harnessx.trajectory import Trajectory


def say(text: str) -> ToolCall:
    return ToolCall("c", "say", {"text": text})


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def tape():
    return Cassette("world/t")


def world(log: str, tape: Cassette, **options) -> RecordedWorld:
    return RecordedWorld(lambda: Room(log, **options), Room.tools, tape)


async def play(room: RecordedWorld, *words: str) -> list[str]:
    return [await room.reset(), *[(await room.step(say(word))).content for word in words]]


# --- recordings ---------------------------------------------------------------------------------------


def test_the_first_entry_of_a_key_stays_and_each_new_one_is_handed_on_once():
    handed = []
    cassette = Cassette("s", lambda scope, entry: handed.append((scope, entry)))
    cassette.load([Entry("old", "r0", "1")])
    cassette.write("old", "r1", 2)
    cassette.write("new", "r1", {"ü": 1})
    cassette.write("new", "r2", 3)
    assert cassette.read("old") == Entry("old", "r0", "1")
    assert handed == [("s", Entry("new", "r1", '{"ü":1}'))]
    assert cassette.read("none") is None


def test_what_nothing_can_store_is_refused_and_leaves_no_trace():
    handed = []
    cassette = Cassette("s", lambda scope, entry: handed.append(entry))
    with pytest.raises(ValueError, match="surrogates"):
        cassette.write("k", "", ["\ud800"])
    assert handed == []
    assert cassette.read("k") is None


def test_a_response_comes_back_whole_with_who_asked_first_also_after_it_was_stored():
    response = ModelResponse(
        "yes", (say("hi"),), Usage(1, 2, 3, 0.5), "m", "tool_calls", {"thought": "…"}, (1, 2), (-0.5, 0.0)
    )
    stored = []
    ResponseTape(Cassette("s", lambda _, entry: stored.append(entry))).put("k", "r1", response)
    later = Cassette("s")
    later.load(stored)
    assert ResponseTape(later).get("k") == (response, "r1")
    assert ResponseTape(later).get("other") is None


# --- worlds -------------------------------------------------------------------------------------------


async def test_a_repeated_episode_needs_no_world(log, tape):
    first = await play(world(log, tape), "a", "b")
    again = world(log, tape)
    assert await play(again, "a", "b") == first
    await again.close()
    assert lines(log) == ["world t starts", "world t a", "world t b"]


async def test_the_real_world_begins_at_the_first_new_action_after_the_same_ones(log, tape):
    await play(world(log, tape), "a", "b")
    assert await play(world(log, tape), "a", "c") == ["It is quiet.", "1: a", "2: c"]
    assert lines(log)[3:] == ["world t starts", "world t a", "world t c"]


async def test_calls_made_at_once_are_played_one_after_the_other_in_the_order_of_asking(log, tape):
    together = world(log, tape, delay=0.01)
    await together.reset()
    results = await asyncio.gather(*(together.step(say(word)) for word in "abc"))
    assert [r.content for r in results] == ["1: a", "2: b", "3: c"]
    assert await play(world(log, tape), "a", "b", "c") == ["It is quiet.", "1: a", "2: b", "3: c"]


async def test_calls_made_at_once_wait_until_the_known_ones_before_them_were_played(log, tape):
    await play(world(log, tape), "a", "b")
    later = world(log, tape, delay=0.01)
    await later.reset()
    results = await asyncio.gather(*(later.step(say(word)) for word in "abcd"))
    assert [r.content for r in results] == ["1: a", "2: b", "3: c", "4: d"]


async def test_what_the_agent_did_wrong_is_recorded_as_such(log, tape):
    first = world(log, tape)
    await first.reset()
    refused = await first.step(say(""))
    assert refused == ToolResult("say what?", is_error=True)
    again = world(log, tape)
    await again.reset()
    assert await again.step(say("")) == refused
    assert lines(log) == ["world t starts"]


@pytest.mark.parametrize("words", ["", "a", "ab"])
async def test_a_world_that_answers_differently_than_it_did_is_an_infra_failure(log, tape, words):
    await play(world(log, tape), "a", "b")
    other = world(log, tape, mood=" Or not.")
    await play(other, *words)
    with pytest.raises(Failure, match="not what was recorded") as caught:
        await other.step(say("new"))
    assert caught.value.source is Source.ENVIRONMENT
    with pytest.raises(Failure, match="broke before"):
        await other.step(say("newer"))
    assert await play(world(log, tape), "a", "b") == ["It is quiet.", "1: a", "2: b"]


async def test_nothing_is_recorded_of_a_world_after_it_broke(log, tape):
    broken = world(log, tape)
    await broken.reset()
    with pytest.raises(ConnectionResetError):
        await broken.step(say("crash"))
    with pytest.raises(Failure, match="broke before"):
        await broken.step(say("a"))
    assert len(tape) == 1


async def test_a_step_that_was_cut_off_leaves_no_known_state(log, tape):
    slow = world(log, tape, delay=5)
    await slow.reset()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow.step(say("a")), 0.01)
    with pytest.raises(Failure, match="broke before"):
        await slow.real()


async def test_every_real_world_is_closed(log, tape):
    rooms = []
    recorded = RecordedWorld(lambda: rooms.append(Room(log)) or rooms[-1], Room.tools, tape)
    await play(recorded, "a")
    await recorded.close()
    assert [room.closed for room in rooms] == [1]


# --- scores -------------------------------------------------------------------------------------------


async def test_the_same_end_is_judged_once_and_another_one_anew(log, tape):
    judge = RecordedVerifier(Judge(log))

    async def score(*words: str, answer: str = "done"):
        room = world(log, tape)
        await play(room, *words)
        return await judge.score(Task("p", "t"), answer, room, Trajectory("t"))

    assert (await score("a")).passed
    assert (await score("a")).passed
    assert not (await score()).passed
    await score("a", answer="other")
    assert [line for line in lines(log) if line.startswith("judge")] == ["judge t"] * 3


# --- what a confirmation may replay -------------------------------------------------------------------

KEY, OTHER = "main:r1:m:0", "main:r2:m:0"


def test_an_answer_older_than_the_window_is_a_miss_only_where_it_is_asked():
    now = [1000.0]
    cassette, freshness = Cassette("s"), Freshness(60, lambda: now[0])
    ResponseTape(cassette, freshness).put(KEY, "r", ModelResponse("old", model="m1"))
    for passed, hit in ((59.0, True), (2.0, False)):
        now[0] += passed
        later = Cassette("s")
        later.load([cassette.read(KEY)])
        for tape in (ResponseTape(cassette, freshness, strict=True), ResponseTape(later, freshness, strict=True)):
            assert (tape.get(KEY) is not None) is hit
        assert ResponseTape(cassette, freshness).get(KEY) is not None


@pytest.mark.parametrize(
    "answer",
    [ModelResponse("b", model="m2", fingerprint="f1"), ModelResponse("b", model="m1", fingerprint="f2")],
    ids=["another served model", "another fingerprint"],
)
def test_an_answer_of_another_provider_is_a_miss_and_the_new_one_takes_its_place(answer):
    cassette = Cassette("s")
    old = ModelResponse("a", model="m1", fingerprint="f1")
    ResponseTape(cassette).put(KEY, "r", old)
    freshness = Freshness()
    tape = ResponseTape(cassette, freshness, strict=True)
    assert tape.get(KEY) == (old, "r")  # nobody has answered since: only age would tell
    tape.put(OTHER, "r", answer)
    assert tape.get(KEY) is None
    tape.put(KEY, "r2", answer)
    assert tape.get(KEY) == ResponseTape(cassette, freshness, strict=True).get(KEY) == (answer, "r2")


def test_a_provider_of_several_machines_is_one_as_long_as_each_of_them_answers():
    now, cassette = [0.0], Cassette("s")
    freshness = Freshness(60, lambda: now[0])
    tape = ResponseTape(cassette, freshness, strict=True)
    for key, mark in ((KEY, "f1"), (OTHER, "f2")):
        tape.put(key, "r", ModelResponse(mark, model="m", fingerprint=mark))
    assert [tape.get(key) is not None for key in (KEY, OTHER)] == [True, True]
    tape.put("main:r3:another:0", "r", ModelResponse("c", model="another"))  # another model's answers say nothing
    assert tape.get(KEY) is not None
    assert ModelResponse.from_json(ModelResponse("a", fingerprint="f").to_json()).provider == "/f"


def test_an_answer_whose_age_is_unknown_is_out_of_date():
    cassette = Cassette("s")
    cassette.load([Entry(KEY, "r", json.dumps(ModelResponse("a").to_json()))])
    assert ResponseTape(cassette, Freshness(60), strict=True).get(KEY) is None
    assert ResponseTape(cassette, Freshness(), strict=True).get(KEY) is not None
