"""The purse: a cap is passed by the calls in flight at most, and a call is refused exactly where it is reached."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harnessx import ModelConfig
from harnessx.errors import BudgetSpent, CallRefused, UserError
from harnessx.messages import Conversation, Message, ModelRequest, Usage
from harnessx.model_config import Models
from harnessx.models.base import CallContext
from harnessx.models.scripted import Scripted
from harnessx.models.spend import Spend
from harnessx.runner.purse import TOTAL, Cap, Purse
from harnessx.runner.tellers import LaneTeller, OwnTeller, PoolTeller

ASK = ModelRequest("Be brief.", Conversation([Message("user", "hi")]))


async def spend_all(purse: Purse, prices: list[int], at_once: int, account: str = "task") -> tuple[int, int]:
    """Calls of these prices, so many at a time, until one is refused: how many were made, and in flight at most."""
    rest, made, flying, most = list(reversed(prices)), 0, 0, 0

    async def caller() -> None:
        nonlocal made, flying, most
        while rest:
            try:
                await purse.reserve(account)
            except BudgetSpent:
                return
            price = rest.pop() if rest else 0
            flying, made = flying + 1, made + 1
            most = max(most, flying)
            await asyncio.sleep(0)
            flying -= 1
            purse.settle(account, Spend(price))

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return made, most


@given(prices=st.lists(st.integers(1, 100), max_size=40), cap=st.integers(1, 1_500), at_once=st.integers(1, 8))
def test_a_cap_is_passed_by_the_calls_in_flight_at_most_and_reached_before_any_is_refused(prices, cap, at_once):
    purse = Purse({TOTAL: Cap(tokens=cap)})
    made, most = asyncio.run(spend_all(purse, prices, at_once))
    paid = purse.paid["task"].tokens
    assert paid <= cap - 1 + most * max(prices, default=0)
    if made < len(prices):
        assert paid >= cap
    if sum(prices) < cap:
        assert (made >= len(prices), paid) == (True, sum(prices))


@given(prices=st.lists(st.integers(50, 100), min_size=20, max_size=40), at_once=st.integers(2, 8))
def test_calls_near_the_cap_wait_for_those_in_flight(prices, at_once):
    purse = Purse({TOTAL: Cap(tokens=900)})
    asyncio.run(spend_all(purse, prices, at_once))
    assert purse.paid["task"].tokens < 900 + 100


async def test_each_account_has_its_own_cap_and_all_share_the_total():
    purse = Purse({TOTAL: Cap(usd=1.0), "meta": Cap(usd=0.25)})
    await purse.reserve("meta")
    purse.settle("meta", Spend(10, 0.25))
    with pytest.raises(BudgetSpent, match=r"the budget of 0.25 USD for meta is spent"):
        await purse.reserve("meta")
    await purse.reserve("task")
    purse.settle("task", Spend(10, 0.75))
    with pytest.raises(BudgetSpent, match=r"the budget of 1 USD is spent"):
        await purse.reserve("judge")
    purse.waived = True
    await purse.reserve("judge")


async def test_what_earlier_sittings_paid_counts_and_every_payment_is_kept():
    kept: list[tuple[str, Spend]] = []
    purse = Purse({TOTAL: Cap(tokens=100)}, {"task": Spend(95)}, lambda *payment: kept.append(payment))
    await purse.reserve("meta")
    purse.settle("meta", Spend(7))
    assert kept == [("meta", Spend(7))]
    with pytest.raises(BudgetSpent):
        await purse.reserve("task")


async def test_money_in_an_unknown_currency_is_refused_where_money_is_capped():
    purse = Purse({"judge": Cap(usd=2.0)})
    for account in ("task", "judge"):
        await purse.reserve(account)
        purse.settle(account, Spend(5, None))
    await purse.reserve("task")
    with pytest.raises(UserError, match=r"budget.roles.judge.usd=2 cannot be kept"):
        await purse.reserve("judge")


async def test_models_of_the_host_pay_from_their_account():
    purse = Purse({"meta": Cap(tokens=10)})
    models = Models(ModelConfig(Scripted(["word " * 20], loop=True)), teller=OwnTeller(purse, "meta"))
    await models.complete(ASK, CallContext())
    assert purse.paid["meta"] == Spend(26, None)
    with pytest.raises(BudgetSpent):
        await models.complete(ASK, CallContext())


async def test_what_a_lane_that_died_had_reserved_is_free_again_and_a_refusal_reaches_the_pool():
    purse, refusals = Purse({TOTAL: Cap(tokens=10)}), []
    dead = PoolTeller(purse, lambda frame: None, refusals.append)
    purse.paid["task"], purse._dearest["task"] = Spend(5), Spend(6)
    dead.ask(0, "task")
    await asyncio.sleep(0)
    told: list[dict] = []
    lane = LaneTeller(told.append)
    alive = PoolTeller(purse, lambda frame: lane.answered(frame["ticket"], frame["refused"]), refusals.append)
    asking = asyncio.ensure_future(lane.reserve("task"))
    await asyncio.sleep(0)
    alive.ask(told[0]["ticket"], told[0]["account"])
    await asyncio.sleep(0.01)
    assert not asking.done()  # the other lane's call may use up what is left
    dead.close()
    lane.settle(await asyncio.wait_for(asking, 2), Usage(5, 5))
    alive.settle(told[1]["ticket"], told[1]["spend"])
    refused = asyncio.ensure_future(lane.reserve("task"))
    await asyncio.sleep(0)
    alive.ask(told[2]["ticket"], told[2]["account"])
    with pytest.raises(CallRefused, match="the budget of 10 tokens is spent"):
        await asyncio.wait_for(refused, 2)
    assert [type(error) for error in refusals] == [BudgetSpent]
