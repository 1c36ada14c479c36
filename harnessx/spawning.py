"""Sub-agents of one rollout: their harness, their end of the seam, and the order in which they act."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace

from harnessx.delegation import Allowance, Assignment, Lease
from harnessx.errors import StopReason, ToolError
from harnessx.harness import HarnessConfig, Limits
from harnessx.messages import ModelRequest, ModelResponse, ToolCall
from harnessx.port import Episode, Port
from harnessx.spec import Spec
from harnessx.tasks import ToolResult
from harnessx.web import Fetch, Fetched

GROUP = "sub_agents"
"""The singleton group of what spawns: a sub-agent does not have it."""


class Turns:
    """The order in which sub-agents that run at once reach the world: not that of who is faster.

    Once each of them has asked for a call or ended, the calls asked for go out, in the order of the sub-agents and
    of their asking. So the same answers of the model lead to the same world, whatever they took.
    """

    def __init__(self, count: int) -> None:
        self._asked: dict[int, list[asyncio.Future[None]]] = {index: [] for index in range(count)}
        self._due = False

    async def take(self, index: int) -> None:
        """Wait for the turn of one call of sub-agent ``index``."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked[index].append(turn)
        self._look()
        await turn

    def leave(self, index: int) -> None:
        """Sub-agent ``index`` asks for nothing more."""
        self._asked.pop(index, None)
        self._look()

    def _look(self) -> None:
        """Look once everybody who runs just now has asked: calls of one answer are asked for together."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        self._due = False
        if all(self._asked.values()):
            for turns in self._asked.values():
                for turn in turns:
                    if not turn.done():
                        turn.set_result(None)
                turns.clear()


class SubPort:
    """A sub-agent's end of the seam: what it asks goes out under the path of its lease."""

    def __init__(self, port: Port, path: str, turns: Turns, index: int) -> None:
        self._port, self._path, self._turns, self._index = port, path, turns, index

    async def complete(self, request: ModelRequest, path: str) -> ModelResponse:
        """Ask a model, on this sub-agent's account."""
        return await self._port.complete(request, self._path if path == "main" else f"{self._path}/{path}")

    async def call(self, call: ToolCall, path: str = "main") -> ToolResult:
        """Run one of the environment's tools when it is this sub-agent's turn."""
        await self._turns.take(self._index)
        return await self._port.call(call, self._path)

    async def fetch(self, request: Fetch) -> Fetched:
        """Ask a host on the network."""
        return await self._port.fetch(request)

    async def spawn(self, asked: Sequence[Allowance]) -> list[Lease]:
        """Raises `ToolError`: a sub-agent has none of its own."""
        raise ToolError("a sub-agent has no sub-agents")

    async def join(self, path: str, stop: StopReason) -> None:
        """Nobody to join."""


def harness_for(harness: HarnessConfig, assignment: Assignment, granted: Allowance) -> HarnessConfig:
    """The harness of a sub-agent: ``harness`` within another budget, without what spawns and what is left out."""
    left_out = {GROUP, *assignment.without} | ({"system_prompt"} if assignment.system else set())
    traits = dict(zip(harness.processors, harness.traits, strict=True))
    kept = [s for s in harness.inserted if not {s.name, traits[s].group} & left_out]
    if assignment.system:
        kept.append(Spec("harnessx.processors.SystemPrompt", {"text": assignment.system}))
    limits = Limits(granted.steps, granted.tokens, granted.usd, harness.slots.limits.wall_s)
    slots = replace(harness.slots, limits=limits)
    if assignment.tools:
        expose = harness.slots.tools.expose
        chosen = tuple(name for name in assignment.tools if expose is None or name in expose)
        slots = replace(slots, tools=replace(slots.tools, expose=chosen))
    return HarnessConfig(kept, slots, harness.assets)


def episode_for(episode: Episode, assignment: Assignment, path: str) -> Episode:
    """What a sub-agent is told: its own task, and draws that follow from the rollout's."""
    draws = hashlib.blake2b(f"{episode.randomness}/{path}".encode(), digest_size=16).hexdigest()
    return replace(episode, prompt=assignment.task, draws=draws)
