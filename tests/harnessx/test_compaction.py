"""Compaction: the history stays within its target, a summary stands for what went, and the checkpoint has it all."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_drive import requests, run
from processor_drive import bound
from test_processors_context import run as drive

from harnessx.errors import ToolError
from harnessx.harness import HarnessConfig
from harnessx.hooks import StepStartEvent
from harnessx.messages import Conversation, Message, ModelResponse, ToolCall
from harnessx.model_config import ModelConfig
from harnessx.models.scripted import Scripted
from harnessx.processors import Compaction
from harnessx.processors.compaction import _size
from harnessx.processors.paging import pages_of

SMALL = {"max_tokens": 200, "target_tokens": 120, "summary_tokens": 40}


def turn(number: int, text: str) -> list[Message]:
    call = ToolCall(f"c{number}", "act", {"command": f"look {number}"})
    return [Message("assistant", "", (call,)), Message("tool", text, (), call.id)]


def script(turns: int, length: int = 100) -> list[object]:
    words = [{"tool": "echo", "arguments": {"text": f"{n} " + "word " * (length // 5)}} for n in range(turns)]
    return [*words, "done"]


class Counting(Scripted):
    """Says the line that is due by how often it was asked, whatever it is shown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked = 0

    async def complete(self, request, context):
        self.asked += 1
        return self._answers[min(self.asked, len(self._answers)) - 1]


async def play(lines, processor: Compaction, **roles):
    return await run(HarnessConfig([processor]), models=ModelConfig(Counting(lines), **roles))


def estimated(messages) -> int:
    return sum(map(_size, messages)) // 4


async def test_no_request_is_longer_than_the_most_and_the_task_and_the_latest_stay():
    record = await play(script(20), Compaction(**SMALL))
    assert record.passed
    asked = requests(record)
    assert max(map(estimated, asked)) <= 200 + 60  # the turn that passes it
    assert all(request[0].text == asked[0][0].text for request in asked)
    assert all(request[-1].text.startswith(f"echo: {n} ") for n, request in enumerate(asked[1:]))
    done = record.claims["compaction"]
    assert len(done) > 3
    assert all(c["tokens_before"] > 200 and c["tokens_after"] <= 120 and c["by"] == "rule" for c in done)


async def test_the_summary_by_rule_says_what_was_done_and_keeps_the_newest():
    record = await play(script(20), Compaction(**SMALL))
    summary = requests(record)[-1][1].text
    assert summary.startswith("What happened before, in short (")
    assert "echo: 18 word" in summary
    assert "earlier lines left out" in summary
    assert "echo: 0 word" not in summary


async def test_a_short_history_is_left_alone():
    record = await play(script(3, 20), Compaction(**SMALL))
    assert "compaction" not in record.claims
    assert len(requests(record)[-1]) == 7


@dataclass
class Writer:
    """A model that summarises: ``text``, and notes what it is shown."""

    text: str = "It went from room to room."
    shown: list[str] = field(default_factory=list)
    name: str = "writer"
    digest: str = "writer"

    async def complete(self, request, context):
        self.shown.append(request.messages[0].text)
        return ModelResponse(self.text, model="writer")


async def test_a_model_of_the_role_writes_it_and_is_shown_the_last_summary_too():
    writer = Writer()
    record = await play(script(20), Compaction(**SMALL), summarizer=writer)
    assert "It went from room to room." in requests(record)[-1][1].text
    assert all("It went from room" in shown for shown in writer.shown[1:])
    assert {c["by"] for c in record.claims["compaction"]} == {"summarizer"}
    assert sum(e.path == "processor:summarizer" for step in record.steps for e in step.exchanges) == len(writer.shown)


@pytest.mark.parametrize("text", ["", "far too long " * 100])
async def test_an_answer_that_is_no_summary_is_replaced_by_rule(text):
    record = await play(script(20), Compaction(**SMALL), summarizer=Writer(text))
    assert {c["by"] for c in record.claims["compaction"]} == {"rule"}
    assert max(map(estimated, requests(record))) <= 260


async def test_the_model_can_ask_for_what_a_summary_stands_for():
    lines = [*script(8)[:-1], {"tool": "recall", "arguments": {"checkpoint": 1}}, "done"]
    record = await play(lines, Compaction(**SMALL))
    shown = requests(record)[-1][-1].text
    assert shown.startswith("[page 1 of 1 of checkpoint 1]\n")
    assert "tool: echo: 0 word" in shown


def test_a_checkpoint_that_is_gone_is_said_to_be():
    with pytest.raises(ToolError, match="there is no checkpoint 3; checkpoints: none"):
        Compaction().recall(3, 1)


@pytest.mark.parametrize("params", [{"target_tokens": 900}, {"max_tokens": 10}, {"chars_per_token": 0}])
def test_sizes_that_leave_no_room_are_refused(params):
    with pytest.raises(ValueError, match="must"):
        Compaction(**params)


@settings(deadline=None)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=30), st.integers(0, 2))
def test_whatever_the_history_it_keeps_the_target_or_what_always_stays_and_the_contract(sizes, keep_first):
    processor = Compaction(keep_first=keep_first, **SMALL)
    messages = [Message("user", "Do it.")]
    for number, size in enumerate(sizes):
        messages += turn(number, "x" * size)
    bound(processor)

    async def first():
        return [e async for e in processor.process(StepStartEvent(1, Conversation(messages), (), "main"))]

    (out,) = drive(first())
    kept = list(out.messages)
    head = keep_first + (keep_first == 2)  # results of a call among the first stay with it
    latest = messages[-2:] if len(messages) - 2 >= head else messages[-1:]
    assert kept[:head] == messages[:head]
    assert kept[-1] == messages[-1]
    calls: set[str] = set()
    for message in kept:
        if message.role == "tool":
            assert message.tool_call_id in calls
        calls |= {call.id for call in message.tool_calls}
    floor = sum(map(_size, messages[:head])) + sum(map(_size, latest)) + 40 * 4 + 90
    assert sum(map(_size, kept)) <= max(120 * 4, floor, 0 if sum(map(_size, messages)) > 800 else 800)


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(2, 40))
def test_pages_joined_are_the_text(text, size):
    pages = pages_of(text, size)
    assert "".join(pages) == text
    assert all(len(page) <= size for page in pages)
