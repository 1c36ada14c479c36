"""D6, D7: an agent that checks itself, does not go in circles, and stays within its means."""

from __future__ import annotations

import pytest
from processor_drive import (
    LAST_STEP,
    act,
    after_tool,
    answer,
    before_model,
    before_tool,
    bound,
    every,
    one,
    step_end,
)

from harnessx.errors import Interrupt
from harnessx.messages import ToolCall, Usage
from harnessx.processors import (
    Checklist,
    CostGuard,
    LoopDetection,
    ParseRetry,
    RepeatedFailureGuard,
    SelfVerification,
    StepBudgetReminder,
    TokenBudget,
)


async def said(processor, step=1):
    return (await one(processor, before_model(step))).appended


async def test_a_final_answer_is_checked_once_against_the_goal():
    verification = bound(SelfVerification())
    acting = answer("", act("go"))
    assert await one(verification, acting) is acting
    assert await every(verification, answer("I put it there.")) == []
    question = await said(verification, 2)
    assert "put a mug in cabinet 1" in question
    assert '"I put it there."' in question
    assert await said(verification, 3) is None
    final = answer("Done.")
    assert await one(verification, final) is final


async def test_a_checklist_comes_now_and_then_and_before_the_end():
    checklist = bound(Checklist(["Is it clean?"], every=3))
    shown = [await said(checklist, step) for step in (1, 2, 3)]
    assert shown == [None, None, "Check, one by one:\n- Is it clean?"]
    assert await every(checklist, answer("Done.")) == []
    assert await said(checklist, 4) == "Check, one by one:\n- Is it clean?"
    assert await every(checklist, answer("Done.")) != []


async def test_a_call_repeated_with_the_same_result_is_named_and_forbidden():
    loop = bound(LoopDetection(repeats=3))
    for result in ("closed", "closed", "open", "closed"):
        assert await said(loop) is None
        await one(loop, after_tool(act("go to fridge 1"), result))
    assert await said(loop) == ("Do not go to fridge 1 again: it has given the same result 3 times. Do something else.")
    assert await said(loop) is None, "it is said once"


async def test_repetitions_further_apart_than_the_window_are_no_loop():
    loop = bound(LoopDetection(repeats=2, max_cycle=0, window=3))
    for command in ("a", "b", "c", "a", "b", "c"):
        await one(loop, after_tool(act(command), "same"))
        assert await said(loop) is None
    await one(loop, after_tool(act("b"), "same"))
    assert "Do not b again" in await said(loop)


@pytest.mark.parametrize("cycle", [["a", "b"], ["a", "b", "c"], ["a", "a", "b", "c"]])
async def test_a_cycle_is_seen_when_it_has_gone_round(cycle):
    loop = bound(LoopDetection(repeats=9, rounds=2, max_cycle=4))
    for command in [*cycle, *cycle[:-1]]:
        await one(loop, after_tool(act(command), "same"))
        assert await said(loop) is None
    await one(loop, after_tool(act(cycle[-1]), "same"))
    assert ", then ".join(f'"{command}"' for command in cycle) in await said(loop)


async def test_a_cycle_with_new_results_is_progress():
    loop = bound(LoopDetection())
    for turn in range(6):
        for command in ("look", "push"):
            await one(loop, after_tool(act(command), f"at {turn}"))
            assert await said(loop) is None


async def test_a_failing_call_is_refused_until_something_succeeds():
    guard = bound(RepeatedFailureGuard(max_failures=2))
    call = act("open fridge 1")
    for result in ("Nothing happens.", "Nothing happens."):
        assert (await one(guard, before_tool(call))).approved
        await one(guard, after_tool(call, result))
    refused = await one(guard, before_tool(call))
    assert not refused.approved
    assert "failed 2 times" in refused.reason
    other = before_tool(act("go to fridge 1"))
    assert await one(guard, other) is other
    await one(guard, after_tool(act("go to fridge 1"), "You arrive."))
    assert (await one(guard, before_tool(call))).approved


async def test_step_budget_is_said_from_a_step_on_and_at_the_end():
    budget = bound(StepBudgetReminder(limit=10, every=4, from_step=5))
    told = {step: await said(budget, step) for step in range(1, 12)}
    assert {step for step, text in told.items() if text} == {8, 10, 11}
    assert told[8] == "This is step 8 of 10: 2 more after it."
    assert told[10] == "This is step 10 of 10: finish now."


async def test_a_token_budget_warns_then_interrupts():
    budget = bound(TokenBudget(max_tokens=100, warn_at=0.5))
    await one(budget, step_end(1, Usage(30, 10)))
    assert await said(budget) is None
    await one(budget, step_end(2, Usage(30, 10)))
    assert await said(budget) == "About 20 tokens are left for this task. Come to an end."
    await one(budget, before_model(3))
    await one(budget, step_end(3, Usage(20, 0)))
    with pytest.raises(Interrupt, match="100 tokens"):
        await one(budget, before_model(4))


async def test_a_cost_guard_interrupts_when_spent_and_when_blind():
    guard = bound(CostGuard(max_usd=0.5))
    await one(guard, step_end(1, Usage(1, 1, cost_usd=0.3)))
    await one(guard, before_model(2))
    await one(guard, step_end(2, Usage(1, 1, cost_usd=0.3)))
    with pytest.raises(Interrupt, match=r"0\.6000"):
        await one(guard, before_model(3))
    blind = bound(CostGuard(max_usd=0.5))
    await one(blind, step_end(1, Usage(1, 1)))
    with pytest.raises(Interrupt, match="no known price"):
        await one(blind, before_model(2))


async def test_calls_are_told_apart_by_tool_and_arguments():
    loop = bound(LoopDetection(repeats=2, max_cycle=0))
    for call in (ToolCall("1", "a", {"x": 1}), ToolCall("2", "b", {"x": 1}), ToolCall("3", "a", {"x": 2})):
        await one(loop, after_tool(call, "same"))
    assert await said(loop) is None


@pytest.mark.parametrize("processor", [SelfVerification(), Checklist(["Is it clean?"]), ParseRetry()])
async def test_an_answer_at_the_last_step_is_never_withheld(processor):
    withholding = bound(processor)
    last = answer("", step=LAST_STEP)
    assert await every(withholding, last) == [last]
    assert await every(withholding, answer("", step=LAST_STEP - 1)) == []
