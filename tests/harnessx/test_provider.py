"""A provider that misbehaves costs time, never a rollout; one that is gone ends the run with a line."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from misbehaving import AFTER_S, FAULTS, OK, Misbehaving, Thin, at_random, in_turn, misbehaving
from runner_world import MemoryShelf, Room, jobs

from harnessx import ModelConfig, Outcome, Slots, StopReason, Task
from harnessx.errors import ModelFailure, Outage, ProviderDown
from harnessx.harness import HarnessConfig, Limits
from harnessx.messages import Conversation, Message, ModelRequest, ModelResponse
from harnessx.model_config import Models
from harnessx.models.base import CallContext
from harnessx.models.limiter import ROUNDS, Limiter
from harnessx.models.patience import Patience
from harnessx.models.provider import PROBES, Provider
from harnessx.processors import SystemPrompt
from harnessx.runner.pool import Pool, PoolConfig
from harnessx.runner.rollout import Rollout, run_rollout

ASK = ModelRequest("Be brief.", Conversation([Message("user", "hi")]))
QUICK = Patience(timeout_s=0.3, patience_s=20, base_s=0.01, longest_s=0.05)
HASTY = replace(QUICK, patience_s=0.2)


def provider(server: Misbehaving, patience: Patience = QUICK, ceiling: int = 16) -> Provider:
    return Provider(Thin(server.server_port), patience, ceiling)


def task(number: int) -> CallContext:
    return CallContext(task_id=str(number))


# --- one call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_borne_with(fault):
    with misbehaving(in_turn([fault])) as server:
        answer = await provider(server).complete(ASK, CallContext())
    assert answer.content == "done"
    assert [request.kind for request in server.seen] == [fault, OK]


async def test_a_wait_that_is_asked_for_is_kept():
    with misbehaving(in_turn(["429 after", "429 after"])) as server:
        await provider(server).complete(ASK, CallContext())
    times = [request.at for request in server.seen]
    assert all(b - a >= AFTER_S for a, b in itertools.pairwise(times))


@given(tries=st.integers(1, 10_000), asked=st.none() | st.floats(0, 1e6), seed=st.integers(), n=st.integers(0, 9))
def test_waits_are_seeded_bounded_and_never_shorter_than_asked(tries, asked, seed, n):
    failure, context = ModelFailure("x", retry_after=asked), CallContext(seed, "t", 0, "main", n)
    wait = Patience().wait(failure, tries, context)
    assert wait == Patience().wait(failure, tries, context)
    assert wait >= (asked or 0.0)
    assert wait <= max(Patience().longest_s, (asked or 0.0) + 1)


def test_calls_that_failed_together_do_not_come_back_together():
    waits = {Patience().wait(ModelFailure("x"), 3, task(n)) for n in range(50)}
    assert len(waits) == 50


# --- who is to blame --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "401", "reset"])
async def test_a_provider_that_answers_nobody_is_down_and_is_asked_for_a_word_once(fault):
    with misbehaving(lambda n, body: fault) as server:
        model = provider(server, HASTY)
        calls = [model.complete(ASK, task(n)) for n in range(8)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {ProviderDown}
    assert len({str(end) for end in ends}) == 1
    assert "see to task_model, its API key and its endpoint" in str(ends[0])
    probes = [request for request in server.seen if request.body["messages"][-1]["content"] == "Say yes."]
    assert len(probes) == (1 if fault == "401" else PROBES)


async def test_a_request_that_always_fails_is_no_outage():
    with misbehaving(lambda n, body: "500" if body["messages"][0]["content"] == "hi" else OK) as server:
        with pytest.raises(ModelFailure) as caught:
            await provider(server, HASTY).complete(ASK, CallContext())
        assert not isinstance(caught.value, ProviderDown)


async def test_a_provider_that_was_down_is_asked_again_after_a_while():
    ill = True
    with misbehaving(lambda n, body: "500" if ill else OK) as server:
        model = provider(server, HASTY)
        for _ in range(2):
            with pytest.raises(ProviderDown):
                await model.complete(ASK, CallContext())
        before = len(server.seen)
        with pytest.raises(ProviderDown):
            await model.complete(ASK, CallContext())
        assert len(server.seen) == before  # at once, without a word to it
        ill = False
        await asyncio.sleep(HASTY.longest_s)
        assert (await model.complete(ASK, CallContext())).content == "done"


async def test_another_model_stands_in_for_a_provider_that_is_down():
    with misbehaving(lambda n, body: "500") as dead, misbehaving(in_turn([])) as server:
        config = ModelConfig(Thin(dead.server_port), fallback={"main": [Thin(server.server_port, name="other")]})
        models = Models(config, HASTY)
        answers = [await models.complete(ASK, CallContext()) for _ in range(2)]
    assert [(answer.extra or {})["fallback"] for answer in answers] == ["other", "other"]


# --- the pace ---------------------------------------------------------------------------------------------


async def drive(limiter: Limiter, outcomes: list[bool], at_once: int) -> list[int]:
    """Let ``at_once`` calls run at a time, each refused where its outcome is False; the limits on the way."""
    limits, rest = [], list(reversed(outcomes))

    async def caller() -> None:
        while rest:
            fine = rest.pop()
            async with limiter.permit():
                await asyncio.sleep(0)
                (limiter.answered if fine else limiter.refused)()
                limits.append(limiter.limit)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return limits


async def test_refusals_of_one_episode_shrink_the_limit_once():
    limiter = Limiter(20)
    assert await drive(limiter, [False] * 20, 20) == [16] * 20
    await drive(limiter, [False] * (ROUNDS * 16), 16)
    assert limiter.limit == 12


async def test_a_provider_that_takes_less_is_asked_less_and_more_when_it_takes_more():
    limiter = Limiter(16)
    await drive(limiter, [False, False, False, True] * 200, 16)
    assert limiter.limit <= 4
    await drive(limiter, [True] * 400, 16)
    assert limiter.limit == 16


async def test_a_limit_that_is_not_used_does_not_grow():
    limiter = Limiter(20)
    await drive(limiter, [False], 1)
    await drive(limiter, [True] * 500, 12)
    assert limiter.limit == 16
    await drive(limiter, [True] * 500, 16)
    assert limiter.limit == 20


async def test_random_refusals_do_not_starve():
    limiter = Limiter(16)
    limits = await drive(limiter, [bool(n % 10 >= 3) for n in range(2_000)], 16)
    assert sum(limits) / len(limits) > 0.7 * 16


class Timeless(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to what is next: nobody waits, and how busy the machine is does not count."""

    def __init__(self) -> None:
        super().__init__()
        self._now, self._wait = 0.0, self._selector.select
        self._selector.select = self._jump

    def time(self) -> float:
        return self._now

    def _jump(self, timeout=None):
        self._now += timeout or 0.0
        return self._wait(0)


class Granting:
    """Answers after a second; what is more than ``grants`` at once it refuses."""

    name, digest = "granting", "granting-1"

    def __init__(self, grants: int) -> None:
        self.grants, self.running, self.answers, self.refusals = grants, 0, 0, 0

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        if self.running == self.grants:
            self.refusals += 1
            raise ModelFailure("slow down", status=429)
        self.running += 1
        try:
            await asyncio.sleep(1)
        finally:
            self.running -= 1
        self.answers += 1
        return ModelResponse("done")


@pytest.mark.parametrize(("lanes", "each"), [(1, 16), (2, 8), (2, 16)])
def test_lanes_that_know_nothing_of_each_other_come_to_what_the_provider_grants(lanes, each):
    model, seconds = Granting(8), 60

    async def ask(lane: Provider, number: int) -> None:
        for n in itertools.count():
            await lane.complete(ASK, CallContext(task_id=f"{number}", attempt=n))

    async def run() -> list[int]:
        callers = [Provider(model, Patience(patience_s=1e9), each) for _ in range(lanes)]
        running = [asyncio.ensure_future(ask(callers[k % lanes], k)) for k in range(lanes * each)]
        await asyncio.sleep(seconds)
        for call in running:
            call.cancel()
        return [lane.limiter.limit for lane in callers]

    with asyncio.Runner(loop_factory=Timeless) as runner:
        limits = runner.run(run())
    assert model.answers >= 0.7 * model.grants * seconds
    assert model.refusals <= 1.5 * model.answers
    assert sum(limits) <= 2 * model.grants


async def test_other_failures_do_not_slow_the_pace():
    with misbehaving(in_turn(["500", "reset", "not json"] * 4)) as server:
        model = provider(server)
        await asyncio.gather(*(model.complete(ASK, task(n)) for n in range(8)))
    assert model.limiter.limit == 16


async def test_no_more_calls_run_than_the_limit_and_cancelled_ones_free_their_place():
    with misbehaving(in_turn([]), latency=0.05) as server:
        model = provider(server, ceiling=3)
        calls = [asyncio.ensure_future(model.complete(ASK, task(n))) for n in range(9)]
        await asyncio.sleep(0.02)
        for call in calls[::2]:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 5
        assert [end.content for end in ends if not isinstance(end, BaseException)] == ["done"] * 4
        assert max(request.at_once for request in server.seen) <= 5  # 2 hung up on and 3
        await asyncio.wait_for(asyncio.gather(*(model.complete(ASK, task(n)) for n in range(3))), 2)


# --- rollouts ---------------------------------------------------------------------------------------------


async def test_a_provider_s_bad_days_are_not_the_harness_s_time(tmp_path):
    impatient = HarnessConfig([SystemPrompt(text="Speak.")], Slots(limits=Limits(steps=10, wall_s=AFTER_S)))
    with misbehaving(in_turn(["429 after", "hang"])) as server:
        models = Models(ModelConfig(Thin(server.server_port)), QUICK)
        record = await run_rollout(Rollout(impatient, Task("Say a word.")), models, Room(str(tmp_path / "log")), None)
    assert (record.stop_reason, record.error) == (StopReason.FINISHED, "")


async def test_the_time_of_the_answers_is(tmp_path):
    impatient = HarnessConfig([SystemPrompt(text="Speak.")], Slots(limits=Limits(steps=10, wall_s=0.25)))
    with misbehaving(in_turn(["500"]), latency=0.1) as server:
        models = Models(ModelConfig(Thin(server.server_port)), QUICK)
        record = await run_rollout(Rollout(impatient, Task("Say a word.")), models, Room(str(tmp_path / "log")), None)
    assert record.stop_reason is StopReason.WALL_LIMIT


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return tmp_path / "log"


def pool(server: Misbehaving, log: Path, patience: Patience = QUICK, shelf: MemoryShelf | None = None) -> Pool:
    rooms = {"_target_": "runner_world.Rooms", "log": str(log)}
    thin = ModelConfig({"_target_": "misbehaving.Thin", "port": server.server_port})
    return Pool(PoolConfig(rooms, thin, lanes=1, concurrency=16, patience=patience), shelf)


async def test_no_rollout_is_lost_to_faults_and_none_is_the_harness_s_failure(log):
    with misbehaving(at_random(0.3, FAULTS, seed=1)) as server:
        async with pool(server, log) as running:
            results = [arms[0] for arms in await running.run(jobs(24, confirming=True))]
    assert len(server.seen) > 24 * 4
    assert {result.outcome for result in results} == {Outcome.PASSED}
    assert [result.model_calls for result in results] == [4] * 24


async def test_a_provider_that_dies_ends_the_run_and_nothing_that_it_cut_off_counts(log):
    shelf, ill = MemoryShelf(), range(80, 1_000_000)
    with misbehaving(lambda n, body: "500" if n in ill else OK) as server:
        async with pool(server, log, HASTY, shelf) as running:
            with pytest.raises(Outage, match=r"thin: 500, for 0.2 s; see to task_model, its API key"):
                await running.run(jobs(24, confirming=True))
        stored = dict(shelf.rollouts)
        assert 0 < len(stored) < 24
        assert all('"passed"' in body for body, _ in stored.values())
        ill = range(0)
        async with pool(server, log, HASTY, shelf) as running:
            again = await running.run(jobs(24, confirming=True))
    assert all(arms[0].passed for arms in again)
    assert len(shelf.rollouts) == 24
