"""A small real world, harnesses made of a few lines of code, and one way to run them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from harnessx.errors import ToolError
from harnessx.harness import HarnessConfig, Slots
from harnessx.hooks import Hook
from harnessx.loop import Ending, Episode, RunLoop
from harnessx.messages import Message, ToolCall, ToolSchema
from harnessx.model_config import ModelConfig, Models
from harnessx.models.scripted import Scripted
from harnessx.permissions import USUAL
from harnessx.runner.host import Host
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.spec import Spec
from harnessx.tasks import Environment, Score, Task, ToolResult
from harnessx.trajectory import Trajectory

HEAD = """
import asyncio
from dataclasses import dataclass, field, replace
from harnessx.errors import *
from harnessx.hooks import *
from harnessx.messages import *
from harnessx.processor import *
from harnessx.tasks import ToolResult
from harnessx.tools.base import Tool
"""
ECHO = {"tool": "echo", "arguments": {"text": "hello"}}


def source(body: str, *hooks: Hook, name: str = "P", state: str = "", attributes: str = "") -> str:
    """The asset of one processor: ``body`` are the lines of ``process``."""
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    served = "".join(f"Hook.{hook.name}, " for hook in hooks)
    return (
        f"{HEAD}\n@dataclass\nclass {name}(Processor):\n    hooks = ({served})\n    {attributes or 'pass'}\n"
        f"    {state or 'pass'}\n    async def process(self, event):\n{lines}"
    )


def harness(body: str, *hooks: Hook, slots: Slots | None = None, state: str = "") -> HarnessConfig:
    """A harness of one processor."""
    return HarnessConfig([Spec("assets/p.py:P")], slots, {"assets/p.py": source(body, *hooks, state=state)})


@dataclass
class World:
    """Tools ``echo``, ``end`` (ends the episode), ``meet`` (returns when two calls are there), and two that fail."""

    calls: list[ToolCall] = field(default_factory=list)
    closed: int = 0
    together: int = 2

    def __post_init__(self) -> None:
        self._barrier = asyncio.Barrier(self.together)

    @property
    def tools(self) -> tuple[ToolSchema, ...]:
        names = ("echo", "end", "meet", "refuse", "crash")
        return tuple(ToolSchema(name, f"The tool {name}.", effects=USUAL) for name in names)

    async def reset(self) -> str:
        return "You are here."

    async def step(self, call: ToolCall) -> ToolResult:
        self.calls.append(call)
        match call.name:
            case "meet":
                await self._barrier.wait()
            case "refuse":
                raise ToolError("not like that")
            case "crash":
                raise ConnectionResetError("the world is gone")
        return ToolResult(f"{call.name}: {call.arguments.get('text', '')}", done=call.name == "end")

    async def close(self) -> None:
        self.closed += 1


class Accept:
    """A verifier that accepts every rollout, and counts."""

    def __init__(self) -> None:
        self.scored = 0

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        self.scored += 1
        return Score(True, 1.0)


async def with_assets(harness: HarnessConfig, episode: Episode, host: Host) -> Ending:
    """The loop beside the host, code of the harness included (its author is this test)."""
    return await RunLoop(harness, episode, host, allow_assets=True).run()


async def run(harness: HarnessConfig, script: Sequence[object] = (ECHO, "done"), world=None, verifier=None, **options):
    """The record of one rollout of ``harness`` with a scripted model."""
    models = Models(options.pop("models", None) or ModelConfig(Scripted(list(script), loop=True)))
    world = World() if world is None else world
    return await run_rollout(
        Rollout(harness, Task("Say hello.", "t")), models, world, verifier or Accept(), execute=with_assets, **options
    )


def requests(record: Trajectory) -> list[list[Message]]:
    """What the main path asked, request by request, rebuilt from the record."""
    log: list[Message] = []
    out = []
    for step in record.steps:
        for exchange in step.exchanges:
            if exchange.path == "main":
                log = [*log[: exchange.kept], *exchange.sent]
                out.append(list(log))
    return out


def texts(record: Trajectory) -> list[str]:
    """The contents of the last request."""
    return [message.text for message in requests(record)[-1]]
