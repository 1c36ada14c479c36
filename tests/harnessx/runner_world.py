"""A benchmark and a model for real lanes; what happened in other processes is read from a log file."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harnessx.errors import ModelFailure, ToolError
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, ToolSchema, Usage
from harnessx.models.base import CallContext
from harnessx.permissions import USUAL
from harnessx.processors import SystemPrompt
from harnessx.runner.cassette import Entry
from harnessx.runner.jobs import Job
from harnessx.tasks import Environment, Score, Task, ToolResult
from harnessx.trajectory import Trajectory

IN_LANE = Path(sys.argv[0]).name == "lane.py"


def note(log: str, line: str) -> None:
    """One line of the log; whole, also where several processes write."""
    with open(log, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def lines(log: str | Path) -> list[str]:
    return Path(log).read_text().splitlines() if Path(log).exists() else []


@dataclass
class Clerk:
    """A model that says a word ``turns`` times, then is done.

    ``broken`` tasks lose their provider; where ``outage`` names a file, as long as it is there.
    """

    log: str
    turns: int = 3
    delay: float = 0.0
    broken: str = ""
    broken_at: int = 0
    outage: str = ""
    name: str = "clerk"

    @property
    def digest(self) -> str:
        return f"clerk-{self.turns}"

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        turn = sum(message.role == "assistant" for message in request.messages)
        note(self.log, f"model {context.task_id} {context.attempt} {turn}")
        await asyncio.sleep(self.delay)
        down = not self.outage or Path(self.outage).exists()
        if down and context.task_id == self.broken and turn >= self.broken_at:
            raise ModelFailure("the provider is down")
        if turn == self.turns:
            return ModelResponse("done", (), Usage(10, 1, 0, 0.5), "clerk")
        call = ToolCall(f"c{turn}", "say", {"text": f"word {turn}"})
        return ModelResponse("", (call,), Usage(10, 5, 0, 0.5), "clerk", "tool_calls")


@dataclass
class Room:
    """Repeats what is said in it, with a count; refuses an empty word. ``mood`` changes what it says."""

    log: str
    task: str = "t"
    mood: str = ""
    delay: float = 0.0
    said: list[str] = field(default_factory=list)
    closed: int = 0

    tools = (ToolSchema("say", "Say something.", effects=USUAL),)

    async def reset(self) -> str:
        note(self.log, f"world {self.task} starts")
        return f"It is quiet.{self.mood}"

    async def step(self, call: ToolCall) -> ToolResult:
        text = str(call.arguments.get("text", ""))
        if text == "crash":
            raise ConnectionResetError("the room is gone")
        before = len(self.said)
        await asyncio.sleep(self.delay)
        assert len(self.said) == before, "two steps at once"
        if not text:
            raise ToolError("say what?")
        self.said.append(text)
        note(self.log, f"world {self.task} {text}")
        return ToolResult(f"{len(self.said)}: {text}{self.mood}")

    async def close(self) -> None:
        self.closed += 1


class Judge:
    """Accepts a rollout in whose room something was said."""

    def __init__(self, log: str, reward: complex = 1.0) -> None:
        self._log, self._reward = log, reward

    async def score(self, task: Task, answer: str, environment: Environment | None, record: Trajectory) -> Score:
        assert isinstance(environment, Room)
        note(self._log, f"judge {task.id}")
        return Score(bool(environment.said), self._reward if environment.said else 0.0)


@dataclass
class Rooms:
    """The benchmark. ``fault``: what goes wrong with it in a lane."""

    log: str
    recorded: bool = False
    fault: str = ""
    name: str = "rooms"
    digest: str = "rooms-1"
    tools = Room.tools

    def __post_init__(self) -> None:
        self.verifier = Judge(self.log, 1j if self.fault == "odd score" else 1.0)
        if IN_LANE:
            note(self.log, "lane")
            if self.fault == "exit":
                os._exit(3)
            if self.fault == "raise":
                raise RuntimeError("the data set is not on this machine")

    def tasks(self, split: str, limit: int) -> Sequence[Task]:
        return [Task("Say a word.", f"{split}-{index}") for index in range(limit)]

    def environment(self, task: Task, attempt: int) -> Room:
        if self.fault == "no room":
            raise OSError("no room left")
        return Room(self.log, task.id)

    def harness(self) -> HarnessConfig:
        return harness()

    async def oracle(self, task: Task, environment: Environment | None) -> str:
        return "done"


def harness(prompt: str = "Speak.", steps: int = 10) -> HarnessConfig:
    return HarnessConfig([SystemPrompt(text=prompt)], Slots(limits=Limits(steps=steps)))


def jobs(count: int, *arms: HarnessConfig, **options: bool) -> list[Job]:
    return [Job("s", Task("Say a word.", f"s-{index}"), 0, arms or (harness(),), **options) for index in range(count)]


class MemoryShelf:
    """A shelf in memory, for what a test wants to look into."""

    def __init__(self) -> None:
        self.rollouts: dict[str, tuple[str, str | None]] = {}
        self.stored: dict[str, list[Entry]] = {}

    def rollout(self, key: str) -> str | None:
        return self.rollouts[key][0] if key in self.rollouts else None

    def forget(self, keys: Sequence[str], scope: str) -> None:
        for key in keys:
            self.rollouts.pop(key, None)
        self.stored.pop(scope, None)

    def put_rollout(self, key: str, body: str, trajectory: str | None) -> None:
        assert key not in self.rollouts, "a rollout was run twice"
        self.rollouts[key] = (body, trajectory)

    def trajectory(self, key: str) -> str | None:
        return self.rollouts[key][1]

    def recordings(self, scope: str) -> Sequence[Entry]:
        return self.stored.get(scope, [])

    def put_recordings(self, scopes) -> None:
        for scope, entries in scopes.items():
            known = self.stored.setdefault(scope, [])
            known += [entry for entry in entries if entry.key not in {e.key for e in known}]
