"""D1, D2, D3: what a model sees, of whom it is asked, and what is remembered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processor_drive import (
    PROMPT,
    act,
    after_tool,
    before_model,
    bound,
    one,
    step_start,
    task_start,
)

from harnessx.messages import Message, ToolCall
from harnessx.processors import (
    CurrentState,
    EpisodicMemory,
    FewShot,
    Instructions,
    ModelRouter,
    RunningNotes,
    SlidingWindow,
    SystemPrompt,
    ToolResultCompression,
    ToolResultTruncation,
)


def run(awaitable):
    """Drive a coroutine that never really waits (hypothesis tests are not async)."""
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


async def test_router_brings_the_strong_model_in_after_failures_and_lets_it_go_at_a_success():
    router = bound(ModelRouter(rules=[{"role": "strong", "failures": 2}]))
    await one(router, after_tool(act("x"), "Nothing happens."))
    assert (await one(router, step_start(2))).role == "main"
    await one(router, after_tool(act("x"), "boom", is_error=True))
    assert (await one(router, step_start(3))).role == "strong"
    await one(router, after_tool(act("x"), "You open the fridge 1."))
    assert (await one(router, step_start(4, role="strong"))).role == "main"


async def test_router_follows_the_first_rule_that_holds():
    router = bound(ModelRouter(rules=[{"role": "strong", "from_step": 9}, {"role": "middle", "from_step": 5}]))
    assert [(await one(router, step_start(n))).role for n in (4, 5, 9)] == ["main", "middle", "strong"]


def test_router_refuses_a_rule_it_does_not_know():
    with pytest.raises(ValueError, match="from_step"):
        ModelRouter(rules=[{"role": "strong", "step": 3}])


async def test_sections_of_the_system_prompt_stand_in_order():
    event = task_start()
    for processor in (
        SystemPrompt(asset="assets/p.md"),
        Instructions("Open what is closed."),
        FewShot(["go, take"]),
    ):
        event = await one(bound(processor, assets={"assets/p.md": "You act.\n"}), event)
    assert event.system_prompt == "You act.\n\nOpen what is closed.\n\nExample 1\ngo, take"


@pytest.mark.parametrize("params", [{}, {"text": "a", "asset": "assets/b"}])
def test_a_prompt_is_given_once(params):
    with pytest.raises(ValueError, match="either"):
        SystemPrompt(**params)


async def test_current_state_restates_goal_and_last_observation():
    state = bound(CurrentState(every=2))
    history = [Message("user", PROMPT), Message("tool", "The fridge 1\nis closed.", (), "c")]
    assert await one(state, quiet := before_model(1, history)) is quiet
    reminded = await one(state, before_model(2, history))
    assert reminded.appended == (
        "Your task is to: put a mug in cabinet 1.\nThe last result was: The fridge 1 is closed."
    )


async def test_current_state_finds_the_goal_before_a_first_observation_and_without_a_marker():
    late = bound(CurrentState(), prompt=f"{PROMPT}\n\nYou see a fridge 1.")
    assert (await one(late, before_model())).appended == "Your task is to: put a mug in cabinet 1."
    plain = bound(CurrentState(), prompt="Some data.\n\nHow many are there?")
    assert (await one(plain, before_model())).appended == "How many are there?"


turns = st.lists(st.integers(0, 4), max_size=12)


def history_of(calls_per_turn):
    messages = [Message("user", PROMPT)]
    for turn, calls in enumerate(calls_per_turn):
        made = tuple(ToolCall(f"{turn}.{i}", "act", {"command": f"{turn}.{i}"}) for i in range(calls))
        messages.append(Message("assistant", f"turn {turn}", made))
        messages += [Message("tool", "ok", (), call.id) for call in made]
    return messages


def assert_whole_turns(messages):
    due = []
    for message in messages:
        if message.role == "tool":
            assert message.tool_call_id == due.pop(0), "a result stands after its call, in order"
        else:
            assert not due, "a call without its result"
            due = [call.id for call in message.tool_calls]
    assert not due


@given(turns, st.integers(1, 12), st.integers(0, 11), st.integers(0, 11))
def test_window_keeps_calls_with_results_and_stays_small(calls_per_turn, size, keep, block):
    keep, block = min(keep, size - 1), min(block, size - 1)
    window = bound(SlidingWindow(max_messages=size, keep_first=keep, block=block))
    before = step_start(9, history_of(calls_per_turn))
    after = run(one(window, before))
    kept, whole = list(after.messages), list(before.messages)
    assert_whole_turns(kept)
    assert kept[:keep] == whole[:keep]
    assert kept[-1] == whole[-1]
    head = keep
    while head < len(whole) and whole[head].role == "tool":
        head += 1
    last_turn = next(n for n in range(1, len(whole) + 1) if whole[-n].role != "tool")
    assert len(kept) <= max(size, head + last_turn)


async def test_window_drops_in_blocks_so_that_most_steps_pass_untouched():
    window = bound(SlidingWindow(max_messages=20))
    messages, rebuilt = [Message("user", PROMPT)], 0
    for step in range(1, 101):
        messages += [
            Message("assistant", "", (ToolCall(str(step), "act"),)),
            Message("tool", "", (), str(step)),
        ]
        event = step_start(step, messages)
        after = await one(window, event)
        rebuilt += after is not event
        messages = list(after.messages)
    assert rebuilt <= 21


@given(st.text(max_size=300), st.integers(1, 120))
def test_truncation_never_exceeds_and_never_touches_what_fits(text, limit):
    event = after_tool(act("x"), text)
    out = run(one(bound(ToolResultTruncation(max_chars=limit)), event))
    assert len(out.content) <= limit
    assert (out is event) == (len(text) <= limit)


async def test_truncation_keeps_start_and_end():
    text = "start" + "x" * 500 + "end"
    content = (await one(bound(ToolResultTruncation(max_chars=100)), after_tool(act("x"), text))).content
    assert content.startswith("start")
    assert content.endswith("end")
    left_out = 508 - len(content.replace("\n[435 characters left out]\n", ""))
    assert left_out == 435


async def test_compression_drops_repeated_lines_and_folds_a_result_seen_shortly_before():
    compression = bound(ToolResultCompression(fold_within=3, fold_chars=10))
    assert (await one(compression, after_tool(act("a"), "warn  \nwarn\n\n\nend"))).content == "warn\n\nend"
    long = "a result of some length"
    assert (await one(compression, after_tool(act("b"), long, step=2))).content == long
    assert (await one(compression, after_tool(act("b"), long, step=5))).content == ("(same as the result of step 2)")
    assert (await one(compression, after_tool(act("b"), long, step=6))).content == long
    assert (await one(compression, after_tool(act("b"), "short", step=6))).content == "short"


async def test_notes_keep_the_latest_result_of_each_call_newest_last():
    notes = bound(RunningNotes(max_items=2, max_chars=30))
    assert await one(notes, quiet := before_model()) is quiet
    await one(notes, after_tool(act("go to shelf 1"), "You see a mug 1."))
    await one(notes, after_tool(act("go to fridge 1"), "The fridge 1 is closed."))
    await one(notes, after_tool(act("go to shelf 1"), "You see\nnothing."))
    lines = (await one(notes, before_model(2))).appended.splitlines()[1:]
    assert lines == ["go to fridge 1: The fridge 1 is closed.", "go to shelf 1: You see nothing."]
    await one(notes, after_tool(ToolCall("c", "add", {"x": 1, "y": [2]}), "3" * 99))
    lines = (await one(notes, before_model(3))).appended.splitlines()[1:]
    assert lines == ["go to shelf 1: You see nothing.", f"add x=1, y=[2]: {'3' * 29}…"]


async def test_notes_are_not_taken_of_ignored_tools_and_failures():
    notes = bound(RunningNotes(ignore=["commands"]))
    await one(notes, after_tool(ToolCall("c", "commands"), "go, take"))
    await one(notes, after_tool(act("go"), "no such tool", is_error=True))
    assert (await one(notes, before_model(2))).appended is None


EPISODES = "\n".join(
    json.dumps(row)
    for row in (
        {"task": "heat an egg and put it on the table", "text": "Use the microwave."},
        {"task": "put a clean mug in cabinet", "text": "Clean at the sinkbasin."},
        {"task": "count the pages of the report", "text": "Use pdfinfo."},
    )
)


async def test_episodes_are_recalled_by_likeness_and_only_if_alike():
    memory = bound(EpisodicMemory("assets/m.jsonl", k=1), assets={"assets/m.jsonl": EPISODES})
    recalled = await one(memory, task_start(system="You act."))
    assert recalled.system_prompt == "You act.\n\nFrom similar tasks before:\n- Clean at the sinkbasin."
    unlike = task_start(prompt="xyz")
    assert await one(memory, unlike) is unlike


async def test_a_bad_episode_is_named_by_its_line():
    memory = bound(EpisodicMemory("assets/m.jsonl"), assets={"assets/m.jsonl": EPISODES + '\n{"task": 1}'})
    with pytest.raises(ValueError, match=r"assets/m\.jsonl:4"):
        await one(memory, task_start())
