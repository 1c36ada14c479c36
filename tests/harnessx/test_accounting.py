"""Tokens and dollars are the provider's own, to the token and to the cent, whatever happens on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from loop_drive import Accept, World
from providers import Endpoint, endpoint

from harnessx import HarnessConfig, ModelConfig, Outcome, Task
from harnessx.errors import ModelFailure
from harnessx.messages import Conversation, Message, ModelRequest, Usage
from harnessx.model_config import Models
from harnessx.models.base import CallContext
from harnessx.models.litellm import LiteLLM, _litellm
from harnessx.models.patience import Patience
from harnessx.runner.cassette import Cassette, ResponseTape
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.trajectory import Trajectory

PRICED = "openai/gpt-4o-mini"
QUICK = Patience(timeout_s=120, patience_s=120, base_s=0.01)
ECHO = (("echo", '{"text": "hello"}'),)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "loopback")
    _litellm()  # its import is nobody's wall time
    with endpoint() as found:
        yield found


def listed(server: Endpoint, model: str = PRICED) -> float:
    """What LiteLLM asks for all that the provider answered."""
    litellm = _litellm()
    return sum(
        litellm.completion_cost(completion_response=litellm.ModelResponse(**answer), model=model)
        for answer in server.books.answers
    )


async def rollout(models: Models, tape: ResponseTape | None = None, key: str = "r") -> Trajectory:
    plan = Rollout(HarnessConfig(), Task("Say hello.", "t"), key=key)
    return await run_rollout(plan, models, World(), Accept(), tape=tape)


def counted(usage: Usage) -> tuple[int, int, int]:
    return usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens


def booked(server: Endpoint) -> tuple[int, int, int]:
    return server.books.prompt, server.books.completion, server.books.cached


async def test_a_rollout_costs_what_the_provider_says_with_its_own_cache_and_failed_tries(server: Endpoint):
    server.fails(429)
    server.says("", ECHO)
    server.fails(500)
    server.says("", ECHO, cached_percent=80)
    server.says("nothing", no_choice=True)  # billed all the same
    server.says("done", cached_percent=90)
    models = Models(ModelConfig(LiteLLM(PRICED, server.v1)), QUICK)
    record = await rollout(models)
    assert (record.answer, record.outcome) == ("done", Outcome.PASSED)
    assert len(server.seen) == 6
    assert counted(record.usage) == booked(server)
    assert server.books.cached > 0
    assert record.usage.cost_usd == pytest.approx(listed(server), abs=1e-9)
    assert record.paid["task"].tokens == sum(booked(server)[:2])
    assert record.paid["task"].usd == pytest.approx(listed(server), abs=1e-9)


async def test_what_is_replayed_is_counted_and_not_paid(server: Endpoint):
    server.says("", ECHO)
    server.says("done")
    cassette = Cassette("s")
    models = Models(ModelConfig(LiteLLM(PRICED, server.v1)), QUICK)
    first = await rollout(models, ResponseTape(cassette), "a")
    before = booked(server)
    again = await rollout(models, ResponseTape(cassette), "b")
    assert booked(server) == before == counted(again.usage) == counted(first.usage)
    assert (again.replayed_calls, again.paid) == (2, {})
    resumed = await rollout(models, ResponseTape(cassette), "a")
    assert (resumed.replayed_calls, resumed.paid) == (0, first.paid)
    assert len(server.seen) == 2


async def test_a_fallbacks_answer_is_tagged_and_never_kept_as_the_primarys(server: Endpoint):
    with endpoint() as other:
        server.fails(400)
        other.served = "stand-in"
        other.says("from the stand-in")
        primary, fallback = LiteLLM(PRICED, server.v1), LiteLLM("openai/gpt-4o", other.v1)
        config = ModelConfig(primary, fallback={"main": [fallback]})
        cassette = Cassette("s")
        record = await rollout(Models(config, QUICK), ResponseTape(cassette))
        (exchange,) = record.steps[0].exchanges
        assert (exchange.response.extra or {})["fallback"] == "openai/gpt-4o"
        assert exchange.response.model == "stand-in"
        assert fallback.digest in exchange.key
        assert counted(record.usage) == booked(other)
        assert record.usage.cost_usd == pytest.approx(listed(other, "openai/gpt-4o"), abs=1e-9)
        again = await rollout(Models(config, QUICK), ResponseTape(cassette), "b")
        assert (again.answer, again.replayed_calls) == ("from the stand-in", 1)
        server.says("from the primary")
        alone = await rollout(Models(ModelConfig(primary), QUICK), ResponseTape(cassette), "c")
        assert (alone.answer, alone.replayed_calls) == ("from the primary", 0)


async def test_what_a_call_cost_that_failed_for_good_is_paid(server: Endpoint):
    server.loop = {"content": "nothing", "calls": (), "no_choice": True}
    models = Models(ModelConfig(LiteLLM(PRICED, server.v1)), replace(QUICK, patience_s=0.2))
    with pytest.raises(ModelFailure) as caught:
        await models.complete(ModelRequest("", Conversation([Message("user", "hi")])), CallContext())
    usage = caught.value.usage
    assert usage is not None
    assert 0 < usage.prompt_tokens <= server.books.prompt


async def test_a_price_that_is_not_known_is_said_once_and_no_dollars_are_made_up(server: Endpoint):
    server.loop = {"content": "done", "calls": ()}
    said: list[Any] = []
    models = Models(ModelConfig(LiteLLM("openai/local", server.v1)), QUICK, report=said.append)
    for _ in range(2):
        record = await rollout(models)
        assert record.usage.cost_usd is None
        assert record.usage.total_tokens > 0
    assert [identity.prices for identity in said] == [None]
