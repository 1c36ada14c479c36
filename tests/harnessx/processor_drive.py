"""Real events and a real context for one processor at a time."""

from __future__ import annotations

from pathlib import Path

from harnessx.errors import StopReason
from harnessx.harness import Limits
from harnessx.hooks import (
    BeforeModelEvent,
    ModelResponseEvent,
    StepEndEvent,
    StepStartEvent,
    TaskEndEvent,
    TaskStartEvent,
    ToolCallEvent,
    ToolResultEvent,
)
from harnessx.messages import Conversation, ModelResponse, ToolCall, ToolSchema, Usage
from harnessx.processor import Context, Processor

LAST_STEP = 30
PROMPT = "You are in a room.\n\nYour task is to: put a mug in cabinet 1."


def bound(processor: Processor, *, prompt: str = PROMPT, assets=None, tools: tuple[ToolSchema, ...] = ()):
    """The processor, bound to a context whose model may not be asked."""

    async def complete(role, request):
        raise AssertionError("no processor here asks a model")

    def scratch() -> Path:
        raise AssertionError("no processor here needs a folder")

    processor.bind(
        Context("t1", prompt, 0, "0", complete, scratch, (assets or {}).__getitem__,
                slots={"tool_schemas": tools, "limits": Limits(steps=LAST_STEP)})
    )  # fmt: skip
    return processor


async def every(processor: Processor, event):
    """All events that come out."""
    return list(processor.process(event))


async def one(processor: Processor, event):
    """The one event that comes out."""
    (out,) = await every(processor, event)
    return out


def task_start(prompt: str = PROMPT, system: str = "") -> TaskStartEvent:
    return TaskStartEvent("t1", prompt, system)


def step_start(step: int = 1, messages=(), tools=("act", "commands"), role: str = "main") -> StepStartEvent:
    return StepStartEvent(step, Conversation(messages), tools, role)


def before_model(step: int = 1, messages=()) -> BeforeModelEvent:
    return BeforeModelEvent(step, Conversation(messages), PROMPT)


def answer(content: str = "", *calls: ToolCall, step: int = 1) -> ModelResponseEvent:
    return ModelResponseEvent(step, ModelResponse(content, calls), content, calls)


def act(command: str) -> ToolCall:
    return ToolCall("c", "act", {"command": command})


def before_tool(call: ToolCall, step: int = 1) -> ToolCallEvent:
    return ToolCallEvent(step, call.id, call.name, call.arguments)


def after_tool(call: ToolCall, content: str, step: int = 1, is_error: bool = False) -> ToolResultEvent:
    return ToolResultEvent(step, call, content, is_error)


def step_end(step: int, usage: Usage) -> StepEndEvent:
    return StepEndEvent(step, usage, Conversation())


def task_end(messages=(), steps: int = 1) -> TaskEndEvent:
    return TaskEndEvent("t1", steps, StopReason.FINISHED, "done", Usage(), Conversation(messages))
