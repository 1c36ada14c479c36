"""What a processor may change at a hook, field by field."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harnessx.contracts import Scope, check_contract
from harnessx.errors import ContractViolation, StopReason
from harnessx.hooks import (
    CONTRACTS,
    BeforeModelEvent,
    Hook,
    ModelResponseEvent,
    StepEndEvent,
    StepStartEvent,
    TaskEndEvent,
    TaskStartEvent,
    ToolCallEvent,
    ToolResultEvent,
)
from harnessx.messages import Conversation, Message, ModelResponse, ToolCall, Usage

CALL = ToolCall("c1", "look", {"at": "lamp"})
TURN = (Message("assistant", "", (CALL,)), Message("tool", "a lamp", (), "c1"))
HISTORY = Conversation([Message("user", "Look."), *TURN])
SCOPE = Scope(("look", "take"), ("main", "strong"))
EVENTS = {
    Hook.TASK_START: TaskStartEvent("t", "Look.", ""),
    Hook.STEP_START: StepStartEvent(1, HISTORY, ("look", "take"), "main"),
    Hook.BEFORE_MODEL: BeforeModelEvent(1, HISTORY, "Look.", None),
    Hook.AFTER_MODEL: ModelResponseEvent(1, ModelResponse("hm", (CALL,)), "hm", (CALL,)),
    Hook.BEFORE_TOOL: ToolCallEvent(1, "c1", "look", {"at": "lamp"}),
    Hook.AFTER_TOOL: ToolResultEvent(1, CALL, "a lamp"),
    Hook.STEP_END: StepEndEvent(1, Usage(1, 1), HISTORY),
    Hook.TASK_END: TaskEndEvent("t", 3, StopReason.FINISHED, "yes", Usage(1, 1), HISTORY),
}
OTHER = {
    "task_id": "u", "prompt": "Take.", "step": 2, "messages": Conversation(), "response": ModelResponse("ha"),
    "call_id": "c2", "name": "take", "call": ToolCall("c1", "take"), "usage": Usage(2), "steps": 4,
    "stop_reason": StopReason.ERROR, "answer": "no",
}  # fmt: skip
FROZEN = [(hook, field) for hook in Hook for field in CONTRACTS[hook].frozen]
ALLOWED = [
    (Hook.TASK_START, "system_prompt", "Be brief."),
    (Hook.STEP_START, "messages", HISTORY.append(Message("user", "note"))),
    (Hook.STEP_START, "tools", ("take",)),
    (Hook.STEP_START, "role", "strong"),
    (Hook.BEFORE_MODEL, "last_user", "Look again."),
    (Hook.BEFORE_MODEL, "appended", "note"),
    (Hook.AFTER_MODEL, "content", ""),
    (Hook.AFTER_MODEL, "tool_calls", ()),
    (Hook.BEFORE_TOOL, "arguments", {"at": ["lamp", 1, None]}),
    (Hook.BEFORE_TOOL, "approved", False),
    (Hook.BEFORE_TOOL, "reason", "why"),
    (Hook.AFTER_TOOL, "content", "nothing"),
    (Hook.AFTER_TOOL, "is_error", True),
]
WRONG = [
    (Hook.TASK_START, "system_prompt", None),
    (Hook.STEP_START, "tools", ["look"]),
    (Hook.STEP_START, "tools", ("fly",)),
    (Hook.STEP_START, "tools", ("look", "look")),
    (Hook.STEP_START, "role", "judge"),
    (Hook.STEP_START, "messages", list(HISTORY)),
    (Hook.STEP_START, "messages", HISTORY.with_tail(Message("user", "note"))),
    (Hook.STEP_START, "messages", HISTORY.append(Message("system", "obey"))),
    (Hook.BEFORE_MODEL, "last_user", None),
    (Hook.BEFORE_MODEL, "appended", 7),
    (Hook.AFTER_MODEL, "content", None),
    (Hook.AFTER_MODEL, "tool_calls", [CALL]),
    (Hook.AFTER_MODEL, "tool_calls", ({"name": "look"},)),
    (Hook.AFTER_MODEL, "tool_calls", (ToolCall("c1", "look", {"at": object()}),)),
    (Hook.AFTER_MODEL, "tool_calls", (ToolCall(1, "look"),)),
    (Hook.BEFORE_TOOL, "arguments", "lamp"),
    (Hook.BEFORE_TOOL, "arguments", {1: "lamp"}),
    (Hook.BEFORE_TOOL, "arguments", {"at": {"lamp"}}),
    (Hook.BEFORE_TOOL, "approved", 1),
    (Hook.BEFORE_TOOL, "reason", None),
    (Hook.AFTER_TOOL, "content", b"a lamp"),
    (Hook.AFTER_TOOL, "is_error", "no"),
]


def check(hook: Hook, before: object, after: object) -> None:
    check_contract(CONTRACTS[hook], "somebody", before, after, SCOPE)


def test_every_field_of_every_event_is_either_free_or_frozen():
    for hook, event in EVENTS.items():
        free = {field for h, field, _ in ALLOWED if h is hook}
        assert free == CONTRACTS[hook].mutable
        assert free | set(CONTRACTS[hook].frozen) == set(event.__dataclass_fields__)


@pytest.mark.parametrize(("hook", "field"), FROZEN)
def test_a_frozen_field_may_not_change(hook: Hook, field: str):
    with pytest.raises(ContractViolation) as caught:
        check(hook, EVENTS[hook], replace(EVENTS[hook], **{field: OTHER[field]}))
    assert (caught.value.processor, caught.value.hook, caught.value.field) == ("str", hook, field)


@pytest.mark.parametrize(("hook", "field", "value"), ALLOWED)
def test_a_free_field_may_change(hook: Hook, field: str, value: object):
    check(hook, EVENTS[hook], replace(EVENTS[hook], **{field: value}))


@pytest.mark.parametrize(("hook", "field", "value"), WRONG)
def test_a_free_field_keeps_its_type(hook: Hook, field: str, value: object):
    with pytest.raises(ContractViolation) as caught:
        check(hook, EVENTS[hook], replace(EVENTS[hook], **{field: value}))
    assert caught.value.field == field


def test_a_user_message_that_is_not_there_cannot_be_changed():
    before = BeforeModelEvent(1, Conversation(TURN), None)
    with pytest.raises(ContractViolation, match="no user message"):
        check(Hook.BEFORE_MODEL, before, replace(before, last_user="Look."))


def edited(messages: Conversation) -> None:
    event = EVENTS[Hook.STEP_START]
    check(Hook.STEP_START, event, replace(event, messages=messages))


def test_a_history_without_a_whole_turn_is_valid_and_one_with_half_a_turn_is_not():
    edited(Conversation(HISTORY[:1]))
    with pytest.raises(ContractViolation, match="calls without a result \\(c1\\)"):
        edited(HISTORY.prefix(2))
    with pytest.raises(ContractViolation, match="calls without a result"):
        edited(Conversation([*HISTORY[:2], Message("user", "note"), HISTORY[2]]))
    with pytest.raises(ContractViolation, match="a result without its call"):
        edited(Conversation([HISTORY[0], HISTORY[2]]))
    with pytest.raises(ContractViolation, match="a result without its call"):
        edited(HISTORY.append(HISTORY[2]))


def valid(messages: list[Message]) -> bool:
    """The rule in full, for a whole history."""
    waiting: set[str | None] = set()
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                return False
            waiting.discard(message.tool_call_id)
        elif waiting:
            return False
        waiting.update(call.id for call in message.tool_calls)
    return not waiting


def turn(k: int, calls: int) -> list[Message]:
    made = tuple(ToolCall(f"c{k}_{i}", "look") for i in range(calls))
    return [Message("assistant", f"turn {k}", made), *(Message("tool", "seen", (), call.id) for call in made)]


@given(st.data(), st.lists(st.integers(0, 3), max_size=5))
def test_checking_only_what_changed_finds_what_a_whole_reading_finds(data: st.DataObject, turns: list[int]):
    messages = [Message("user", "Look."), *(m for k, calls in enumerate(turns) for m in turn(k, calls))]
    before = Conversation(messages)
    places = st.integers(0, len(messages))
    start, end = data.draw(places), data.draw(places)
    added = data.draw(st.lists(st.sampled_from([Message("user", "note"), *turn(9, 1), *messages]), max_size=3))
    shared = data.draw(st.booleans())
    after = [*messages[:start], *added, *([] if shared else messages[end:])]
    event = StepStartEvent(1, before, (), "main")
    changed = replace(event, messages=before.prefix(start).append(*added) if shared else Conversation(after))
    if valid(after):
        check(Hook.STEP_START, event, changed)
    else:
        with pytest.raises(ContractViolation):
            check(Hook.STEP_START, event, changed)
