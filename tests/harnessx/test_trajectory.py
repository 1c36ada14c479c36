"""The record of a rollout, in memory and as a file that may be torn."""

from __future__ import annotations

import json

import pytest
from loop_drive import ECHO, World, harness, run

from harnessx.errors import Outcome, StopReason, UserError
from harnessx.hooks import Hook
from harnessx.messages import Usage
from harnessx.runner.host import Recorder
from harnessx.trajectory import Trajectory

SCRIPT = (
    ECHO,
    {"tool": "refuse", "content": "hm"},
    {"tool": "fly"},
    {"tool": "echo", "raw": "{"},
    ECHO,
    "done",
)
BODIES = [
    ("yield event", Hook.STEP_START),
    ("yield event.remind('note')", Hook.BEFORE_MODEL),
    ("yield replace(event, last_user='other')", Hook.BEFORE_MODEL),
    ("yield event\nyield event", Hook.BEFORE_MODEL),
    ("yield event\nyield event", Hook.BEFORE_TOOL),
    ("yield replace(event, content='changed')", Hook.AFTER_TOOL),
    ("yield replace(event, content=event.content + '!')", Hook.AFTER_MODEL),
    ("await self.ctx.complete('main', ModelRequest('Judge.', event.messages))\nyield event", Hook.STEP_END),
    ("yield replace(event, messages=Conversation(event.messages[-1:])) "
     "if event.messages[-1].role == 'user' else event", Hook.STEP_START),
    ("yield replace(event, system_prompt='Be brief.')", Hook.TASK_START),
]  # fmt: skip


@pytest.mark.parametrize(("body", "hook"), BODIES)
async def test_a_file_says_all_that_the_record_says(body: str, hook: Hook):
    lines: list[bytes] = []
    record = await run(harness(body, hook), SCRIPT, recorder=Recorder(lines.append))
    assert record.error == ""
    written = b"".join(lines).decode()
    assert written == record.to_jsonl()
    again = Trajectory.from_jsonl(written)
    again.wall_s = record.wall_s
    assert again == record
    assert again.to_jsonl() == written


async def test_a_line_does_not_repeat_what_is_known():
    world = World()
    record = await run(
        harness("yield event", Hook.STEP_END), [{"tool": "echo", "arguments": {"text": "x" * 500}}, "done"], world
    )
    written = record.to_jsonl()
    assert written.count("x" * 500) == 2  # once in the call, once in the result that repeats it
    assert json.loads(written.splitlines()[2])["exchanges"][0]["sent"] == [0, "s0"]


@pytest.mark.parametrize("tail", ["", '{"step":3,"exch', "\x00\x00"])
async def test_a_torn_last_line_is_owed_again_and_what_was_spent_is_counted(tail: str):
    record = await run(harness("yield event", Hook.STEP_END), SCRIPT)
    torn = "".join(line + "\n" for line in record.to_jsonl().splitlines()[:3]) + tail
    read = Trajectory.from_jsonl(torn)
    assert read.steps == record.steps[:2]
    assert (read.outcome, read.stop_reason) == (Outcome.INFRA_ERROR, StopReason.ERROR)
    spent = [exchange.response.usage for step in record.steps[:2] for exchange in step.exchanges]
    assert (read.usage, read.model_calls) == (sum(spent, Usage()), 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no 'format'"),
        ('{"task":"t"}\n', "no 'format'"),
        ("[1]\n", "no 'format'"),
        ("hello\n", "not JSON"),
        ('{"format":9}\n', "trajectory format 9; this version reads format 1"),
    ],
)
def test_what_is_no_trajectory_is_refused(text: str, said: str):
    with pytest.raises(UserError, match=said):
        Trajectory.from_jsonl(text)


def test_anchors_name_steps():
    assert Trajectory("t12", 1).anchor(5) == "t12_a1#step_5"
