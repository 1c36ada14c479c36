"""Every outcome of a processor at every hook means what the table in `harnessx.hooks` says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from loop_drive import World, harness, run, texts

from harnessx.errors import Outcome, StopReason
from harnessx.harness import Limits, Slots
from harnessx.hooks import Hook
from harnessx.trajectory import Trajectory

CHANGE = {
    Hook.TASK_START: "replace(event, system_prompt='Be brief.')",
    Hook.STEP_START: "replace(event, messages=event.messages.append(Message('user', 'note')))",
    Hook.BEFORE_MODEL: "event.remind('note')",
    Hook.AFTER_MODEL: "replace(event, content='changed')",
    Hook.BEFORE_TOOL: "replace(event, arguments={'text': 'changed'})",
    Hook.AFTER_TOOL: "replace(event, content='changed')",
    Hook.STEP_END: "replace(event, step=99)",
    Hook.TASK_END: "replace(event, answer='changed')",
}
FINISHED, LIMIT, BROKEN = StopReason.FINISHED, StopReason.STEP_LIMIT, StopReason.ERROR
Check = Callable[[Trajectory, World], bool]


def said(world: World) -> list[str]:
    return [call.arguments["text"] for call in world.calls]


PASS: dict[Hook, Check] = {
    hook: lambda r, w: (r.stop_reason, r.answer, said(w), texts(r)[-1]) == (FINISHED, "done", ["hello"], "echo: hello")
    for hook in Hook
}
TRANSFORM: dict[Hook, Check] = {
    Hook.TASK_START: lambda r, w: r.steps[0].exchanges[0].system == "Be brief.",
    Hook.STEP_START: lambda r, w: texts(r).count("note") == 2,
    Hook.BEFORE_MODEL: lambda r, w: texts(r)[-1] == "note" and texts(r).count("note") == 1,
    Hook.AFTER_MODEL: lambda r, w: r.answer == "changed" and r.steps[-1].exchanges[0].response.content == "done",
    Hook.BEFORE_TOOL: lambda r, w: said(w) == ["changed"],
    Hook.AFTER_TOOL: lambda r, w: texts(r)[-1] == "changed" and r.steps[0].calls[0].content == "echo: hello",
    Hook.STEP_END: lambda r, w: r.stop_reason is BROKEN and "step_end: step" in r.error,
    Hook.TASK_END: lambda r, w: r.stop_reason is BROKEN and "task_end: answer" in r.error,
}
SPLIT: dict[Hook, Check] = {
    Hook.TASK_START: lambda r, w: r.stop_reason is BROKEN and "task_start: split" in r.error,
    Hook.STEP_START: lambda r, w: r.stop_reason is BROKEN and "step_start: split" in r.error,
    Hook.BEFORE_MODEL: lambda r, w: r.model_calls == 4 and said(w) == ["hello"] * 2 and r.answer == "done\ndone",
    Hook.AFTER_MODEL: lambda r, w: r.model_calls == 2 and said(w) == ["hello"] * 2 and r.answer == "done\ndone",
    Hook.BEFORE_TOOL: lambda r, w: said(w) == ["hello"] * 2 and texts(r)[-1] == "echo: hello\necho: hello",
    Hook.AFTER_TOOL: lambda r, w: said(w) == ["hello"] and texts(r)[-1] == "echo: hello\necho: hello",
    Hook.STEP_END: lambda r, w: r.stop_reason is BROKEN and "step_end: split" in r.error,
    Hook.TASK_END: lambda r, w: r.stop_reason is BROKEN and "task_end: split" in r.error,
}
INTERCEPT: dict[Hook, Check] = {
    Hook.TASK_START: lambda r, w: r.stop_reason is StopReason.INTERCEPTED and r.model_calls == 0,
    Hook.STEP_START: lambda r, w: r.stop_reason is StopReason.INTERCEPTED and r.model_calls == 0,
    Hook.BEFORE_MODEL: lambda r, w: r.stop_reason is LIMIT and r.model_calls == 0,
    Hook.AFTER_MODEL: lambda r, w: (r.stop_reason, r.model_calls, len(texts(r)), w.calls) == (LIMIT, 4, 1, []),
    Hook.BEFORE_TOOL: lambda r, w: w.calls == [] and "blocked" in texts(r)[-1] and r.answer == "done",
    Hook.AFTER_TOOL: lambda r, w: said(w) == ["hello"] and "withheld" in texts(r)[-1] and r.answer == "done",
    Hook.STEP_END: lambda r, w: r.stop_reason is BROKEN and "step_end: intercept" in r.error,
    Hook.TASK_END: lambda r, w: r.stop_reason is BROKEN and "task_end: intercept" in r.error,
}
INTERRUPT: dict[Hook, Check] = {
    hook: lambda r, w: r.stop_reason is StopReason.INTERRUPTED and r.outcome is Outcome.PASSED for hook in Hook
} | {Hook.TASK_END: lambda r, w: r.stop_reason is FINISHED and r.answer == "done"}

MEANING = {
    "pass": ("yield event", PASS),
    "transform": (None, TRANSFORM),
    "split": ("yield event\nyield event", SPLIT),
    "intercept": ("return\nyield", INTERCEPT),
    "interrupt": ("raise Interrupt('enough')\nyield", INTERRUPT),
}


@pytest.mark.parametrize("hook", Hook)
@pytest.mark.parametrize("outcome", MEANING)
async def test_an_outcome_means_what_the_table_says(hook: Hook, outcome: str):
    body, meaning = MEANING[outcome]
    world = World()
    limits = Slots(limits=Limits(steps=4))
    record = await run(harness(body or f"yield {CHANGE[hook]}", hook, slots=limits), world=world)
    assert meaning[hook](record, world), (record.outcome, record.stop_reason, record.error, record.answer)
    broken = record.stop_reason is StopReason.ERROR
    assert record.outcome is (Outcome.HARNESS_ERROR if broken else Outcome.PASSED)


@pytest.mark.parametrize("hook", Hook)
async def test_a_crashing_processor_never_fails_open(hook: Hook):
    world = World()
    record = await run(harness("raise KeyError('lost')\nyield", hook), world=world)
    assert (record.outcome, record.stop_reason, record.reward) == (Outcome.HARNESS_ERROR, StopReason.ERROR, 0.0)
    assert f"P at {hook}: KeyError" in record.error
    assert bool(world.calls) == (hook in (Hook.AFTER_TOOL, Hook.STEP_END, Hook.TASK_END))


async def test_a_refused_call_does_not_run_and_the_model_is_told_why():
    world = World()
    body = "yield replace(event, approved=False, reason='not today')"
    record = await run(harness(body, Hook.BEFORE_TOOL), world=world)
    assert world.calls == []
    assert texts(record)[-1] == "The call did not run: not today"


async def test_parts_of_a_split_call_run_and_are_refused_each_for_itself():
    world = World()
    body = "yield event\nyield replace(event, approved=False)\nyield replace(event, arguments={'text': 'b'})"
    record = await run(harness(body, Hook.BEFORE_TOOL), world=world)
    assert said(world) == ["hello", "b"]
    assert texts(record)[-1].splitlines() == ["echo: hello", "The call did not run: it was not approved", "echo: b"]


async def test_a_split_has_an_end():
    record = await run(harness("while True:\n    yield event", Hook.BEFORE_TOOL))
    assert record.outcome is Outcome.HARNESS_ERROR
    assert "more than 16 events" in record.error


@pytest.mark.parametrize("body", ["yield None", "yield 3", "yield StepEndEvent(1, Usage(), Conversation())"])
async def test_only_events_of_the_hook_go_on(body: str):
    record = await run(harness(body, Hook.BEFORE_MODEL))
    assert record.outcome is Outcome.HARNESS_ERROR
    assert "before_model: event" in record.error
