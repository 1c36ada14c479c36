"""Evolved code and the network, through real lanes and walls: what it may ask, what is kept, what is replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from loop_drive import HEAD, source
from loop_drive import run as beside
from runner_world import MemoryShelf, jobs
from web_server import Server, serving
from worker_drive import WALL, hostile, rollout

from aegis.store import RunStore
from harnessx.errors import Outcome
from harnessx.harness import HarnessConfig, Slots, ToolRegistry
from harnessx.hooks import Hook
from harnessx.model_config import ModelConfig
from harnessx.models.base import CallContext
from harnessx.permissions import USUAL, Effect, Grant, Permissions
from harnessx.runner.broker import Broker
from harnessx.runner.cassette import Cassette, Freshness
from harnessx.runner.gateway import FetchTape, Gateway, Web
from harnessx.runner.isolation import Workers
from harnessx.runner.jobs import RolloutResult
from harnessx.runner.pool import Pool, PoolConfig
from harnessx.sandbox import BACKENDS
from harnessx.spec import Spec
from harnessx.trajectory import FetchExchange, Trajectory
from harnessx.web import Fetch, Fetched, WebRules

OPEN = Permissions(network=Grant.GRANT)
NETWORK = "effects = frozenset({Effect.NETWORK})"
WALLS = [b.name for b in BACKENDS if b.name in ("bubblewrap", "landlock", "none") and not b.missing()]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Lanes find the benchmark of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def fetching(body: str, *, effects: str = NETWORK, rule: Permissions = OPEN, hook: Hook = Hook.TASK_START):
    """A harness of one processor with ``body``, of which a line ``SAID = …`` is claimed."""
    text = source(dedent(body) + "\nyield event", hook, attributes=effects).replace(
        "SAID =", "self.ctx.claims['said'] ="
    )
    return HarnessConfig(
        [Spec("assets/p.py:P")],
        Slots(permissions=rule),
        {"assets/p.py": f"from harnessx.permissions import Effect\n{text}"},
    )


def config(tmp_path: Path, *hosts: str, wall: str = WALL, user: Permissions = OPEN, **limits) -> PoolConfig:
    log = str(tmp_path / "log")
    rooms, clerk = ({"_target_": f"runner_world.{name}", "log": log} for name in ("Rooms", "Clerk"))
    rules = WebRules(hosts, **{"timeout_s": 5.0, "patience_s": 0.5, **limits})
    return PoolConfig(
        rooms, ModelConfig(clerk), lanes=1, concurrency=1, isolation=wall, permissions=user, web=rules
    )  # fmt: skip


async def play(config: PoolConfig, *arms: HarnessConfig, shelf=None) -> list[tuple[RolloutResult, Trajectory]]:
    """The arms of one job, in order."""
    async with Pool(config, shelf or MemoryShelf()) as pool:
        ((*found,),) = await pool.run_recorded(jobs(1, *arms, trajectories=True))
    return [(result, Trajectory.from_jsonl(text)) for result, text in found]


def fetches(record: Trajectory) -> list[FetchExchange]:
    return [fetch for step in record.steps for fetch in step.fetches]


# --- what may be asked --------------------------------------------------------------------------------


@pytest.mark.parametrize("wall", WALLS)
async def test_an_allowed_host_answers_code_behind_every_wall_and_the_record_has_it(server, tmp_path, wall):
    harness = fetching(f"SAID = (await self.ctx.fetch({server.url('/say')!r}, query={{'text': 'hé & co'}})).text")
    ((result, record),) = await play(config(tmp_path, server.host, wall=wall), harness)
    assert (result.outcome, record.claims["said"]) == (Outcome.PASSED, "hé & co")
    (done,) = fetches(record)
    assert (done.method, done.status, done.size, done.replayed, done.error) == ("GET", 200, 8, False, "")
    assert done.url == server.url("/say?text=h%C3%A9+%26+co")
    assert [len(step.fetches) for step in record.steps] == [1, 0, 0, 0]  # what came before the first step is in it


TOOL = f"""{HEAD}
from harnessx.permissions import Effect

@dataclass
class Look(Tool):
    name = "say"
    EFFECTS

    async def run(self, arguments, context):
        return (await context.fetch(URL, "POST", body=arguments["text"])).text
"""


def with_tool(url: str, effects: str = NETWORK) -> HarnessConfig:
    slots = Slots(ToolRegistry(add=(Spec("assets/t.py:Look"),)), permissions=OPEN)
    return HarnessConfig((), slots, {"assets/t.py": TOOL.replace("URL", repr(url)).replace("EFFECTS", effects)})


async def test_a_tool_that_declares_it_gets_answers_and_a_refusal_is_its_result(server, tmp_path):
    elsewhere = "http://other.example.org/"
    arms = [with_tool(server.url("/count")), with_tool(elsewhere), with_tool(server.url("/count"), "pass")]
    good, refused, silent = await play(config(tmp_path, server.host), *arms)
    assert [r.outcome for r, _ in (good, refused, silent)] == [Outcome.FAILED] * 3  # nothing was said in the room
    told = [
        [e.sent[-1].text for step in record.steps[1:] for e in step.exchanges] for _, record in (good, refused, silent)
    ]
    assert told[0] == ["answer 1", "answer 2", "answer 3"]
    assert all("other.example.org is not an allowed host" in text for text in told[1])
    assert all("does not declare effects" in text for text in told[2])
    assert [f.error.startswith("other.example.org is not") for f in fetches(refused[1])] == [True] * 3
    assert [(method, body) for method, _, _, body in server.asked] == [("POST", f"word {i}".encode()) for i in range(3)]


CLOSED = {
    "the user's rule": ({"user": Permissions()}, {}),
    "the harness's rule": ({}, {"rule": Permissions()}),
    "what it declares": ({}, {"effects": "pass"}),
}


@pytest.mark.parametrize("why", CLOSED)
async def test_without_the_word_of_all_three_nobody_is_asked(server, tmp_path, why):
    user, own = CLOSED[why]
    harness = fetching(f"await self.ctx.fetch({server.url('/count')!r})", **own)
    ((result, _),) = await play(config(tmp_path, server.host, **user), harness)
    assert result.outcome is Outcome.HARNESS_ERROR
    assert ("no permission to use the network" in result.error) == (why != "what it declares")
    assert ("not declare effects = frozenset({Effect.NETWORK})" in result.error) == (why == "what it declares")
    assert server.asked == []


async def test_by_default_no_host_is_allowed_whatever_is_permitted(server, tmp_path):
    ((result, record),) = await play(config(tmp_path), fetching(f"await self.ctx.fetch({server.url('/count')!r})"))
    assert result.outcome is Outcome.HARNESS_ERROR
    assert "not an allowed host (sandbox.allow_hosts: none)" in result.error
    assert fetches(record)[0].error in result.error
    assert server.asked == []


async def test_code_may_catch_a_refusal_and_go_on(server, tmp_path):
    body = """
    try:
        await self.ctx.fetch("http://other.example.org/")
    except FetchRefused as refused:
        SAID = str(refused)
    """
    ((result, record),) = await play(config(tmp_path, server.host), fetching(body))
    assert (result.outcome, record.claims["said"]) == (Outcome.PASSED, fetches(record)[0].error)


async def test_a_redirect_elsewhere_and_an_answer_too_long_are_refused_and_in_the_record(server, tmp_path):
    body = f"""
    for url in ({server.url("/to?url=http://other.example.org/")!r}, {server.url("/big?size=2001")!r}):
        try:
            await self.ctx.fetch(url)
        except FetchRefused:
            pass
    """
    ((result, record),) = await play(config(tmp_path, server.host, answer_bytes=2000), fetching(body))
    assert result.outcome is Outcome.PASSED
    assert [f.error.split(" (")[0] for f in fetches(record)] == [
        "other.example.org is not an allowed host", "the answer is longer than 2,000 bytes"
    ]  # fmt: skip


async def test_requests_are_limited_and_what_is_beyond_is_said_once(server, tmp_path):
    body = f"""
    SAID = []
    for _ in range(9):
        try:
            self.ctx.claims["said"].append((await self.ctx.fetch({server.url("/count")!r})).text)
        except FetchRefused as refused:
            self.ctx.claims["said"].append("no")
    """
    ((_, record),) = await play(config(tmp_path, server.host, requests=3), fetching(body))
    assert record.claims["said"] == ["answer 1", "answer 2", "answer 3", *["no"] * 6]
    assert [f.error for f in fetches(record)][:3] == [""] * 3
    assert [f.error for f in fetches(record)][3:] == [
        "more than 3 requests (sandbox.requests); this one and all that follow were not made"
    ]


# --- nobody's fault -----------------------------------------------------------------------------------


async def test_a_host_that_does_not_answer_is_never_held_against_the_harness(server, tmp_path):
    body = f"""
    try:
        await self.ctx.fetch({server.url("/slow?s=2")!r})
    except Exception as error:
        SAID = type(error).__name__
    """
    lost = fetching(body, hook=Hook.BEFORE_MODEL)
    shelf = MemoryShelf()
    limits = config(tmp_path, server.host, timeout_s=0.1, patience_s=0.1)
    ((result, record),) = await play(limits, lost, shelf=shelf)
    assert (result.outcome, result.missing) == (Outcome.INFRA_ERROR, True)
    assert "no answer within 0.1 s" in result.error
    assert fetches(record)[0].error.endswith("no answer within 0.1 s")
    assert not any("fetch" in entry.key for entries in shelf.stored.values() for entry in entries)


# --- replay -------------------------------------------------------------------------------------------


async def test_arms_get_the_same_answers_in_the_same_place_and_only_new_questions_are_asked(server, tmp_path):
    url = server.url("/count")
    once = f"one = (await self.ctx.fetch({url!r})).text\n"
    twice = f"{once}two = (await self.ctx.fetch({url!r})).text\n"
    arms = [
        fetching(f"{text}SAID = {said}") for text, said in ((once, "one"), (twice, "one + two"), (twice, "two + one"))
    ]
    found = await play(config(tmp_path, server.host), *arms)
    assert [record.claims["said"] for _, record in found] == ["answer 1", "answer 1answer 2", "answer 2answer 1"]
    assert [[f.replayed for f in fetches(record)] for _, record in found] == [[False], [True, False], [True, True]]
    assert len(server.asked) == 2


async def test_another_attempt_asks_anew(server, tmp_path):
    harness = fetching(f"SAID = (await self.ctx.fetch({server.url('/count')!r})).text")
    async with Pool(config(tmp_path, server.host), MemoryShelf()) as pool:
        (job,) = jobs(1, harness, trajectories=True)
        found = await pool.run_recorded([job, replace(job, attempt=1)])
    assert [Trajectory.from_jsonl(arms[0][1]).claims["said"] for arms in found] == ["answer 1", "answer 2"]


async def test_with_the_store_everything_is_replayed_byte_for_byte_without_the_server(tmp_path):
    key = "sk-" + "a1" * 20
    with serving() as server:
        body = f"""
        SAID = []
        for path in ("/count", "/count", "/bytes", "/status?code=404", "/big?size=5000", "/say?text={key}"):
            try:
                fetched = await self.ctx.fetch({server.url("")!r} + path, headers={{"X-Key": {key!r}}})
                self.ctx.claims["said"].append([fetched.status, fetched.body.hex(), dict(fetched.headers)])
            except FetchRefused as refused:
                self.ctx.claims["said"].append(str(refused))
        """
        limits = config(tmp_path, server.host, answer_bytes=4000)
        with RunStore.open(tmp_path / "run", {}, resume=False) as store:
            ((first, live),) = await play(limits, fetching(body), shelf=store)
    assert first.outcome is Outcome.PASSED
    with RunStore.open(tmp_path / "run", {}, resume=True) as store:
        store.forget([first.key], "")
        again = fetching(body), fetching(f"{dedent(body)}\npass")
        (second, replayed), (_, coupled) = await play(limits, *again, shelf=store)
        assert live.claims == replayed.claims
        assert replayed.claims["said"][2][1] == bytes(range(256)).hex()
        assert bytes.fromhex(replayed.claims["said"][5][1]) == b"[redacted]"
        assert (second.requests, second.trail) == (first.requests, first.trail)
        assert fetches(replayed) == fetches(live)  # what it had made itself counts as made
        assert key not in replayed.to_jsonl()
        assert not any(key in entry.body for entry in store.recordings("s/s-0/0"))
        assert coupled.claims == live.claims
        assert [f.replayed for f in fetches(coupled)] == [True, True, True, True, False, True]


def test_a_confirming_pair_replays_no_answer_from_before_the_window():
    now = [1000.0]
    freshness = Freshness(60.0, lambda: now[0])
    cassette = Cassette("s")
    FetchTape(cassette, freshness).put("k", "a", Fetched(200, {}, b"x"))
    strict, lax = (FetchTape(cassette, freshness, strict=strict) for strict in (True, False))
    assert strict.get("k") == (Fetched(200, {}, b"x"), "a")
    now[0] += 61
    assert strict.get("k") is None
    assert lax.get("k") is not None
    strict.put("k", "b", Fetched(200, {}, b"y"))
    assert strict.get("k") == (Fetched(200, {}, b"y"), "b")


# --- what it cannot do --------------------------------------------------------------------------------


@pytest.mark.skipif(WALL == "none", reason="no wall is available here")
@pytest.mark.parametrize(
    "call", ["socket.create_connection(PLACE, 2)", "socket.getaddrinfo('localhost', 80)", "socket.socket(2, 2)"]
)
async def test_an_allowed_host_cannot_be_reached_directly(server, tmp_path, call):
    place = ("127.0.0.1", server.server_port)
    harness = fetching(f"import socket\n{call.replace('PLACE', repr(place))}")
    ((result, _),) = await play(config(tmp_path, server.host), harness)
    assert result.outcome is Outcome.HARNESS_ERROR
    assert "PermissionError" in result.error or "gaierror" in result.error
    assert server.asked == []


OWN_WORD = """
tell({"t": "fetch", "id": 1, "url": URL, "method": "GET", "headers": {}, **MORE})
tell(end)
"""
MALFORMED = {
    '{"headers": [1], "text": ""}': "headers are no object",
    '{"headers": {"a": 1}, "text": ""}': "text expected",
    '{"url": 1, "text": ""}': "text expected",
    '{"text": 1}': "text expected",
    '{"latin1": "\\u0430"}': "malformed 'fetch' frame",
    "{}": "malformed 'fetch' frame",
}


async def said_on_the_wire(server: Server, more: str) -> Trajectory:
    workers = Workers(WALL, stall_s=20)
    record = await rollout(workers, hostile(OWN_WORD.replace("URL", repr(server.url("/count"))).replace("MORE", more)))
    workers.close()
    assert server.asked == []
    return record


async def test_a_worker_that_speaks_the_wire_itself_gets_no_further(server):
    record = await said_on_the_wire(server, '{"text": ""}')
    assert "no tool or processor of the harness declares" in fetches(record)[0].error


async def test_a_processor_needs_a_declaration_of_its_own_whatever_others_declare(server, tmp_path):
    tool, body = with_tool(server.url("/count")), f"await self.ctx.fetch({server.url('/count')!r})"
    for effects, outcome in (("pass", Outcome.HARNESS_ERROR), (NETWORK, Outcome.FAILED)):
        own = fetching(body, effects=effects)
        both = HarnessConfig(own.processors, tool.slots, {**own.assets, **tool.assets})
        ((result, _),) = await play(config(tmp_path, server.host), both)
        assert (result.outcome, "this tool or processor does not declare" in result.error) == (
            outcome, outcome is Outcome.HARNESS_ERROR
        )  # fmt: skip
    assert len(server.asked) == 4  # the second alone: its processor's once, and its tool's for each word


async def test_a_processor_that_may_fetch_shares_clock_luck_and_claims_with_those_that_may_not(server, tmp_path):
    body = "self.ctx.claims.setdefault('seen', []).append([self.ctx.step, self.ctx.rng.random()])"
    one, other = fetching(body, hook=Hook.BEFORE_MODEL), fetching(body, effects="pass", hook=Hook.BEFORE_MODEL)
    assets = {"assets/p.py": one.assets["assets/p.py"], "assets/q.py": other.assets["assets/p.py"]}
    seen = []
    for first, second in (("p", "q"), ("q", "q")):
        specs = [Spec(f"assets/{first}.py:P"), Spec(f"assets/{second}.py:P")]
        both = HarnessConfig(specs, Slots(permissions=OPEN), assets)
        ((_, record),) = await play(config(tmp_path, server.host), both)
        seen.append(record.claims["seen"])
    assert [step for step, _ in seen[0]] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len({luck for _, luck in seen[0]}) == len(seen[0])


async def test_which_part_of_a_harness_asks_is_its_own_word_and_the_host_holds_all_of_it_to_what_any_declares(
    server, tmp_path
):
    """Not promised: parts of one process cannot be told apart from outside. What the host does know, it checks."""
    said = OWN_WORD.replace("URL", repr(server.url("/count"))).replace("MORE", '{"text": ""}')
    silent, tool = hostile(said.replace("tell(end)", "await asyncio.sleep(0.5)\ntell(end)")), with_tool("-")
    for slots, asked in ((silent.slots, 0), (tool.slots, 1)):
        assets = {**silent.assets, **tool.assets}
        await play(config(tmp_path, server.host), HarnessConfig(silent.processors, slots, assets))
        assert len(server.asked) == asked


@pytest.mark.parametrize("more", MALFORMED)
async def test_a_malformed_request_ends_its_worker(server, more):
    record = await said_on_the_wire(server, more)
    assert (record.outcome, MALFORMED[more] in record.error) == (Outcome.HARNESS_ERROR, True)


# --- without a wall -----------------------------------------------------------------------------------


async def test_the_same_call_works_beside_the_host_and_nowhere_without_a_broker(server):
    harness = fetching(f"SAID = (await self.ctx.fetch({server.url('/count')!r})).text")
    web = Web(Broker(WebRules((server.host,))), FetchTape(Cassette("s")))
    record = await beside(harness, granted=USUAL | {Effect.NETWORK}, web=web)
    assert (record.passed, record.claims["said"]) == (True, "answer 1")
    lonely = await beside(harness, granted=USUAL | {Effect.NETWORK})
    assert (lonely.outcome, "this runner asks no hosts" in lonely.error) == (Outcome.HARNESS_ERROR, True)


def test_what_was_fetched_survives_the_trajectory_file():
    done = FetchExchange("GET", "http://a.org/", 200, 5, True, ("http://b.org/",), "")
    row = json.loads(json.dumps(done.to_json()))
    assert FetchExchange.from_json(row) == done
    refused = FetchExchange("GET", "http://a.org/", error="no")
    assert FetchExchange.from_json(refused.to_json()) == refused


async def test_calls_made_at_once_get_the_answers_of_their_order():
    class Echo(Broker):
        async def fetch(self, request: Fetch, context: CallContext) -> Fetched:
            return Fetched(200, {}, str(context.n).encode())

    gateway = Gateway(Web(Echo(WebRules(("a.org",))), FetchTape(Cassette("s"))), "", "me", CallContext())
    noted: list[FetchExchange] = []
    asked = (gateway.fetch(Fetch("http://a.org/"), noted.append) for _ in range(3))
    assert [f.text for f in await asyncio.gather(*asked)] == ["0", "1", "2"]
    assert len(noted) == 3
