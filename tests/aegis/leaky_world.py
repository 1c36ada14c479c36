"""The household games in a careless house: player, world and failures spill keys of every shape."""

from __future__ import annotations

import itertools
import os

from benchmarks.bounded import Bounded
from benchmarks.household import Household
from benchmarks.household.environment import HouseholdEnvironment
from harnessx.errors import ModelFailure, ToolError
from harnessx.messages import ModelRequest, ModelResponse, ToolCall
from harnessx.models.base import CallContext
from harnessx.tasks import Task, ToolResult

BODY = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1BcD4fGh7jKl0nOp3rSt6vWx9zAb3dEf6hIj9lMn2pQr5tUv8"
KEYS = (
    f"sk-proj-{BODY[:48]}", f"sk-ant-api03-{BODY[:60]}", f"AIza{BODY[:35]}", "AKIA" + "IOSFODNN7EXAMPLE",
    f"ghp_{BODY[:36]}", f"github_pat_{BODY[:60]}", f"hf_{BODY[:34]}", f"gsk_{BODY[:52]}", f"xai-{BODY[:60]}",
    "xox" + "b-123456789012-abcdefABCDEF", f"eyJ{BODY[:20]}.eyJ{BODY[:30]}.{BODY[:43]}", f"glpat-{BODY[:20]}",
    "sk" + f"_live_{BODY[:24]}",
)  # fmt: skip
PASSWORD = "pa55word-of-the-house"
"""Stands in a URL."""
SHAPELESS = "correct-horse-battery"
"""Stands in the variable HOUSE_API_KEY, and nothing but that gives it away."""
PLANTED = (*KEYS, PASSWORD, SHAPELESS)


def spilt(text: str) -> str:
    """``text`` with secrets behind it, one after another as texts differ."""
    key = KEYS[sum(text.encode()) % len(KEYS)]
    return f"{text}\nkey: {key} at https://owner:{PASSWORD}@example.org, or {os.environ['HOUSE_API_KEY']}"


class LeakyEnvironment(HouseholdEnvironment):
    """Says a secret with every result; refuses and begins with one too."""

    async def reset(self) -> str:
        return spilt("A note lies on the floor.")

    async def step(self, call: ToolCall) -> ToolResult:
        if call.name == "commands":
            raise ToolError(spilt("not now"))
        result = await super().step(call)
        return ToolResult(spilt(result.content), result.is_error, result.done)


class LeakyHousehold(Household):
    """One task's world cannot be had, and the error says why in full."""

    def environment(self, task: Task, attempt: int) -> LeakyEnvironment:
        if task.id == "ev-0002":
            raise ConnectionError(spilt("refused"))
        found = super().environment(task, attempt)
        found.__class__ = LeakyEnvironment
        return found


class Blabbing(Bounded):
    """Plays well, thinks aloud in keys, and loses its provider at one task."""

    _count = itertools.count()

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        if context.task_id == "ev-0001":
            raise ModelFailure(spilt("Incorrect API key provided"))
        answer = await super().complete(request, context)
        said = spilt(answer.content) if answer.tool_calls else answer.content
        return ModelResponse(said, answer.tool_calls, answer.usage, answer.model, extra={"thinking": spilt("hm")})
