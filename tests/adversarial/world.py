"""The world that attacks are played in, honest neighbours, and what model and world have seen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from harnessx.errors import StopReason
from harnessx.harness import HarnessConfig
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, ToolSchema
from harnessx.models.base import CallContext
from harnessx.models.scripted import Scripted
from harnessx.permissions import USUAL, Effect
from harnessx.spec import Spec
from harnessx.tasks import Environment, Score, Task, ToolResult
from harnessx.trajectory import Trajectory

MAX_SENT = 16 << 20
"""What a worker may send to the hosts of these tests: the limit of others takes seconds to reach."""
LOOK = {"tool": "look", "arguments": {}}
WAIT = {"tool": "wait", "arguments": {}}
USE = {"tool": "attack", "arguments": {}}
_HONEST = """
import asyncio
from dataclasses import dataclass
from pathlib import Path

from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class Honest(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        note = Path("note")
        if event.step == 1:
            note.write_text(self.ctx.prompt)
        self.ctx.claims["draws"] = [*self.ctx.claims.get("draws", []), self.ctx.rng.random()]
        await asyncio.sleep(0.005)
        yield event.remind(f"Step {event.step}. {note.read_text()}")
"""
HONEST = HarnessConfig([Spec("assets/honest.py:Honest")], None, {"assets/honest.py": _HONEST})
"""A harness with code of its own that means no harm: it keeps a note in its scratch, and reads it again."""


@dataclass
class Room:
    """Tools ``look``; ``wait``, which returns when ``over`` is set; and ``cheat``, which nobody is granted."""

    over: asyncio.Event
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    cheated: int = 0
    waiting: int = 0
    most: int = 0

    @property
    def tools(self) -> tuple[ToolSchema, ...]:
        usual = tuple(ToolSchema(name, f"To {name}.", effects=USUAL) for name in ("look", "wait"))
        return (*usual, ToolSchema("cheat", "To cheat.", effects=frozenset({Effect.EXECUTE})))

    async def reset(self) -> str:
        return "You are here."

    async def step(self, call: ToolCall) -> ToolResult:
        match call.name:
            case "wait":
                self.arrived.set()
                self.waiting += 1
                self.most = max(self.most, self.waiting)
                await self.over.wait()
                self.waiting -= 1
            case "cheat":
                self.cheated += 1
        return ToolResult(f"{call.name}: {call.arguments.get('text', '')}"[:1000])

    async def close(self) -> None:
        return None


class Exactly:
    """Accepts one answer."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        right = answer == self.answer
        return Score(right, float(right))


@dataclass
class Attentive(Scripted):
    """A scripted model that notes what it is asked with."""

    settings: list[str] = field(default_factory=list)

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        self.settings += list(request.sampling or ())
        return await super().complete(request, context)


def story(record: Trajectory) -> str:
    """What happened in a rollout, without how long it took."""
    return record.to_jsonl()


def unwritable(record: Trajectory) -> bool:
    """Whether the record cannot be stored."""
    try:
        json.loads(record.to_jsonl().encode().splitlines()[-1])
    except (ValueError, RecursionError, TypeError):
        return True
    return False


def seen(record: Trajectory, room: Room, model: Attentive) -> dict[str, Any]:
    """What model, world and record have come to, where it is not as it should be."""
    paths = {exchange.path for step in record.steps for exchange in step.exchanges}
    untrue = record.stop_reason is StopReason.ENVIRONMENT_DONE  # which this world never says
    sent = sum(len(str(done.call.arguments)) for step in record.steps for done in step.calls)
    found = {
        "more text than a rollout may send": sent if sent > MAX_SENT else 0,
        "a record that cannot be written": sent <= MAX_SENT and unwritable(record),
        "an ending that did not happen": untrue,
        "a rollout that does not count": record.outcome.value == "infra_error",
        "a tool that nobody granted ran": room.cheated,
        "an address for the key": [name for name in model.settings if name == "api_base"],
        "more frames at once than may wait": room.most if room.most > 256 else 0,
        "more callers than may be": len(paths) if len(paths) > 64 else 0,
        "more steps than the limit": len(record.steps) if len(record.steps) > 50 else 0,
        "a longer text than a frame may be": len(record.answer) if len(record.answer) > 32 << 20 else 0,
    }
    return {what: value for what, value in found.items() if value}
